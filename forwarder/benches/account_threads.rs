//! What the account costs off the data threads: processor time of the journal thread and of the
//! link per session, with a real spool in the build tree and a recorder that takes and acknowledges
//! everything. Processor time is the scheduler's count for each thread, which other work on the
//! machine disturbs little. Together with what the data thread does the goal is 1.5 µs per session
//! at 20,000 sessions a second.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set its scene should fail")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use forwarder::accounting::{self, Account, JournalThread};
use forwarder::clock::Clock;
use forwarder::link::accounting::{AccountingLane, Settings};
use forwarder_core::accounting::{Ending, Opening};
use forwarder_core::config::{Config, Environment};
use futures_util::{SinkExt, StreamExt};
use schemas::vocab::{
    BootId, ClientAddr, CloseKind, Direction, EgressAddr, EndPhase, EndReason, FirstFin,
    ListenAddr, TargetAddr, Transport,
};
use schemas::wire::{Ack, Frame, FrameCodec, FrameKind, MAX_ACCOUNTING_PAYLOAD, PROTOCOL, Welcome};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio_util::codec::Framed;

/// Sessions a second.
const RATES: [u32; 4] = [0, 1_000, 5_000, 20_000];
/// Sessions come in bursts of this distance, as a data thread's turns do.
const BURST_EVERY: Duration = Duration::from_millis(1);

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let (rounds, round) =
        if measuring { (5, Duration::from_secs(2)) } else { (1, Duration::from_millis(50)) };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = config(dir.path());
    let socket = config.recorder.socket.clone();
    let (ready, listening) = oneshot::channel();
    named("recorder", move |runtime| runtime.block_on(record(socket, ready)));
    listening.blocking_recv().unwrap();
    let clock = Clock::start();
    let (account, journal) = accounting::start(&config, clock).unwrap();
    let settings = settings(&config, account.boot(), &journal, clock);
    let spool = journal.spool();
    named("control", move |runtime| {
        runtime.block_on(async move {
            let link = AccountingLane::start(settings, spool.durable.clone(), |_| {}, |_, _| {});
            let mut acked = link.acked();
            while acked.changed().await.is_ok() {
                spool.acknowledged.store(*acked.borrow_and_update(), Ordering::Release);
            }
        });
    });
    let mut spent = vec![Vec::new(); RATES.len()];
    for _ in 0..rounds {
        for (rate, spent) in RATES.iter().zip(&mut spent) {
            spent.push(carry(&account, clock, *rate, round));
        }
    }
    println!("medians of {rounds} rounds of {round:?} per rate; µs of processor time");
    println!("{:>12} {:>14} {:>14} {:>14}", "sessions/s", "journal", "link", "per session");
    for (rate, spent) in RATES.iter().zip(spent) {
        let [journal, link] = [0, 1].map(|at| median(spent.iter().map(|pair| pair[at]).collect()));
        match *rate {
            0 => println!("{rate:>12} {journal:>12.0}/s {link:>12.0}/s {:>14}", "-"),
            _ => {
                let each = |us: f64| us / f64::from(*rate);
                let (journal, link) = (each(journal), each(link));
                println!("{rate:>12} {journal:>14.3} {link:>14.3} {:>14.3}", journal + link);
            }
        }
    }
}

/// Carries sessions for a while. Microseconds a second that the journal thread and the link took.
fn carry(account: &Account, clock: Clock, rate: u32, lasts: Duration) -> [f64; 2] {
    let (begun, before) = (Instant::now(), processor_time());
    let mut carried = 0;
    while begun.elapsed() < lasts {
        let due = begun.elapsed().as_secs_f64() * f64::from(rate);
        while f64::from(carried) < due {
            session(account, clock);
            carried += 1;
        }
        thread::sleep(BURST_EVERY);
    }
    // What the last sessions cost is part of it.
    thread::sleep(Duration::from_millis(50));
    let (after, seconds) = (processor_time(), begun.elapsed().as_secs_f64());
    [0, 1].map(|at| (after[at] - before[at]) / seconds)
}

/// One byte each way.
fn session(account: &Account, clock: Clock) {
    let now = clock.wall(clock.now());
    let opening = Opening {
        service: 1,
        rule: 1,
        customer: 1,
        config_rev: 1,
        transport: Transport::Tcp,
        client: ClientAddr::new(([203, 0, 113, 9], 40_001).into()),
        proxied_client: None,
        listen: ListenAddr::new(([192, 0, 2, 1], 8080).into()),
        ts_start: now,
    };
    let session = account.open(&opening).unwrap();
    session.dialling(TargetAddr::new(([10, 0, 0, 5], 80).into()), 0);
    session.connected(EgressAddr::new(([10, 0, 0, 1], 50_001).into()), now, 30);
    for direction in Direction::BOTH {
        session.received(direction, 1, now);
        session.delivered(direction, 1);
    }
    session.end(Ending {
        reason: EndReason::Done,
        phase: EndPhase::HalfClosed,
        first_fin: FirstFin::Client,
        client_close: CloseKind::Fin,
        target_close: CloseKind::Fin,
        errno: 0,
        ts_end: now,
        duration_us: 100,
    });
}

/// Microseconds that the journal thread, and the link's threads, have run so far.
fn processor_time() -> [f64; 2] {
    let mut times = [0.0; 2];
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        let run = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let ns: f64 = run.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default();
        match name.trim() {
            "journal" => times[0] += ns / 1000.0,
            "control" => times[1] += ns / 1000.0,
            _ => {}
        }
    }
    times
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs a runtime on a thread of that name; so are the threads it uses for files.
fn named(name: &'static str, run: impl FnOnce(&tokio::runtime::Runtime) + Send + 'static) {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            // A thread that ends would take its times with it.
            let runtime = runtime.thread_name(name).thread_keep_alive(Duration::from_secs(3600));
            run(&runtime.enable_all().build().unwrap());
        })
        .unwrap();
}

/// A recorder that keeps nothing.
async fn record(socket: PathBuf, ready: oneshot::Sender<()>) {
    let listener = UnixListener::bind(socket).unwrap();
    ready.send(()).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut link: Framed<UnixStream, _> =
        Framed::new(stream, FrameCodec::new(MAX_ACCOUNTING_PAYLOAD));
    while let Some(frame) = link.next().await {
        let Ok(frame) = frame else { return };
        let answer = match frame.kind {
            FrameKind::Hello => {
                let welcome = Welcome { protocol: PROTOCOL, ..Welcome::default() };
                Frame::message(FrameKind::Welcome, 0, &welcome)
            }
            FrameKind::Ping => Frame::empty(FrameKind::Pong),
            FrameKind::Rows => Frame::message(FrameKind::Ack, 0, &Ack { frame: frame.number }),
            _ => continue,
        };
        if link.send(&answer).await.is_err() {
            return;
        }
    }
}

fn settings(config: &Config, boot: BootId, journal: &JournalThread, clock: Clock) -> Settings {
    let spool = journal.spool();
    Settings {
        socket: config.recorder.socket.clone(),
        node: config.node.clone(),
        boot,
        spool: spool.dir.clone(),
        spool_id: spool.id.clone(),
        clock,
    }
}

/// The defaults, but for the places.
fn config(dir: &Path) -> Config {
    let dir = dir.display();
    let source = format!(
        "node = \"edge-1\"\n\
         [recorder]\nendpoint = \"unix:{dir}/r.sock\"\nspool = \"{dir}/spool\"\n\
         [[service]]\nname = \"web\"\nlisten = [\"tcp://127.0.0.1:1\"]\n\
         target = [\"127.0.0.1:2\"]\n[[rule]]\nname = \"all\"\naction = \"pass\"\n"
    );
    let environment = Environment {
        host_name: "edge-1".to_owned(),
        local_addresses: Vec::new(),
        congestion_controls: Vec::new(),
        files: std::collections::BTreeMap::new(),
    };
    Config::parse(&source, "f", &environment).unwrap_or_else(|faults| panic!("{faults}"))
}
