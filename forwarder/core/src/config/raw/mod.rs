//! The configuration as typed: the file's keys, each value read on its own and still with its
//! place. What the values mean together is the business of [`resolve`](super::resolve).

mod client;
mod limit;
mod observe;
mod rule;
mod service;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemas::config::{Document, Findings, Refusal, duration, size};
use schemas::vocab::NodeName;

pub(super) use client::{RawOrigin, interface};
pub(super) use limit::{RawBandwidth, RawLimit, RawQuota, Ways};
pub(super) use observe::{Dns, Log, RawAlert};
pub(super) use rule::{Action, RawCustomer, Rule};
pub(super) use service::{Health, Proxy, Service};

use super::leaf::{Keys, Leaf};
use super::{TABLE_SLOTS, THREADS, WhenFull, address, tcp};

/// Smallest spool: less than this holds no few segments, of which old ones could be deleted.
const MIN_SPOOL_BYTES: u64 = 1 << 20;

/// A whole file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) node: Leaf<NodeName>,
    pub(super) threads: Leaf<u64>,
    pub(super) recorder: Recorder,
    pub(super) accounting: Accounting,
    pub(super) admin: Admin,
    pub(super) log: Log,
    pub(super) dns: Dns,
    pub(super) timeouts: Timeouts,
    pub(super) tcp: tcp::Raw,
    pub(super) services: Vec<Service>,
    pub(super) rules: Vec<Rule>,
    pub(super) alerts: Vec<RawAlert>,
}

/// `[recorder]`.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) endpoint: Leaf<PathBuf>,
    pub(super) spool: Leaf<PathBuf>,
    pub(super) spool_max: Leaf<u64>,
    pub(super) when_full: Leaf<WhenFull>,
}

/// `[accounting]`.
#[derive(Debug)]
pub(super) struct Accounting {
    pub(super) slot: Leaf<i32>,
    pub(super) table: Leaf<u64>,
}

/// `[admin]`.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) socket: Leaf<PathBuf>,
    pub(super) metrics: Leaf<SocketAddr>,
}

/// `[timeouts]`, and those of a rule, where `drain` is always absent.
#[derive(Debug)]
pub(super) struct Timeouts {
    pub(super) preread: Leaf<Duration>,
    pub(super) resolve: Leaf<Duration>,
    pub(super) connect: Leaf<Duration>,
    pub(super) half_closed: Leaf<Duration>,
    pub(super) tcp_idle: Leaf<Duration>,
    pub(super) udp_idle: Leaf<Duration>,
    pub(super) max_duration: Leaf<Duration>,
    pub(super) drain: Leaf<Duration>,
}

impl File {
    /// Reads every key, reporting those that are not ours and the values that are none.
    pub(super) fn read(document: &Document<'_>, findings: &mut Findings<'_>) -> Self {
        let mut top = Keys::of(Some(document.root()));
        let file = Self {
            node: top.text("node", "edge-1", findings, name),
            threads: top.integer("threads", THREADS, findings),
            recorder: Recorder::read(top.table("recorder", findings), findings),
            accounting: Accounting::read(top.table("accounting", findings), findings),
            admin: Admin::read(top.table("admin", findings), findings),
            log: Log::read(top.table("log", findings), findings),
            dns: Dns::read(top.table("dns", findings), findings),
            timeouts: Timeouts::read(top.table("timeouts", findings), true, findings),
            tcp: tcp::Raw::read(top.table("tcp", findings), findings),
            services: top
                .tables("service", "begin every service with [[service]]", findings)
                .into_iter()
                .map(|keys| Service::read(keys, findings))
                .collect(),
            rules: top
                .tables("rule", "begin every rule with [[rule]]", findings)
                .into_iter()
                .map(|keys| Rule::read(keys, findings))
                .collect(),
            alerts: top
                .tables("alert", "begin every alert with [[alert]]", findings)
                .into_iter()
                .map(|keys| RawAlert::read(keys, findings))
                .collect(),
        };
        top.finish(findings);
        file
    }
}

impl Recorder {
    fn read(mut keys: Keys<'_>, findings: &mut Findings<'_>) -> Self {
        const SOCKET: &str = "unix:/run/weir/recorder.sock";
        let recorder = Self {
            endpoint: keys.text("endpoint", SOCKET, findings, address::endpoint),
            spool: keys.text("spool", "/var/lib/weir/spool", findings, address::directory),
            spool_max: keys.text("spool_max", "10 GiB", findings, spool_max),
            when_full: keys.text("when_full", "keep-forwarding", findings, |text| match text {
                "keep-forwarding" => Ok(WhenFull::KeepForwarding),
                "refuse-new" => Ok(WhenFull::RefuseNew),
                _ => Err(one_of(text, &["keep-forwarding", "refuse-new"])),
            }),
        };
        keys.finish(findings);
        recorder
    }
}

impl Accounting {
    fn read(mut keys: Keys<'_>, findings: &mut Findings<'_>) -> Self {
        let accounting = Self {
            slot: keys.text("slot", "300s", findings, slot),
            table: keys.integer("table", TABLE_SLOTS, findings),
        };
        keys.finish(findings);
        accounting
    }
}

impl Admin {
    fn read(mut keys: Keys<'_>, findings: &mut Findings<'_>) -> Self {
        const SOCKET: &str = "/run/weir/forwarder.sock";
        let admin = Self {
            socket: keys.text("socket", SOCKET, findings, address::socket),
            metrics: keys.text("metrics", "127.0.0.1:9410", findings, address::metrics),
        };
        keys.finish(findings);
        admin
    }
}

impl Timeouts {
    fn read(mut keys: Keys<'_>, with_drain: bool, findings: &mut Findings<'_>) -> Self {
        let timeouts = Self {
            preread: keys.text("preread", "10s", findings, some_time),
            resolve: keys.text("resolve", "5s", findings, some_time),
            connect: keys.text("connect", "10s", findings, some_time),
            half_closed: keys.text("half_closed", "10m", findings, duration),
            tcp_idle: keys.text("tcp_idle", "1h", findings, duration),
            udp_idle: keys.text("udp_idle", "3m", findings, some_time),
            max_duration: keys.text("max_duration", "12h", findings, duration),
            drain: match with_drain {
                true => keys.text("drain", "5s", findings, duration),
                false => Leaf::Absent,
            },
        };
        keys.finish(findings);
        timeouts
    }
}

/// A name; one that is none is answered with the nearest that is.
pub(super) fn name<T: FromStr<Err: ToString>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|why: T::Err| {
        let letter = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let near: String = text.chars().map(letter).take(63).collect();
        let near = near.trim_matches(['.', '_', '-']);
        let help = if near.is_empty() { String::new() } else { format!("write {near:?}") };
        Refusal::new(why.to_string(), help)
    })
}

fn spool_max(text: &str) -> Result<u64, Refusal> {
    match size(text)? {
        bytes if bytes < MIN_SPOOL_BYTES => {
            Err(Refusal::new(format!("{text:?} is too small"), "write \"1 MiB\" or more"))
        }
        bytes => Ok(bytes),
    }
}

fn slot(text: &str) -> Result<i32, Refusal> {
    let ms = duration(text)?.as_millis();
    let seconds = i32::try_from(ms.div_ceil(1000)).unwrap_or(i32::MAX);
    if ms.is_multiple_of(1000) && seconds > 0 && 300 % seconds == 0 {
        return Ok(seconds);
    }
    let mut divisors = (1..=300).filter(|divisor| 300 % divisor == 0);
    let longer = divisors.find(|divisor| *divisor >= seconds).unwrap_or(300);
    let message = format!("{text:?} is no divisor of 300 s, from 1 s up");
    Err(Refusal::new(message, format!("write \"{longer}s\", the nearest that is one")))
}

/// A duration that ends some day.
fn some_time(text: &str) -> Result<Duration, Refusal> {
    match duration(text)? {
        Duration::ZERO => {
            let message = format!("{text:?} would be for ever, and what waits costs memory");
            Err(Refusal::new(message, "write a time, as in \"10s\""))
        }
        time => Ok(time),
    }
}

/// The refusal of a word that is not one of a few.
fn one_of(text: &str, words: &[&str]) -> Refusal {
    let shown = shorten(text);
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    let near = words
        .iter()
        .find(|word| strsim::damerau_levenshtein(&shown.to_lowercase(), word) <= 2)
        .map(|word| format!("did you mean {word:?}? "))
        .unwrap_or_default();
    let help = format!("{near}write one of {}", quoted.join(", "));
    Refusal::new(format!("{shown:?} is not one of the choices"), help)
}

/// Enough of a text to recognise it by.
fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
