//! Peers that fall silent without a word: the network has lost them.

use std::io::{ErrorKind, Read, Write};

use crate::interfaces::{ip, is_inside};
use crate::support::*;

#[test]
fn a_client_that_the_network_has_lost_is_noticed_whether_payload_waits_for_it_or_not() {
    if !is_inside(
        "silence::a_client_that_the_network_has_lost_is_noticed_whether_payload_waits_for_it_or_not",
    ) {
        return;
    }
    ip("link set lo up");
    ip("link add weir0 type veth peer name weir1");
    ip("link set weir0 up");
    ip("link set weir1 up");
    ip("addr add 10.99.0.1/24 dev weir0");
    ip("addr add 10.99.0.2/24 dev weir0");
    let target = tcp_target();
    let service = service_on("tcp://10.99.0.1:0", &[target.local_addr().unwrap()]);
    let scene =
        Scene::start(&format!("[tcp]\nkeepalive = \"1s\"\nuser_timeout = \"2s\"\n{service}"));
    let mut pairs: Vec<_> = (0..2)
        .map(|_| {
            let mut client = tcp_client_from("10.99.0.2:0", scene.address(0));
            let mut server = accept(&target);
            pass(&mut client, &mut server, b"question");
            (client, server)
        })
        .collect();
    // From now on packets to the clients go out to a wire where nobody takes them.
    ip("neigh replace 10.99.0.2 lladdr 02:00:00:00:00:02 dev weir0");
    ip("addr del 10.99.0.2/24 dev weir0");
    pairs[1].1.write_all(b"an answer that is never acknowledged").unwrap();
    for (_, server) in &mut pairs {
        let end = server.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
    }
    let rows = scene.finish();
    for session in &rows.sessions {
        assert_eq!(end_of(session), ["write_stall", "data", "none", "timeout", "rst"]);
        assert_eq!(session.errno, Some(110));
    }
    assert_eq!(rows.sessions.len(), 2);
}
