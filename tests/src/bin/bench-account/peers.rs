//! What others take to store as many records, in the same run: nfcapd, which receives flow records
//! and writes its own files, and DuckDB, which writes the very same rows as Parquet. Neither does
//! all that the recorder does: nfcapd acknowledges nothing, syncs nothing and stores nine fields;
//! DuckDB has the rows in its hands already.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e_tests::process::{self, Process};
use e2e_tests::{binary, cpu, wait};
use serde_json::Value;

/// Flow records in a datagram, which fills an Ethernet frame.
const RECORDS: u32 = 30;
/// Datagrams that are sent at once, and the pause after them: what the receive queue holds, so that
/// none is lost.
const BURST: u32 = 16;
const PAUSE: Duration = Duration::from_millis(2);
const QUEUE_BYTES: &str = "4194304";
/// Information elements of IPFIX and their lengths: addresses, ports, protocol, octets, packets,
/// start and end in milliseconds.
const FIELDS: [(u16, u16); 9] =
    [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 8), (2, 8), (152, 8), (153, 8)];
const TEMPLATE: u16 = 256;
/// 2026-11-02T00:00:00Z, in seconds.
const BEGIN: u32 = 1_793_577_600;

/// Flow records per second of nfcapd's processor time; `None`: it is not installed.
pub(crate) fn nfcapd(records: usize) -> Result<Option<f64>> {
    if process::try_output(Command::new("nfcapd").arg("-V")).is_err() {
        eprintln!("bench-account: nfcapd is not here. Please type: sudo apt-get install nfdump");
        return Ok(None);
    }
    let dir = tempfile::Builder::new().prefix("weir-").tempdir()?;
    let files = dir.path().join("flows");
    fs::create_dir(&files)?;
    let to = e2e_tests::address::free(Ipv4Addr::LOCALHOST.into());
    let port = to.port().to_string();
    let mut command = Command::new("nfcapd");
    command.args(["-b", "127.0.0.1", "-p", &port, "-B", QUEUE_BYTES, "-t", "3600", "-y", "-w"]);
    let mut nfcapd = Process::start("nfcapd", command.arg(&files), dir.path().join("log"));
    wait::until("nfcapd listens", || UdpSocket::bind(to).is_err().then_some(()));
    let ids = [nfcapd.id()];
    let before = cpu::when_quiet(&ids);
    let sent = send(records, to)?;
    let core = cpu::when_quiet(&ids).since(&before) as f64 / 1e9;
    nfcapd.terminate();
    let told = process::try_output(Command::new("nfdump").arg("-I").arg("-R").arg(&files))?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let flows = told.lines().find_map(|line| line.strip_prefix("Flows:")?.trim().parse().ok());
    ensure!(flows == Some(sent), "nfcapd has {flows:?} records of {sent}:\n{told}");
    Ok(Some(f64::from(sent) / core))
}

/// Sends records, and says how many.
fn send(records: usize, to: SocketAddr) -> Result<u32> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let datagrams = u32::try_from(records)?.div_ceil(RECORDS);
    for at in 0..datagrams {
        socket.send_to(&datagram(at * RECORDS), to).context("cannot send flow records")?;
        if at.is_multiple_of(BURST) {
            thread::sleep(PAUSE);
        }
    }
    Ok(datagrams * RECORDS)
}

/// An IPFIX message (RFC 7011): the template, and records by it, no two alike.
fn datagram(first: u32) -> Vec<u8> {
    let mut template = vec![];
    for number in [TEMPLATE, short(FIELDS.len())] {
        template.extend(number.to_be_bytes());
    }
    for (element, length) in FIELDS {
        template.extend(element.to_be_bytes());
        template.extend(length.to_be_bytes());
    }
    let mut data = vec![];
    for record in first..first + RECORDS {
        let client = 0xcb00_0000 + record % 20_000;
        let begin = (u64::from(BEGIN) + u64::from(record) / 1000) * 1000;
        data.extend(client.to_be_bytes());
        data.extend((0x0a00_0005 + record % 4).to_be_bytes());
        // Both ports: the client's, and the one it comes to.
        data.extend((((20_000 + record % 40_000) << 16) + 443).to_be_bytes());
        data.push(6);
        for number in [u64::from(record) * 977 % 4_000_000, 12, begin, begin + 250] {
            data.extend(number.to_be_bytes());
        }
    }
    let sets = [set(2, &template), set(TEMPLATE, &data)].concat();
    let mut message = vec![];
    message.extend(10_u16.to_be_bytes());
    message.extend(short(16 + sets.len()).to_be_bytes());
    for number in [BEGIN, first, 1] {
        message.extend(number.to_be_bytes());
    }
    message.extend(sets);
    message
}

fn set(id: u16, content: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes(), &short(4 + content.len()).to_be_bytes(), content].concat()
}

fn short(length: usize) -> u16 {
    u16::try_from(length).expect("a datagram is shorter than 64 KiB")
}

/// Rows per second of DuckDB's processor time, from its memory and from CSV; `None`: its program was
/// not built.
pub(crate) fn duckdb(parts: &Path, rows: usize) -> Result<Option<[f64; 2]>> {
    let Some(program) = binary::beside("duckdb-copy") else {
        eprintln!("bench-account: going on without DuckDB. Please type: make build");
        return Ok(None);
    };
    let scratch = tempfile::Builder::new().prefix("weir-").tempdir()?;
    let glob = parts.join("**/*.parquet");
    let told = process::try_output(Command::new(program).arg(glob).arg(scratch.path()))?;
    let errors = String::from_utf8_lossy(&told.stderr);
    ensure!(told.status.success(), "DuckDB cannot write the rows: {errors}");
    let told: Value = serde_json::from_slice(&told.stdout).context("DuckDB's answer is odd")?;
    ensure!(told["rows"].as_u64() == Some(rows as u64), "DuckDB has other rows: {told}");
    let rate = |way: &str| Some(rows as f64 / told[way].as_f64()?);
    Ok(rate("memory_s").zip(rate("csv_s")).map(|(memory, csv)| [memory, csv]))
}
