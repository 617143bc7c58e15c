//! What `status` answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::LimitUse;

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
    /// No listener lets anybody in; what runs goes on.
    pub draining: bool,
    /// Sessions of all services.
    pub sessions: SessionTotals,
    /// Sessions that are made to wait though payload is there.
    pub held: Held,
    /// Each service, in the order of the file.
    pub services: Vec<ServiceStatus>,
    /// Each rule, in the order of the file.
    pub rules: Vec<RuleStatus>,
    /// Each target, by service in the order of the file.
    pub targets: Vec<TargetStatus>,
    /// The limits that are shared by more than a client or its network, the fullest first.
    pub limits: Vec<LimitUse>,
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
    /// Those of `listeners` that let nobody in until they are resumed.
    pub paused: Vec<String>,
    /// Its sessions.
    pub sessions: SessionTotals,
    /// Payload delivered since the start.
    pub delivered: Delivered,
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

/// Sessions that are made to wait though payload is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// By their capture, which is behind.
    pub by_capture: u64,
    /// By a bandwidth of their rule.
    pub by_limit: u64,
}

/// Payload delivered, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// To targets.
    pub bytes_up: u64,
    /// To clients.
    pub bytes_down: u64,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// Whether it passes clients or blocks them.
    pub action: String,
    /// Its sessions.
    pub sessions: SessionTotals,
    /// Payload delivered since the start.
    pub delivered: Delivered,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// The service.
    pub service: String,
    /// As the file has it: `10.0.0.5:80`.
    pub target: String,
    /// `up`, `backing_off` or `down`.
    pub state: String,
    /// Sessions of ours there, those that still dial included.
    pub sessions: u64,
}
