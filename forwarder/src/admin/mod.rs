//! The admin socket: what a running forwarder can be asked and told, and what it answers.
//!
//! A Unix socket, mode 0660. A request is one line of JSON, its answer another; a connection may
//! carry many of them, one after the other:
//!
//! ```text
//! {"command":"sessions","filter":{"service":"web"},"limit":10}
//! {"sessions":{"total":1,"sort":"age","list":[…]}}
//! ```
//!
//! An answer's only key says what it is: that of the request as a rule, or `error` with an exit code
//! for the one who asked.

pub mod client;
pub mod inside;
mod limits;
mod place;
mod screen;
pub mod server;
mod sessions;
pub mod show;
mod status;
pub mod watch;

use serde::{Deserialize, Serialize};

pub use limits::LimitsInUse;
pub use place::{NoPlace, Place};
pub use sessions::{Filter, SessionDetail, SessionLine, Sessions, Sort, TcpSide};
pub use status::{
    Delivered, Held, RecorderStatus, RuleStatus, ServiceStatus, SessionTotals, SpoolStatus, Status,
    TableStatus, TargetStatus,
};

/// Longest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// Most sessions in one answer.
pub const MAX_SESSIONS: u32 = 65_536;

/// Sessions in an answer when nobody says how many.
pub const DEFAULT_SESSIONS: u32 = 1000;

/// What to say to a kill that names no session and has no filter.
pub const NOBODY_TO_KILL: &str = "say which sessions to end: an ID as in k3f9x2ab-1042, --client, --rule, --service, --customer or --target";

/// What a running forwarder can be asked and told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How it is doing.
    Status,
    /// The sessions that run now.
    Sessions {
        /// Which of them.
        #[serde(default)]
        filter: Filter,
        /// Which come first.
        #[serde(default)]
        sort: Sort,
        /// At most so many, and never more than [`MAX_SESSIONS`].
        #[serde(default = "default_sessions")]
        limit: u32,
    },
    /// Everything about one running session.
    Session {
        /// `<boot>-<number>`, or the number alone.
        session: String,
    },
    /// To end running sessions: those named, or those that meet the filter.
    Kill {
        /// By name.
        #[serde(default)]
        sessions: Vec<String>,
        /// By what they are.
        #[serde(default)]
        filter: Filter,
    },
    /// How far the limits are used.
    Limits {
        /// Of this rule alone.
        #[serde(default)]
        rule: Option<String>,
        /// At most so many, and never more than [`MAX_SESSIONS`].
        #[serde(default = "default_sessions")]
        limit: u32,
    },
    /// To let nobody in at some listeners.
    Pause {
        /// Listeners as they are configured or bound, or services with all of theirs; one at least.
        which: Vec<String>,
    },
    /// To let clients in again at some listeners.
    Resume {
        /// As for [`Request::Pause`].
        which: Vec<String>,
    },
    /// To let nobody in anywhere while what runs comes to its end.
    Drain {
        /// To let clients in again instead.
        #[serde(default)]
        cancel: bool,
    },
    /// To read its configuration file again.
    Reload {
        /// To ask the new rules about the sessions that run, too.
        #[serde(default)]
        apply_to_running: bool,
    },
}

fn default_sessions() -> u32 {
    DEFAULT_SESSIONS
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Sessions`].
    Sessions(Sessions),
    /// To [`Request::Session`].
    Session(Box<SessionDetail>),
    /// To [`Request::Kill`]: done.
    Kill(Killed),
    /// To [`Request::Limits`].
    Limits(LimitsInUse),
    /// To [`Request::Pause`] and [`Request::Resume`]: done.
    Intake(Intake),
    /// To [`Request::Drain`]: done.
    Drain(Draining),
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

/// What a kill did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// Sessions that were ended, one at least.
    pub ended: u64,
}

/// What a pause or a resume did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intake {
    /// Listeners that it made a difference to.
    pub changed: Vec<String>,
    /// All listeners that are paused now.
    pub paused: Vec<String>,
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// Whether nobody is let in.
    pub draining: bool,
    /// Sessions that still run.
    pub current: u64,
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
    /// What asking the rules again about running sessions came to; `None`: nobody wanted that.
    #[serde(default)]
    pub applied: Option<Applied>,
    /// What the file's author may have meant differently, as text.
    pub warnings: String,
}

/// What asking the rules again about running sessions came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Sessions that were ended as `denied`.
    pub ended: u64,
    /// Sessions that go on because the rules ask for what was not found out about their clients.
    pub unjudged: u64,
}
