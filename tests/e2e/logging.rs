//! What the log tells of sessions, and where it goes.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use e2e_tests::endpoint::{Plan, TcpServer, UdpServer, converse, exchange};
use e2e_tests::scene::Scene;
use e2e_tests::wait;
use rustix::process::Signal;
use serde_json::Value;

const PLAN: Plan = Plan { up: 5000, down: 7000 };

/// A configuration with one service of both transports, and a rule that logs all there is to log.
fn config(log: &str, listen: SocketAddr, tcp: SocketAddr, udp: SocketAddr) -> String {
    format!(
        "[log]\n{log}\n[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\n\
         target = [\"{tcp}\"]\n[[service]]\nname = \"dns\"\nlisten = [\"udp://{listen}\"]\n\
         target = [\"{udp}\"]\n[[rule]]\nname = \"no\"\nfrom = [\"127.9.9.9\"]\naction = \"block\"\n\
         log = [\"data\"]\n[[rule]]\nname = \"all\"\naction = \"pass\"\ncustomer = \"acme\"\n\
         log = [\"connect\", \"disconnect\", \"error\", \"data\", \"tcpinfo\"]\n\
         timeouts = {{ udp_idle = \"1s\" }}\n"
    )
}

/// A scene with both servers, whose forwarder is not started.
fn scene() -> (Scene, TcpServer, UdpServer) {
    let scene = Scene::new();
    let (tcp, udp) = (TcpServer::start(scene.ip()), UdpServer::start(scene.ip()));
    (scene, tcp, udp)
}

/// The lines of a log that are there to their end; the last may be on its way.
fn objects(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn told(path: &Path, message: &str) -> Vec<Value> {
    let mut lines = objects(path);
    lines.retain(|line| line["message"] == message);
    lines
}

fn contains(path: &Path, words: &str) -> Option<()> {
    fs::read_to_string(path).unwrap_or_default().contains(words).then_some(())
}

/// The names of a line's fields.
fn names(line: &Value) -> String {
    line.as_object().expect("a line is an object").keys().cloned().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_fact_of_a_session_is_in_its_lines() {
    let (mut scene, tcp, udp) = scene();
    let (log, listen) = (scene.path("weir.log"), scene.free_address());
    let to = format!("to = \"{}\"\nformat = \"json\"", log.display());
    scene.configure(&config(&to, listen, tcp.address(), udp.address()));
    scene.start_recorder();
    scene.start_forwarder();
    let client = scene.client(1);
    exchange(client, listen, PLAN).unwrap();
    wait::until("the end of the session", || told(&log, "session ended").pop());

    let begin = told(&log, "session begins").remove(0);
    let end = told(&log, "session ended").remove(0);
    for line in [&begin, &end] {
        assert_eq!(line["service"], "web");
        assert_eq!((&line["rule"], &line["customer"]), (&"all".into(), &"acme".into()));
        assert_eq!(line["client"], client.to_string());
        assert_eq!(line["listen"], listen.to_string());
        assert_eq!(line["target"], tcp.address().to_string());
        assert_eq!(line["egress"], tcp.seen()[0].peer.to_string());
        assert!(line["rtt_client_us"].as_u64() > Some(0), "{line}");
        assert!(line["mss_target"].as_u64() > Some(0), "{line}");
        assert!(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
    assert_eq!((&end["bytes_up"], &end["bytes_down"]), (&5000.into(), &7000.into()));
    assert_eq!((&end["received_up"], &end["received_down"]), (&5000.into(), &7000.into()));
    assert_eq!((&end["reason"], &end["phase"]), (&"done".into(), &"half_closed".into()));
    assert!(end["duration_ms"].as_f64() > Some(0.0), "{end}");
    insta::assert_snapshot!("fields_of_a_session", format!("{}\n{}", names(&begin), names(&end)));

    let session = end["session"].as_str().unwrap().to_owned();
    let pieces = told(&log, "payload");
    for (direction, bytes) in [("up", 5000), ("down", 7000)] {
        let mut own = pieces.clone();
        own.retain(|line| line["direction"] == direction && line["session"] == session.as_str());
        assert_eq!(own.iter().filter_map(|line| line["bytes"].as_u64()).sum::<u64>(), bytes);
        assert_eq!(own.last().unwrap()["bytes"], 0, "the end of a direction is told, too");
    }

    let client = scene.client(2);
    converse(client, listen, &[(100, 200), (50, 0)]).unwrap();
    let end = wait::until("the end of the association", || {
        told(&log, "session ended").into_iter().find(|line| line["service"] == "dns")
    });
    assert_eq!((&end["bytes_up"], &end["bytes_down"]), (&150.into(), &200.into()));
    assert_eq!((&end["datagrams_up"], &end["datagrams_down"]), (&2.into(), &2.into()));
    assert_eq!(end["datagrams_received_up"], 2);
    assert_eq!(end["reason"], "udp_expired");

    assert!(exchange("127.9.9.9:0".parse().unwrap(), listen, PLAN).is_err());
    let refused = wait::until("the refusal", || told(&log, "client refused").pop());
    assert_eq!((&refused["rule"], &refused["reason"]), (&"no".into(), &"rule".into()));
    assert_eq!(refused["target"], tcp.address().to_string(), "where it wanted to go");
    assert!(scene.stop_forwarder().success());

    // What TCP knew of the sides is in the table of a rule that logs it, however short the session.
    scene.flush();
    let rows = scene.rows(&["sessions", "--service", "web"]);
    assert!(rows[0]["rtt_client_us"].as_i64() > Some(0), "{}", rows[0]);
    assert!(rows[0]["retrans_target"].as_i64().is_some(), "{}", rows[0]);
}

#[test]
fn the_log_file_is_opened_again_when_it_was_renamed() {
    let (mut scene, tcp, udp) = scene();
    let (log, old) = (scene.path("weir.log"), scene.path("weir.log.1"));
    let listen = scene.free_address();
    let to = format!("to = \"{}\"", log.display());
    scene.configure(&config(&to, listen, tcp.address(), udp.address()));
    scene.start_forwarder();
    wait::until("the first line", || contains(&log, "listening"));
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o640);

    fs::rename(&log, &old).unwrap();
    exchange(scene.client(1), listen, PLAN).unwrap();
    wait::until("a line in the renamed file", || contains(&old, "session ended"));
    assert!(!log.exists());
    scene.forwarder().signal(Signal::HUP);
    wait::until("a line in the new file", || contains(&log, "configuration in force"));
    exchange(scene.client(2), listen, PLAN).unwrap();
    wait::until("a session in the new file", || contains(&log, "session ended"));
    assert_eq!(fs::read_to_string(&old).unwrap().matches("session ended").count(), 1);

    // A directory is in the way: the file that is open stays.
    let older = scene.path("weir.log.2");
    fs::rename(&log, &older).unwrap();
    fs::create_dir(&log).unwrap();
    scene.forwarder().signal(Signal::HUP);
    wait::until("the complaint", || contains(&older, "lines go on to the file that was open"));

    // A faulty configuration does not keep anybody from rotating.
    fs::remove_dir(&log).unwrap();
    scene.configure("nonsense = 1\n");
    scene.forwarder().signal(Signal::HUP);
    wait::until("the refusal in the new file", || contains(&log, "reload refused"));
}

#[test]
fn a_reload_changes_where_the_log_goes_and_how_it_looks() {
    let (mut scene, tcp, udp) = scene();
    let listen = scene.free_address();
    let (first, second) = (scene.path("first.log"), scene.path("second.log"));
    let rest = |log: &str| config(log, listen, tcp.address(), udp.address());
    scene.configure(&rest(&format!("to = \"{}\"", first.display())));
    scene.start_forwarder();

    let nowhere = format!("to = \"{}\"", scene.path("no/such/dir.log").display());
    scene.configure(&rest(&nowhere));
    scene.run("forwarder", &["reload"]).refused(74, &["cannot open the log file", "dir.log"]);

    scene.configure(&rest(&format!("to = \"{}\"\nformat = \"json\"", second.display())));
    scene.run("forwarder", &["reload"]).fine();
    let line = wait::until("a line", || told(&second, "configuration in force").pop());
    assert_eq!(line["level"], "info");

    scene.configure(&rest(&format!("to = \"{}\"\nlevel = \"error\"", second.display())));
    scene.run("forwarder", &["reload"]).fine();
    exchange(scene.client(1), listen, PLAN).unwrap();
    assert!(scene.stop_forwarder().success());
    assert!(!fs::read_to_string(&second).unwrap().contains("session"), "that is no error");
}

#[test]
fn a_full_disk_holds_up_nobody_and_is_counted() {
    let (mut scene, tcp, udp) = scene();
    let listen = scene.free_address();
    scene.configure(&config("to = \"/dev/full\"", listen, tcp.address(), udp.address()));
    scene.start_forwarder();
    for number in 0..20 {
        exchange(scene.client(number), listen, PLAN).unwrap();
    }
    wait::until("the count", || {
        let lost = scene.status()["counters"]["log_lines_dropped"].as_u64();
        (lost > Some(40)).then_some(())
    });
    assert!(scene.stop_forwarder().success());
}

#[test]
fn a_flood_of_refusals_is_told_by_its_number() {
    let (mut scene, tcp, udp) = scene();
    let (log, listen) = (scene.path("weir.log"), scene.free_address());
    let to = format!("to = \"{}\"\nformat = \"json\"", log.display());
    scene.configure(&config(&to, listen, tcp.address(), udp.address()));
    scene.start_forwarder();
    let mut sent = 0;
    wait::until("a number instead of lines", || {
        for _ in 0..200 {
            let from = "127.9.9.9:0".parse().unwrap();
            sent += u64::from(e2e_tests::endpoint::connect(from, listen).is_ok());
        }
        told(&log, "more clients refused").pop()
    });
    wait::until("every one of them", || {
        let more = told(&log, "more clients refused");
        let more: u64 = more.iter().filter_map(|line| line["clients"].as_u64()).sum();
        let each = told(&log, "client refused").len() as u64;
        (more > 0 && each + more >= sent).then_some(())
    });
    let each = told(&log, "client refused").len() as u64;
    assert!(each < sent, "{each} lines about {sent} clients");
    assert!(scene.forwarder().exited().is_none());
}
