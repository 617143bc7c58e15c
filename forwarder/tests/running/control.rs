//! What operators do to a running forwarder.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use e2e_tests::process::{finished, kill};
use rustix::process::{Signal, kill_process};

use crate::support::*;

#[test]
fn sessions_are_killed_by_name_by_client_and_by_rule_and_it_says_how_many() {
    let forwarder = Running::start(&two_rules(server("hello")));
    let address = forwarder.address(0);
    let mut office = [1, 2].map(|_| hear_from("127.0.0.2", address));
    let mut others = [1, 2, 3].map(|_| hear_from("127.0.0.3", address));
    let boot = forwarder.json(&["status"])["boot"].as_str().unwrap().to_owned();

    for (arguments, code, word) in [
        (&["kill"][..], 64, "--client, --rule, --service"),
        (&["kill", "nonsense"], 64, "is no session"),
        (&["kill", "77"], 66, "no such session"),
        (&["kill", "aaaaaaaa-1"], 66, "of another run"),
        (&["session", "77"], 66, &format!("analyze session {boot}-77 tells")),
        (&["kill", "--rule", "nobody"], 66, "no such session"),
        (&["kill", "--client", "somewhere"], 64, "expected an address"),
    ] {
        let said = forwarder.ask(arguments);
        let stderr = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(word), "{stderr}");
    }
    assert_eq!(forwarder.json(&["sessions"])["total"], 5);

    assert_eq!(forwarder.json(&["kill", &format!("{boot}-1")])["ended"], 1);
    assert_eq!(is_reset(&mut office[0]), Ok(()));
    let said = forwarder.ask(&["kill", "--client", "127.0.0.3", "--rule", "others"]);
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "3 sessions ended\n");
    for one in &mut others {
        assert_eq!(is_reset(one), Ok(()));
    }
    office[1].write_all(b"still here").unwrap();
    assert_eq!(forwarder.json(&["kill", "--rule", "office"])["ended"], 1);
    assert_eq!(is_reset(&mut office[1]), Ok(()));
}

#[test]
fn sessions_are_filtered_and_sorted_and_one_tells_all_of_itself() {
    let forwarder = Running::start(&two_rules(server("hello")));
    let address = forwarder.address(0);
    let mut office = hear_from("127.0.0.2", address);
    let mut other = hear_from("127.0.0.3", address);
    office.write_all(&[0; 1000]).unwrap();
    other.write_all(&[0; 2000]).unwrap();
    let names = |arguments: &[&str]| -> Vec<String> {
        let sessions = forwarder.json(&[&["sessions"], arguments].concat());
        let list = sessions["list"].as_array().unwrap().iter();
        list.map(|one| one["rule"].as_str().unwrap().to_owned()).collect()
    };
    wait_for("the bytes", || (names(&["--sort", "bytes"]) == ["others", "office"]).then_some(()));
    assert_eq!(names(&[]), ["office", "others"]);
    assert_eq!(names(&["--sort", "bytes", "--top", "1"]), ["others"]);
    assert_eq!(names(&["--client", "127.0.0.2"]), ["office"]);
    assert_eq!(names(&["--service", "web", "--rule", "others"]), ["others"]);
    assert_eq!(names(&["--target", "192.0.2.0/24"]), Vec::<String>::new());

    // To be among the fastest takes payload between two looks.
    let pouring = std::thread::spawn(move || {
        while office.write_all(&[0; 1000]).is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let fastest = &forwarder.json(&["sessions", "--sort", "rate"])["list"][0];
    assert_eq!(fastest["rule"], "office");
    assert!(fastest["rate_up_bps"].as_u64().unwrap() > 100_000, "{fastest}");
    assert_eq!(fastest["idle_s"], 0);

    let name = fastest["session"].as_str().unwrap();
    let session = forwarder.json(&["session", name]);
    assert_eq!(session["session"], name);
    assert!(session["client_tcp"]["mss"].as_u64().unwrap() > 0, "{session}");
    assert!(session["target_tcp"]["cwnd"].as_u64().unwrap() > 0, "{session}");
    assert!(session["received_up"].as_i64().unwrap() >= 1000 && session["egress"].is_string());
    let text = String::from_utf8(forwarder.ask(&["session", name]).stdout).unwrap();
    assert!(text.contains("round trip") && text.contains("rule office"), "{text}");
    assert_eq!(forwarder.json(&["kill", name])["ended"], 1);
    pouring.join().unwrap();
    assert_eq!(forwarder.ask(&["session", name]).status.code(), Some(66));
}

#[test]
fn a_paused_service_lets_nobody_in_over_a_reload_and_is_resumed() {
    let target = server("hello");
    let listen = "\"tcp://127.0.0.1:0\", \"udp://127.0.0.1:0\"";
    let rest = service("web", listen, target) + EVERYONE;
    let forwarder = Running::start(&rest);
    let address = forwarder.address(0);
    let paused = forwarder.json(&["pause", "web"]);
    assert_eq!(paused["changed"].as_array().unwrap().len(), 2);
    assert_eq!(forwarder.json(&["pause", &format!("tcp://{address}")])["changed"], none());
    forwarder.write(&(rest + "log = [\"connect\"]\n"));
    assert_eq!(forwarder.json(&["reload"])["changed"], true);
    let status = forwarder.json(&["status"]);
    assert_eq!(status["services"][0]["paused"].as_array().unwrap().len(), 2);

    let waiting = std::thread::spawn(move || hear(address, "hello"));
    wait_for("a dropped datagram", || {
        let [udp] = udp_listeners(&forwarder)[..] else { panic!("one") };
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", udp).unwrap();
        let status = forwarder.json(&["status"]);
        (status["counters"]["datagrams_paused"] != 0).then_some(())
    });
    assert_eq!(forwarder.json(&["status"])["sessions"]["accepted"], 0);
    let text = String::from_utf8(forwarder.ask(&["status"]).stdout).unwrap();
    assert!(text.contains("serving, but paused: tcp://127.0.0.1"), "{text}");
    assert_eq!(forwarder.json(&["resume", "web"])["paused"], none());
    waiting.join().unwrap();
    assert_eq!(forwarder.ask(&["pause", "nothing"]).status.code(), Some(66));
}

#[test]
fn a_drain_refuses_who_is_new_shows_who_is_left_and_can_be_taken_back() {
    let forwarder = Running::start(&two_rules(server("hello")));
    let address = forwarder.address(0);
    let held = hear(address, "hello");
    assert_eq!(forwarder.json(&["drain"])["current"], 1);
    let is_refused = || {
        let refused = TcpStream::connect(address).err()?;
        (refused.kind() == ErrorKind::ConnectionRefused).then_some(())
    };
    wait_for("a refusal", is_refused);
    let status = forwarder.json(&["status"]);
    assert_eq!((&status["draining"], &status["sessions"]["current"]), (&true.into(), &1.into()));
    assert_eq!(forwarder.json(&["drain", "--cancel"])["draining"], false);
    wait_for("it listens", || TcpStream::connect(address).ok());
    hear(address, "hello");
    assert_eq!(forwarder.json(&["drain"])["draining"], true);
    wait_for("a refusal", is_refused);
    drop(held);
    wait_for("the last end", || {
        (forwarder.json(&["status"])["sessions"]["current"] == 0).then_some(())
    });
    let mut forwarder = forwarder;
    kill_process(process(&forwarder), Signal::TERM).unwrap();
    assert_eq!(finished("the forwarder", &mut forwarder.process).status.code(), Some(0));
}

#[test]
fn a_reload_that_is_applied_to_what_runs_ends_who_may_not_pass_any_more() {
    let target = server("hello");
    let forwarder = Running::start(&two_rules(target));
    let address = forwarder.address(0);
    let mut office = hear_from("127.0.0.2", address);
    let mut other = hear_from("127.0.0.3", address);
    let blocked = two_rules(target).replacen("pass", "block", 1);
    forwarder.write(&blocked);
    assert_eq!(forwarder.json(&["reload"])["applied"], serde_json::Value::Null);
    office.write_all(b"goes on").unwrap();
    let reloaded = forwarder.json(&["reload", "--apply-to-running"]);
    assert_eq!(reloaded["applied"]["ended"], 1, "{reloaded}");
    assert_eq!(is_reset(&mut office), Ok(()));
    other.write_all(b"goes on").unwrap();
    assert_eq!(forwarder.json(&["sessions"])["total"], 1);
    assert!(forwarder.log().contains("ended=1"), "{}", forwarder.log());
}

#[test]
fn limits_show_how_far_they_are_used() {
    let limit = "[[rule.limit]]\nper = \"client\"\nsessions = 4\n\
                 [[rule.limit]]\nper = \"rule\"\nsessions = 10\n";
    let target = server("hello");
    let service = service("web", "\"tcp://127.0.0.1:0\"", target);
    let forwarder = Running::start(&format!("{service}{EVERYONE}{limit}"));
    let _held = [1, 2, 3].map(|_| hear(forwarder.address(0), "hello"));
    let limits = forwarder.json(&["limits"]);
    let first = &limits["list"][0];
    assert_eq!((&first["limit"], &first["in_use"]), (&"client sessions".into(), &3.into()));
    assert_eq!((&first["key"], &first["most"]), (&"127.0.0.1".into(), &4.into()));
    let status = forwarder.json(&["status"]);
    let [shared] = &status["limits"].as_array().unwrap()[..] else { panic!("{status}") };
    assert_eq!((&shared["limit"], &shared["in_use"]), (&"rule sessions".into(), &3.into()));
    assert_eq!(status["rules"][0]["sessions"]["current"], 3);
    assert_eq!(status["rules"][0]["delivered"]["bytes_down"], 15);
    assert_eq!(status["targets"][0]["state"], "up");
}

#[test]
fn a_session_that_a_bandwidth_holds_back_is_shown_as_one() {
    let limit = "[[rule.limit]]\nper = \"rule\"\nbandwidth = { up = \"20 kB/s\" }\n";
    let service = service("web", "\"tcp://127.0.0.1:0\"", server("hello"));
    let forwarder = Running::start(&format!("{service}{EVERYONE}{limit}"));
    let mut client = hear(forwarder.address(0), "hello");
    let pouring = std::thread::spawn(move || while client.write_all(&[0; 10_000]).is_ok() {});
    wait_for("a session that is held back", || {
        (forwarder.json(&["status"])["held"]["by_limit"] == 1).then_some(())
    });
    wait_for("which one", || {
        (forwarder.json(&["sessions"])["list"][0]["held_by"] == "limit").then_some(())
    });
    assert_eq!(forwarder.json(&["kill", "1"])["ended"], 1);
    pouring.join().unwrap();
}

#[test]
fn totals_count_what_has_ended_too() {
    let forwarder = Running::start(&two_rules(server("hello")));
    for _ in 0..3 {
        hear_from("127.0.0.2", forwarder.address(0));
    }
    wait_for("their ends", || {
        let status = forwarder.json(&["status"]);
        let service = &status["services"][0];
        (service["sessions"]["current"] == 0).then(|| {
            assert_eq!(service["delivered"]["bytes_down"], 15);
            assert_eq!(service["live_bytes_down"], 0);
            assert_eq!(status["rules"][0]["sessions"]["accepted"], 3);
        })
    });
}

#[test]
fn without_a_terminal_a_watch_writes_one_answer_after_the_other_until_nobody_reads() {
    let forwarder = Running::start(&two_rules(server("hello")));
    let mut watching = command(forwarder.dir.path(), &["status", "--watch", "1", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        let status: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(status["status"]["node"], "edge-1");
    }
    drop(lines);
    let status = wait_for("it notices", || watching.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    kill(&mut watching);
}

#[test]
fn a_storm_of_sighups_is_few_reloads_and_an_answer_in_time() {
    let forwarder = Running::start(&two_rules(server("hello")));
    for _ in 0..2000 {
        kill_process(process(&forwarder), Signal::HUP).unwrap();
    }
    assert_eq!(forwarder.json(&["reload"])["changed"], false);
    wait_for("a reload", || forwarder.log().contains("configuration in force").then_some(()));
    let reloads = forwarder.log().matches("configuration in force").count();
    assert!(reloads <= 6, "{reloads} reloads");
    hear(forwarder.address(0), "hello");
}

/// A service, and rules for the office at 127.0.0.2 and for all others.
fn two_rules(target: SocketAddr) -> String {
    let service = service("web", "\"tcp://127.0.0.1:0\"", target);
    format!(
        "{service}[[rule]]\nname = \"office\"\nfrom = [\"127.0.0.2\"]\naction = \"pass\"\n\
         [[rule]]\nname = \"others\"\naction = \"pass\"\n"
    )
}

fn none() -> serde_json::Value {
    serde_json::Value::Array(Vec::new())
}

fn udp_listeners(forwarder: &Running) -> Vec<SocketAddr> {
    let status = forwarder.json(&["status"]);
    let listeners = status["services"][0]["listeners"].as_array().unwrap().clone();
    let udp = listeners.iter().filter_map(|text| text.as_str().unwrap().strip_prefix("udp://"));
    udp.map(|address| address.parse().unwrap()).collect()
}

/// Connects from one of our addresses and hears the server's hello.
fn hear_from(ip: &str, address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ip.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    stream
}

fn is_reset(stream: &mut TcpStream) -> Result<(), String> {
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
