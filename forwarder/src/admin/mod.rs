//! The admin socket: what a running forwarder can be asked, and what it answers.
//!
//! A Unix socket, mode 0660. A request is one line of JSON, its answer another; a connection may
//! carry many of them, one after the other:
//!
//! ```text
//! {"command":"sessions","limit":10}
//! {"sessions":{"total":1,"list":[…]}}
//! ```
//!
//! An answer's only key says what it is: `status`, `sessions`, `reload`, or `error` with an exit
//! code for the one who asked.

pub mod client;
pub mod inside;
pub mod server;
pub mod show;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Most sessions in one answer.
pub const MAX_SESSIONS: u32 = 65_536;

/// What a running forwarder can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How it is doing.
    Status,
    /// The sessions that run now, oldest first.
    Sessions {
        /// At most so many, and never more than [`MAX_SESSIONS`].
        limit: u32,
    },
    /// To read its configuration file again.
    Reload,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Sessions`].
    Sessions(Sessions),
    /// To [`Request::Reload`]: done.
    Reload(Reloaded),
    /// Why it cannot be answered.
    Error(Complaint),
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// What the command that asked should exit with.
    pub exit: u8,
    /// The same for people.
    pub message: String,
}

/// How a forwarder is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub node: String,
    /// This run of it.
    pub boot: String,
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it has run, in seconds.
    pub uptime_s: u64,
    /// The configuration file.
    pub config_file: String,
    /// Revision of the configuration in force, as `config_rev` in the tables.
    pub config_rev: String,
    /// Sessions of all services.
    pub sessions: SessionTotals,
    /// Each service, in the order of the file.
    pub services: Vec<ServiceStatus>,
    /// The counter table.
    pub table: TableStatus,
    /// The spool.
    pub spool: SpoolStatus,
    /// The link to the recorder.
    pub recorder: RecorderStatus,
    /// What was counted besides sessions, by name.
    pub counters: BTreeMap<String, u64>,
}

/// Sessions since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTotals {
    /// Running now.
    pub current: u64,
    /// Given a number since the start.
    pub accepted: u64,
    /// Refused since the start, datagrams of refused clients each counted.
    pub refused: u64,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Where it listens, with the port that the kernel chose.
    pub listeners: Vec<String>,
    /// Its sessions.
    pub sessions: SessionTotals,
    /// Payload delivered to targets by the sessions that run now, in bytes.
    pub live_bytes_up: u64,
    /// Payload delivered to clients by the sessions that run now, in bytes.
    pub live_bytes_down: u64,
}

/// The counter table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Slots in use: running sessions, and ended ones whose rows are not written yet.
    pub used: u64,
    /// Slots there are.
    pub size: u64,
}

/// The spool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Its directory.
    pub directory: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Most bytes there may be.
    pub max_bytes: u64,
    /// Frames that the recorder has not acknowledged.
    pub unacknowledged_frames: u64,
}

/// The link to the recorder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderStatus {
    /// Where it is.
    pub endpoint: String,
    /// `connected`, or why not.
    pub state: String,
}

/// Sessions that run now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// How many run; more than are listed when the limit cut them.
    pub total: u64,
    /// The oldest of them, oldest first.
    pub list: Vec<SessionLine>,
}

/// A session that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLine {
    /// `<boot>-<number>`.
    pub session: String,
    /// `tcp` or `udp`.
    pub transport: String,
    /// The service.
    pub service: String,
    /// The rule that let it pass.
    pub rule: String,
    /// Who is billed.
    pub customer: Option<String>,
    /// The socket peer.
    pub client: String,
    /// The local address it used.
    pub listen: String,
    /// Whom we dialled; `None`: nobody yet.
    pub target: Option<String>,
    /// Whether the target's connection stands.
    pub connected: bool,
    /// How long ago it began, in seconds.
    pub age_s: u64,
    /// Payload delivered to the target so far, in bytes.
    pub bytes_up: u64,
    /// Payload delivered to the client so far, in bytes.
    pub bytes_down: u64,
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Revision of the configuration that is in force now.
    pub config_rev: String,
    /// False: the file says what was in force already.
    pub changed: bool,
    /// Listeners that were bound.
    pub listeners_added: Vec<String>,
    /// Listeners that were closed.
    pub listeners_removed: Vec<String>,
    /// What the file's author may have meant differently, as text.
    pub warnings: String,
}
