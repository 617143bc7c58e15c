//! What keeps UDP clients whose addresses may be forged from doing harm.

use std::net::UdpSocket;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forwarder_core::config::{Action, Config, Pass, UdpReplies};
use schemas::vocab::Transport::Udp;

use crate::support::*;

fn start(text: &str, change: impl FnOnce(&mut Config)) -> Scene {
    Scene::start_changed(text, Setup::default(), change)
}

fn pass_of(config: &mut Config) -> &mut Pass {
    match &mut config.rules[0].action {
        Action::Pass(pass) => pass,
        Action::Block => panic!("the rule passes"),
    }
}

/// Sends a question and gives back whether it arrived at the target.
fn arrives(client: &UdpSocket, target: &UdpSocket, scene: &Scene) -> bool {
    let denied = scene.account.opened_and_denied().1;
    client.send(b"question").unwrap();
    target.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut arrived = false;
    until("it arrives or is refused", || {
        arrived = target.recv_from(&mut [0; 64]).is_ok();
        arrived || scene.account.opened_and_denied().1 > denied
    });
    arrived
}

#[test]
fn a_service_has_as_many_udp_sessions_as_it_may_on_all_threads_together() {
    let target = udp_socket(ANY);
    let text =
        one_service(Udp, &[target.local_addr().unwrap()]) + "timeouts = { udp_idle = \"300ms\" }\n";
    let scene = start(&text, |config| config.services[0].max_udp_sessions = Some(3));
    let clients: Vec<_> = (0..8).map(|_| udp_client(ANY, scene.address(0))).collect();
    let let_in = clients.iter().filter(|client| arrives(client, &target, &scene)).count();
    assert_eq!(let_in, 3);
    assert_eq!(scene.counters().udp_sessions_refused.load(Ordering::Relaxed), 5);

    until("a session expires and its place is taken", || arrives(&clients[7], &target, &scene));
    let rows = scene.finish();
    assert!(rows.denied.iter().all(|row| row.reason == "limit_sessions" && row.action == "drop"));
    assert!(rows.denied.iter().map(|row| row.count).sum::<i64>() >= 5);
    assert!(rows.sessions.len() >= 4);
}

#[test]
fn a_client_gets_so_many_bytes_for_one_until_it_speaks_again() {
    let target = udp_socket(ANY);
    let text = one_service(Udp, &[target.local_addr().unwrap()]);
    let scene = start(&text, |config| pass_of(config).udp_reply_ratio = Some(3));
    let client = udp_client(ANY, scene.address(0));
    let mut buffer = [0; 256];
    client.send(&[1; 100]).unwrap();
    let (_, relay) = target.recv_from(&mut buffer).unwrap();
    for number in 0..10 {
        target.send_to(&[number; 100], relay).unwrap();
    }
    let withheld = &scene.counters().udp_replies_withheld;
    until("the rest is withheld", || withheld.load(Ordering::Relaxed) == 7);
    for number in 0..3 {
        assert_eq!(client.recv(&mut buffer).unwrap(), 100);
        assert_eq!(buffer[0], number);
    }

    client.send(&[2]).unwrap();
    target.recv_from(&mut buffer).unwrap();
    for number in 10..20 {
        target.send_to(&[number; 100], relay).unwrap();
    }
    for number in 10..20 {
        assert_eq!(client.recv(&mut buffer).unwrap(), 100);
        assert_eq!(buffer[0], number, "nothing withheld comes late");
    }
    let rows = scene.finish();
    assert_eq!(bytes_of(&rows.sessions[0]), [101, 101, 2000, 1300]);
    assert_eq!(rows.sessions[0].datagrams_down, 13);
}

#[test]
fn without_a_ratio_a_client_gets_whatever_the_target_sends() {
    let target = udp_socket(ANY);
    let scene = Scene::start(&one_service(Udp, &[target.local_addr().unwrap()]));
    let client = udp_client(ANY, scene.address(0));
    let mut buffer = vec![0; 70_000];
    client.send(&[]).unwrap();
    let (_, relay) = target.recv_from(&mut buffer).unwrap();
    for _ in 0..4 {
        target.send_to(&[7; 60_000], relay).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 60_000);
    }
}

#[test]
fn only_the_targets_datagrams_are_replies_unless_a_rule_says_anyones() {
    for (anyone, expected) in
        [(false, &[b"target" as &[u8]][..]), (true, &[b"stranger", b"target"])]
    {
        let (target, stranger) = (udp_socket(ANY), udp_socket("127.0.0.9:0"));
        let text = one_service(Udp, &[target.local_addr().unwrap()]);
        let scene = start(&text, |config| {
            pass_of(config).udp_replies = if anyone { UdpReplies::Any } else { UdpReplies::Target };
        });
        let client = udp_client(ANY, scene.address(0));
        let mut buffer = [0; 64];
        client.send(b"question").unwrap();
        let (len, relay) = target.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"question");
        stranger.send_to(b"stranger", relay).unwrap();
        target.send_to(b"target", relay).unwrap();
        for reply in expected {
            let len = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], *reply);
        }
        let rows = scene.finish();
        let [session] = &rows.sessions[..] else { panic!("{rows:?}") };
        assert_eq!(session.datagrams_down, expected.len() as i64);
        let egress = (session.egress_ip.as_deref(), session.egress_port.map(i64::from));
        assert_eq!(egress, (Some("127.0.0.1"), Some(i64::from(relay.port()))));
    }
}

#[test]
fn datagrams_of_every_size_cross_a_socket_that_is_open_to_anyone() {
    let target = udp_socket(ANY);
    let text = one_service(Udp, &[target.local_addr().unwrap()]);
    let scene = start(&text, |config| pass_of(config).udp_replies = UdpReplies::Any);
    let client = udp_client(ANY, scene.address(0));
    let mut buffer = vec![0; 70_000];
    for size in [0, 1, 1400, 60_000] {
        for number in 0..20_u8 {
            client.send(&vec![number; size]).unwrap();
            let (len, relay) = target.recv_from(&mut buffer).unwrap();
            assert!(buffer[..len] == vec![number; size]);
            target.send_to(&buffer[..len], relay).unwrap();
            let len = client.recv(&mut buffer).unwrap();
            assert!(buffer[..len] == vec![number; size]);
        }
    }
    assert_eq!(scene.finish().sessions.len(), 1);
}

#[test]
fn an_ipv6_target_may_be_answered_for_by_anyone() {
    let (target, stranger) = (udp_socket("[::1]:0"), udp_socket("[::1]:0"));
    let text = one_service(Udp, &[target.local_addr().unwrap()]);
    let scene = start(&text, |config| pass_of(config).udp_replies = UdpReplies::Any);
    let client = udp_client(ANY, scene.address(0));
    let mut buffer = [0; 64];
    client.send(b"question").unwrap();
    let (_, relay) = target.recv_from(&mut buffer).unwrap();
    stranger.send_to(b"stranger", relay).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 8);
}

#[test]
fn udp_sessions_are_bounded_by_client_network_and_counted_on_over_a_reload() {
    let target = udp_socket(ANY);
    let text = |most: u64| {
        let service = one_service(Udp, &[target.local_addr().unwrap()]);
        let service = service.replace("[[rule]]", &format!("max_udp_sessions = {most}\n[[rule]]"));
        service + "[[rule.limit]]\nper = \"client/24\"\nsessions = 2\n"
    };
    let mut scene = Scene::start(&text(4));
    let from = |address: &str| udp_client(&format!("{address}:0"), scene.address(0));
    let clients = ["127.0.7.1", "127.0.7.2", "127.0.7.3", "127.0.8.1"].map(from);
    let let_in = clients.each_ref().map(|client| arrives(client, &target, &scene));
    assert_eq!(let_in, [true, true, false, true]);

    scene.reload(&text(3));
    let late = udp_client("127.0.9.1:0", scene.address(0));
    assert!(!arrives(&late, &target, &scene), "those from before the reload have all seats");
    assert!(arrives(&clients[0], &target, &scene), "and keep them");
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 3);
    let mut limits: Vec<_> = rows
        .denied
        .iter()
        .map(|row| (row.client_ip.as_deref(), row.limit.as_deref(), row.rule.as_deref()))
        .collect();
    limits.sort_unstable();
    assert_eq!(
        limits,
        [
            (Some("127.0.7.3"), Some("client/24 sessions"), Some("all")),
            (Some("127.0.9.1"), Some("service udp_sessions"), None),
        ]
    );
}
