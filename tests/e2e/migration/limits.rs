//! Checks 7, 8 and 9: how many at once, how many in a time, and how much.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e_tests::endpoint::{Target, TcpServer, connect};
use e2e_tests::scene::Scene;
use e2e_tests::{address, wait};

use super::{client, denied, is_refused, passes};
use crate::rows::{integer, text};

fn scene(target: SocketAddr, limits: &str) -> (Scene, SocketAddr) {
    let mut scene = Scene::new();
    let listen = scene.free_address();
    scene.configure(&format!(
        "[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{target}\"]\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\n{limits}"
    ));
    scene.start_recorder();
    scene.start_forwarder();
    (scene, listen)
}

#[test]
fn one_client_too_many_is_closed_at_once_and_a_place_that_is_left_can_be_taken() {
    let target = Target::start(address::own());
    let (mut scene, listen) =
        scene(target.address(), "[[rule.limit]]\nper = \"rule\"\nsessions = 2\n");
    let mut clients: Vec<(TcpStream, TcpStream)> =
        (0..2).map(|_| (connect(client(1), listen).unwrap(), target.accept())).collect();
    assert!(is_refused(client(2), listen));
    assert!(is_refused(client(3), listen));

    drop(clients.pop());
    wait::until("the place is free", || (scene.status()["sessions"]["current"] == 1).then_some(()));
    let mut third = (connect(client(2), listen).unwrap(), target.accept());
    third.1.write_all(b"!").unwrap();
    third.0.read_exact(&mut [0; 1]).unwrap();

    drop((clients, third));
    let rows = denied(&mut scene);
    for row in &rows {
        assert_eq!(text(row, "rule"), "everyone");
        assert_eq!((text(row, "reason"), text(row, "limit")), ("limit_sessions", "rule sessions"));
        assert_eq!(text(row, "action"), "reset");
    }
    let first = |ip: &str| rows.iter().any(|row| text(row, "client_ip") == ip);
    assert!(first("127.0.0.2") && first("127.0.0.3"), "{rows:?}");
}

#[test]
fn a_greedy_address_is_refused_while_another_gets_in_and_reconnecting_does_not_help() {
    let server = TcpServer::start(address::own());
    let (mut scene, listen) =
        scene(server.address(), "[[rule.limit]]\nper = \"client\"\nnew_sessions = \"3/1h\"\n");
    // Each is closed before the next begins.
    assert!((0..3).all(|_| passes(client(2), listen)));
    assert!((0..5).all(|_| is_refused(client(2), listen)));
    assert!(passes(client(3), listen));
    let rows = denied(&mut scene);
    assert_eq!(rows.iter().map(|row| integer(row, "count")).sum::<i64>(), 5);
    assert!(rows.iter().all(|row| text(row, "reason") == "limit_rate"
        && text(row, "limit") == "client new_sessions"
        && text(row, "client_ip") == "127.0.0.2"));
}

#[test]
fn refused_attempts_do_not_make_the_wait_longer() {
    let server = TcpServer::start(address::own());
    let (_scene, listen) =
        scene(server.address(), "[[rule.limit]]\nper = \"client\"\nnew_sessions = \"1/2s\"\n");
    assert!(passes(client(2), listen));
    let refused = Instant::now();
    let mut attempts = 0;
    wait::until("the client gets in again though it knocked all the time", || {
        attempts += 1;
        passes(client(2), listen).then_some(())
    });
    assert!(attempts > 1 && refused.elapsed() < Duration::from_secs(20), "{attempts}");
}

/// A server that sends without end to whoever comes.
fn flood(ip: IpAddr) -> SocketAddr {
    let target = Target::start(ip);
    let address = target.address();
    thread::spawn(move || {
        while let Some(mut stream) = target.next() {
            thread::spawn(move || while stream.write_all(&[7; 65_536]).is_ok() {});
        }
    });
    address
}

#[test]
fn sixteen_downloads_share_what_their_rule_may_have_and_nobody_else_is_slowed() {
    const RATE: u64 = 1_000_000;
    const BURST: u64 = 65_536;
    let target = flood(address::own());
    let limit =
        "[[rule.limit]]\nper = \"rule\"\nbandwidth = { both = \"1 MB/s\", burst = \"64 KiB\" }\n";
    let mut scene = Scene::new();
    let (listen, free) = (scene.free_address(), scene.free_address());
    scene.configure(&format!(
        "[[service]]\nname = \"slow\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{target}\"]\n\
         [[service]]\nname = \"free\"\nlisten = [\"tcp://{free}\"]\ntarget = [\"{target}\"]\n\
         [[rule]]\nname = \"limited\"\nservices = [\"slow\"]\naction = \"pass\"\n{limit}\
         [[rule]]\nname = \"others\"\naction = \"pass\"\n"
    ));
    scene.start_recorder();
    scene.start_forwarder();

    let begun = Instant::now();
    let counts: Vec<Arc<AtomicU64>> = (0..16)
        .map(|_| {
            let mut client = connect(client(2), listen).unwrap();
            let count = Arc::<AtomicU64>::default();
            let counting = Arc::clone(&count);
            thread::spawn(move || {
                let mut buffer = [0; 16_384];
                while let Ok(len @ 1..) = client.read(&mut buffer) {
                    counting.fetch_add(len as u64, Ordering::Relaxed);
                }
            });
            count
        })
        .collect();
    let total = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    wait::until("four seconds' worth has come", || (total() >= 4 * RATE).then_some(()));
    let took = begun.elapsed();
    // Never more than the rate and one burst; a machine that is busy with other things may take
    // longer, but hardly twice as long.
    let most = RATE as f64 * took.as_secs_f64() * 1.05 + BURST as f64;
    assert!((total() as f64) <= most + 16.0 * 16_384.0, "{} in {took:?}", total());
    assert!(took < Duration::from_secs(8), "{took:?} for four seconds' worth");
    let least = counts.iter().map(|count| count.load(Ordering::Relaxed)).min().unwrap();
    assert!(least >= 4 * RATE / 16 / 2, "one of sixteen got only {least} bytes");

    // Ten times what the others had, in less time, whatever the machine.
    let mut other = connect(client(2), free).unwrap();
    let mut left = 10 * RATE;
    let begun = Instant::now();
    while left > 0 {
        left = left.saturating_sub(other.read(&mut [0; 65_536]).unwrap() as u64);
    }
    assert!(begun.elapsed() < took, "{:?}", begun.elapsed());
}

#[test]
fn whoever_waits_for_a_trickle_goes_on_at_once_when_a_reload_allows_more() {
    let target = flood(address::own());
    let mut scene = Scene::new();
    let listen = scene.free_address();
    let config = |bandwidth: &str| {
        format!(
            "[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{target}\"]\n\
             [[rule]]\nname = \"everyone\"\naction = \"pass\"\n{bandwidth}"
        )
    };
    let limit = |rate: &str| {
        format!("[[rule.limit]]\nper = \"rule\"\nbandwidth = {{ both = \"{rate}\" }}\n")
    };
    for after in [limit("80 Mbit/s"), String::new()] {
        scene.configure(&config(&limit("8 bit/s")));
        scene.start_recorder();
        scene.start_forwarder();
        let mut clients: Vec<_> = (0..8).map(|_| connect(client(2), listen).unwrap()).collect();
        wait::until("all are held back", || {
            (scene.status()["held"]["by_limit"].as_u64() >= Some(7)).then_some(())
        });
        scene.configure(&config(&after));
        scene.run("forwarder", &["reload"]).fine();
        for client in &mut clients {
            client.read_exact(&mut vec![0; 100_000]).unwrap();
        }
        drop(clients);
        assert!(scene.stop_forwarder().success());
        assert!(scene.stop_recorder().success());
    }
}
