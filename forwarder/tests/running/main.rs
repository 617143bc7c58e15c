//! A running forwarder, asked and told over its admin socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

mod control;
mod crowd;
mod names;
mod support;
mod terminal;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use e2e_tests::process::kill;
use rustix::process::{Signal, kill_process};

use support::*;

#[test]
fn status_and_sessions_show_what_runs() {
    let target = server("hello");
    let listen = "\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"";
    let blocked = "[[rule]]\nname = \"no\"\nservices = [\"mail\"]\naction = \"block\"\n";
    let forwarder = Running::start(&format!(
        "{}{}{blocked}{EVERYONE}",
        service("web", listen, target),
        service("mail", "\"tcp://127.0.0.2:0\"", target)
    ));
    let mut held = vec![hear(forwarder.address(0), "hello"), hear(forwarder.address(0), "hello")];
    let mut refused = TcpStream::connect(forwarder.address(1)).unwrap();
    drop(refused.read(&mut [0]));

    let status = wait_for("the refusal", || {
        let status = forwarder.json(&["status"]);
        (status["sessions"]["refused"] == 1).then_some(status)
    });
    assert_eq!(status["node"], "edge-1");
    assert_eq!(status["sessions"]["current"], 2);
    assert_eq!(status["sessions"]["accepted"], 2);
    assert_eq!(status["services"][0]["sessions"]["accepted"], 2);
    assert_eq!(status["services"][0]["live_bytes_down"], 10);
    assert_eq!(status["services"][1]["sessions"]["refused"], 1);
    assert_eq!(status["table"]["size"], 64);

    let sessions = forwarder.json(&["sessions"]);
    assert_eq!(sessions["total"], 2);
    let first = &sessions["list"][0];
    assert_eq!(first["session"], format!("{}-1", status["boot"].as_str().unwrap()));
    assert_eq!(first["service"], "web");
    assert_eq!(first["customer"], "acme");
    assert_eq!(first["client"], held[0].local_addr().unwrap().to_string());
    assert_eq!(first["target"], target.to_string());
    assert_eq!(first["bytes_down"], 5);
    let cut = forwarder.json(&["sessions", "--limit", "1"]);
    assert_eq!((&cut["total"], cut["list"].as_array().unwrap().len()), (&2.into(), 1));

    held.clear();
    wait_for("the end of both", || {
        (forwarder.json(&["status"])["sessions"]["current"] == 0).then_some(())
    });
    let text = String::from_utf8(forwarder.ask(&["sessions"]).stdout).unwrap();
    assert_eq!(text, "no session runs\n");
}

#[test]
fn a_reload_moves_new_clients_and_leaves_running_sessions_alone() {
    let (old, new) = (server("old"), server("new"));
    let forwarder = Running::start(&(service("web", "\"tcp://127.0.0.1:0\"", old) + EVERYONE));
    let address = forwarder.address(0);
    let mut running = hear(address, "old");

    forwarder.write(
        &(service("web", "\"tcp://127.0.0.1:0\"", new)
            + &service("more", "\"tcp://127.0.0.2:0\"", new)
            + EVERYONE),
    );
    let reloaded = forwarder.json(&["reload"]);
    assert_eq!(reloaded["changed"], true);
    assert_eq!(reloaded["listeners_added"][0], "tcp://127.0.0.2:0");
    assert_eq!(forwarder.address(0), address, "a listener that stays is not bound anew");
    hear(address, "new");
    hear(forwarder.address(1), "new");
    running.write_all(b"still there").unwrap();
    let sessions = forwarder.json(&["sessions"]);
    assert_eq!(sessions["list"][0]["target"], old.to_string());

    let more = forwarder.address(1);
    forwarder.write(&(service("web", "\"tcp://127.0.0.1:0\"", old) + EVERYONE));
    kill_process(process(&forwarder), Signal::HUP).unwrap();
    wait_for("the reload by SIGHUP", || {
        (forwarder.json(&["status"])["services"].as_array().unwrap().len() == 1).then_some(())
    });
    wait_for("the end of the listener", || TcpStream::connect(more).err());
    hear(address, "old");
}

#[test]
fn a_reload_that_cannot_be_changes_nothing_and_says_why() {
    let target = server("hello");
    let good = service("web", "\"tcp://127.0.0.1:0\"", target) + EVERYONE;
    let forwarder = Running::start(&good);
    let address = forwarder.address(0);
    let before = forwarder.json(&["status"])["config_rev"].clone();
    let taken = TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap();
    let _holder = TcpListener::bind(taken).unwrap();

    let refused = |code: i32, words: &[&str]| {
        let output = forwarder.ask(&["reload"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{stderr}");
        for word in words.iter().chain(&["stays in force"]) {
            assert!(stderr.contains(word), "{word} is missing in\n{stderr}");
        }
        assert_eq!(forwarder.json(&["status"])["config_rev"], before);
        hear(address, "hello");
    };
    forwarder.write(&good.replace("target", "tarGET"));
    refused(78, &["forwarder.toml:12:1: service.tarGET is not a key", "did you mean target?"]);
    write(forwarder.dir.path(), "edge-2", &good);
    refused(78, &["node cannot change while the forwarder runs"]);
    forwarder.write(&(service("more", &format!("\"tcp://{taken}\""), target) + &good));
    refused(69, &["cannot listen on", &taken.to_string()]);
    std::fs::remove_file(file(forwarder.dir.path())).unwrap();
    write(forwarder.dir.path(), "edge-1", &good);
    assert_eq!(forwarder.json(&["reload"])["changed"], false);
    assert!(forwarder.log().contains("reload refused"), "{}", forwarder.log());
}

#[test]
fn a_second_forwarder_on_the_same_admin_socket_is_refused() {
    let target = server("hello");
    let good = service("web", "\"tcp://127.0.0.1:0\"", target) + EVERYONE;
    let mut forwarder = Running::start(&good);
    let second = forwarder.ask(&["run"]);
    let stderr = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(69), "{stderr}");
    assert!(stderr.contains("a running forwarder answers there"), "{stderr}");
    hear(forwarder.address(0), "hello");

    // Killed, it leaves its socket file behind; the next one takes its place.
    kill(&mut forwarder.process);
    assert!(forwarder.dir.path().join("admin.sock").exists());
    assert_eq!(forwarder.ask(&["status"]).status.code(), Some(69));
    forwarder.process =
        command(forwarder.dir.path(), &["run"]).stderr(Stdio::null()).spawn().unwrap();
    wait_for("an answer", || forwarder.ask(&["status"]).status.success().then_some(()));
}
