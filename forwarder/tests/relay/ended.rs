//! Sessions that are ended from outside: told to, or by a limit on their time.

use std::io::ErrorKind;
use std::net::Shutdown;

use crate::support::*;
use forwarder::relay::Selection;
use schemas::vocab::EndReason;
use schemas::vocab::Transport::{Tcp, Udp};

#[test]
fn a_session_that_is_told_to_end_is_reset_on_both_sides_and_others_go_on() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut pairs: Vec<_> = (0..3)
        .map(|_| {
            let mut client = tcp_client(scene.address(0));
            let mut server = accept(&target);
            pass(&mut client, &mut server, b"question");
            (client, server)
        })
        .collect();
    assert_eq!(scene.end(&numbers(&[2, 77]), EndReason::Killed), 1);
    let (mut client, mut server) = pairs.remove(1);
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    assert_eq!(read_to_end(&mut server), Err(ErrorKind::ConnectionReset));
    for (client, server) in &mut pairs {
        pass(server, client, b"still here");
    }
    drop(pairs);
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[1]), ["killed", "data", "none", "rst", "rst"]);
    assert_eq!(bytes_of(&rows.sessions[1]), [8, 8, 0, 0]);
    assert_eq!(rows.sessions[0].end_reason, "done");
    assert_eq!(rows.sessions[2].end_reason, "done");
}

#[test]
fn a_session_is_ended_in_the_phase_it_is_in() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"question");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut server), Ok(vec![]));
    assert_eq!(scene.end(&Selection::All, EndReason::Denied), 1);
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["denied", "half_closed", "client", "rst", "rst"]);
}

#[test]
fn a_session_whose_target_does_not_answer_yet_can_be_ended() {
    let (silent, _held) = silent_target();
    let scene = Scene::start(&one_service(Tcp, &[silent]));
    let mut client = tcp_client(scene.address(0));
    until("the session begins", || scene.account.live().count() == 1);
    assert_eq!(scene.end(&Selection::All, EndReason::Killed), 1);
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    assert_eq!(scene.end(&Selection::All, EndReason::Killed), 0);
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["killed", "connect", "none", "rst", "none"]);
}

#[test]
fn an_association_that_is_ended_makes_room_for_another_with_the_next_datagram() {
    let target = udp_socket(ANY);
    let scene = Scene::start(&one_service(Udp, &[target.local_addr().unwrap()]));
    let clients = [(); 2].map(|()| udp_client(ANY, scene.address(0)));
    let mut buffer = [0; 64];
    for client in &clients {
        client.send(b"first").unwrap();
        target.recv_from(&mut buffer).unwrap();
    }
    assert_eq!(scene.end(&numbers(&[1]), EndReason::Killed), 1);
    until("it has ended", || scene.account.live().count() == 1);
    for client in &clients {
        client.send(b"next").unwrap();
        target.recv_from(&mut buffer).unwrap();
    }
    let rows = scene.finish();
    let ends: Vec<_> = rows.sessions.iter().map(end_of).map(|end| (end[0], end[1])).collect();
    assert_eq!(ends, [("killed", "data"), ("drained", "drain"), ("drained", "drain")]);
    assert_eq!(rows.sessions[1].datagrams_up, 2, "the other is still the same session");
}

fn numbers(numbers: &[u64]) -> Selection {
    Selection::Numbers(numbers.into())
}
