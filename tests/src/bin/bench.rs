//! Measures the relay on loopback against the same traffic without it, in one run on one machine:
//! the ratios mean something, the figures alone do not. Load generators share the machine.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use e2e_tests::address;
use e2e_tests::endpoint::UdpServer;
use e2e_tests::scene::Scene;

const BULK_BYTES: u64 = 4 << 30;
const SESSIONS: u32 = 5_000;
const TURNS: u32 = 50_000;

fn main() -> Result<()> {
    let ip = address::own();
    let [sink, echo] = [TcpListener::bind((ip, 0))?, TcpListener::bind((ip, 0))?];
    let udp = UdpServer::start(ip);
    let targets = [sink.local_addr()?, echo.local_addr()?, udp.address()];
    thread::spawn(move || serve(&sink, |mut stream| io::copy(&mut stream, &mut io::sink())));
    thread::spawn(move || serve(&echo, |stream| io::copy(&mut &stream, &mut &stream)));

    let mut scene = Scene::new();
    let listeners = [scene.free_address(), scene.free_address(), scene.free_address()];
    let service = |name: &str, scheme: &str, at: usize| {
        let (listen, target) = (listeners[at], targets[at]);
        format!(
            "[[service]]\nname = \"{name}\"\nlisten = [\"{scheme}://{listen}\"]\ntarget = [\"{target}\"]\n\n"
        )
    };
    let services =
        [service("bulk", "tcp", 0), service("echo", "tcp", 1), service("udp", "udp", 2)].concat();
    let rule = "[[rule]]\nname = \"everyone\"\naction = \"pass\"\n";
    scene.write_forwarder_config("", &(services + rule));
    scene.start_recorder();
    scene.start_forwarder();

    println!("{:34}{:>12}{:>12}{:>9}", "", "direct", "relayed", "ratio");
    report("one TCP flow, Gbit/s", [targets[0], listeners[0]], bulk)?;
    report("TCP sessions, one by one, per s", [targets[1], listeners[1]], sessions)?;
    report("UDP turns of 64 B, one client, per s", [targets[2], listeners[2]], turns)?;
    Ok(())
}

fn serve(listener: &TcpListener, carry: fn(TcpStream) -> io::Result<u64>) {
    while let Ok((stream, _)) = listener.accept() {
        // A client that goes away early has nothing more to measure.
        thread::spawn(move || drop(carry(stream)));
    }
}

fn report(
    what: &str,
    to: [SocketAddr; 2],
    measure: fn(SocketAddr) -> io::Result<f64>,
) -> Result<()> {
    let [direct, relayed] = [measure(to[0])?, measure(to[1])?];
    println!("{what:34}{direct:>12.1}{relayed:>12.1}{:>9.2}", relayed / direct);
    Ok(())
}

fn bulk(to: SocketAddr) -> io::Result<f64> {
    let mut stream = TcpStream::connect(to)?;
    let chunk = vec![0x57; 256 << 10];
    let started = Instant::now();
    let mut left = BULK_BYTES;
    while left > 0 {
        stream.write_all(&chunk)?;
        left = left.saturating_sub(chunk.len() as u64);
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // The sink closes after the last byte.
    stream.read_to_end(&mut Vec::new())?;
    let gigabits = (BULK_BYTES * 8) as f64 / 1e9;
    Ok(gigabits / started.elapsed().as_secs_f64())
}

fn sessions(to: SocketAddr) -> io::Result<f64> {
    let started = Instant::now();
    for _ in 0..SESSIONS {
        let mut stream = TcpStream::connect(to)?;
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0; 1])?;
    }
    Ok(f64::from(SESSIONS) / started.elapsed().as_secs_f64())
}

fn turns(to: SocketAddr) -> io::Result<f64> {
    let socket = UdpSocket::bind((to.ip(), 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    // The first four bytes ask for a reply of 64 bytes.
    let mut datagram = [0; 64];
    datagram[3] = 64;
    let started = Instant::now();
    for _ in 0..TURNS {
        socket.send(&datagram)?;
        socket.recv(&mut [0; 64])?;
    }
    Ok(f64::from(TURNS) / started.elapsed().as_secs_f64())
}
