//! Why a command could not answer, and the exit code that says so.

use std::io;
use std::path::Path;

use schemas::exit::Exit;
use serde::{Deserialize, Serialize};

/// What went wrong, for the person at the prompt. The text says what was attempted, on what, and
/// what to do.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// The arguments or the SQL make no sense. Exit 64.
    #[error("{0}")]
    Usage(String),
    /// There is no such directory, session or capture. Exit 66.
    #[error("{0}")]
    NoData(String),
    /// A program we were to start is not there. Exit 69.
    #[error("{0}")]
    Unavailable(String),
    /// A bug of ours. Exit 70.
    #[error("{0}")]
    Internal(String),
    /// A file could not be read or written, or is damaged. Exit 74.
    #[error("{0}")]
    Io(String),
    /// The system does not let us. Exit 77.
    #[error("{0}")]
    Permission(String),
    /// What a file of tariffs says cannot be. Exit 78.
    #[error("{0}")]
    Config(String),
    /// The data directory is of a format this binary does not read. Exit 78.
    #[error("{0}")]
    Format(String),
    /// The reader of our output has gone, as `head` does. Exit 0: nobody is left to tell.
    #[error("the reader of the output has gone")]
    ReaderGone,
    /// A part was moved by the recorder between the manifest and the reading; asking again helps.
    #[error("{0}")]
    Moved(String),
}

impl Failure {
    /// How the program ends with this failure.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::ReaderGone => Exit::Fine,
            Self::Usage(_) => Exit::Usage,
            Self::NoData(_) => Exit::NoData,
            Self::Unavailable(_) => Exit::Unreachable,
            Self::Internal(_) => Exit::Bug,
            Self::Io(_) | Self::Moved(_) => Exit::Io,
            Self::Permission(_) => Exit::Permission,
            Self::Config(_) | Self::Format(_) => Exit::Config,
        }
    }

    /// The failure once rows are written: asking again would write them twice.
    #[must_use]
    pub fn after_output(self) -> Self {
        match self {
            Self::Moved(text) => Self::Io(text),
            other => other,
        }
    }

    /// What a failed `attempt` on a file means: 77 when the system forbids it, else 74.
    pub fn file(attempt: &str, path: &Path, error: &io::Error) -> Self {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission(format!(
                "cannot {attempt} {path}: {error}; run as a member of the group that owns it (weir, weir-capture)"
            )),
            _ => Self::Io(format!("cannot {attempt} {path}: {error}")),
        }
    }

    /// What a failed write of a report means.
    pub fn writing(destination: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            io::ErrorKind::PermissionDenied => {
                Self::Permission(format!("cannot write {destination}: {error}"))
            }
            _ => Self::Io(format!("cannot write {destination}: {error}")),
        }
    }
}
