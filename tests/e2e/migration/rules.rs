//! Checks 2 and 3: which rule decides, and what is meant where nothing is written.

use std::net::SocketAddr;

use e2e_tests::address;
use e2e_tests::endpoint::{TcpServer, converse, exchange};
use e2e_tests::scene::Scene;
use e2e_tests::wait;

use super::{SMALL, client, denied, is_refused, passes};
use crate::rows::text;

/// One service, and rules in the order given, each of which has a target of its own.
fn one_service(listen: SocketAddr, rules: &[String]) -> String {
    format!("[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\n") + &rules.concat()
}

fn rule(name: &str, from: &str, target: Option<SocketAddr>) -> String {
    let verdict = match target {
        Some(target) => format!("action = \"pass\"\ntarget = [\"{target}\"]\n"),
        None => "action = \"block\"\n".to_owned(),
    };
    format!("[[rule]]\nname = \"{name}\"\nfrom = [\"{from}\"]\n{verdict}")
}

#[test]
fn the_first_match_wins_and_two_rules_that_swap_places_swap_their_clients() {
    let [a, b] = [TcpServer::start(address::own()), TcpServer::start(address::own())];
    let mut scene = Scene::new();
    let listen = scene.free_address();
    let [blocked, one, rest] = [
        rule("blocked", "127.0.0.2", None),
        rule("one", "127.0.0.3/32", Some(a.address())),
        rule("rest", "127.0.0.0/29", Some(b.address())),
    ];
    let scene_of = |rules: &[String]| one_service(listen, rules);
    scene.configure(&scene_of(&[blocked.clone(), one.clone(), rest.clone()]));
    scene.start_recorder();
    scene.start_forwarder();

    assert!(is_refused(client(2), listen));
    exchange(client(3), listen, SMALL).unwrap();
    exchange(client(4), listen, SMALL).unwrap();
    assert!(is_refused(client(9), listen), "nobody who is in no rule gets in");
    wait::until("one session each", || (a.seen().len() == 1 && b.seen().len() == 1).then_some(()));

    scene.configure(&scene_of(&[rest, one, blocked]));
    scene.run("forwarder", &["reload"]).fine();
    exchange(client(3), listen, SMALL).unwrap();
    assert!(passes(client(2), listen), "the rule that blocks comes too late now");
    wait::until("both went to the other server", || (b.seen().len() == 3).then_some(()));
    assert_eq!(a.seen().len(), 1);

    let rows = denied(&mut scene);
    let told: Vec<_> = rows
        .iter()
        .map(|row| (text(row, "client_ip"), row["rule"].as_str(), text(row, "reason")))
        .collect();
    assert_eq!(told, [("127.0.0.2", Some("blocked"), "rule"), ("127.0.0.9", None, "no_rule"),]);
}

#[test]
fn a_target_without_a_port_has_the_listeners_and_a_listener_without_a_transport_has_both() {
    // The target's address is another one of this machine; port and listener's port are the same.
    let server = TcpServer::start(address::own());
    let port = server.address().port();
    let mut scene = Scene::new();
    let listen = SocketAddr::new(scene.ip(), port);
    let target = server.address().ip();
    let datagrams = std::net::UdpSocket::bind(server.address()).unwrap();
    scene.configure(&format!(
        "[[service]]\nname = \"web\"\nlisten = [\"{listen}\"]\ntarget = [\"{target}\"]\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\n"
    ));
    scene.start_recorder();
    scene.start_forwarder();
    exchange(scene.client(0), listen, SMALL).unwrap();
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 100];
        datagrams.set_read_timeout(Some(wait::DEADLINE)).unwrap();
        let (len, from) = datagrams.recv_from(&mut buffer).unwrap();
        datagrams.send_to(&buffer[..len], from).unwrap();
    });
    let asking = std::net::UdpSocket::bind(scene.client(1)).unwrap();
    asking.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    asking.send_to(b"both", listen).unwrap();
    let mut answer = [0; 10];
    assert_eq!(asking.recv_from(&mut answer).unwrap(), (4, listen));
    wait::joined("the echo", echo);
}

#[test]
fn an_interface_name_stands_for_all_its_addresses_under_one_limit() {
    let server = TcpServer::start(address::own());
    let mut scene = Scene::new();
    // A port that is free on every address of the interface, of either family.
    let port = scene.free_address().port();
    scene.configure(&format!(
        "[[service]]\nname = \"web\"\nlisten = [\"tcp://lo:{port}\"]\ntarget = [\"{}\"]\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\n\
         [[rule.limit]]\nper = \"rule\"\nnew_sessions = \"2/1h\"\n",
        server.address()
    ));
    scene.start_recorder();
    scene.start_forwarder();
    let v4 = SocketAddr::new([127, 0, 0, 1].into(), port);
    let v6: SocketAddr = format!("[::1]:{port}").parse().unwrap();
    exchange(client(1), v4, SMALL).unwrap();
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        exchange("[::1]:0".parse().unwrap(), v6, SMALL).unwrap();
    } else {
        eprintln!("no IPv6 on loopback: its listener is not tried");
        exchange(client(1), v4, SMALL).unwrap();
    }
    assert!(is_refused(client(1), v4), "the third of two");
}

#[test]
fn two_udp_clients_of_one_rule_are_two_sessions_for_its_limit() {
    let server = e2e_tests::endpoint::UdpServer::start(address::own());
    let mut scene = Scene::new();
    let listen = scene.free_address();
    scene.configure(&format!(
        "[[service]]\nname = \"dns\"\nlisten = [\"udp://{listen}\"]\ntarget = [\"{}\"]\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\n\
         [[rule.limit]]\nper = \"rule\"\nsessions = 2\n",
        server.address()
    ));
    scene.start_recorder();
    scene.start_forwarder();
    for number in 0..2 {
        converse(scene.client(number), listen, &[(10, 10)]).unwrap();
    }
    let third = std::net::UdpSocket::bind(scene.client(2)).unwrap();
    third.send_to(b"let me in", listen).unwrap();
    wait::until("the third is refused", || {
        (scene.status()["sessions"]["refused"] == 1).then_some(())
    });
    let rows = denied(&mut scene);
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (text(&rows[0], "limit"), text(&rows[0], "reason"), text(&rows[0], "action")),
        ("rule sessions", "limit_sessions", "drop")
    );
}
