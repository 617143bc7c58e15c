//! Ten thousand addresses that may all be forged, against a service with few UDP sessions. In a
//! process of its own, whose descriptors and memory nobody else uses.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a test that cannot go on panics, and its numbers are small"
)]

#[path = "relay/support.rs"]
#[expect(dead_code, reason = "made for more tests than this one")]
mod support;

use std::collections::HashMap;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use forwarder_sys::datagram::{self, Destination, Local, Message};
use schemas::vocab::Transport::Udp;

use support::*;

const ADDRESSES: u32 = 10_000;
const ROUNDS: u32 = 3;

/// Sessions that the service may have: those of the old clients, and a few more.
const SESSIONS: u64 = 24;
const OLD_CLIENTS: usize = 16;

/// Memory that may be in use at the end that was not before: the account's table of refusals, and
/// what allocators keep. A session and its waiting datagram each would be many times more.
const GROWTH: usize = 12 << 20;

#[test]
fn ten_thousand_forged_addresses_take_no_memory_no_descriptors_and_nobodys_session() {
    let target = udp_socket(ANY);
    let text = one_service(Udp, &[target.local_addr().unwrap()]);
    let setup = Setup { table: 65_536, ..Setup::default() };
    let scene = Scene::start_changed(&text, setup, |config| {
        config.services[0].max_udp_sessions = Some(SESSIONS);
    });
    let listener = scene.address(0);
    let clients: Vec<_> = (0..OLD_CLIENTS).map(|_| udp_client(ANY, listener)).collect();
    let mut asked: i64 = clients.iter().map(|client| exchange(client, &target)).sum();
    // What is needed once for any client is there then.
    rage(listener, 0, 100);
    settle(&scene);
    let (memory, descriptors) = (resident(), descriptors());
    for _ in 0..ROUNDS {
        rage(listener, 0, ADDRESSES);
        asked += clients.iter().map(|client| exchange(client, &target)).sum::<i64>();
    }
    settle(&scene);
    let grown = resident().saturating_sub(memory);
    assert!(grown < GROWTH, "{grown} bytes more than before");
    assert_eq!(self::descriptors(), descriptors, "no descriptor more than before");

    let rows = scene.finish();
    assert_eq!(rows.sessions.len() as u64, SESSIONS);
    let old: Vec<_> = rows.sessions.iter().filter(|session| session.datagrams_down > 0).collect();
    assert_eq!(old.len(), OLD_CLIENTS, "nobody lost a session");
    for session in old {
        assert!(session.datagrams_down > i64::from(ROUNDS), "{session:?}");
    }
    assert_refusals_are_coalesced(&rows, i64::from(100 + ROUNDS * ADDRESSES) + asked);
}

/// Every datagram is in the account, and no more rows than one for the first refusal of a client and
/// one for its others in each slot.
fn assert_refusals_are_coalesced(rows: &schemas::wire::Rows, sent: i64) {
    let received: i64 = rows.sessions.iter().map(|session| session.datagrams_up).sum();
    let refused: i64 = rows.denied.iter().map(|row| row.count).sum();
    let dropped: i64 = rows.slots.iter().map(|slot| slot.datagrams_dropped.unwrap_or(0)).sum();
    let untold: i64 = rows.events.iter().filter_map(without_a_row).sum();
    assert_eq!(
        received + refused + untold + dropped,
        sent,
        "{refused} refused, {untold} without a row, {dropped} dropped"
    );
    assert!(refused > sent / 2, "most were refused, not lost: {dropped} dropped");
    let mut per_client: HashMap<_, usize> = HashMap::new();
    for row in &rows.denied {
        assert_eq!((&*row.reason, &*row.action, &row.rule), ("limit_sessions", "drop", &None));
        assert_eq!(row.limit.as_deref(), Some("service udp_sessions"));
        assert!(row.bytes_up >= row.count, "{row:?}");
        if let Some(client) = &row.client_ip {
            *per_client.entry(client).or_default() += 1;
        }
    }
    let most = per_client.values().max().copied().unwrap_or(0);
    assert!(most <= 2 * rows.slots.len().max(1), "{most} rows of one client");
}

/// Refusals that came faster than rows are made: an event says how many.
fn without_a_row(event: &schemas::table::Event) -> Option<i64> {
    let lost = " refused attempts came too fast to be told apart and have no row";
    event.message.strip_suffix(lost)?.parse().ok()
}

/// A question and its answer, asked again where the storm pushed it out of a queue. Gives how often
/// it was asked.
fn exchange(client: &UdpSocket, target: &UdpSocket) -> i64 {
    let patience = Some(Duration::from_millis(200));
    client.set_read_timeout(patience).unwrap();
    target.set_read_timeout(patience).unwrap();
    let mut buffer = [0; 64];
    for asked in 1..=100 {
        client.send(b"question").unwrap();
        // Others of the target's clients send, too, and get no answer.
        while let Ok((len, from)) = target.recv_from(&mut buffer) {
            if &buffer[..len] == b"question" {
                target.send_to(b"answer", from).unwrap();
                break;
            }
        }
        if client.recv(&mut buffer).is_ok() {
            return asked;
        }
    }
    panic!("no answer");
}

/// One datagram from each address, no faster than most of them find room in the queue.
fn rage(listener: SocketAddr, first: u32, count: u32) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let payload = [IoSlice::new(b"forged")];
    let base = u32::from(Ipv4Addr::new(127, 1, 0, 1)) + first;
    for address in base..base + count {
        let source = Local::new(Ipv4Addr::from(address).into());
        let message = Message { datagrams: &payload, segment: None };
        let to = Destination::new(listener, Some(source));
        assert_eq!(datagram::send(&socket, &to, &[message]).unwrap(), 1);
    }
}

/// Waits until no more is refused.
fn settle(scene: &Scene) {
    let mut last = (scene.account.opened_and_denied(), Instant::now());
    until("everything is judged", || {
        let heard = scene.account.opened_and_denied();
        if heard != last.0 {
            last = (heard, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(300)
    });
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
