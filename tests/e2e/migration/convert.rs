//! Check 1: a configuration of Barefoot, carried over.

use std::fs;

use e2e_tests::endpoint::{TcpServer, UdpServer, converse, exchange};
use e2e_tests::scene::{Said, Scene};
use e2e_tests::{address, binary};
use std::process::Command;

use super::{SMALL, client, denied, is_refused};

#[test]
fn three_services_are_carried_over_and_work() {
    let [web, tls] = [TcpServer::start(address::own()), TcpServer::start(address::own())];
    let dns = UdpServer::start(address::own());
    let mut scene = Scene::new();
    let [http, https, domain] = [(); 3].map(|()| scene.free_address());
    let bounce =
        |from: &str, to: std::net::SocketAddr, protocol: &str, target: std::net::SocketAddr| {
            format!(
                "client pass {{\n  from: {from} to: {} port = {}\n  protocol: {protocol}\n  \
             bounce to: {} port = {}\n  log: connect disconnect error\n}}\n",
                to.ip(),
                to.port(),
                target.ip(),
                target.port()
            )
        };
    let barefoot = [
        "# three services\nlogoutput: stderr\ntimeout.io.udp: 60\n\n".to_owned(),
        format!(
            "client block {{\n  from: 127.0.0.2/32 to: {} port = {}\n  log: connect error\n}}\n",
            http.ip(),
            http.port()
        ),
        bounce("0.0.0.0/0", http, "tcp", web.address()),
        bounce("0.0.0.0/0", https, "tcp", tls.address()),
        bounce("0.0.0.0/0", domain, "udp", dns.address()),
    ]
    .concat();
    let file = scene.path("barefootd.conf");
    fs::write(&file, barefoot).unwrap();
    let converted =
        Said::of(Command::new(binary::path("forwarder")).arg("convert").arg(&file)).fine();

    scene.configure(&converted.stdout);
    let checked = scene.run("forwarder", &["check"]).fine();
    for shown in [http, https, domain, web.address(), tls.address(), dns.address()] {
        assert!(checked.stdout.contains(&shown.to_string()), "{shown} in\n{}", checked.stdout);
    }
    scene.start_recorder();
    scene.start_forwarder();
    assert!(is_refused(client(2), http));
    exchange(client(2), https, SMALL).unwrap();
    exchange(client(3), http, SMALL).unwrap();
    converse(client(2), domain, &[(20, 20)]).unwrap();
    assert_eq!(denied(&mut scene).len(), 1);
}

#[test]
fn what_barefoot_refuses_is_refused_with_its_line() {
    let scene = Scene::new();
    let file = scene.path("barefootd.conf");
    for (line, what) in [
        ("from: 10.0.0.1 to: 127.0.0.1 port = 80", "a netmask"),
        ("from: 0.0.0.0/0 to: 127.0.0.1", "a port"),
    ] {
        fs::write(
            &file,
            format!("client pass {{\n  {line}\n  bounce to: 10.0.0.5 port = 80\n}}\n"),
        )
        .unwrap();
        let said = Said::of(Command::new(binary::path("forwarder")).arg("convert").arg(&file));
        assert!(
            said.code == 78 || said.stdout.contains('#'),
            "{what} is missing:\n{}",
            said.stdout
        );
        let text = said.stdout + &said.stderr;
        assert!(text.contains(":2"), "{what}: no line in\n{text}");
    }
    fs::write(&file, "client pass {\n  from: 0.0.0.0/0 to: 127.0.0.1 port = 80\n}\n").unwrap();
    let said = Said::of(Command::new(binary::path("forwarder")).arg("convert").arg(&file));
    let text = said.stdout + &said.stderr;
    assert!(text.contains("bounce") && text.contains(":1"), "{text}");
}
