//! Running sessions after a change of the rules.

use std::io::ErrorKind;
use std::net::SocketAddr;

use crate::support::*;
use forwarder::relay::Rejudged;

#[test]
fn a_session_ends_when_its_client_is_blocked_now_and_others_go_on_as_they_began() {
    let (target, other) = (tcp_target(), tcp_target());
    let udp = udp_socket(ANY);
    let [at, elsewhere] = [&target, &other].map(|target| target.local_addr().unwrap());
    let services = services(at, udp.local_addr().unwrap());
    let mut scene = Scene::start(&format!("{services}{}", passing("all", "")));
    let mut blocked = tcp_client_from("127.0.0.7:0", scene.address(0));
    let mut blocked_server = accept(&target);
    let mut good = tcp_client(scene.address(0));
    let mut good_server = accept(&target);
    let clients = ["127.0.0.7:0", ANY].map(|bind| udp_client(bind, scene.address(1)));
    for client in &clients {
        client.send(b"hello").unwrap();
        udp.recv_from(&mut [0; 64]).unwrap();
    }

    let no = "[[rule]]\nname = \"no\"\naction = \"block\"\nfrom = [\"127.0.0.7\"]\n";
    let moved = format!("target = [\"{elsewhere}\"]\ntimeouts = {{ tcp_idle = \"1s\" }}\n");
    scene.reload(&format!("{services}{no}{}", passing("another", &moved)));
    pass(&mut blocked, &mut blocked_server, b"a reload alone ends nothing");
    assert_eq!(scene.rejudge(), Rejudged { ended: 2, unjudged: 0 });
    assert_eq!(read_to_end(&mut blocked), Err(ErrorKind::ConnectionReset));
    assert_eq!(read_to_end(&mut blocked_server), Err(ErrorKind::ConnectionReset));
    pass(&mut good, &mut good_server, b"with its old target");
    assert_eq!(scene.rejudge(), Rejudged::default());

    // Now no rule matches who is left.
    scene.reload(&format!("{services}{no}"));
    assert_eq!(scene.rejudge(), Rejudged { ended: 2, unjudged: 0 });
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 4);
    for session in &rows.sessions {
        assert_eq!(end_of(session)[..2], ["denied", "data"], "{session:?}");
        assert_eq!(session.rule, "all", "it stays what it was");
    }
}

#[test]
fn a_session_of_a_listener_that_is_gone_ends_only_when_it_is_judged_again() {
    let target = tcp_target();
    let at = target.local_addr().unwrap();
    let udp = udp_socket(ANY).local_addr().unwrap();
    let mut scene = Scene::start(&format!("{}{}", services(at, udp), passing("all", "")));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    let rest = services(at, udp).replace("tcp://127.0.0.1:0", "tcp://127.0.0.9:0");
    scene.reload(&format!("{rest}{}", passing("all", "")));
    pass(&mut client, &mut server, b"goes on");
    assert_eq!(scene.rejudge(), Rejudged { ended: 1, unjudged: 0 });
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    assert_eq!(scene.finish().sessions[0].end_reason, "denied");
}

fn services(tcp: SocketAddr, udp: SocketAddr) -> String {
    format!(
        "[[service]]\nname = \"web\"\nlisten = [\"tcp://{ANY}\"]\ntarget = [\"{tcp}\"]\n\
         [[service]]\nname = \"dns\"\nlisten = [\"udp://{ANY}\"]\ntarget = [\"{udp}\"]\n"
    )
}

fn passing(name: &str, rest: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\naction = \"pass\"\n{rest}")
}
