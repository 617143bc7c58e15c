//! The configuration as typed: the file's keys, each value read on its own and still with its
//! place. What the values mean together is the business of [`resolve`](super::resolve).

mod limit;

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use schemas::config::{Document, Findings, Refusal, Value, duration, size};
use schemas::vocab::{CustomerName, NodeName, RuleName, ServiceName};
use toml::Spanned;

pub(super) use limit::{RawBandwidth, RawLimit, RawQuota, Ways};

use super::address;
use super::leaf::{Keys, Leaf, List};
use super::{
    CaptureMode, Listener, LogChoice, Per, TABLE_SLOTS, THREADS, Target, WhenBehind, WhenFull, tcp,
};

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
    pub(super) timeouts: Timeouts,
    pub(super) tcp: tcp::Raw,
    pub(super) services: Vec<Service>,
    pub(super) rules: Vec<Rule>,
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

/// `[[service]]`.
#[derive(Debug)]
pub(super) struct Service {
    /// Its header.
    pub(super) span: Range<usize>,
    pub(super) name: Leaf<ServiceName>,
    /// Each entry of the list stands for one listener, or for one of each transport.
    pub(super) listen: Leaf<List<Vec<Listener>>>,
    pub(super) target: Leaf<List<Target>>,
}

/// `[[rule]]`.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its header.
    pub(super) span: Range<usize>,
    pub(super) name: Leaf<RuleName>,
    pub(super) services: Leaf<List<ServiceName>>,
    pub(super) from: Leaf<List<IpNet>>,
    pub(super) action: Leaf<Action>,
    pub(super) target: Leaf<List<Target>>,
    pub(super) customer: Leaf<CustomerName>,
    pub(super) capture: Leaf<CaptureMode>,
    pub(super) capture_when_behind: Leaf<WhenBehind>,
    pub(super) log: Leaf<LogChoice>,
    pub(super) limits: Vec<RawLimit>,
    pub(super) quota: Option<RawQuota>,
    /// Where its timeouts stand, if it has some.
    pub(super) timeouts_span: Option<Range<usize>>,
    pub(super) timeouts: Timeouts,
}

/// `action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pass,
    Block,
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
        let admin = Self { socket: keys.text("socket", SOCKET, findings, address::socket) };
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

/// What to do about an empty `target`.
const NO_TARGET: &str = "write a target, as in [\"10.0.0.5:80\"], or leave the key out";

impl Service {
    fn read(keys: Spanned<Keys<'_>>, findings: &mut Findings<'_>) -> Self {
        const LISTENER: &str = "tcp://0.0.0.0:8080";
        let span = keys.span();
        let mut keys = keys.into_inner();
        let no_listener = format!("write a listener, as in [\"{LISTENER}\"]");
        let service = Self {
            span,
            name: keys.text("name", "web", findings, name),
            listen: keys.some("listen", LISTENER, &no_listener, findings, address::listeners),
            target: keys.some("target", "10.0.0.5:80", NO_TARGET, findings, address::target),
        };
        keys.finish(findings);
        service
    }
}

impl Rule {
    fn read(keys: Spanned<Keys<'_>>, findings: &mut Findings<'_>) -> Self {
        const NO_SERVICE: &str = "leave the key out to mean every service";
        const NO_NETWORK: &str = "leave the key out to mean everyone";
        let span = keys.span();
        let mut keys = keys.into_inner();
        let timeouts = keys.get("timeouts");
        let limit_help = "begin every limit with [[rule.limit]]";
        let rule = Self {
            span,
            name: keys.text("name", "everyone", findings, name),
            services: keys.some("services", "web", NO_SERVICE, findings, name),
            from: keys.some("from", "192.0.2.0/24", NO_NETWORK, findings, address::network),
            action: keys.text("action", "pass", findings, |text| match text {
                "pass" => Ok(Action::Pass),
                "block" => Ok(Action::Block),
                _ => Err(one_of(text, &["pass", "block"])),
            }),
            target: keys.some("target", "10.0.0.5:80", NO_TARGET, findings, address::target),
            customer: keys.text("customer", "acme", findings, customer),
            capture: keys.text("capture", "full", findings, capture),
            capture_when_behind: keys.text("capture_when_behind", "drop", findings, |text| {
                match text {
                    "drop" => Ok(WhenBehind::Drop),
                    "slow" => Ok(WhenBehind::Slow),
                    _ => Err(one_of(text, &["drop", "slow"])),
                }
            }),
            log: log(&mut keys, findings),
            limits: keys
                .tables("limit", limit_help, findings)
                .into_iter()
                .map(|keys| RawLimit::read(keys, findings))
                .collect(),
            quota: RawQuota::read(keys.get("quota"), findings),
            timeouts_span: timeouts.as_ref().map(Value::span),
            timeouts: Timeouts::read(
                Keys::of(timeouts.and_then(|value| value.section(findings))),
                false,
                findings,
            ),
        };
        keys.finish(findings);
        rule
    }

    /// Who shares the rule's own quota: a customer's clients, or else each by itself.
    pub(super) fn quota_per(&self) -> Per {
        if self.customer.is_absent() { Per::CLIENT } else { Per::Customer }
    }
}

/// A name; one that is none is answered with the nearest that is.
fn name<T: FromStr<Err: ToString>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|why: T::Err| {
        let letter = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let near: String = text.chars().map(letter).take(63).collect();
        let near = near.trim_matches(['.', '_', '-']);
        let help = if near.is_empty() { String::new() } else { format!("write {near:?}") };
        Refusal::new(why.to_string(), help)
    })
}

fn customer(text: &str) -> Result<CustomerName, Refusal> {
    if text.starts_with('@') {
        return Err(Refusal::later("a file of customers", "write a rule for each customer"));
    }
    name(text)
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

fn capture(text: &str) -> Result<CaptureMode, Refusal> {
    match text {
        "off" => Ok(CaptureMode::Off),
        "headers" => Ok(CaptureMode::Headers),
        "full" => Ok(CaptureMode::Full),
        "prefix" => {
            Err(Refusal::new("\"prefix\" does not say how much", "write \"prefix 64 KiB\""))
        }
        _ => match text.strip_prefix("prefix ").map(size).transpose()? {
            Some(0) => Err(Refusal::new("this is a prefix of nothing", "write \"headers\"")),
            Some(bytes) => Ok(CaptureMode::Prefix(bytes)),
            None => Err(one_of(text, &["off", "headers", "prefix 64 KiB", "full"])),
        },
    }
}

/// `log`, the one list that may be empty: nothing is logged then.
fn log(keys: &mut Keys<'_>, findings: &mut Findings<'_>) -> Leaf<LogChoice> {
    let nothing = LogChoice::default();
    let moments = keys.list("log", "error", findings, |text| match text {
        "connect" => Ok(LogChoice { connect: true, ..nothing }),
        "disconnect" => Ok(LogChoice { disconnect: true, ..nothing }),
        "error" => Ok(LogChoice { error: true, ..nothing }),
        _ => Err(one_of(text, &["connect", "disconnect", "error"])),
    });
    match &moments {
        Leaf::Absent => Leaf::Absent,
        Leaf::Faulty => Leaf::Faulty,
        Leaf::Given(list) => {
            let all = list.get_ref().iter().fold(nothing, |all, one| all.plus(*one.get_ref()));
            Leaf::Given(Spanned::new(list.span(), all))
        }
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
