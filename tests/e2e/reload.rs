//! A service moves to another server by editing one file.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;

use e2e_tests::address;
use e2e_tests::endpoint::{Plan, TcpServer, connect, exchange};

use crate::tcp::scene_with;

fn moved(config: &str, from: SocketAddr, to: SocketAddr) -> String {
    config.replace(&format!("target = [\"{from}\"]"), &format!("target = [\"{to}\"]"))
}

#[test]
fn a_service_moves_while_its_sessions_run_on() {
    let [old, new] = [TcpServer::start(address::own()), TcpServer::start(address::own())];
    let (mut scene, listen) = scene_with(old.address(), "");
    // A session of the old server, stopped in the middle of its plan.
    let plan = Plan { up: 5000, down: 1 };
    let bytes = plan.up_bytes();
    let mut running = connect(scene.client(0), listen).unwrap();
    running.write_all(&bytes[..2000]).unwrap();
    running.read_exact(&mut [0; 1]).unwrap();

    let config = fs::read_to_string(scene.forwarder_config()).unwrap();
    fs::write(scene.forwarder_config(), moved(&config, old.address(), new.address())).unwrap();
    scene.run("forwarder", &["reload"]).fine();
    exchange(scene.client(1), listen, Plan { up: 100, down: 100 }).unwrap();
    e2e_tests::wait::until("new sessions go to the new server", || {
        (new.seen().len() == 1).then_some(())
    });
    assert_eq!(old.seen().len(), 0);

    running.write_all(&bytes[2000..]).unwrap();
    drop(running);
    let seen = e2e_tests::wait::until("the old session ends", || old.seen().first().copied());
    assert_eq!(seen.received, plan.up, "the old session ran on");
    assert!(scene.stop_forwarder().success());
}

#[test]
fn a_bad_file_changes_nothing_and_the_answer_says_where() {
    let server = TcpServer::start(address::own());
    let (scene, listen) = scene_with(server.address(), "");
    let config = fs::read_to_string(scene.forwarder_config()).unwrap();
    fs::write(scene.forwarder_config(), config.replace("target =", "tarjet =")).unwrap();
    scene.run("forwarder", &["reload"]).refused(78, &["forwarder.toml:", "tarjet"]);
    exchange(scene.client(0), listen, Plan { up: 100, down: 100 }).unwrap();
}
