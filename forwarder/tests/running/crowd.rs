//! A forwarder with ten thousand sessions.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::support::*;

/// UDP associations: one socket makes them all, by talking to as many addresses of the forwarder.
const SESSIONS: u16 = 10_000;

/// Files that the forwarder has open for them, and what it needs besides.
const DESCRIPTORS: u64 = SESSIONS as u64 + 500;

#[test]
fn status_answers_within_a_second_at_ten_thousand_sessions() {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if hard.is_some_and(|hard| hard < DESCRIPTORS) {
        eprintln!("skipped: {SESSIONS} sessions need {DESCRIPTORS} files, and may have {hard:?}");
        return;
    }
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let service = service("dns", "\"udp://0.0.0.0:0\"", target.local_addr().unwrap());
    let forwarder = Running::start_with_table(&(service + EVERYONE), 16_384);
    let status = forwarder.json(&["status"]);
    let listener = status["services"][0]["listeners"][0].as_str().unwrap().to_owned();
    let port = listener.rsplit_once(':').unwrap().1.parse().unwrap();
    let client = UdpSocket::bind("0.0.0.0:0").unwrap();
    let current = || forwarder.json(&["status"])["sessions"]["current"].as_u64().unwrap();
    // In portions, so that the receive queue holds each.
    for begin in (0..SESSIONS).step_by(500) {
        for number in begin..begin + 500 {
            let [high, low] = number.to_be_bytes();
            let to = SocketAddr::from((Ipv4Addr::new(127, 9, high, low), port));
            client.send_to(b"hello", to).unwrap();
        }
        wait_for("their sessions", || (current() >= u64::from(begin) + 500).then_some(()));
    }
    for arguments in [&["status"][..], &["status", "--json"], &["sessions", "--sort", "bytes"]] {
        let asked = Instant::now();
        assert!(forwarder.ask(arguments).status.success());
        let took = asked.elapsed();
        eprintln!("{arguments:?} took {took:?}");
        assert!(took < Duration::from_secs(1), "{arguments:?} took {took:?}");
    }
    let asked = Instant::now();
    assert_eq!(forwarder.json(&["kill", "--client", "127.0.0.0/8"])["ended"], SESSIONS);
    eprintln!("kill took {:?}", asked.elapsed());
    wait_for("their ends", || (current() == 0).then_some(()));
}
