//! What TCP tells of a session's peers, in its row; and what `[tcp]` sets on their connections.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use schemas::table::Session;
use schemas::vocab::Transport::Tcp;
use socket2::SockRef;

use crate::support::*;

/// Round trips and retransmits, then what is unacknowledged up and down.
fn told(session: &Session) -> ([bool; 4], [Option<i64>; 2]) {
    let round_trips = [session.rtt_client_us, session.rtt_target_us].map(|rtt| rtt.is_some());
    let again = [session.retrans_client, session.retrans_target].map(|again| again.is_some());
    let [client, target] = round_trips;
    let [client_again, target_again] = again;
    let unacked = [session.unacked_up, session.unacked_down];
    ([client, target, client_again, target_again], unacked)
}

/// The row of a session that moves `bytes` and ends in order.
fn row_of(bytes: usize, rule: &str) -> Session {
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    let scene = Scene::start(&format!("{service}{rule}"));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, &vec![7; bytes]);
    drop(client);
    assert_eq!(read_to_end(&mut server), Ok(vec![]));
    drop(server);
    scene.finish().sessions.remove(0)
}

#[test]
fn peers_are_asked_where_somebody_may_want_to_know() {
    let short = row_of(65_535, "");
    // On a busy machine it may have lasted a second, from which on it is of interest.
    assert_eq!(told(&short), ([short.duration_us >= 1_000_000; 4], [None, None]));
    assert_eq!(told(&row_of(65_536, "")), ([true; 4], [None, None]));
    assert_eq!(told(&row_of(1, "log = [\"disconnect\"]\n")), ([true; 4], [None, None]));
}

#[test]
fn what_a_target_never_acknowledged_is_told_after_its_reset() {
    let target = tcp_target();
    // Takes little before it stops.
    SockRef::from(&target).set_recv_buffer_size(16 << 10).unwrap();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while client.write(&[7; 64 << 10]).is_ok() {}
    let mut read = [0; 1000];
    server.read_exact(&mut read).unwrap();
    reset(server);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let session = scene.finish().sessions.remove(0);
    assert_eq!(session.end_reason, "target_reset");
    let (known, [up, down]) = told(&session);
    assert_eq!((known, down), ([true; 4], Some(0)), "nothing was written to the client");
    let up = up.unwrap();
    assert!(up > 0, "more was written than its buffer holds");
    assert!(session.bytes_up - up >= 1000, "{up} of {} unacknowledged", session.bytes_up);
}

#[test]
fn a_target_that_refuses_leaves_only_the_client_to_ask() {
    let (refusing, _guard) = closed_port(Tcp);
    let scene = Scene::start(&one_service(Tcp, &[refusing]));
    let mut client = tcp_client(scene.address(0));
    assert!(read_to_end(&mut client).is_err());
    let session = scene.finish().sessions.remove(0);
    assert_eq!(session.end_reason, "target_refused");
    assert_eq!(told(&session), ([true, false, true, false], [None, Some(0)]));
}

#[test]
fn listeners_that_stay_serve_on_after_a_reload_of_tcp() {
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    let mut scene = Scene::start(&service);
    for tcp in
        ["", "[tcp]\nkeepalive = \"5s\"\nuser_timeout = \"20s\"\n", "[tcp]\nkeepalive = \"0s\"\n"]
    {
        scene.reload(&format!("{tcp}{service}"));
        let mut client = tcp_client(scene.address(0));
        let mut server = accept(&target);
        pass(&mut client, &mut server, b"question");
        pass(&mut server, &mut client, b"answer");
    }
    assert_eq!(scene.finish().sessions.len(), 3);
}
