//! UDP associations through the relay, over real loopback sockets.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::*;
use schemas::vocab::Transport::Udp;

/// The largest datagram of UDP over IPv4.
const MAX_V4: usize = 65_507;

#[test]
fn datagrams_of_every_size_cross_unharmed_both_ways() {
    let target = udp_socket(ANY);
    let scene = Scene::start(&one_service(Udp, &[target.local_addr().unwrap()]));
    let client = udp_client(ANY, scene.address(0));
    let sizes = [0, 1, 1472, 1473, 9000, MAX_V4];
    let mut buffer = vec![0; 70_000];
    for size in sizes {
        let payload: Vec<u8> = (0..size).map(|at| (at % 253) as u8).collect();
        client.send(&payload).unwrap();
        let (len, from) = target.recv_from(&mut buffer).unwrap();
        assert!(buffer[..len] == payload, "up, {size} bytes");
        target.send_to(&payload, from).unwrap();
        let len = client.recv(&mut buffer).unwrap();
        assert!(buffer[..len] == payload, "down, {size} bytes");
    }
    let rows = scene.finish();
    let [session] = &rows.sessions[..] else { panic!("{rows:?}") };
    let total: usize = sizes.iter().sum();
    assert_eq!(bytes_of(session), [total as i64; 4]);
    assert_eq!((session.datagrams_up, session.datagrams_down), (6, 6));
}

#[test]
fn each_client_is_answered_from_the_address_it_spoke_to() {
    let target = udp_socket(ANY);
    let scene = Scene::start(&service_on("udp://0.0.0.0:0", &[target.local_addr().unwrap()]));
    let port = scene.address(0).port();
    let client = udp_socket(ANY);
    let mut buffer = [0; 64];
    // One socket of the client, two addresses of ours: two associations.
    for ours in ["127.0.0.2", "127.0.0.3"] {
        let to: SocketAddr = format!("{ours}:{port}").parse().unwrap();
        client.send_to(ours.as_bytes(), to).unwrap();
        let (len, relay) = target.recv_from(&mut buffer).unwrap();
        target.send_to(&buffer[..len], relay).unwrap();
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (ours.as_bytes(), to));
    }
    let rows = scene.finish();
    let mut listens: Vec<_> = rows.sessions.iter().map(|row| row.listen_ip.as_str()).collect();
    listens.sort_unstable();
    assert_eq!(listens, ["127.0.0.2", "127.0.0.3"]);
}

#[test]
fn a_target_that_starts_late_gets_the_next_datagram() {
    let (address, held) = closed_port(Udp);
    drop(held);
    let scene = Scene::start(&one_service(Udp, &[address]));
    let client = udp_client(ANY, scene.address(0));
    client.send(b"nobody there").unwrap();
    // The refusal then waits on the association's socket for the next datagram to trip over.
    until("it was sent, and refused", || {
        scene.account.live().any(|session| session.traffic.up.datagrams == 1)
    });
    let target = udp_socket(&address.to_string());
    client.send(b"somebody").unwrap();
    let mut buffer = [0; 64];
    let (len, _) = target.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"somebody");
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 1, "the association stays");
    assert_eq!(rows.sessions[0].datagrams_up, 2);
}

#[test]
fn a_stale_icmp_error_does_not_swallow_the_next_datagram() {
    let (address, held) = closed_port(Udp);
    drop(held);
    let scene = Scene::start(&one_service(Udp, &[address]));
    let client = udp_client(ANY, scene.address(0));
    // Sent in one go: the error of each is pending when the next one is sent.
    for _ in 0..50 {
        client.send(b"nobody there").unwrap();
    }
    until("all are through", || scene.account.live().any(|s| s.traffic.up.received == 600));
    let rows = scene.finish();
    assert_eq!((rows.sessions.len(), rows.sessions[0].datagrams_up), (1, 50));
}

#[test]
fn a_stream_without_replies_stays_one_session() {
    let target = udp_socket(ANY);
    let text =
        one_service(Udp, &[target.local_addr().unwrap()]) + "timeouts = { udp_idle = \"1s\" }\n";
    let scene = Scene::start(&text);
    let client = udp_client(ANY, scene.address(0));
    let mut buffer = [0; 64];
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..25 {
        client.send(b"tick").unwrap();
        ports.insert(target.recv_from(&mut buffer).unwrap().1);
        // The pace is the point: three times the timeout in all.
        std::thread::sleep(Duration::from_millis(120));
    }
    assert_eq!(ports.len(), 1, "one source port");
    assert_eq!(scene.finish().sessions.len(), 1);
}

#[test]
fn silence_ends_an_association_and_the_next_datagram_begins_another() {
    let target = udp_socket(ANY);
    let text =
        one_service(Udp, &[target.local_addr().unwrap()]) + "timeouts = { udp_idle = \"100ms\" }\n";
    let scene = Scene::start(&text);
    let client = udp_client(ANY, scene.address(0));
    let mut buffer = [0; 64];
    for _ in 0..2 {
        client.send(b"hello").unwrap();
        target.recv_from(&mut buffer).unwrap();
        until("the association is over", || scene.account.live().count() == 0);
    }
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 2);
    for session in &rows.sessions {
        assert_eq!(end_of(session), ["udp_expired", "data", "none", "none", "none"]);
    }
}

#[test]
fn a_stop_does_not_wait_for_associations() {
    let target = udp_socket(ANY);
    let scene = Scene::start(&one_service(Udp, &[target.local_addr().unwrap()]));
    let client = udp_client(ANY, scene.address(0));
    client.send(b"hello").unwrap();
    target.recv_from(&mut [0; 64]).unwrap();
    let started = std::time::Instant::now();
    let rows = scene.finish();
    assert!(started.elapsed() < DEADLINE / 2);
    assert_eq!(end_of(&rows.sessions[0])[..2], ["drained", "drain"]);
}

#[test]
fn a_datagram_too_large_for_the_targets_family_is_dropped_and_counted() {
    let target = udp_socket(ANY);
    let scene = Scene::start(&service_on("udp://[::1]:0", &[target.local_addr().unwrap()]));
    let client = udp_client("[::1]:0", scene.address(0));
    let mut buffer = vec![0; 70_000];
    for size in [MAX_V4 + 20, MAX_V4] {
        client.send(&vec![7; size]).unwrap();
    }
    let (len, relay) = target.recv_from(&mut buffer).unwrap();
    assert_eq!(len, MAX_V4, "only what fits arrives, whole");
    target.send_to(b"answer", relay).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 6);
    assert_eq!(scene.counters().datagrams_unsent.load(Ordering::Relaxed), 1);
    let rows = scene.finish();
    let [received, delivered, ..] = bytes_of(&rows.sessions[0]);
    assert_eq!((received, delivered), (2 * MAX_V4 as i64 + 20, MAX_V4 as i64));
    assert_eq!(rows.sessions[0].datagrams_up, 1);
}

#[test]
fn an_ipv4_client_reaches_an_ipv6_target() {
    let target = udp_socket("[::1]:0");
    let scene = Scene::start(&one_service(Udp, &[target.local_addr().unwrap()]));
    let client = udp_client(ANY, scene.address(0));
    let mut buffer = vec![0; 70_000];
    for size in [0, MAX_V4] {
        client.send(&vec![7; size]).unwrap();
        let (len, relay) = target.recv_from(&mut buffer).unwrap();
        assert_eq!(len, size);
        target.send_to(&buffer[..len], relay).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), size);
    }
    assert_eq!(scene.finish().sessions.len(), 1);
}

#[test]
fn a_blocked_clients_datagrams_are_dropped_and_told_as_one_row() {
    let target = udp_socket(ANY);
    let text = one_service(Udp, &[target.local_addr().unwrap()]).replace("pass", "block");
    let scene = Scene::start(&text);
    let client = udp_client(ANY, scene.address(0));
    for _ in 0..5 {
        client.send(b"let me in").unwrap();
    }
    until("all are refused", || scene.counters().denied.load(Ordering::Relaxed) == 5);
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 0);
    let attempts: i64 = rows.denied.iter().map(|row| row.count).sum();
    let bytes: i64 = rows.denied.iter().map(|row| row.bytes_up).sum();
    assert_eq!((attempts, bytes), (5, 45));
    assert!(rows.denied.iter().all(|row| row.action == "drop" && row.reason == "rule"));
}

#[test]
fn a_target_may_be_a_name_and_what_came_before_its_answer_is_sent_then() {
    let target = udp_socket(ANY);
    let port = target.local_addr().unwrap().port();
    let text =
        one_service(Udp, &[]).replace("target = []", &format!("target = [\"localhost:{port}\"]"));
    let scene = Scene::start(&text);
    let client = udp_client(ANY, scene.address(0));
    for word in [&b"first"[..], b"", b"third"] {
        client.send(word).unwrap();
    }
    let mut buffer = [0; 64];
    for word in [&b"first"[..], b"", b"third"] {
        let (len, _) = target.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], word);
    }
    assert_eq!(scene.finish().sessions[0].target_name.as_deref(), Some("localhost"));
}

#[test]
fn a_stream_to_an_unreachable_target_is_one_session_not_one_per_datagram() {
    let scene = Scene::start_towards(Udp, "255.255.255.255:9".parse().unwrap());
    let client = udp_client(ANY, scene.address(0));
    for _ in 0..100 {
        client.send(b"anybody?").unwrap();
    }
    until("all are taken", || {
        scene.counters().datagrams_undeliverable.load(Ordering::Relaxed) == 100
    });
    until("the association is over", || scene.account.live().count() == 0);
    let rows = scene.finish();
    let [session] = &rows.sessions[..] else { panic!("{rows:?}") };
    assert_eq!(end_of(session)[..2], ["target_unreachable", "connect"]);
    assert_eq!(bytes_of(session), [800, 0, 0, 0]);
}

#[test]
fn a_target_that_is_our_own_listener_is_a_loop() {
    let listen = |targets: &[SocketAddr]| service_on("udp://127.0.0.1:0", targets);
    let elsewhere = udp_socket(ANY);
    let mut scene = Scene::start(&listen(&[elsewhere.local_addr().unwrap()]));
    let own = scene.address(0);
    scene.reload(&listen(&[own]));
    let client = udp_client(ANY, own);
    client.send(b"round").unwrap();
    until("the session is over", || {
        scene.account.opened_and_denied().0 == 1 && scene.account.live().count() == 0
    });
    assert_eq!(scene.finish().sessions[0].end_reason, "loop");
}

#[test]
fn a_loop_is_not_evaded_by_way_of_another_target_with_a_name() {
    let elsewhere = udp_socket(ANY);
    let port = elsewhere.local_addr().unwrap().port();
    let mut scene = Scene::start(&one_service(Udp, &[elsewhere.local_addr().unwrap()]));
    let own = scene.address(0);
    let targets = format!("target = [\"{own}\", \"localhost:{port}\"]");
    scene.reload(&one_service(Udp, &[]).replace("target = []", &targets));
    let client = udp_client(ANY, own);
    client.send(b"round").unwrap();
    until("the session is over", || {
        scene.account.opened_and_denied().0 == 1 && scene.account.live().count() == 0
    });
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0])[..2], ["loop", "connect"]);
    assert_eq!(bytes_of(&rows.sessions[0]), [5, 0, 0, 0]);
}

#[test]
fn a_client_of_an_ipv6_wildcard_listener_is_answered_from_the_address_it_spoke_to() {
    let target = udp_socket("[::1]:0");
    let scene = Scene::start(&service_on("udp://[::]:0", &[target.local_addr().unwrap()]));
    let to: SocketAddr = format!("[::1]:{}", scene.address(0).port()).parse().unwrap();
    let client = udp_client("[::1]:0", to);
    client.send(b"question").unwrap();
    let mut buffer = [0; 64];
    let (_, relay) = target.recv_from(&mut buffer).unwrap();
    target.send_to(b"answer", relay).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 6);
    assert_eq!(scene.finish().sessions[0].listen_ip, "::1");
}

#[test]
fn a_full_table_drops_new_clients_datagrams_and_keeps_the_old_sessions() {
    let target = udp_socket(ANY);
    let text = one_service(Udp, &[target.local_addr().unwrap()]);
    let scene = Scene::start_refusing_beyond(&text, 64);
    let mut buffer = [0; 64];
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let client = udp_client(ANY, scene.address(0));
            client.send(b"in").unwrap();
            target.recv_from(&mut buffer).unwrap();
            client
        })
        .collect();
    let late = udp_client(ANY, scene.address(0));
    late.send(b"too late").unwrap();
    until("it is refused", || scene.counters().denied.load(Ordering::Relaxed) == 1);
    clients[0].send(b"still in").unwrap();
    assert_eq!(target.recv_from(&mut buffer).unwrap().0, 8);
    let rows = scene.finish();
    assert_eq!((rows.sessions.len(), rows.denied.len()), (64, 1));
    assert_eq!((rows.denied[0].reason.as_str(), rows.denied[0].bytes_up), ("table_full", 8));
}
