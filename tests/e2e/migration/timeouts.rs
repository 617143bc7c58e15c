//! Check 11: each timeout ends what it is about, and the table says which it was.

use std::io::{Read, Write};
use std::net::Shutdown;

use e2e_tests::endpoint::{Target, UdpServer, connect, converse};
use e2e_tests::scene::Scene;
use e2e_tests::{address, wait};

use super::client;
use crate::rows::text;

#[test]
fn every_timeout_has_a_reason_of_its_own_and_a_rule_overrides_the_file() {
    let target = Target::start(address::own());
    let datagrams = UdpServer::start(address::own());
    let mut scene = Scene::new();
    let (listen, udp) = (scene.free_address(), scene.free_address());
    scene.configure(&format!(
        "[timeouts]\ntcp_idle = \"1h\"\nhalf_closed = \"1h\"\nudp_idle = \"1s\"\n\
         [[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{}\"]\n\
         [[service]]\nname = \"dns\"\nlisten = [\"udp://{udp}\"]\ntarget = [\"{}\"]\n\
         [[rule]]\nname = \"idle\"\nfrom = [\"127.0.0.2\"]\naction = \"pass\"\n\
         timeouts = {{ tcp_idle = \"1s\" }}\n\
         [[rule]]\nname = \"half\"\nfrom = [\"127.0.0.3\"]\naction = \"pass\"\n\
         timeouts = {{ half_closed = \"1s\" }}\n\
         [[rule]]\nname = \"short\"\nfrom = [\"127.0.0.4\"]\naction = \"pass\"\n\
         timeouts = {{ max_duration = \"1s\" }}\n\
         [[rule]]\nname = \"rest\"\naction = \"pass\"\n",
        target.address(),
        datagrams.address()
    ));
    scene.start_recorder();
    scene.start_forwarder();

    let mut idle = connect(client(2), listen).unwrap();
    let _idle_target = target.accept();
    let mut half = connect(client(3), listen).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let _half_target = target.accept();
    let mut short = connect(client(4), listen).unwrap();
    let mut short_target = target.accept();
    converse(client(5), udp, &[(10, 10)]).unwrap();
    let ends = |client: &mut std::net::TcpStream| !matches!(client.read(&mut [0; 64]), Ok(1..));
    assert!(ends(&mut idle) && ends(&mut half));
    wait::until("a session that is never silent ends too", || {
        drop(short_target.write_all(b"more"));
        ends(&mut short).then_some(())
    });
    wait::until("nothing is left", || (scene.status()["sessions"]["current"] == 0).then_some(()));

    assert!(scene.stop_forwarder().success());
    scene.flush();
    let rows = scene.rows(&["sql", "select rule, end_reason from sessions order by rule"]);
    let ends: Vec<_> =
        rows.iter().map(|row| (text(row, "rule"), text(row, "end_reason"))).collect();
    assert_eq!(
        ends,
        [
            ("half", "half_close_timeout"),
            ("idle", "idle_timeout"),
            ("rest", "udp_expired"),
            ("short", "max_duration"),
        ]
    );
}
