//! Captured sessions: clean for tshark, and the payload comes back byte for byte.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e_tests::address;
use e2e_tests::endpoint::{Plan, Target, TcpServer, UdpServer, connect, converse, exchange};
use e2e_tests::scene::{Said, Scene};
use e2e_tests::wait;
use serde_json::Value;

use crate::rows::{integer, text};

/// What tshark may not find in a capture of a session that ended in order.
const BAD: &str = "_ws.malformed || _ws.expert.severity >= 6291456 || tcp.checksum.status == 0 \
                   || udp.checksum.status == 0 || ip.checksum.status == 0 || tcp.analysis.retransmission \
                   || tcp.analysis.duplicate_ack || tcp.analysis.out_of_order || tcp.analysis.lost_segment";

/// A scene whose one client used both services, all of it captured; the rule is slow, so that nothing
/// may be missing, whatever the machine does.
fn captured(plan: Plan) -> Scene {
    let (tcp, udp) = (TcpServer::start(address::own()), UdpServer::start(address::own()));
    let mut scene = Scene::new();
    let [web, dns] = [scene.free_address(), scene.free_address()];
    scene.configure(&format!(
        "[[service]]\nname = \"web\"\nlisten = [\"tcp://{web}\"]\ntarget = [\"{}\"]\n\n\
         [[service]]\nname = \"dns\"\nlisten = [\"udp://{dns}\"]\ntarget = [\"{}\"]\n\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\ncapture = \"full\"\n\
         capture_when_behind = \"slow\"\n",
        tcp.address(),
        udp.address(),
    ));
    scene.start_recorder();
    scene.start_forwarder();
    exchange(scene.client(0), web, plan).expect("it passes");
    converse(scene.client(1), dns, &[(0, 0), (64, 512), (1200, 9000)]).expect("it passes");
    assert!(scene.stop_forwarder().success());
    scene.flush();
    scene
}

/// Both ways of a session from its capture, byte for byte, and the account agrees.
fn comes_back(scene: &Scene, row: &Value, plan: Plan) {
    let all = i64::try_from(plan.up + plan.down).expect("far below 2^63");
    assert_eq!(integer(row, "captured_bytes"), all);
    assert_eq!(integer(row, "capture_dropped_bytes"), 0);
    for (direction, expected) in [("up", plan.up_bytes()), ("down", plan.down_bytes())] {
        let file = scene.path(direction);
        let name = file.display().to_string();
        let session = text(row, "session");
        scene.analyze(&["pcap", session, "--payload", direction, "-o", &name]).fine();
        assert!(
            fs::read(file).expect("analyze wrote it") == expected,
            "the {direction} payload differs"
        );
    }
}

/// Runs tshark over a session's capture; what its port is known for must not wake a dissector.
fn tshark(file: &Path, row: &Value, arguments: &[&str]) -> String {
    let (transport, port) = (text(row, "transport"), integer(row, "listen_port"));
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(file).args(["-d", &format!("{transport}.port=={port},data")]);
    for layer in ["tcp", "udp", "ip"] {
        command.args(["-o", &format!("{layer}.check_checksum:TRUE")]);
    }
    Said::of(command.args(arguments)).fine().stdout
}

#[test]
fn a_captured_session_is_clean_for_tshark_and_comes_back_byte_for_byte() {
    let plan = Plan { up: 50_000, down: 120_000 };
    let scene = captured(plan);
    let rows = scene.rows(&["sessions", "--service", "web"]);
    let session = text(&rows[0], "session");

    let file = scene.path("session.pcapng");
    scene.analyze(&["pcap", session, "-o", &file.display().to_string()]).fine();
    assert_eq!(tshark(&file, &rows[0], &["-2", "-Y", BAD]), "");
    let streams = tshark(&file, &rows[0], &["-T", "fields", "-e", "tcp.stream"]);
    assert!(
        !streams.is_empty() && streams.lines().all(|stream| stream == "0"),
        "one session:\n{streams}"
    );
    let comment = tshark(&file, &rows[0], &["-T", "fields", "-e", "frame.comment"]);
    assert!(comment.contains(session), "the session's name is in a comment");

    comes_back(&scene, &rows[0], plan);
}

#[test]
fn a_long_stream_is_kept_whole_on_its_way_through_pipes() {
    let plan = Plan { up: 20_000_000, down: 45_000_000 };
    let scene = captured(plan);
    let rows = scene.rows(&["sessions", "--service", "web"]);
    comes_back(&scene, &rows[0], plan);
    let file = scene.path("session.pcapng");
    let name = file.display().to_string();
    scene.analyze(&["pcap", text(&rows[0], "session"), "-o", &name]).fine();
    assert_eq!(tshark(&file, &rows[0], &["-2", "-Y", BAD]), "");
}

#[test]
fn captured_datagrams_keep_their_edges() {
    let scene = captured(Plan { up: 50_000, down: 120_000 });
    let rows = scene.rows(&["sessions", "--service", "dns"]);
    let file = scene.path("session.pcapng");
    scene.analyze(&["pcap", text(&rows[0], "session"), "-o", &file.display().to_string()]).fine();
    assert_eq!(tshark(&file, &rows[0], &["-2", "-Y", BAD]), "");
    let lengths = tshark(&file, &rows[0], &["-Y", "udp", "-T", "fields", "-e", "udp.length"]);
    let payloads: Vec<usize> =
        lengths.lines().map(|len| len.parse::<usize>().unwrap() - 8).collect();
    assert_eq!(payloads, [0, 0, 64, 512, 1200, 9000]);
}

#[test]
fn payload_that_an_ordered_stop_loses_is_counted_in_the_slots() {
    let target = Target::start(address::own());
    let mut scene = Scene::new();
    let listen = scene.free_address();
    scene.configure(&format!(
        "[timeouts]\ndrain = \"100ms\"\n\n\
         [[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{}\"]\n\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\ncapture = \"full\"\n\
         capture_when_behind = \"slow\"\n",
        target.address(),
    ));
    scene.start_recorder();
    scene.start_forwarder();
    let mut client = connect(scene.client(0), listen).expect("it passes");
    let mut server = target.accept();
    let mut heard = [0; 6];
    client.write_all(b"before").expect("it is relayed");
    server.read_exact(&mut heard).expect("it arrives");
    wait::until("the recorder has written it", || {
        let web = scene.path("data/captures/web");
        written(&web).windows(6).any(|bytes| bytes == b"before").then_some(())
    });
    scene.recorder().kill();
    client.write_all(b"behind").expect("it is relayed");
    server.read_exact(&mut heard).expect("it arrives");
    assert!(scene.stop_forwarder().success());
    scene.start_recorder();
    scene.start_forwarder();
    assert!(scene.stop_forwarder().success());
    scene.flush();

    let session = &scene.rows(&["sessions"])[0];
    // Whether the forwarder has noticed by then that nobody takes it is a matter of moments.
    let told = integer(session, "captured_bytes") + integer(session, "capture_dropped_bytes");
    let sums = "SELECT (SELECT coalesce(sum(captured_bytes), 0)::BIGINT FROM captures) AS kept, \
                (SELECT sum(capture_dropped_bytes)::BIGINT FROM slots) AS dropped";
    let sums = &scene.rows(&["sql", sums])[0];
    assert_eq!(told, 12);
    assert_eq!(integer(sums, "dropped"), 6, "the recorder was gone: {sums}");
    let events = scene.rows(&["sql", "SELECT kind FROM events WHERE kind = 'shutdown'"]);
    assert_eq!(events.len(), 2);
}

/// What the files below a directory hold, of one after the other.
fn written(directory: &Path) -> Vec<u8> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let path = |entry: std::io::Result<fs::DirEntry>| entry.ok().map(|entry| entry.path());
    let content = |path: PathBuf| match path.is_dir() {
        true => written(&path),
        false => fs::read(path).unwrap_or_default(),
    };
    entries.filter_map(path).flat_map(content).collect()
}
