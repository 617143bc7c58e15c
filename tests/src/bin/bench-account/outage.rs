//! Clients come at an even rate while the recorder is there and while it is away, by turns: what
//! they notice, what the forwarder holds, and when the recorder has caught up.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e_tests::scene::Scene;
use e2e_tests::statistics::percentile;
use e2e_tests::wait;
use socket2::{Domain, Socket, Type};

use e2e_tests::figures::{Goal, Results};

/// Sessions a second.
const RATE: u32 = 1000;
/// Clients, and servers: a server is busy with one session at a time.
const CLIENTS: u32 = 8;
const TURNS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);
/// Growth that is no growth with the sessions.
const FLAT_MIB: f64 = 4.0;

/// Lets clients come for so many seconds with a recorder and as many without.
pub(crate) fn run(seconds: u64, results: &mut Results) -> Result<()> {
    let target = serve().context("cannot start the servers")?;
    let mut scene = Scene::new();
    let listen = scene.free_address();
    let services = format!(
        "[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{target}\"]\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\n"
    );
    scene.write_forwarder_config("", &services);
    scene.start_recorder();
    scene.start_forwarder();
    let each = Duration::from_secs(seconds) / TURNS;
    let mut sources = Sources::default();
    load(listen, Duration::from_secs(1), &mut sources)?;
    let mut sessions = u64::from(RATE);
    for _ in 0..TURNS {
        sessions += turn(&mut scene, listen, each, &mut sources, results)?;
    }
    ensure!(scene.stop_forwarder().success(), "the forwarder did not end in order");
    scene.flush();
    let counted = scene.rows(&["sql", "select count(*) as rows from sessions"]);
    let counted = counted.first().and_then(|row| row["rows"].as_u64());
    ensure!(counted == Some(sessions), "{counted:?} sessions of {sessions} are in the tables");
    scene.analyze(&["verify"]).fine();
    Ok(())
}

/// A while with the recorder, a while without, and its return. How many sessions there were.
fn turn(
    scene: &mut Scene,
    listen: SocketAddr,
    each: Duration,
    sources: &mut Sources,
    results: &mut Results,
) -> Result<u64> {
    let mut add = |figure, value, goal| results.add("outage", figure, value, goal);
    let with = load(listen, each, sources)?;
    ensure!(scene.stop_recorder().success(), "the recorder did not end in order");
    let (memory, spool) = (memory(scene)?, spool(scene)?);
    let without = load(listen, each, sources)?;
    let [memory, spool] = [memory_since(scene, memory)?, self::spool(scene)? - spool];
    scene.start_recorder();
    let back = Instant::now();
    let begun = wait::within(PATIENCE, || {
        let status = scene.status();
        (status["recorder"]["state"] == "connected").then(|| back.elapsed())
    });
    let caught_up = wait::within(PATIENCE, || {
        let left = scene.status()["spool"]["unacknowledged_frames"].as_u64();
        (left == Some(0)).then(|| back.elapsed())
    });
    let (Some(begun), Some(caught_up)) = (begun, caught_up) else {
        bail!("the recorder is back, but not caught up after {PATIENCE:?}");
    };
    let sessions = [&with, &without].map(|seen| seen.len() as u64);
    for (mut seen, [p50, p99]) in [
        (with, ["session p50 µs, recorder there", "session p99 µs, recorder there"]),
        (without, ["session p50 µs, recorder away", "session p99 µs, recorder away"]),
    ] {
        add(p50, f64::from(percentile(&mut seen, 50)), None);
        add(p99, f64::from(percentile(&mut seen, 99)), None);
    }
    add("forwarder's memory grew while it was away, MiB", memory, Some(Goal::AtMost(FLAT_MIB)));
    add("spool's bytes per session", spool / sessions[1] as f64, None);
    add("connected after the recorder's return, s", begun.as_secs_f64(), None);
    add("caught up after the recorder's return, s", caught_up.as_secs_f64(), None);
    let times = each.as_secs_f64() / caught_up.as_secs_f64();
    add("times real time, with the wait to connect", times, None);
    Ok(sessions.iter().sum())
}

fn memory(scene: &mut Scene) -> Result<f64> {
    Ok(scene.forwarder().resident_bytes()? as f64 / f64::from(1 << 20))
}

fn memory_since(scene: &mut Scene, before: f64) -> Result<f64> {
    Ok(memory(scene)? - before)
}

fn spool(scene: &Scene) -> Result<f64> {
    let status = scene.status();
    status["spool"]["bytes"].as_f64().context("the status names no bytes of the spool")
}

/// Addresses of clients: another one each time, because the ports of one run out.
#[derive(Debug, Default)]
struct Sources(u32);

impl Sources {
    fn next(&mut self) -> SocketAddr {
        self.0 = (self.0 + 1) % 60_000;
        let [.., high, low] = self.0.to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 9, high, low)), 0)
    }
}

/// Lets clients come for a while. How long each session took, in microseconds.
fn load(to: SocketAddr, during: Duration, sources: &mut Sources) -> Result<Vec<u32>> {
    let count = u32::try_from(during.as_millis()).unwrap_or(u32::MAX) * RATE / 1000 / CLIENTS;
    let began = Instant::now();
    let clients: Vec<JoinHandle<io::Result<Vec<u32>>>> = (0..CLIENTS)
        .map(|client| {
            let sources: Vec<SocketAddr> = (0..count).map(|_| sources.next()).collect();
            thread::spawn(move || {
                let due =
                    |turn: u32| began + Duration::from_secs(1) * (turn * CLIENTS + client) / RATE;
                let each = |(turn, from): (u32, SocketAddr)| {
                    thread::sleep(due(turn).saturating_duration_since(Instant::now()));
                    let began = Instant::now();
                    session(from, to)?;
                    Ok(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX))
                };
                (0..).zip(sources).map(each).collect()
            })
        })
        .collect();
    let mut all = Vec::new();
    for client in clients {
        let seen = client.join().map_err(|_panic| anyhow::anyhow!("a client panicked"))?;
        all.extend(seen.context("a session broke")?);
    }
    Ok(all)
}

/// A few bytes each way.
fn session(from: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&from.into())?;
    socket.connect(&to.into())?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[0x57; 64])?;
    stream.read_exact(&mut [0; 64])?;
    stream.shutdown(Shutdown::Write)?;
    stream.read(&mut [0; 1]).map(drop)
}

/// Servers that say what they hear, for as long as this program runs.
fn serve() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    for _ in 0..CLIENTS {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that breaks tells so itself.
                drop(stream.and_then(echo));
            }
        });
    }
    listener.local_addr()
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = [0; 64];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            len => stream.write_all(&bytes[..len])?,
        }
    }
}
