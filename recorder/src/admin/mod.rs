//! The admin socket: what a running recorder can be asked, and what it answers.
//!
//! A Unix socket, mode 0660. A request is one line of JSON, its answer another; a connection may
//! carry many of them, one after the other:
//!
//! ```text
//! {"command":"flush"}
//! {"flush":{"parts":3,"rows":1042}}
//! ```
//!
//! An answer's only key says what it is: `status`, `flush`, or `error` with an exit code for the
//! one who asked.

pub mod client;
mod server;
mod show;

use serde::{Deserialize, Serialize};

pub use server::{Server, State};
pub use show::show;

use crate::publish::PublishStatus;
use crate::upkeep::UpkeepStatus;

/// Longest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 4096;

/// What a running recorder can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// How it is doing.
    Status,
    /// To close the capture files and publish everything received so far.
    Flush,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Flush`]: done.
    Flush(Flushed),
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

/// What a flush added to the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// Parquet files.
    pub parts: usize,
    /// Rows in them.
    pub rows: u64,
}

/// How a recorder is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it has run, in seconds.
    pub uptime_s: u64,
    /// The configuration file.
    pub config_file: String,
    /// The data directory.
    pub data: String,
    /// What was published, and the tables.
    pub publish: PublishStatus,
    /// Compaction and retention.
    #[serde(default)]
    pub upkeep: UpkeepStatus,
    /// The write-ahead log.
    pub log: LogStatus,
    /// Who is connected.
    pub connections: Vec<Connection>,
    /// What came from forwarders since the start.
    pub received: Received,
    /// The capture.
    pub capture: CaptureStatus,
    /// Log lines that were dropped because too many waited to be written.
    pub log_lines_dropped: u64,
}

/// The write-ahead log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Frames that are durable and not in the tables yet.
    pub unpublished_frames: u64,
    /// Bytes on disk, published segments that are not removed yet included.
    pub bytes: u64,
}

/// A connected forwarder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The forwarder.
    pub node: String,
    /// Its run.
    pub boot: String,
    /// `accounting` or `capture`.
    pub lane: String,
    /// Its spool; none on the capture lane.
    pub spool: Option<String>,
    /// How long it has been connected, in seconds.
    pub seconds: u64,
}

/// What came from forwarders since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Connections accepted.
    pub connections: u64,
    /// Connections refused.
    pub refused: u64,
    /// Frames taken into the log.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// Frames that were here already.
    pub duplicates: u64,
}

/// The capture since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureStatus {
    /// Sessions being captured at the moment.
    pub sessions_open: u64,
    /// Files closed.
    pub files: u64,
    /// Files indexed without a digest, because there was no quiet moment for it.
    pub undigested_files: u64,
    /// Packets written.
    pub packets: u64,
    /// Payload that arrived and could not be written, in bytes.
    pub dropped_bytes: u64,
    /// Writes and closes that the disk refused.
    pub write_errors: u64,
}
