//! UDP associations as clients and servers experience them.

use std::net::SocketAddr;

use e2e_tests::address;
use e2e_tests::endpoint::{UdpServer, converse};
use e2e_tests::scene::Scene;

use crate::rows::{address as row_address, integer};

fn scene_with(target: SocketAddr) -> (Scene, SocketAddr) {
    let mut scene = Scene::new();
    let listen = scene.free_address();
    scene.configure(&format!(
        "[[service]]\nname = \"dns\"\nlisten = [\"udp://{listen}\"]\ntarget = [\"{target}\"]\n\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\n"
    ));
    scene.start_recorder();
    scene.start_forwarder();
    (scene, listen)
}

#[test]
fn datagrams_of_every_size_pass_unharmed_and_are_counted() {
    let server = UdpServer::start(address::own());
    let (mut scene, listen) = scene_with(server.address());
    let sizes = [0, 1, 3, 4, 5, 511, 1472, 1473, 9000, 65_506, 65_507];
    let turns: Vec<_> =
        sizes.iter().zip(sizes.iter().rev()).map(|(up, down)| (*up, *down)).collect();
    let seen = converse(scene.client(0), listen, &turns).unwrap();
    assert_eq!(seen.datagrams_received, 11);

    assert!(scene.stop_forwarder().success());
    scene.flush();
    let rows = scene.rows(&["sessions"]);
    assert_eq!(rows.len(), 1, "one client is one association");
    assert_eq!(integer(&rows[0], "bytes_up"), i64::try_from(seen.sent).unwrap());
    assert_eq!(integer(&rows[0], "bytes_down"), i64::try_from(seen.received).unwrap());
    assert_eq!((integer(&rows[0], "datagrams_up"), integer(&rows[0], "datagrams_down")), (11, 11));
}

#[test]
fn each_client_has_an_association_of_its_own() {
    let server = UdpServer::start(address::own());
    let (mut scene, listen) = scene_with(server.address());
    let clients: Vec<_> = (0..20).map(|number| scene.client(number)).collect();
    for from in &clients {
        converse(*from, listen, &[(100, 200)]).unwrap();
    }
    assert_eq!(server.seen().len(), 20, "the target sees each client at a port of its own");
    assert!(scene.stop_forwarder().success());
    scene.flush();
    let mut found: Vec<_> =
        scene.rows(&["sessions"]).iter().map(|row| row_address(row, "client")).collect();
    found.sort_unstable();
    assert_eq!(found, clients);
}
