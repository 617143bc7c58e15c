//! Reloads under load: what stays must not notice them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::*;

const RELOADS: usize = 100;

/// Clients that are served between two reloads, at least.
const CLIENTS_EACH: u64 = 20;

/// Datagrams that may be under way: no buffer holds fewer.
const UNDER_WAY: u64 = 16;

#[test]
fn a_hundred_reloads_lose_no_connection_and_no_datagram_of_listeners_that_stay() {
    let (tcp, udp) = (echo(), udp_socket(ANY));
    let service = services(tcp, udp.local_addr().unwrap());
    let mut scene = Scene::start_with_table(&service, 65_536);
    let (web, dns) = (scene.address(0), scene.address(1));
    let over = Arc::new(AtomicBool::new(false));
    let (served, arrived) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let clients: Vec<_> =
        (0..2).map(|_| connect_on(web, Arc::clone(&over), Arc::clone(&served))).collect();
    let heard = listen_on(udp.try_clone().unwrap(), Arc::clone(&over), Arc::clone(&arrived));
    let streaming = stream_on(dns, Arc::clone(&over), Arc::clone(&arrived));

    for round in 0..RELOADS {
        // Every other configuration has listeners more, which the next one drops.
        let more = match round % 2 {
            0 => {
                "[[service]]\nname = \"more\"\n\
                  listen = [\"tcp://127.0.0.8:0\", \"udp://127.0.0.8:0\"]\ntarget = [\"10.0.0.5:80\"]\n"
            }
            _ => "",
        };
        let before = served.load(Ordering::Relaxed);
        scene.reload(&format!("{service}{more}"));
        assert_eq!(scene.bound(), if more.is_empty() { 2 } else { 4 });
        until("clients are served meanwhile", || {
            served.load(Ordering::Relaxed) >= before + CLIENTS_EACH
        });
    }
    over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let sent = streaming.join().unwrap();
    heard.join().unwrap();
    let (served, arrived) = (served.load(Ordering::Relaxed), arrived.load(Ordering::Relaxed));

    let rows = scene.finish();
    let (web, dns): (Vec<_>, Vec<_>) = rows.sessions.iter().partition(|row| row.transport == "tcp");
    eprintln!("{served} clients were served during {RELOADS} reloads, {sent} datagrams sent");
    assert!(served > 1000, "{served} clients are no load");
    assert_eq!(web.len() as u64, served);
    assert!(web.iter().all(|row| row.end_reason == "done" && bytes_of(row) == [8; 4]));
    let [stream] = &dns[..] else { panic!("the stream is one session: {}", dns.len()) };
    let lost: i64 = rows.slots.iter().filter_map(|slot| slot.datagrams_dropped).sum();
    assert_eq!(stream.datagrams_up + lost, sent as i64);
    assert_eq!((stream.datagrams_up, lost), (arrived as i64, 0));
}

fn services(tcp: SocketAddr, udp: SocketAddr) -> String {
    format!(
        "[[rule]]\nname = \"all\"\naction = \"pass\"\n\
         [[service]]\nname = \"web\"\nlisten = [\"tcp://{ANY}\"]\ntarget = [\"{tcp}\"]\n\
         [[service]]\nname = \"dns\"\nlisten = [\"udp://{ANY}\"]\ntarget = [\"{udp}\"]\n"
    )
}

/// Clients one after the other, each of whom must be served.
fn connect_on(
    to: SocketAddr,
    over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let mut client = tcp_client(to);
            client.write_all(b"question").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&mut client), Ok(b"question".to_vec()));
            served.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// Sends one stream of datagrams. Gives how many.
fn stream_on(
    to: SocketAddr,
    over: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
) -> std::thread::JoinHandle<u64> {
    let client = udp_client(ANY, to);
    std::thread::spawn(move || {
        let mut sent = 0;
        while !over.load(Ordering::Relaxed) {
            client.send(b"datagram").unwrap();
            sent += 1;
            until("few datagrams are under way", || {
                arrived.load(Ordering::Relaxed) + UNDER_WAY > sent
            });
        }
        sent
    })
}

/// Counts what arrives at the UDP target, until it is over and nothing more comes.
fn listen_on(
    target: UdpSocket,
    over: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    target.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    std::thread::spawn(move || {
        loop {
            match target.recv(&mut [0; 64]) {
                Ok(_) => {
                    arrived.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) if over.load(Ordering::Relaxed) => return,
                Err(_) => {}
            }
        }
    })
}

/// A server that gives each client its question back.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut question = [0; 8];
            drop(stream.read_exact(&mut question).and_then(|()| stream.write_all(&question)));
            drop(read_to_end(&mut stream));
        }
    });
    address
}
