//! The end in order: SIGTERM.

use std::io::{Read, Write};
use std::time::Duration;

use e2e_tests::address;
use e2e_tests::endpoint::{Plan, Target, TcpServer, connect, exchange};
use rustix::process::Signal;

use crate::rows::{integer, text};
use crate::tcp::scene_with;

#[test]
fn a_running_session_may_finish_while_nobody_new_comes_in() {
    let target = Target::start(address::own());
    let (mut scene, listen) = scene_with(target.address(), "[timeouts]\ndrain = \"30s\"\n");
    let mut client = connect(scene.client(0), listen).unwrap();
    let mut server = target.accept();
    client.write_all(b"before").unwrap();
    server.read_exact(&mut [0; 6]).unwrap();

    scene.forwarder().signal(Signal::TERM);
    e2e_tests::wait::until("it listens no more", || {
        connect(scene.client(1), listen).is_err().then_some(())
    });
    client.write_all(b"after").unwrap();
    drop(client);
    let mut rest = String::new();
    server.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "after");
    drop(server);
    assert!(scene.forwarder().end().success());
    scene.flush();
    let rows = scene.rows(&["sessions"]);
    assert_eq!((text(&rows[0], "end_reason"), integer(&rows[0], "bytes_up")), ("done", 11));
}

#[test]
fn a_session_that_will_not_end_is_ended_and_accounted_as_drained() {
    let target = Target::start(address::own());
    let (mut scene, listen) = scene_with(target.address(), "[timeouts]\ndrain = \"1s\"\n");
    let mut client = connect(scene.client(0), listen).unwrap();
    let mut server = target.accept();
    client.write_all(b"still here").unwrap();
    server.read_exact(&mut [0; 10]).unwrap();

    assert!(scene.stop_forwarder().success());
    scene.flush();
    let rows = scene.rows(&["sessions"]);
    assert_eq!((text(&rows[0], "end_reason"), integer(&rows[0], "bytes_up")), ("drained", 10));
    assert_eq!(integer(&rows[0], "quality"), 0);
    scene.analyze(&["verify"]).fine();
}

#[test]
fn a_drain_that_is_taken_back_leaves_nothing_that_spins() {
    let server = TcpServer::start(address::own());
    let (mut scene, listen) = scene_with(server.address(), "");
    scene.run("forwarder", &["drain"]).fine();
    scene.run("forwarder", &["drain", "--cancel"]).fine();
    exchange(scene.client(0), listen, Plan { up: 100, down: 100 }).unwrap();
    let before = scene.forwarder().processor_time().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let used = scene.forwarder().processor_time().unwrap() - before;
    assert!(used < Duration::from_millis(300), "{used:?} of a second with nothing to do");
}
