//! The configuration as meant: a [`Config`] cannot be wrong, because only a file without faults
//! becomes one.
//!
//! ```text
//! source --Document--> tree --raw--> values with places --check, resolve--> Config
//! ```
//!
//! The files that it names with an `@` are read by the shell: [`files_of`] says which.
//! [`Config::parse`] goes all the way and gathers every fault on it; the rules are asked by
//! [`matching`](crate::matching); [`start_only_changes`] says what a reload cannot do.

mod address;
mod check;
mod files;
mod keys;
mod leaf;
mod limit;
mod needs;
mod observe;
mod origin;
mod raw;
mod reach;
mod redirect;
mod reload;
mod resolve;
mod tcp;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use address::{host_name, is_source};
pub use files::{MAX_FILE_NETWORKS, files_of};
pub use keys::{KEYS, LATER};
pub use limit::{Bandwidth, Every, Limit, Per, Quota, Rate};
pub use needs::Needs;
pub use observe::{Alert, EndedBy, Log, LogFormat, LogLevel, LogTo, Watch};
pub use origin::{Customer, CustomerFile, NetworkFile, Origin, Refuse, ServerName, UnknownName};
pub use redirect::{
    Balance, Health, Host, ProxyAccept, ProxySend, ProxyVersion, Source, Target, UdpReplies,
};
pub use reload::{ListenerChanges, listener_changes, start_only_changes};
use schemas::config::Diagnostics;
pub use schemas::config::{show_bandwidth, show_duration, show_rate, show_size};
use schemas::vocab::{NodeName, RuleName, ServiceName, Transport};

pub use resolve::admin_socket_of;
pub use tcp::{CongestionControl, CongestionOffer, Keepalive, Tcp};

/// What `accounting.table` may be.
pub const TABLE_SLOTS: RangeInclusive<u64> = 64..=4_194_304;

/// What `threads` may be; 0 stands for one for each core.
pub const THREADS: RangeInclusive<u64> = 0..=256;

/// What the meaning of a file depends on besides the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// The machine's name, the default of `node`.
    pub host_name: String,
    /// The addresses of the machine's interfaces: a target among them may be our own listener.
    pub local_addresses: Vec<IpAddr>,
    /// The congestion controls that the kernel offers. Empty: not known, and not judged.
    pub congestion_controls: Vec<CongestionOffer>,
    /// What the files hold that the configuration names with an `@`, by the path as it is written
    /// there; or why they cannot be read.
    pub files: BTreeMap<PathBuf, Result<String, String>>,
}

/// Everything a forwarder is told. Only [`Config::parse`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This forwarder's name.
    pub node: NodeName,
    /// Data threads; 0: one for each core.
    pub threads: usize,
    /// The first 16 hexadecimal digits of the file's SHA-256 (`config_rev` in the tables).
    pub revision: String,
    /// Where the account goes.
    pub recorder: Recorder,
    /// How the account is kept.
    pub accounting: Accounting,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// Where metrics are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Where log lines go and how they look.
    pub log: Log,
    /// How names are looked up.
    pub dns: Dns,
    /// Deadlines that rules may override.
    pub timeouts: Timeouts,
    /// How relayed connections treat their networks.
    pub tcp: Tcp,
    /// The services in the order of the file.
    pub services: Vec<Service>,
    /// The rules in the order of the file; the first match wins, no match is a block.
    pub rules: Vec<Rule>,
    /// The alerts in the order of the file.
    pub alerts: Vec<Alert>,
    /// What the file's author may have meant differently; never a fault.
    pub warnings: Diagnostics,
    /// For each service, the rules that apply to it, as indices into `rules`.
    rules_of: Vec<Vec<usize>>,
}

impl Config {
    /// Where the sessions go that a rule passes to a service, both given by index; the targets of
    /// a rule that blocks are the service's, and never asked for.
    pub fn targets(&self, service: usize, rule: usize) -> &[Target] {
        match &self.rules[rule].action {
            Action::Pass(pass) if !pass.targets.is_empty() => &pass.targets,
            Action::Pass(_) | Action::Block => &self.services[service].targets,
        }
    }

    /// The rules that are asked for a client of a service, first to last, as indices.
    pub fn rules_of(&self, service: usize) -> &[usize] {
        &self.rules_of[service]
    }
}

/// Where the account goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorder {
    /// The recorder's Unix socket (`unix:PATH` in the file).
    pub socket: PathBuf,
    /// Directory of the spool.
    pub spool: PathBuf,
    /// Most bytes the spool may hold.
    pub spool_max_bytes: u64,
    /// What to do when the spool is full.
    pub when_full: WhenFull,
}

/// What happens to new sessions when their account cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Forward all the same.
    KeepForwarding,
    /// No session without an account.
    RefuseNew,
}

/// How the account is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accounting {
    /// Length of a slot in seconds, a divisor of 300.
    pub slot_len_s: i32,
    /// Sessions at once.
    pub table_slots: usize,
}

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    /// Name servers; none: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Whether a client without a name (PTR) is refused although a rule passes it.
    pub require_ptr: bool,
    /// Whether a client is refused, although a rule passes it, none of whose names has the client's
    /// address among its own.
    pub require_confirmed: bool,
}

/// Deadlines of a session. For `half_closed`, `tcp_idle`, `max_duration` and `drain`, zero means
/// never; the others are never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For what comes before the payload: a PROXY header, or what names the server.
    pub preread: Duration,
    /// For one lookup of a name.
    pub resolve: Duration,
    /// For one dial of a target.
    pub connect: Duration,
    /// After one direction has ended, for silence in the other.
    pub half_closed: Duration,
    /// For silence in both directions of a TCP session.
    pub tcp_idle: Duration,
    /// For silence in both directions of a UDP association.
    pub udp_idle: Duration,
    /// For a session as a whole, whatever moves.
    pub max_duration: Duration,
    /// After SIGTERM.
    pub drain: Duration,
}

/// A named unit of configuration: listeners and targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// Where clients come in by the addresses of network interfaces, which come and go.
    pub interfaces: Vec<InterfaceListener>,
    /// Where they go unless a rule says otherwise.
    pub targets: Vec<Target>,
    /// Which of the targets comes first.
    pub balance: Balance,
    /// How the targets are looked after. `None`: only by the sessions that go there.
    pub health: Option<Health>,
    /// Whose PROXY headers are taken. `None`: nobody's.
    pub proxy_accept: Option<ProxyAccept>,
    /// Which PROXY header targets get, if any.
    pub proxy_send: Option<ProxyVersion>,
    /// Which address of ours targets see.
    pub source: Source,
    /// Most UDP associations at once, if there is a bound besides those of the process.
    pub max_udp_sessions: Option<u64>,
}

/// A listener on every address of a network interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InterfaceListener {
    /// What it speaks.
    pub transport: Transport,
    /// The interface's name.
    pub interface: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for InterfaceListener {
    /// As the file has it: `tcp://eth0:8080`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.transport, self.interface, self.port)
    }
}

/// One bound address and transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listener {
    /// What it speaks.
    pub transport: Transport,
    /// Where it is bound.
    pub address: SocketAddr,
}

impl fmt::Display for Listener {
    /// As the file has it: `tcp://127.0.0.1:8080`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.transport, self.address)
    }
}

/// An ordered match with a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: RuleName,
    /// Services it applies to; empty: every service.
    pub services: Vec<ServiceName>,
    /// Listeners of these services it applies to; empty: every listener.
    pub listeners: Vec<Listener>,
    /// The transport it applies to; `None`: both.
    pub transport: Option<Transport>,
    /// Clients it applies to; empty: everyone.
    pub from: Vec<Origin>,
    /// Clients among those that it does not apply to.
    pub not_from: Vec<Origin>,
    /// Ports of clients it applies to; empty: every port.
    pub client_port: Vec<RangeInclusive<u16>>,
    /// Names of servers, as clients ask for them, that it applies to; empty: any, and none.
    pub server_name: Vec<ServerName>,
    /// What an unknown name means.
    pub unknown_name: UnknownName,
    /// Who is billed.
    pub customer: Option<Customer>,
    /// What to write to the log.
    pub log: LogChoice,
    /// What a TCP client sees that the rule or one of its limits refuses.
    pub refuse: Refuse,
    /// Limits, in the order of the file.
    pub limits: Vec<Limit>,
    /// Pass or block.
    pub action: Action,
}

/// What a rule does with a client that it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Refuse it.
    Block,
    /// Relay it.
    Pass(Box<Pass>),
}

/// How a client that may pass is relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Where to; empty: the service's targets.
    pub targets: Vec<Target>,
    /// Which address of ours targets see. `None`: as the service says.
    pub source: Option<Source>,
    /// Whether targets are told who the client is.
    pub proxy_send: ProxySend,
    /// Whose datagrams a UDP client gets.
    pub udp_replies: UdpReplies,
    /// Bytes that a UDP client may get for each byte it sent, until a second datagram of it after
    /// the first reply proves that it is there. `None`: any.
    pub udp_reply_ratio: Option<u64>,
    /// What is kept of the payload.
    pub capture: CaptureMode,
    /// What happens when the capture cannot keep up.
    pub capture_when_behind: WhenBehind,
    /// Deadlines, the global ones where the rule sets none.
    pub timeouts: Timeouts,
}

/// What is kept of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaptureMode {
    /// Nothing.
    #[default]
    Off,
    /// Packets without payload.
    Headers,
    /// This many bytes per session, both directions together; then packets without payload.
    Prefix(u64),
    /// Everything.
    Full,
}

impl fmt::Display for CaptureMode {
    /// As the file has it: `prefix 64 KiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Headers => f.write_str("headers"),
            Self::Prefix(bytes) => write!(f, "prefix {}", show_size(*bytes)),
            Self::Full => f.write_str("full"),
        }
    }
}

/// What happens to a captured session when its payload comes faster than it can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenBehind {
    /// What does not fit is relayed and not kept, and counted as dropped.
    #[default]
    Drop,
    /// The session is read no faster than it can be kept: nothing is dropped.
    Slow,
}

impl fmt::Display for WhenBehind {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::Slow => "slow",
        })
    }
}

/// Which moments of a session a rule logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogChoice {
    /// The verdict.
    pub connect: bool,
    /// The end, with totals.
    pub disconnect: bool,
    /// Failures to reach a target.
    pub error: bool,
    /// Each piece of payload, by its size.
    pub data: bool,
    /// What TCP knows of both sides, at the beginning and at the end.
    pub tcpinfo: bool,
}

impl LogChoice {
    /// The moments of both.
    const fn plus(self, other: Self) -> Self {
        Self {
            connect: self.connect || other.connect,
            disconnect: self.disconnect || other.disconnect,
            error: self.error || other.error,
            data: self.data || other.data,
            tcpinfo: self.tcpinfo || other.tcpinfo,
        }
    }
}

impl fmt::Display for LogChoice {
    /// As the file has it, without brackets: `connect, error`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moments = [
            (self.connect, "connect"),
            (self.disconnect, "disconnect"),
            (self.error, "error"),
            (self.data, "data"),
            (self.tcpinfo, "tcpinfo"),
        ];
        let chosen = moments.iter().filter(|(chosen, _)| *chosen).map(|(_, moment)| *moment);
        f.write_str(&chosen.collect::<Vec<_>>().join(", "))
    }
}
