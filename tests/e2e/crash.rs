//! `kill -9`, again and again: no session lost, none twice, and never a byte too much.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::{self, JoinHandle};

use e2e_tests::address;
use e2e_tests::endpoint::{Plan, Seen, Target, TcpServer, UdpServer, attempt, connect, converse};
use e2e_tests::scene::Scene;
use e2e_tests::wait;

use crate::rows::{address as row_address, integer, text};
use crate::tcp::scene_with;

/// What may lie in socket buffers between the forwarder and an end when the forwarder dies; the
/// kernel accepted it, and its reset threw it away.
const IN_FLIGHT: i64 = 16 << 20;
/// Numbers of clients, shared by all rounds; none is used twice.
static CLIENTS: AtomicU16 = AtomicU16::new(0);

/// Clients that go on until they are told to stop.
struct Load {
    stop: &'static AtomicBool,
    workers: Vec<JoinHandle<Vec<(Plan, Seen, bool)>>>,
}

impl Load {
    /// Small sessions and large ones, the latter long enough to be cut off by the kill.
    fn start(scene: &Scene, listen: SocketAddr) -> Self {
        let stop: &'static AtomicBool = Box::leak(Box::default());
        let sizes = [(16, 0), (5_000, 30_000), (40 << 20, 1_000), (1_000, 40 << 20)];
        let workers = sizes.map(|(up, down)| {
            let client = scene.client(0);
            thread::spawn(move || {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let number = CLIENTS.fetch_add(1, Ordering::Relaxed);
                    let from = SocketAddr::new(client.ip(), client.port() + number);
                    let plan = Plan { up, down };
                    match attempt(from, listen, plan) {
                        Ok((counted, whole)) => seen.push((plan, counted, whole)),
                        Err(error) => {
                            assert_ne!(error.kind(), ErrorKind::Other, "{error}");
                            break; // It was killed.
                        }
                    }
                }
                seen
            })
        });
        Self { stop, workers: workers.into() }
    }

    fn stop(self) -> Vec<(Plan, Seen, bool)> {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.into_iter().flat_map(|one| wait::joined("a client stops", one)).collect()
    }
}

#[test]
fn twenty_kills_of_the_forwarder_lose_no_session_and_count_none_twice() {
    let server = TcpServer::start(address::own());
    let (mut scene, listen) = scene_with(server.address(), "");
    let mut clients = Vec::new();
    for round in 1..=20 {
        let before = server.seen().len();
        let load = Load::start(&scene, listen);
        // Some are over and some are under way: in each round at another point.
        wait::until("sessions come and go", || {
            (server.seen().len() >= before + 3 + round).then_some(())
        });
        scene.forwarder().kill();
        clients.extend(load.stop());
        scene.start_forwarder();
    }
    assert!(scene.stop_forwarder().success());
    scene.flush();
    scene.analyze(&["verify"]).fine();
    check(&scene, &clients);
}

/// Holds every session of the account against its client, and every client against the account.
fn check(scene: &Scene, clients: &[(Plan, Seen, bool)]) {
    let rows = scene.rows(&["sessions"]);
    let by_client: HashMap<_, _> =
        rows.iter().map(|row| (row_address(row, "client"), row)).collect();
    assert_eq!(by_client.len(), rows.len(), "a session stands twice in the account");
    let counted: HashMap<_, _> = clients.iter().map(|one| (one.1.own, one)).collect();
    let mut cut_off = 0;
    for (plan, seen, whole) in clients {
        let row = by_client.get(&seen.own);
        if *whole {
            assert!(row.is_some(), "no row for a session that ended in order: {seen:?}");
        }
        let Some(row) = row else {
            assert_eq!(seen.received, 0, "no row for a session that moved something: {seen:?}");
            continue;
        };
        let [sent, received] =
            [seen.sent, seen.received].map(|bytes| i64::try_from(bytes).expect("small"));
        if text(row, "end_reason") == "done" {
            let planned = [plan.up, plan.down].map(|bytes| i64::try_from(bytes).expect("small"));
            assert_eq!([integer(row, "bytes_up"), integer(row, "bytes_down")], planned, "{row}");
            assert_eq!(integer(row, "quality"), 0, "{row}");
        } else {
            cut_off += 1;
            assert!(integer(row, "received_up") <= sent, "{row} {seen:?}");
            assert!(integer(row, "bytes_up") <= integer(row, "received_up"), "{row}");
            assert!(integer(row, "bytes_down") <= integer(row, "received_down"), "{row}");
            assert!(received <= integer(row, "received_down"), "{row} {seen:?}");
            assert!(integer(row, "bytes_down") <= received + IN_FLIGHT, "{row} {seen:?}");
        }
    }
    assert!(cut_off > 0, "the kills cut no session off: the load is too light to prove anything");
    for row in &rows {
        let client = row_address(row, "client");
        let known = counted.contains_key(&client) || integer(row, "bytes_down") == 0;
        assert!(known, "a session that no client knows: {row}");
    }
}

#[test]
fn a_boot_whose_counter_table_is_gone_is_closed_with_what_the_recorder_knows() {
    let target = Target::start(address::own());
    let (mut scene, listen) = scene_with(target.address(), "");
    let mut client = connect(scene.client(0), listen).expect("it passes");
    let mut server = target.accept();
    client.write_all(b"before").expect("it is relayed");
    server.read_exact(&mut [0; 6]).expect("it arrives");
    let boot = wait::until("an interval is published", || {
        scene.flush();
        let rows = scene.rows(&["sql", "select boot from usage where bytes_up = 6"]);
        rows.first().map(|row| text(row, "boot").to_owned())
    });
    scene.forwarder().kill();
    for account in fs::read_dir("/dev/shm").expect("it is a directory").flatten() {
        drop(fs::remove_file(account.path().join(&boot)));
    }
    scene.start_forwarder();
    assert!(scene.stop_forwarder().success());
    scene.flush();

    let rows = scene.rows(&["sessions"]);
    let told: Vec<_> = rows
        .iter()
        .map(|row| (text(row, "end_reason"), integer(row, "quality"), integer(row, "bytes_up")))
        .collect();
    assert_eq!(told, [("lost", 3, 6)]);
    let events = scene.rows(&["sql", "select value from events where kind = 'boot_lost'"]);
    assert_eq!(events.len(), 1);
    scene.analyze(&["verify"]).fine();
}

#[test]
fn a_killed_recorder_has_lost_nothing_that_it_acknowledged() {
    let server = UdpServer::start(address::own());
    let mut scene = Scene::new();
    let listen = scene.free_address();
    scene.configure(&format!(
        "[timeouts]\nudp_idle = \"1s\"\n\n\
         [[service]]\nname = \"dns\"\nlisten = [\"udp://{listen}\"]\ntarget = [\"{}\"]\n\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\n",
        server.address()
    ));
    scene.start_recorder();
    scene.start_forwarder();
    let mut seen = Vec::new();
    for number in 0..10 {
        seen.push(converse(scene.client(number), listen, &[(64, 512), (100, 300)]).unwrap());
        scene.recorder().kill();
        seen.push(converse(scene.client(100 + number), listen, &[(50, 60)]).unwrap());
        scene.start_recorder();
    }
    assert!(scene.stop_forwarder().success());
    scene.flush();
    scene.analyze(&["verify"]).fine();
    let rows = scene.rows(&["sessions"]);
    assert_eq!(rows.len(), seen.len(), "every session once");
    for counted in seen {
        let row = rows.iter().find(|row| row_address(row, "client") == counted.own).unwrap();
        let moved = [integer(row, "bytes_up"), integer(row, "bytes_down")];
        assert_eq!(
            moved,
            [counted.sent, counted.received].map(|bytes| i64::try_from(bytes).unwrap())
        );
    }
}

#[test]
fn without_a_recorder_it_forwards_says_so_once_and_delivers_later() {
    let server = TcpServer::start(address::own());
    let mut scene = Scene::new();
    let listen = scene.free_address();
    scene.configure(&format!(
        "[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{}\"]\n\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\n",
        server.address()
    ));
    scene.start_forwarder();
    let plan = Plan { up: 1000, down: 2000 };
    assert!(attempt(scene.client(0), listen, plan).unwrap().1);
    let log = wait::until("it says that the recorder is absent", || {
        let log = scene.forwarder().log();
        log.contains("waits in the spool").then_some(log)
    });
    assert_eq!(log.lines().filter(|line| line.contains("waits in the spool")).count(), 1, "{log}");

    scene.start_recorder();
    assert!(scene.stop_forwarder().success());
    scene.flush();
    let rows = scene.rows(&["sessions"]);
    assert_eq!(rows.len(), 1);
    assert_eq!((integer(&rows[0], "bytes_up"), integer(&rows[0], "bytes_down")), (1000, 2000));
}
