//! Sessions that are ended from outside: told to, or by a limit on their time.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use crate::support::*;
use forwarder::relay::Selection;
use schemas::table::Session;
use schemas::vocab::Transport::{Tcp, Udp};
use schemas::vocab::{EndReason, Transport};

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

#[test]
fn a_session_that_lasts_too_long_is_cut_though_payload_moves() {
    let target = tcp_target();
    let scene = lasting_at_most_300ms(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    let started = Instant::now();
    let error = loop {
        // Never silent: each answer is followed by the next question.
        if let Err(error) = client.write_all(b"x").and_then(|()| server.read_exact(&mut [0])) {
            break error.kind();
        }
        assert!(started.elapsed() < DEADLINE, "nobody cut it");
    };
    assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["max_duration", "data", "none", "rst", "rst"]);
    assert!((300_000..3_000_000).contains(&rows.sessions[0].duration_us), "{rows:?}");
}

#[test]
fn a_session_can_last_too_long_before_its_target_answers() {
    let (silent, _held) = silent_target();
    let scene = lasting_at_most_300ms(&one_service(Tcp, &[silent]));
    let mut client = tcp_client(scene.address(0));
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["max_duration", "connect", "none", "rst", "none"]);
}

#[test]
fn an_association_that_lasts_too_long_ends_though_its_target_never_stops_to_send() {
    let target = udp_socket(ANY);
    let scene = lasting_at_most_300ms(&one_service(Udp, &[target.local_addr().unwrap()]));
    let client = udp_client(ANY, scene.address(0));
    client.send(b"hello").unwrap();
    let (_, relay) = target.recv_from(&mut [0; 64]).unwrap();
    until("it has ended", || {
        for _ in 0..100 {
            target.send_to(&[0; 1000], relay).unwrap();
        }
        scene.account.live().count() == 0
    });
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0])[..2], ["max_duration", "data"]);
    assert!(rows.sessions[0].duration_us < 3_000_000, "{rows:?}");
}

#[test]
fn every_timeout_holds_for_all_rules_and_a_rules_own_goes_before_it() {
    for (key, transport, reason) in [
        ("connect", Tcp, "connect_timeout"),
        ("tcp_idle", Tcp, "idle_timeout"),
        ("half_closed", Tcp, "half_close_timeout"),
        ("udp_idle", Udp, "udp_expired"),
        ("max_duration", Tcp, "max_duration"),
        ("max_duration", Udp, "max_duration"),
    ] {
        let (global, own) = (("200ms", None), ("1h", Some("200ms")));
        for (global, own) in [global, own] {
            let ended = ended_by(key, transport, global, own);
            assert_eq!(ended.end_reason, reason, "{key} = {global}, of the rule {own:?}");
            assert!((200_000..5_000_000).contains(&ended.duration_us), "{ended:?}");
        }
    }
}

/// The session of a client that asks and half closes, and whose target takes it in, or does not
/// answer when it is the connect timeout that matters.
fn ended_by(key: &str, transport: Transport, global: &str, own: Option<&str>) -> Session {
    let (silent, _held) = silent_target();
    let (tcp, udp) = (tcp_target(), udp_socket(ANY));
    let target = match (key, transport) {
        ("connect", _) => silent,
        (_, Tcp) => tcp.local_addr().unwrap(),
        (_, Udp) => udp.local_addr().unwrap(),
    };
    let own = own.map(|value| format!("timeouts = {{ {key} = \"{value}\" }}\n"));
    let rest = one_service(transport, &[target]) + &own.unwrap_or_default();
    let scene = Scene::start(&format!("[timeouts]\n{key} = \"{global}\"\n{rest}"));
    match transport {
        Tcp => {
            let mut client = tcp_client(scene.address(0));
            let _server = (key != "connect").then(|| accept(&tcp));
            if key == "half_closed" {
                client.shutdown(Shutdown::Write).unwrap();
            }
            drop(read_to_end(&mut client));
            scene.finish().sessions.remove(0)
        }
        Udp => {
            udp_client(ANY, scene.address(0)).send(b"hello").unwrap();
            udp.recv_from(&mut [0; 64]).unwrap();
            until("it has ended", || scene.account.live().count() == 0);
            scene.finish().sessions.remove(0)
        }
    }
}

fn lasting_at_most_300ms(services_and_rules: &str) -> Scene {
    Scene::start(&format!("{services_and_rules}timeouts = {{ max_duration = \"300ms\" }}\n"))
}
