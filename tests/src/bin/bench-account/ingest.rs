//! The recorder's way: handshake, log with fsync, acknowledgement, sealing, publishing. The sender is
//! made up and has its frames ready; from its first byte until everything is in published Parquet,
//! the recorder's processor time counts, whatever thread uses it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use e2e_tests::account::{self, MadeUp, SESSIONS_PER_FRAME};
use e2e_tests::cpu;
use e2e_tests::scene::Scene;
use prost::Message;
use schemas::wire::{Ack, Frame, FrameKind, Hello, Lane, MAX_ACCOUNTING_PAYLOAD, PROTOCOL, Reject};

use crate::peers;
use e2e_tests::figures::{Goal, Results};

const NODE: &str = "edge-1";
const BOOT: &str = "k3f9x2ab";
/// How long the recorder may take for its next word.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends so many sessions, or rows of usage, and waits until they are published.
pub(crate) fn run(usage: bool, rows: usize, results: &mut Results) -> Result<()> {
    let mut made = MadeUp::new(NODE, BOOT, 1000);
    let frames = rows.div_ceil(SESSIONS_PER_FRAME) as u64;
    let mut bytes = BytesMut::new();
    for number in 1..=frames {
        let rows =
            if usage { made.interim(SESSIONS_PER_FRAME) } else { made.ended(SESSIONS_PER_FRAME) };
        account::rows_frame(number, rows).encode(&mut bytes);
    }
    let made = made.sessions();

    let mut scene = Scene::new();
    scene.start_recorder();
    let recorder = [scene.recorder().id()];
    let before = cpu::Cpu::of(&recorder);
    let began = Instant::now();
    let mut stream = connect(&scene.path("recorder.sock"), frames)?;
    let mut to = stream.try_clone().context("cannot clone a socket")?;
    let sender = thread::spawn(move || to.write_all(&bytes));
    acknowledged(&mut stream, frames)?;
    let sent = sender.join();
    ensure!(matches!(sent, Ok(Ok(()))), "the recorder did not take everything");
    let acknowledged = began.elapsed();
    scene.flush();
    let published = began.elapsed();
    let core = cpu::Cpu::of(&recorder).since(&before) as f64 / 1e9;

    let table = if usage { "usage" } else { "sessions" };
    let counted = scene.rows(&["sql", &format!("select count(*) as rows from {table}")]);
    let counted = counted.first().and_then(|row| row["rows"].as_i64());
    ensure!(counted == Some(made), "{counted:?} rows of {made} are in the tables");
    let test = if usage { "usage" } else { "sessions" };
    let goal = if usage { 1e6 } else { 2e5 };
    let (made_rows, made) = (made, made as f64);
    results.add(
        test,
        "rows/s per core, to published Parquet",
        made / core,
        Some(Goal::AtLeast(goal)),
    );
    results.add(
        test,
        "rows/s by the wall clock, to published Parquet",
        made / published.as_secs_f64(),
        None,
    );
    results.add(
        test,
        "rows/s by the wall clock, acknowledged",
        made / acknowledged.as_secs_f64(),
        None,
    );
    let memory = scene.recorder().resident_bytes().unwrap_or(0);
    results.add(
        test,
        "recorder's memory afterwards, MiB",
        memory as f64 / f64::from(1 << 20),
        None,
    );
    let parts = scene.data().join("accounting").join(table);
    results.add(test, "Parquet's bytes per row", bytes_below(&parts)? as f64 / made, None);
    let rate = made / core;
    compare(test, rate, usize::try_from(made_rows)?, &parts, results)
}

/// The same job by others, in turn with the recorder.
fn compare(
    test: &'static str,
    ours: f64,
    rows: usize,
    parts: &Path,
    results: &mut Results,
) -> Result<()> {
    if let Some(rate) = peers::nfcapd(rows)? {
        results.add(test, "nfcapd: flow records/s per core, from UDP to its files", rate, None);
        results.add(test, "rows per core, ratio to nfcapd", ours / rate, None);
    }
    if let Some([memory, csv]) = peers::duckdb(parts, rows)? {
        results.add(test, "DuckDB: rows/s per core, COPY from memory to Parquet", memory, None);
        results.add(test, "DuckDB: rows/s per core, COPY from CSV to Parquet", csv, None);
        results.add(test, "rows per core, ratio to DuckDB from memory", ours / memory, None);
        results.add(test, "rows per core, ratio to DuckDB from CSV", ours / csv, None);
    }
    Ok(())
}

fn bytes_below(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).context("cannot list the parts")? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        bytes += if kind.is_dir() { bytes_below(&path)? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// Introduces a spool of so many frames, and hears that none of them is known.
fn connect(socket: &Path, frames: u64) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).context("cannot reach the recorder")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let hello = Hello {
        protocol: PROTOCOL,
        node: NODE.to_owned(),
        boot: BOOT.to_owned(),
        lane: Lane::Accounting.into(),
        spool_id: 0xabc,
        first_frame: 1,
        last_frame: frames,
        build: "bench-account".to_owned(),
        ..Hello::default()
    };
    let mut bytes = BytesMut::new();
    Frame::message(FrameKind::Hello, 0, &hello).encode(&mut bytes);
    stream.write_all(&bytes)?;
    Ok(stream)
}

/// Reads until the last frame is acknowledged.
fn acknowledged(stream: &mut UnixStream, last: u64) -> Result<()> {
    let mut buffer = BytesMut::new();
    let mut chunk = [0; 4096];
    loop {
        while let Some((frame, _)) = Frame::decode(&mut buffer, MAX_ACCOUNTING_PAYLOAD)? {
            match frame.kind {
                FrameKind::Ack if Ack::decode(frame.message_bytes())?.frame >= last => {
                    return Ok(());
                }
                FrameKind::Reject => bail!("{}", Reject::decode(frame.message_bytes())?.text),
                _ => {}
            }
        }
        let len = stream.read(&mut chunk).context("the recorder says no more")?;
        ensure!(len > 0, "the recorder closed the connection");
        buffer.extend_from_slice(&chunk[..len]);
    }
}
