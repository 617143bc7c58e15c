//! What is told about the forwarder's work, and to whom: `[log]` and `[[alert]]`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemas::config::{show_duration, show_size};
use schemas::vocab::{RuleName, ServiceName};

use super::Target;

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Where lines go.
    pub to: LogTo,
    /// How they look.
    pub format: LogFormat,
    /// How much is said.
    pub level: LogLevel,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTo {
    /// To standard error.
    Stderr,
    /// To the system's log.
    Syslog,
    /// To a file, which is opened again on SIGHUP.
    File(PathBuf),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is said: this and everything more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What has failed.
    Error,
    /// What may fail soon.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Every step of it.
    Trace,
}

/// One `[[alert]]`: too little or too much of something within an interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its name, one like a rule's.
    pub name: RuleName,
    /// Services it watches; empty: every service.
    pub services: Vec<ServiceName>,
    /// Rules it watches; empty: every rule.
    pub rules: Vec<RuleName>,
    /// Targets it watches; empty: every target.
    pub targets: Vec<Target>,
    /// The interval.
    pub every: Duration,
    /// What it watches, and where it strikes.
    pub watch: Watch,
}

/// What an alert watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Payload in both directions together within the interval, in bytes; at least one is there.
    Traffic {
        /// Strikes when less moves.
        below: Option<u64>,
        /// Strikes when more moves.
        above: Option<u64>,
    },
    /// Sessions that one side ended first, by FIN or by an error, within the interval.
    Ends {
        /// Which side.
        by: EndedBy,
        /// Strikes when there are more than so many.
        above: u64,
        /// And when they are at least this share of the sessions that there were, in thousandths.
        share_permille: u16,
    },
}

/// Who ended a session first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// The client.
    Client,
    /// The target.
    Target,
}

impl fmt::Display for LogTo {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("stderr"),
            Self::Syslog => f.write_str("syslog"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for LogFormat {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl fmt::Display for LogLevel {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

impl fmt::Display for EndedBy {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Target => "target",
        })
    }
}

impl Alert {
    /// When it strikes, for people: `less than 1 kB in 5m`.
    pub fn condition(&self) -> String {
        let every = show_duration(self.every);
        match self.watch {
            Watch::Traffic { below, above } => {
                let below = below.map(|bytes| format!("less than {}", show_size(bytes)));
                let above = above.map(|bytes| format!("more than {}", show_size(bytes)));
                let parts: Vec<String> = [below, above].into_iter().flatten().collect();
                format!("{} in {every}", parts.join(" or "))
            }
            Watch::Ends { by, above, share_permille } => {
                let share = match share_permille {
                    0 => String::new(),
                    share => format!(" and at least {}.{}% of all", share / 10, share % 10),
                };
                format!("more than {above} ends by the {by}{share} in {every}")
            }
        }
    }
}
