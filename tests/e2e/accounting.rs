//! Every byte is counted: the account against what both ends counted themselves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use e2e_tests::endpoint::{Plan, Seen, TcpServer, UdpServer, converse, exchange};
use e2e_tests::scene::Scene;
use e2e_tests::wait;
use serde_json::Value;

use crate::rows::{address, integer, text};

/// A session as one of its ends, or the account, has it: bytes and datagrams, up and down.
type Moved = [i64; 4];

const SESSIONS: u16 = 2000;
const WORKERS: u16 = 16;

#[test]
fn two_thousand_sessions_are_accounted_as_both_ends_counted_them() {
    let tcp = TcpServer::start(e2e_tests::address::own());
    let udp = UdpServer::start(e2e_tests::address::own());
    let mut scene = Scene::new();
    let [web, dns] = [scene.free_address(), scene.free_address()];
    scene.configure(&format!(
        "[timeouts]\nudp_idle = \"2s\"\n\n\
         [[service]]\nname = \"web\"\nlisten = [\"tcp://{web}\"]\ntarget = [\"{}\"]\n\n\
         [[service]]\nname = \"dns\"\nlisten = [\"udp://{dns}\"]\ntarget = [\"{}\"]\n\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\ncustomer = \"acme\"\n",
        tcp.address(),
        udp.address(),
    ));
    scene.start_recorder();
    scene.start_forwarder();

    let counted = drive(&scene, web, dns);
    wait::until("every session has its row", || {
        let rows = scene.rows(&["sql", "select count(*) as n from sessions"]);
        (integer(&rows[0], "n") == i64::from(SESSIONS)).then_some(())
    });
    assert!(scene.stop_forwarder().success());
    scene.flush();

    let rows = scene.rows(&["sessions"]);
    assert_eq!(rows.len(), usize::from(SESSIONS));
    for row in &rows {
        let normal = if text(row, "transport") == "tcp" { "done" } else { "udp_expired" };
        assert_eq!(text(row, "end_reason"), normal, "{row}");
        assert_eq!(integer(row, "quality"), 0, "{row}");
    }
    let up_down = |seen: &Seen| {
        moved([seen.sent, seen.received, seen.datagrams_sent, seen.datagrams_received])
    };
    let down_up = |seen: &Seen| {
        moved([seen.received, seen.sent, seen.datagrams_received, seen.datagrams_sent])
    };
    let clients = by_address(counted.iter().map(|seen| (seen.own, up_down(seen))));
    let [tcp, udp] = [tcp.seen(), udp.seen()];
    let servers = by_address(tcp.iter().chain(&udp).map(|seen| (seen.peer, down_up(seen))));
    assert_same(&account(&rows, "client"), &clients, "clients");
    assert_same(&account(&rows, "egress"), &servers, "servers");

    let sums = scene.rows(&["usage", "--by", "customer"]);
    let all: Moved = counted
        .iter()
        .map(up_down)
        .fold([0; 4], |sum, one| std::array::from_fn(|i| sum[i] + one[i]));
    assert_eq!([integer(&sums[0], "bytes_up"), integer(&sums[0], "bytes_down")], all[..2]);
    scene.analyze(&["verify"]).fine();
}

/// Three TCP sessions to each UDP association, of all sizes.
fn drive(scene: &Scene, web: SocketAddr, dns: SocketAddr) -> Vec<Seen> {
    let work = |worker: u16| {
        let numbers = (worker..SESSIONS).step_by(usize::from(WORKERS));
        let sessions = numbers.map(|number| {
            let from = scene.client(number);
            let size = u64::from(number) * 7919 % 150_000;
            if number % 4 == 3 {
                let turns = (0..=number % 7)
                    .map(|turn| (usize::from(turn * 211), usize::from(number % 1400)));
                converse(from, dns, &turns.collect::<Vec<_>>())
            } else {
                exchange(from, web, Plan { up: 16 + size / 3, down: size })
            }
        });
        sessions.collect::<Result<Vec<_>, _>>().expect("a session was cut")
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..WORKERS).map(|worker| scope.spawn(move || work(worker))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a client panicked")).collect()
    })
}

fn moved(counts: [u64; 4]) -> Moved {
    counts.map(|count| i64::try_from(count).expect("far below 2^63"))
}

/// What each address moved in all: the kernel may give a port away again.
fn by_address(seen: impl Iterator<Item = (SocketAddr, Moved)>) -> BTreeMap<SocketAddr, Moved> {
    let mut found = BTreeMap::<_, Moved>::new();
    for (address, moved) in seen {
        let sum = found.entry(address).or_default();
        *sum = std::array::from_fn(|count| sum[count] + moved[count]);
    }
    found
}

#[track_caller]
fn assert_same(
    account: &BTreeMap<SocketAddr, Moved>,
    ends: &BTreeMap<SocketAddr, Moved>,
    who: &str,
) {
    let addresses = account.keys().chain(ends.keys());
    let other = addresses.map(|at| (at, account.get(at), ends.get(at))).find(|one| one.1 != one.2);
    assert_eq!(other, None, "address, account and {who} differ");
}

fn account(rows: &[Value], end: &str) -> BTreeMap<SocketAddr, Moved> {
    let counts = ["bytes_up", "bytes_down", "datagrams_up", "datagrams_down"];
    by_address(rows.iter().map(|row| (address(row, end), counts.map(|name| integer(row, name)))))
}
