//! Bad input of every kind: one clear sentence, the documented exit code, and nothing is lost.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e_tests::endpoint::{Plan, TcpServer, exchange};
use e2e_tests::process::{Process, try_output};
use e2e_tests::scene::{Said, Scene};
use e2e_tests::{address, binary, wait};
use schemas::wire::{Frame, FrameKind, Hello, Lane, MAX_ACCOUNTING_PAYLOAD, PROTOCOL};

use crate::tcp::scene_with;

const EVERYONE: &str = "[[rule]]\nname = \"everyone\"\naction = \"pass\"\n";

fn service(name: &str, listen: &str, target: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\nlisten = [\"{listen}\"]\ntarget = [\"{target}\"]\n\n")
}

/// What `run` says to a configuration of these services; `check` must say the same.
fn refused_configuration(text: &str, words: &[&str]) {
    let scene = Scene::new();
    scene.configure(text);
    scene.run("forwarder", &["check"]).refused(78, words);
    scene.run("forwarder", &["run"]).refused(78, words);
}

#[test]
fn malformed_toml_is_shown_at_its_place() {
    refused_configuration("[[service]\n", &["forwarder.toml:", "[[service]", "^"]);
}

#[test]
fn unknown_keys_are_named_with_what_to_write() {
    let text = service("web", "tcp://127.0.0.1:8080", "10.0.0.5:80").replace("target", "targets");
    refused_configuration(&text, &["forwarder.toml:", "targets", "target"]);
}

#[test]
fn unknown_keys_of_the_recorder_are_named() {
    let scene = Scene::new();
    let text = fs::read_to_string(scene.recorder_config()).unwrap();
    fs::write(scene.recorder_config(), format!("dada = 1\n{text}")).unwrap();
    scene.run("recorder", &["run"]).refused(78, &["recorder.toml:1:1", "dada", "^"]);
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind((address::own(), 0)).unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let scene = Scene::new();
    scene.configure(&(service("web", &format!("tcp://{listen}"), "10.0.0.5:80") + EVERYONE));
    scene.run("forwarder", &["run"]).refused(69, &[&listen, "in use"]);
}

#[test]
fn an_address_of_another_machine_is_named() {
    let scene = Scene::new();
    // TEST-NET-1 (RFC 5737): no interface has it.
    scene.configure(&(service("web", "tcp://192.0.2.1:8080", "10.0.0.5:80") + EVERYONE));
    scene.run("forwarder", &["run"]).refused(69, &["192.0.2.1:8080"]);
}

#[test]
fn two_services_on_one_listener_are_told_apart_by_line() {
    let one = service("web", "tcp://127.0.0.1:8080", "10.0.0.5:80");
    let two = service("shop", "tcp://127.0.0.1:8080", "10.0.0.6:80");
    refused_configuration(&(one + &two + EVERYONE), &["127.0.0.1:8080", "web", "^"]);
}

#[test]
fn a_target_that_is_our_own_listener_is_refused() {
    let text = service("web", "tcp://127.0.0.1:8080", "127.0.0.1:8080") + EVERYONE;
    refused_configuration(&text, &["127.0.0.1:8080", "listener"]);
}

/// Sends bytes to the recorder of a scene whose forwarder runs; the recorder must hang up, say why
/// in its log, and go on serving the others.
fn refused_bytes(bytes: &[u8], words: &[&str]) {
    let server = TcpServer::start(address::own());
    let (mut scene, listen) = scene_with(server.address(), "");
    let mut socket = UnixStream::connect(scene.path("recorder.sock")).expect("it listens");
    socket.set_read_timeout(Some(wait::DEADLINE)).expect("it is not zero");
    socket.write_all(bytes).expect("the socket buffer takes them");
    let mut answer = Vec::new();
    // It may hang up while our bytes are unread, which is a reset.
    drop(socket.read_to_end(&mut answer));
    wait::until(&format!("the recorder says {words:?}"), || {
        let log = scene.recorder().log();
        log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    });
    exchange(scene.client(0), listen, Plan { up: 100, down: 100 })
        .expect("the forwarder is none the worse");
    assert!(scene.stop_forwarder().success());
    scene.flush();
    assert_eq!(scene.rows(&["sessions"]).len(), 1);
    scene.analyze(&["verify"]).fine();
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        protocol: PROTOCOL,
        node: "edge-2".to_owned(),
        boot: "k3f9x2ab".to_owned(),
        lane: Lane::Accounting.into(),
        spool_id: 7,
        ..Hello::default()
    };
    let mut bytes = Vec::new();
    Frame::message(FrameKind::Hello, 0, &hello).encode(&mut bytes);
    bytes
}

#[test]
fn a_frame_with_a_wrong_checksum_is_refused() {
    let mut bytes = hello();
    *bytes.last_mut().unwrap() ^= 1;
    refused_bytes(&bytes, &["damaged", "checksum"]);
}

#[test]
fn a_frame_of_another_version_is_refused() {
    let mut bytes = hello();
    bytes[2] = 9;
    refused_bytes(&bytes, &["version 9", "not supported"]);
}

#[test]
fn a_frame_beyond_the_length_limit_is_refused_unread() {
    let mut bytes = hello();
    let len = u32::try_from(MAX_ACCOUNTING_PAYLOAD + 1).unwrap();
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    refused_bytes(&bytes, &["exceeds the limit"]);
}

#[test]
fn noise_is_refused() {
    refused_bytes(b"GET / HTTP/1.1\r\nHost: recorder\r\n\r\n", &["not a frame"]);
}

/// A copy of a program where any user may run it.
fn for_everyone(scene: &Scene, program: &str) -> PathBuf {
    let open = |path: &PathBuf| {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("it is ours");
    };
    let copy = scene.path(program);
    fs::copy(binary::path(program), &copy).expect("the scene's directory is writable");
    open(&copy);
    open(&scene.path("."));
    copy
}

/// A command as user and group 65534, `nobody`; `None` where we may not become it.
fn as_nobody(program: &PathBuf) -> Option<Command> {
    let root = rustix::process::geteuid().is_root();
    let there = try_output(Command::new("setpriv").arg("--version")).is_ok();
    if !root || !there {
        println!("left out: it takes root and setpriv");
        return None;
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .stdin(Stdio::null());
    Some(command)
}

/// The scene's recorder, and a forwarder that runs as `nobody`; `None` where we may not become it.
fn with_a_foreign_forwarder(scene: &mut Scene) -> Option<(Process, SocketAddr)> {
    let program = for_everyone(scene, "forwarder");
    let mut command = as_nobody(&program)?;
    scene.start_recorder();
    let open = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    };
    open(&scene.path("recorder.sock"), 0o666);
    let theirs = scene.path("theirs");
    fs::create_dir(&theirs).expect("the scene's directory is writable");
    open(&theirs, 0o777);
    let listen = scene.free_address();
    scene.configure(&(service("web", &format!("tcp://{listen}"), "127.0.0.1:9") + EVERYONE));
    let config = fs::read_to_string(scene.forwarder_config()).expect("it was written");
    let moved = |name: &str| scene.path(name).display().to_string();
    let config = config
        .replace(&moved("spool"), &moved("theirs/spool"))
        .replace(&moved("forwarder.sock"), &moved("theirs/forwarder.sock"));
    let file = theirs.join("forwarder.toml");
    fs::write(&file, config).expect("the scene's directory is writable");
    open(&file, 0o644);
    command.args(["run", "-c"]).arg(&file);
    Some((Process::start("forwarder", &mut command, scene.path("theirs.log")), listen))
}

#[test]
fn a_peer_of_another_user_is_refused_and_told_what_to_write() {
    let mut scene = Scene::new();
    let Some((mut forwarder, listen)) = with_a_foreign_forwarder(&mut scene) else { return };
    wait::until("the recorder names the user", || {
        let words = ["uid 65534", "may not be node edge-1"];
        let log = scene.recorder().log();
        log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    });
    wait::until("it forwards all the same", || TcpStream::connect(listen).is_ok().then_some(()));
    assert!(forwarder.terminate().success(), "{}", forwarder.log());
}

#[test]
fn a_peer_of_another_user_delivers_when_allow_names_it() {
    let mut scene = Scene::new();
    let config = fs::read_to_string(scene.recorder_config()).unwrap();
    let allow = "allow = [{ node = \"edge-1\", uid = 65534 }]\n";
    fs::write(scene.recorder_config(), allow.to_owned() + &config).unwrap();
    let Some((mut forwarder, listen)) = with_a_foreign_forwarder(&mut scene) else { return };
    wait::until("it forwards", || TcpStream::connect(listen).is_ok().then_some(()));
    assert!(forwarder.terminate().success(), "{}", forwarder.log());
    scene.flush();
    assert_eq!(scene.rows(&["sessions"]).len(), 1, "{}", forwarder.log());
}

#[test]
fn a_data_directory_without_permission_is_named() {
    let scene = Scene::new();
    let recorder = for_everyone(&scene, "recorder");
    let Some(mut command) = as_nobody(&recorder) else { return };
    fs::create_dir(scene.data()).unwrap();
    fs::set_permissions(scene.data(), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(scene.recorder_config(), Permissions::from_mode(0o644)).unwrap();
    let data = scene.data().display().to_string();
    let said = Said::of(command.args(["run", "-c"]).arg(scene.recorder_config()));
    said.refused(77, &[&data, "ermission"]);
}

#[test]
fn data_that_is_not_there_is_named() {
    let nowhere = tempfile::tempdir().unwrap().path().join("nowhere");
    let said = Said::of(&mut e2e_tests::scene::analyze(&nowhere, &["usage"]));
    said.refused(66, &[&nowhere.display().to_string()]);
}

#[test]
fn a_session_that_does_not_exist_is_named() {
    let server = TcpServer::start(address::own());
    let (mut scene, listen) = scene_with(server.address(), "");
    exchange(scene.client(0), listen, Plan { up: 100, down: 100 }).unwrap();
    assert!(scene.stop_forwarder().success());
    scene.flush();
    for command in ["session", "pcap"] {
        scene.analyze(&[command, "k3f9x2ab-1042"]).refused(66, &["k3f9x2ab-1042"]);
        scene.analyze(&[command, "not-a-session"]).refused(64, &["not-a-session"]);
    }
}

#[test]
fn unknown_commands_are_a_matter_of_usage() {
    for program in ["forwarder", "recorder", "analyze"] {
        Said::of(Command::new(binary::path(program)).arg("fly").stdin(Stdio::null()))
            .refused(64, &["fly"]);
    }
}
