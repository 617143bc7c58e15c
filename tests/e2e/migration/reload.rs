//! Check 12: what a reload changes, and what it leaves alone.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use e2e_tests::endpoint::{Target, TcpServer, UdpServer, connect};
use e2e_tests::scene::Scene;
use e2e_tests::{address, wait};

use super::{client, is_refused, passes};
use crate::rows::{integer, text};

#[test]
fn limits_count_on_over_a_reload_and_only_on_demand_does_it_end_what_it_forbids() {
    let target = Target::start(address::own());
    let mut scene = Scene::new();
    let listen = scene.free_address();
    let config = |action: &str, limit: u32| {
        let limit = match action {
            "pass" => format!("[[rule.limit]]\nper = \"rule\"\nsessions = {limit}\n"),
            _ => String::new(),
        };
        format!(
            "[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{}\"]\n\
             [[rule]]\nname = \"guests\"\nfrom = [\"127.0.0.0/8\"]\naction = \"{action}\"\n{limit}",
            target.address()
        )
    };
    scene.configure(&config("pass", 2));
    scene.start_recorder();
    scene.start_forwarder();
    let mut running: Vec<_> =
        (0..2).map(|_| (connect(client(2), listen).unwrap(), target.accept())).collect();
    scene.configure(&config("pass", 3));
    scene.run("forwarder", &["reload"]).fine();
    running.push((connect(client(2), listen).unwrap(), target.accept()));
    assert!(is_refused(client(2), listen), "the two old ones count");

    scene.configure(&config("block", 0));
    scene.run("forwarder", &["reload"]).fine();
    for (client, server) in &mut running {
        client.write_all(b"?").unwrap();
        server.read_exact(&mut [0; 1]).unwrap();
    }
    scene.run("forwarder", &["reload", "--apply-to-running"]).fine();
    for (client, _) in &mut running {
        assert!(!matches!(client.read(&mut [0; 1]), Ok(1..)));
    }
    assert!(scene.stop_forwarder().success());
    scene.flush();
    let rows = scene.rows(&["sessions"]);
    assert!(rows.iter().all(|row| text(row, "end_reason") == "denied"), "{rows:?}");
}

#[test]
fn a_hundred_reloads_that_add_and_remove_listeners_disturb_nobody() {
    let server = TcpServer::start(address::own());
    let datagrams = UdpServer::start(address::own());
    let mut scene = Scene::new();
    let (tcp, udp, more) = (scene.free_address(), scene.free_address(), scene.free_address());
    let config = |with_more: bool| {
        let (listen, dns) = match with_more {
            true => (
                format!("\"tcp://{tcp}\", \"tcp://{more}\""),
                format!("\"udp://{udp}\", \"udp://{more}\""),
            ),
            false => (format!("\"tcp://{tcp}\""), format!("\"udp://{udp}\"")),
        };
        format!(
            "[[service]]\nname = \"web\"\nlisten = [{listen}]\ntarget = [\"{}\"]\n\
             [[service]]\nname = \"dns\"\nlisten = [{dns}]\ntarget = [\"{}\"]\n\
             [[rule]]\nname = \"everyone\"\naction = \"pass\"\n",
            server.address(),
            datagrams.address()
        )
    };
    scene.configure(&config(false));
    scene.start_recorder();
    scene.start_forwarder();

    let stop = Arc::<AtomicBool>::default();
    let connecting = until_told(&stop, move || assert!(passes(client(2), tcp), "refused"));
    let answered = Arc::<AtomicU64>::default();
    let asking = asking(scene.client(1), udp, &stop, &answered);
    for round in 0..100 {
        scene.configure(&config(round % 2 == 0));
        scene.run("forwarder", &["reload"]).fine();
        if round % 2 == 0 {
            assert!(passes(client(3), more), "round {round}");
        } else {
            assert!(is_refused(client(3), more), "round {round}");
        }
    }
    scene.run("forwarder", &["status"]).fine();
    stop.store(true, Ordering::Relaxed);
    let connected = wait::joined("the client that connects", connecting);
    let asked = wait::joined("the client that asks", asking);
    assert!(connected > 100 && asked > 100, "{connected} {asked}");
    assert_eq!(answered.load(Ordering::Relaxed), asked, "every datagram has its answer");

    assert!(scene.stop_forwarder().success());
    scene.flush();
    let rows = scene.rows(&[
        "sql",
        "select count(*) as sessions, count(distinct client_port) as clients from sessions \
         where transport = 'udp'",
    ]);
    assert_eq!(integer(&rows[0], "sessions"), 1, "one association from begin to end");
}

/// Does something again and again; says how often.
fn until_told(
    stop: &Arc<AtomicBool>,
    something: impl Fn() + Send + 'static,
) -> thread::JoinHandle<u64> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut done = 0;
        while !stop.load(Ordering::Relaxed) {
            something();
            done += 1;
        }
        done
    })
}

/// A client that asks and waits for the answer, each time; counts answers. Says how often it asked.
fn asking(
    from: SocketAddr,
    to: SocketAddr,
    stop: &Arc<AtomicBool>,
    answered: &Arc<AtomicU64>,
) -> thread::JoinHandle<u64> {
    let socket = UdpSocket::bind(from).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.connect(to).unwrap();
    let answered = Arc::clone(answered);
    until_told(stop, move || {
        // What the server of datagrams understands: four bytes say how long its answer is to be.
        socket.send(&16_u32.to_be_bytes()).unwrap();
        if socket.recv(&mut [0; 64]).is_ok() {
            answered.fetch_add(1, Ordering::Relaxed);
        }
    })
}
