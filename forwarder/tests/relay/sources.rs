//! The address of ours that a target sees, and the port that is dialled.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;

use forwarder_core::config::{Balance, Source};
use schemas::vocab::Transport::{Tcp, Udp};

use crate::support::*;

/// Set for the run in a network namespace with few source ports.
const FEW_PORTS: &str = "WEIR_TEST_FEW_PORTS";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn from_address(text: &str, source: Source) -> Scene {
    Scene::start(&with_key(text, &format!("source = \"{source}\"")))
}

#[test]
fn a_target_sees_the_source_of_the_service() {
    let target = tcp_target();
    let text = one_service(Tcp, &[target.local_addr().unwrap()]);
    let scene = from_address(&text, Source::Address(ip("127.0.0.9")));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"hello");
    assert_eq!(server.peer_addr().unwrap().ip(), ip("127.0.0.9"));
    drop((client, server));
    assert_eq!(scene.finish().sessions[0].egress_ip.as_deref(), Some("127.0.0.9"));
}

#[test]
fn a_target_of_datagrams_sees_it_too() {
    let target = udp_socket(ANY);
    let text = one_service(Udp, &[target.local_addr().unwrap()]);
    let scene = from_address(&text, Source::Address(ip("127.0.0.9")));
    let client = udp_client(ANY, scene.address(0));
    client.send(b"hello").unwrap();
    let mut buffer = [0; 16];
    let (_, relay) = target.recv_from(&mut buffer).unwrap();
    assert_eq!(relay.ip(), ip("127.0.0.9"));
    target.send_to(b"answer", relay).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 6);
}

#[test]
fn a_target_sees_the_address_that_the_client_came_to() {
    let target = tcp_target();
    let text = service_on("tcp://0.0.0.0:0", &[target.local_addr().unwrap()]);
    let scene = from_address(&text, Source::Same);
    for address in ["127.0.0.2", "127.0.0.3"] {
        let mut client = tcp_client(SocketAddr::new(ip(address), scene.address(0).port()));
        let mut server = accept(&target);
        pass(&mut client, &mut server, b"hello");
        assert_eq!(server.peer_addr().unwrap().ip(), ip(address));
    }
}

#[test]
fn where_the_same_address_cannot_be_the_kernel_chooses() {
    let target = TcpListener::bind("[::1]:0").unwrap();
    let text = one_service(Tcp, &[target.local_addr().unwrap()]);
    let scene = from_address(&text, Source::Same);
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"hello");
    assert_eq!(server.peer_addr().unwrap().ip(), ip("::1"));
}

#[test]
fn a_rule_has_a_source_of_its_own() {
    let target = tcp_target();
    let text = one_service(Tcp, &[target.local_addr().unwrap()]);
    let text = with_key(&text, "source = \"127.0.0.9\"") + "source = \"127.0.0.8\"\n";
    let scene = Scene::start(&text);
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"hello");
    assert_eq!(server.peer_addr().unwrap().ip(), ip("127.0.0.8"));
}

#[test]
fn an_address_that_is_not_ours_is_our_shortage_not_the_targets_fault() {
    let target = tcp_target();
    let address = target.local_addr().unwrap();
    let text = one_service(Tcp, &[address]);
    let scene = from_address(&text, Source::Address(ip("192.0.2.1")));
    let mut client = tcp_client(scene.address(0));
    assert!(read_to_end(&mut client).is_err());
    assert_eq!(scene.targets().snapshot(std::time::Instant::now())[0].failed_dials, 0);
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0])[..2], ["resource", "connect"]);
    assert_eq!(rows.sessions[0].errno, Some(99));
}

#[test]
fn a_target_without_a_port_is_dialled_at_the_port_that_the_client_came_to() {
    let text = one_service(Tcp, &[]).replace("target = []", "target = [\"127.0.0.2\"]");
    let scene = Scene::start(&text);
    let port = scene.address(0).port();
    let target = TcpListener::bind(SocketAddr::new(ip("127.0.0.2"), port)).unwrap();
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"hello");
    drop((client, server));
    assert_eq!(scene.finish().sessions[0].target_port, Some(i32::from(port)));
}

/// Three hundred sessions at once to two targets, with two hundred source ports. `whose`: which of
/// the targets each comes to.
fn more_sessions_than_ports(port: u16, balance: Balance, whose: impl Fn(usize) -> usize) {
    let (ours, count) = ("127.0.0.9", 300);
    let listeners: Vec<_> =
        [1, 2].map(|number| TcpListener::bind((ip("127.0.0.2"), port + number)).unwrap()).into();
    let targets: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    // Clients need ports too: two addresses of ours are enough for as many as there are.
    let listen = format!("tcp://127.0.0.1:{port}\", \"tcp://127.0.0.3:{port}");
    let text = service_on(&listen, &targets);
    let text = with_key(&text, &format!("balance = \"{balance}\""));
    let scene = from_address(&text, Source::Address(ip(ours)));
    let mut held = Vec::new();
    for number in 0..count {
        held.push(tcp_client(scene.address(number / 150)));
        held.push(accept(&listeners[whose(number)]));
    }
    assert!(held.iter().skip(1).step_by(2).all(|server| {
        let peer = server.peer_addr().unwrap();
        peer.ip() == ip(ours) && (40_000..40_200).contains(&peer.port())
    }));
    drop(held);
    assert_eq!(scene.finish().sessions.len(), count);
}

#[test]
fn source_ports_are_shared_between_targets() {
    if std::env::var_os(FEW_PORTS).is_some() {
        more_sessions_than_ports(1000, Balance::RoundRobin, |number| number % 2);
        // Ports that are used up towards the first target are our shortage, and send on to the next.
        more_sessions_than_ports(2000, Balance::FirstAvailable, |number| number / 200);
        return;
    }
    let prepare = "ip link set lo up && \
                   echo 40000 40199 > /proc/sys/net/ipv4/ip_local_port_range && \
                   echo prepared && exec \"$@\"";
    let output = Command::new("timeout")
        .args(["120", "unshare", "--map-root-user", "--net", "sh", "-c", prepare, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "sources::source_ports_are_shared_between_targets", "--nocapture"])
        .env(FEW_PORTS, "yes")
        .output();
    let said = output.as_ref().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if !said.is_ok_and(|said| said.starts_with("prepared")) {
        eprintln!("skipped: no network namespaces here (unshare(1) and ip(8) make them)");
        return;
    }
    let output = output.unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
}
