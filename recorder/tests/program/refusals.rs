//! What the program does not do: one clear sentence and the documented exit code each.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Output;

use e2e_tests::wait::DEADLINE;

use crate::child::Scene;

#[track_caller]
fn refused(output: &Output, code: i32, sentence: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(sentence), "{said}");
}

/// Connects to the admin socket, with a deadline on every answer.
fn connect(scene: &Scene) -> UnixStream {
    let stream = UnixStream::connect(scene.path("admin.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[test]
fn a_command_it_does_not_know() {
    refused(&Scene::new().run("explode"), 64, "unrecognized subcommand 'explode'");
}

#[test]
fn a_configuration_with_faults_or_none_at_all() {
    let scene = Scene::new();
    fs::write(scene.config(), "dta = \"/x\"\n[accounting]\npublish_every = 5\n").unwrap();
    for command in ["check", "run"] {
        refused(&scene.run(command), 78, "recorder.toml:1:1: dta is not a key");
        refused(&scene.run(command), 78, "recorder.toml:3:17: accounting.publish_every: expected");
    }
    fs::remove_file(scene.config()).unwrap();
    refused(&scene.run("run"), 78, "there is no such file; name another with -c FILE");
}

#[test]
fn a_data_directory_that_another_recorder_has() {
    let mut scene = Scene::new();
    scene.start();
    refused(&scene.run("run"), 75, "is in use by another recorder (process ");
}

#[test]
fn a_data_directory_of_a_newer_version() {
    let scene = Scene::new();
    fs::create_dir(scene.data()).unwrap();
    fs::write(scene.data().join("weir.json"), "{\"format\":2,\"schema\":\"2.0\"}\n").unwrap();
    refused(&scene.run("run"), 78, "has format 2, written by a newer version of Weir");
}

#[test]
fn a_manifest_that_has_lost_its_newest_versions() {
    let scene = Scene::new();
    fs::create_dir(scene.data()).unwrap();
    let (mut journal, _) = journal::Journal::open(
        &scene.data().join("log"),
        journal::Settings::new(schemas::vocab::SpoolId(1)),
    )
    .unwrap();
    journal.append(schemas::wire::FrameKind::Rows, bytes::Bytes::new()).unwrap();
    journal.seal().unwrap();
    journal.remove_through(1).unwrap();
    drop(journal);
    refused(&scene.run("run"), 74, "its newest versions are missing");
}

#[test]
fn a_data_directory_that_is_a_file() {
    let scene = Scene::new();
    fs::write(scene.data(), "").unwrap();
    refused(&scene.run("run"), 74, "cannot create the data directory");
}

#[test]
fn a_data_directory_that_cannot_be_written() {
    let scene = Scene::new();
    // /proc takes no directories, not even from root.
    scene.configure(std::path::Path::new("/proc/weir"));
    let output = scene.run("run");
    assert!(matches!(output.status.code(), Some(74 | 77)), "{output:?}");
    refused(&output, output.status.code().unwrap(), "cannot create the data directory /proc/weir");
}

#[test]
fn a_socket_that_somebody_listens_on() {
    let scene = Scene::new();
    let _somebody = UnixListener::bind(scene.socket()).unwrap();
    refused(&scene.run("run"), 69, "is in use: another process listens there");
    assert!(!scene.path("admin.sock").exists(), "it was bound and left behind");
}

#[test]
fn a_log_that_was_removed_from_under_its_tables() {
    let mut scene = Scene::new();
    scene.start();
    let mut sender = crate::sender::Sender::connect(&scene.socket(), 1).unwrap();
    sender.send_rows(1).unwrap();
    while sender.acknowledged().unwrap() < 1 {}
    assert_eq!(scene.terminate(), Some(0));
    fs::remove_dir_all(scene.data().join("log")).unwrap();
    refused(&scene.run("run"), 74, "it was removed or replaced; put it back");
}

#[test]
fn a_question_that_nobody_is_there_to_answer() {
    let scene = Scene::new();
    for command in ["status", "flush"] {
        refused(&scene.run(command), 69, "no recorder listens on");
    }
}

#[test]
fn a_request_that_is_none() {
    use std::io::{BufRead, BufReader, Write};
    let mut scene = Scene::new();
    scene.start();
    let mut stream = connect(&scene);
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    for request in ["", "{", "{\"command\":\"explode\"}"] {
        writeln!(stream, "{request}").unwrap();
        let answer = answers.next().unwrap().unwrap();
        assert!(answer.starts_with("{\"error\":{\"exit\":64,"), "{request}: {answer}");
    }
    writeln!(stream, "{}", "x".repeat(10_000)).unwrap();
    let answer = answers.next().unwrap().unwrap();
    assert!(answer.contains("a request may have 4096 bytes"), "{answer}");
    assert!(answers.next().is_none_or(|end| end.is_err()), "the connection goes on");
    assert!(scene.run("status").status.success());
}

#[test]
fn more_who_ask_at_once_than_are_served() {
    let mut scene = Scene::new();
    scene.start();
    let asking = || UnixStream::connect(scene.path("admin.sock")).unwrap();
    let _waiting: Vec<_> = (0..16).map(|_| asking()).collect();
    refused(&scene.run("status"), 69, "16 others ask already; try again in a moment");
}

#[test]
fn a_request_that_is_no_text() {
    let mut scene = Scene::new();
    scene.start();
    let mut asking = connect(&scene);
    asking.write_all(b"\xff\xfe\n").unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("a request is UTF-8 text"), "{answer}");
}
