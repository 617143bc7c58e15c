//! Datagrams in batches: every size, runs and mixtures, with segmentation offload and without, on
//! ways that carry large packets and on one that does not.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forwarder::relay::Tuning;
use schemas::vocab::Transport::Udp;
use schemas::wire::Rows;
use socket2::SockRef;

use crate::support::*;

/// The largest datagram of UDP over IPv4.
const MAX_V4: usize = 65_507;

/// What may be under way at once, in bytes: less than any queue on the way holds.
const BURST_BYTES: usize = 80_000;

/// Set in the process that runs where packets are small.
const SMALL_PACKETS: &str = "WEIR_TEST_SMALL_PACKETS";

/// Every size around what Ethernet, tunnels and pages carry, and the borders of what is possible.
fn sizes() -> Vec<usize> {
    let mut sizes: Vec<usize> = (0..=3).chain(1171..=1473).chain(8191..=8193).collect();
    sizes.extend([16_000, 32_753, 32_754, MAX_V4 - 1, MAX_V4]);
    sizes
}

/// Bursts of one size each, then bursts of sizes mixed in every way that matters to runs.
fn bursts() -> Vec<Vec<usize>> {
    let alike = sizes().into_iter().map(|size| {
        let count = (BURST_BYTES / size.max(1)).clamp(1, 12);
        vec![size; count]
    });
    let mixed = [
        vec![200, 200, 200, 100],
        vec![100, 200, 200, 100, 100, 100],
        vec![0, 0, 5, 5, 0, 5],
        vec![1400, 1, 1400, 1, 1400, 1400, 1400, 1],
        vec![1300, 1300, 1200, 1200, 1300, 1300],
        vec![40_000, 30_000],
        vec![7; 64],
        vec![1000; 70],
    ];
    // Numbers that only look random: a failure shows again.
    let scattered = (1_u64..40).map(|seed| {
        let next = |step: u64| (seed * 7919 + step * 104_729) % 1500;
        (0..24).map(|step| next(step) as usize).collect()
    });
    alike.chain(mixed).chain(scattered).collect()
}

fn payload(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| ((at + number * 31) % 251) as u8).collect()
}

fn roomy(socket: UdpSocket) -> UdpSocket {
    SockRef::from(&socket).set_recv_buffer_size(1 << 20).unwrap();
    socket
}

/// Sends bursts from a client to a target and back, and checks every byte on both ways and in the
/// account.
fn every_burst_crosses_unharmed(address: &str, segmentation: bool) -> u64 {
    let target = roomy(udp_socket(address));
    let text = service_on(&format!("udp://{address}"), &[target.local_addr().unwrap()]);
    let scene = Scene::start_tuned(&text, Tuning { segmentation, ..Tuning::default() });
    let client = roomy(udp_client(address, scene.address(0)));
    let (mut number, mut bytes) = (0, 0);
    let mut buffer = vec![0; 70_000];
    for burst in bursts() {
        let payloads: Vec<_> = (number..).zip(&burst).map(|(n, &size)| payload(n, size)).collect();
        for payload in &payloads {
            client.send(payload).unwrap();
        }
        let mut relay = None;
        for expected in &payloads {
            let (len, from) = target.recv_from(&mut buffer).unwrap();
            assert!(buffer[..len] == *expected, "up: {len} bytes of {burst:?}");
            relay = Some(from);
        }
        for payload in &payloads {
            target.send_to(payload, relay.unwrap()).unwrap();
        }
        for expected in &payloads {
            let len = client.recv(&mut buffer).unwrap();
            assert!(buffer[..len] == *expected, "down: {len} bytes of {burst:?}");
        }
        number += burst.len();
        bytes += burst.iter().sum::<usize>();
    }
    let unsent = scene.counters().datagrams_unsent.load(Ordering::Relaxed);
    let refusals = scene.counters().offload_refusals.load(Ordering::Relaxed);
    let rows = scene.finish();
    let [session] = &rows.sessions[..] else { panic!("{rows:?}") };
    assert_eq!(bytes_of(session), [bytes as i64; 4]);
    assert_eq!([session.datagrams_up, session.datagrams_down], [number as i64; 2]);
    assert_eq!((unsent, dropped(&rows)), (0, 0));
    refusals
}

/// What the account says that receive queues dropped.
pub(crate) fn dropped(rows: &Rows) -> i64 {
    rows.slots.iter().map(|slot| slot.datagrams_dropped.unwrap()).sum()
}

#[test]
fn every_burst_crosses_ipv4_with_segmentation() {
    assert_eq!(every_burst_crosses_unharmed(ANY, true), 0);
}

#[test]
fn every_burst_crosses_ipv4_without_segmentation() {
    assert_eq!(every_burst_crosses_unharmed(ANY, false), 0);
}

#[test]
fn every_burst_crosses_ipv6_with_segmentation() {
    assert_eq!(every_burst_crosses_unharmed("[::1]:0", true), 0);
}

#[test]
fn every_burst_crosses_ipv6_without_segmentation() {
    assert_eq!(every_burst_crosses_unharmed("[::1]:0", false), 0);
}

/// Runs a test of this program again in a network namespace of its own whose loopback carries
/// packets of 1280 bytes at most. `false`: the system does not let us.
fn again_with_small_packets(test: &str) -> bool {
    let prepare = "ip link set lo mtu 1280 up && echo prepared && exec \"$@\"";
    let output = Command::new("timeout")
        .args(["120", "unshare", "--map-root-user", "--net", "sh", "-c", prepare, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(SMALL_PACKETS, "yes")
        .output();
    let Ok(output) = output else { return false };
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !said.starts_with("prepared") {
        return false;
    }
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("1 passed"), "{said}");
    true
}

#[test]
fn every_burst_crosses_a_way_that_carries_only_small_packets() {
    if std::env::var_os(SMALL_PACKETS).is_some() {
        for address in [ANY, "[::1]:0"] {
            // Segments above the way's size are refused, and everything arrives all the same.
            assert!(every_burst_crosses_unharmed(address, true) > 0);
            assert_eq!(every_burst_crosses_unharmed(address, false), 0);
        }
        return;
    }
    let name = "datagrams::every_burst_crosses_a_way_that_carries_only_small_packets";
    if !again_with_small_packets(name) {
        eprintln!("skipped: no network namespaces here (unshare(1) and ip(8) make them)");
    }
}

#[test]
fn a_closed_target_disturbs_nobody_else() {
    let (closed, held) = closed_port(Udp);
    drop(held);
    let target = udp_socket(ANY);
    let open = target.local_addr().unwrap();
    let text = format!(
        "[[service]]\nname = \"closed\"\nlisten = [\"udp://{ANY}\"]\ntarget = [\"{closed}\"]\n\
         [[service]]\nname = \"open\"\nlisten = [\"udp://127.0.0.2:0\"]\ntarget = [\"{open}\"]\n\
         [[rule]]\nname = \"all\"\naction = \"pass\"\n"
    );
    let scene = Scene::start(&text);
    let doomed: Vec<_> = (0..8).map(|_| udp_client(ANY, scene.address(0))).collect();
    let client = udp_client(ANY, scene.address(1));
    let mut buffer = [0; 64];
    let towards_closed = || {
        let live = scene.account.live().filter(|session| session.service == "closed");
        live.map(|session| session.traffic.up.received).sum::<u64>()
    };
    for turn in 0_u32..200 {
        // Ten turns are less than the smallest queue holds.
        if turn % 10 == 0 {
            let sent = 8 * 100 * u64::from(turn);
            until("what was sent is through", || towards_closed() == sent);
        }
        for one in &doomed {
            one.send(&[1; 100]).unwrap();
        }
        client.send(&turn.to_be_bytes()).unwrap();
        let (len, relay) = target.recv_from(&mut buffer).unwrap();
        target.send_to(&buffer[..len], relay).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
        assert_eq!(buffer[..4], turn.to_be_bytes());
    }
    until("all are through", || towards_closed() == 8 * 200 * 100);
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 9);
    for session in rows.sessions.iter().filter(|session| session.service == "closed") {
        assert_eq!((session.datagrams_up, session.datagrams_down), (200, 0));
    }
    let last = rows.sessions.iter().find(|session| session.service == "open").unwrap();
    assert_eq!((bytes_of(last), last.datagrams_up, last.datagrams_down), ([800; 4], 200, 200));
}

#[test]
fn a_full_table_of_associations_refuses_new_clients_and_counts_them() {
    let target = udp_socket(ANY);
    let text = one_service(Udp, &[target.local_addr().unwrap()]);
    let tuning = Tuning { associations: 5, ..Tuning::default() };
    let scene = Scene::start_tuned(&text, tuning);
    // More than both threads keep, however the kernel spreads them.
    let clients: Vec<_> = (0..40).map(|_| udp_client(ANY, scene.address(0))).collect();
    for client in &clients {
        client.send(b"in?").unwrap();
    }
    until("all have come", || {
        let (opened, denied) = scene.account.opened_and_denied();
        opened + denied == 40
    });
    let (opened, denied) = scene.account.opened_and_denied();
    assert!((5..=10).contains(&opened), "{opened}");
    let rows = scene.finish();
    assert_eq!(rows.sessions.len() as u64, opened);
    assert!(rows.denied.iter().all(|row| row.reason == "table_full"));
    let told = rows.denied.iter().map(|row| [row.count, row.bytes_up]);
    let told = told.fold([0, 0], |sum, row| [sum[0] + row[0], sum[1] + row[1]]);
    assert_eq!(told, [denied as i64, denied as i64 * 3]);
}

#[test]
fn what_a_full_receive_queue_drops_is_in_the_account() {
    const EACH: usize = 1000;
    const SIZE: usize = 60_000;
    let target = udp_socket(ANY);
    let scene = Scene::start(&one_service(Udp, &[target.local_addr().unwrap()]));
    let client = udp_client(ANY, scene.address(0));
    client.send(b"go").unwrap();
    let (_, relay) = target.recv_from(&mut [0; 64]).unwrap();
    // The queue holds some thirty of these, and three threads send faster than one reads and sends.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    target.send_to(&[0; SIZE], relay).unwrap();
                }
            });
        }
    });
    let received =
        || scene.account.live().map(|session| session.traffic.down.received).sum::<u64>();
    let mut last = (received(), Instant::now());
    until("the queue is empty", || {
        if received() != last.0 {
            last = (received(), Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(100)
    });
    let rows = scene.finish();
    let arrived = rows.sessions[0].received_down / SIZE as i64;
    assert_eq!(arrived + dropped(&rows), 3 * EACH as i64);
    assert!(dropped(&rows) > 0, "{arrived} arrived");
}
