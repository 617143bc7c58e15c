//! Payload in a calendar day or month: sessions that use it up, and what is remembered.

use std::io::{ErrorKind, Write};
use std::sync::atomic::Ordering;

use crate::support::*;
use schemas::vocab::Transport::{Tcp, Udp};

const QUOTA: &str = "quota = { both = \"100 kB\", every = \"month\", tz = \"Europe/Berlin\" }\n";

#[test]
fn a_session_that_uses_a_quota_up_ends_and_new_ones_are_refused() {
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]) + QUOTA;
    let scene = Scene::start(&service);
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, &pattern(40_000));
    // A session of the same client that is silent meanwhile.
    let mut silent = tcp_client(scene.address(0));
    let mut silent_server = accept(&target);
    pass(&mut silent, &mut silent_server, b"");
    // It fails as soon as the session has ended.
    drop(server.write_all(&pattern(500_000)));
    until("the quota is used up", || scene.limits(10)[0].in_use == 100_000);
    assert_eq!(read_to_end(&mut silent), Err(ErrorKind::ConnectionReset));
    let mut refused = tcp_client(scene.address(0));
    assert_eq!(read_to_end(&mut refused), Err(ErrorKind::ConnectionReset));
    drop((client, server));
    let rows = scene.finish();
    for session in &rows.sessions {
        assert_eq!(end_of(session), ["quota", "data", "none", "rst", "rst"]);
    }
    assert_eq!(bytes_of(&rows.sessions[0])[..2], [40_000; 2]);
    assert_eq!(rows.sessions[0].received_down, 60_000, "not one byte more");
    let [denied] = &rows.denied[..] else { panic!("{:?}", rows.denied) };
    assert_eq!((denied.limit.as_deref(), &*denied.reason), (Some("client quota"), "quota"));
}

#[test]
fn an_association_that_uses_a_quota_up_ends_and_what_comes_later_is_dropped() {
    let target = udp_socket(ANY);
    let service = one_service(Udp, &[target.local_addr().unwrap()]) + QUOTA;
    let scene = Scene::start(&service);
    let client = udp_client(ANY, scene.address(0));
    let mut buffer = [0; 50_000];
    for _ in 0..2 {
        client.send(&[1; 49_000]).unwrap();
        target.recv_from(&mut buffer).unwrap();
    }
    client.send(&[1; 3_000]).unwrap();
    target.recv_from(&mut buffer).unwrap();
    client.send(&[1; 1_000]).unwrap();
    until("it has ended", || scene.account.live().count() == 0);
    client.send(&[1; 1_000]).unwrap();
    until("it was refused", || scene.counters().denied.load(Ordering::Relaxed) == 1);
    let rows = scene.finish();
    assert_eq!(rows.sessions[0].end_reason, "quota");
    assert_eq!(rows.sessions[0].bytes_up, 101_000, "no more than a datagram too much");
    assert_eq!(rows.denied[0].limit.as_deref(), Some("client quota"));
}

#[test]
fn a_reload_changes_a_quota_and_forgets_nothing() {
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    let mut scene = Scene::start(&format!("{service}{QUOTA}"));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, &pattern(60_000));
    scene.reload(&format!(
        "{service}{}",
        QUOTA.replace("100 kB", "80 kB").replace("Berlin", "Rome")
    ));
    assert_eq!((scene.limits(10)[0].in_use, scene.limits(10)[0].most), (60_000, 80_000));
    scene.reload(&service);
    pass(&mut client, &mut server, &pattern(60_000));
    scene.reload(&format!("{service}{}", QUOTA.replace("100 kB", "50 kB")));
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset), "it was used long ago");
    scene.finish();
}
