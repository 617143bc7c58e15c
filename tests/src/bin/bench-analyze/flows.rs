//! The rows of usage as flow records in files of nfcapd: one for each, with the same client, bytes
//! down and time. They are sent to it as IPFIX over UDP, no faster than it takes them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e_tests::process::{self, Process};
use e2e_tests::{address, binary, wait};

use crate::account::{self, Account};

/// Flow records in a datagram.
const RECORDS: usize = 40;
/// Datagrams that are sent at once, and the pause after them: what the receive queue holds, so that
/// none is lost.
const BURST: u32 = 16;
const PAUSE: Duration = Duration::from_millis(2);
const QUEUE_BYTES: &str = "8388608";
/// Information elements of IPFIX and their lengths: addresses, ports, protocol, octets, packets,
/// start and end in milliseconds; for both families.
const FIELDS: [[(u16, u16); 9]; 2] = [
    [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 8), (2, 8), (152, 8), (153, 8)],
    [(27, 16), (28, 16), (7, 2), (11, 2), (4, 1), (1, 8), (2, 8), (152, 8), (153, 8)],
];
const TEMPLATE: u16 = 256;
/// Bytes of a packet.
const PACKET: u64 = 1200;

/// The directory of nfcapd's files; `None`: it is not installed.
pub(crate) fn of(account: &Account) -> Result<Option<PathBuf>> {
    if process::try_output(Command::new("nfcapd").arg("-V")).is_err() {
        eprintln!("bench-analyze: nfcapd is not here. Please type: sudo apt-get install nfdump");
        return Ok(None);
    }
    let files = account.flows.join("files");
    // It is written last.
    let whole = account.flows.join("whole");
    if !whole.exists() {
        eprintln!("bench-analyze: sending flow records to nfcapd");
        account::remove(&account.flows)?;
        fs::create_dir_all(&files)?;
        let sent = record(account, &files)?;
        fs::write(&whole, sent.to_string())?;
    }
    Ok(Some(files))
}

/// Has nfcapd write the records, and says how many.
fn record(account: &Account, files: &Path) -> Result<u64> {
    let to = address::free(Ipv4Addr::LOCALHOST.into());
    let port = to.port().to_string();
    let mut command = Command::new("nfcapd");
    command.args(["-b", "127.0.0.1", "-p", &port, "-B", QUEUE_BYTES, "-t", "3600", "-y", "-w"]);
    let mut nfcapd = Process::start("nfcapd", command.arg(files), account.flows.join("log"));
    wait::until("nfcapd listens", || UdpSocket::bind(to).is_err().then_some(()));
    let sent = send(account, to)?;
    // It has read everything when nothing waits in its queue any more.
    e2e_tests::cpu::when_quiet(&[nfcapd.id()]);
    nfcapd.terminate();
    let told = process::try_output(Command::new("nfdump").arg("-I").arg("-R").arg(files))?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let flows = told.lines().find_map(|line| line.strip_prefix("Flows:")?.trim().parse().ok());
    ensure!(flows == Some(sent), "nfcapd has {flows:?} records of {sent}; try it again");
    Ok(sent)
}

/// Sends a record for each row of usage, and says how many.
fn send(account: &Account, to: SocketAddr) -> Result<u64> {
    let statement = format!(
        "COPY (SELECT client_ip, bytes_down, epoch_ms(slot_start) FROM {})
         TO '/dev/stdout' (FORMAT csv, HEADER false)",
        account.table("usage")
    );
    let mut duckdb = Command::new(binary::path("duckdb-ask"))
        .arg(statement)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start duckdb-ask")?;
    let rows = BufReader::new(duckdb.stdout.take().context("its stdout is ours")?);
    let mut exporter = Exporter::new(to)?;
    for row in rows.lines() {
        let row = row?;
        let mut cells = row.split(',');
        let mut next = || cells.next().with_context(|| format!("{row:?} is no row"));
        let (client, bytes, begin) = (next()?.parse()?, next()?.parse()?, next()?.parse()?);
        exporter.add(client, bytes, begin)?;
    }
    exporter.flush(0)?;
    exporter.flush(1)?;
    let status = duckdb.wait()?;
    ensure!(status.success(), "duckdb-ask ended with {status}");
    Ok(exporter.records)
}

/// A sender of IPFIX messages (RFC 7011), each with its template.
struct Exporter {
    socket: UdpSocket,
    to: SocketAddr,
    /// Records of both families that wait.
    waiting: [Vec<u8>; 2],
    counts: [usize; 2],
    records: u64,
    datagrams: u32,
}

impl Exporter {
    fn new(to: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (waiting, counts) = Default::default();
        Ok(Self { socket, to, waiting, counts, records: 0, datagrams: 0 })
    }

    fn add(&mut self, client: IpAddr, bytes: u64, begin_ms: u64) -> Result<()> {
        let family = usize::from(client.is_ipv6());
        let data = &mut self.waiting[family];
        match client {
            IpAddr::V4(client) => {
                data.extend(client.octets());
                data.extend([10, 0, 1, 5]);
            }
            IpAddr::V6(client) => {
                data.extend(client.octets());
                data.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
            }
        }
        data.extend([0x9c, 0x40, 0x01, 0xbb, 6]);
        for number in [bytes, bytes.div_ceil(PACKET).max(1), begin_ms, begin_ms + 250] {
            data.extend(number.to_be_bytes());
        }
        self.counts[family] += 1;
        self.records += 1;
        if self.counts[family] == RECORDS { self.flush(family) } else { Ok(()) }
    }

    fn flush(&mut self, family: usize) -> Result<()> {
        if self.counts[family] == 0 {
            return Ok(());
        }
        let id = TEMPLATE + u16::from(family == 1);
        let mut template = vec![];
        for number in [id, short(FIELDS[family].len())] {
            template.extend(number.to_be_bytes());
        }
        for (element, length) in FIELDS[family] {
            template.extend(element.to_be_bytes());
            template.extend(length.to_be_bytes());
        }
        let sets = [set(2, &template), set(id, &self.waiting[family])].concat();
        let mut message = vec![];
        message.extend(10_u16.to_be_bytes());
        message.extend(short(16 + sets.len()).to_be_bytes());
        for number in [0, self.datagrams, 1] {
            message.extend(number.to_be_bytes());
        }
        message.extend(sets);
        self.socket.send_to(&message, self.to).context("cannot send flow records")?;
        self.waiting[family].clear();
        self.counts[family] = 0;
        self.datagrams += 1;
        if self.datagrams.is_multiple_of(BURST) {
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn set(id: u16, content: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes(), &short(4 + content.len()).to_be_bytes(), content].concat()
}

fn short(length: usize) -> u16 {
    u16::try_from(length).expect("a datagram is shorter than 64 KiB")
}
