//! The configuration as meant: a [`Config`] cannot be wrong, because only a file without faults
//! becomes one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemas::vocab::{CustomerName, NodeName, RuleName, ServiceName, Transport};

/// Everything a forwarder is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This forwarder's name.
    pub node: NodeName,
    /// The first 16 hexadecimal digits of the file's SHA-256 (`config_rev` in the tables).
    pub revision: String,
    /// Where the account goes.
    pub recorder: Recorder,
    /// How the account is kept.
    pub accounting: Accounting,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// Deadlines that rules may override.
    pub timeouts: Timeouts,
    /// The services in the order of the file.
    pub services: Vec<Service>,
    /// The rules in the order of the file; the first match wins, no match is a block.
    pub rules: Vec<Rule>,
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

/// Deadlines of a session. A duration of zero means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For one dial of a target.
    pub connect: Duration,
    /// After one direction has ended, for silence in the other.
    pub half_closed: Duration,
    /// For silence in both directions of a TCP session.
    pub tcp_idle: Duration,
    /// For silence in both directions of a UDP association.
    pub udp_idle: Duration,
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
    /// Where they go unless a rule says otherwise; tried in turn, beginning with the next one for
    /// each session.
    pub targets: Vec<Target>,
}

/// One bound address and transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Listener {
    /// What it speaks.
    pub transport: Transport,
    /// Where it is bound.
    pub address: SocketAddr,
}

/// Whom we dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address and port.
    Address(SocketAddr),
    /// A host name and port, looked up for each dial.
    Name(String, u16),
}

/// An ordered match with a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: RuleName,
    /// Services it applies to; empty: every service.
    pub services: Vec<ServiceName>,
    /// Clients it applies to; empty: everyone.
    pub from: Vec<IpNet>,
    /// Who is billed.
    pub customer: Option<CustomerName>,
    /// What to write to the log.
    pub log: LogChoice,
    /// Pass or block.
    pub action: Action,
}

/// What a rule does with a client that it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Refuse it.
    Block,
    /// Relay it.
    Pass(Pass),
}

/// How a client that may pass is relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// Where to; empty: the service's targets.
    pub targets: Vec<Target>,
    /// What is kept of the payload.
    pub capture: CaptureMode,
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

/// Which moments of a session a rule logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogChoice {
    /// The verdict.
    pub connect: bool,
    /// The end, with totals.
    pub disconnect: bool,
    /// Failures to reach a target.
    pub error: bool,
}
