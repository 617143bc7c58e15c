//! What can go wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal could not be opened, appended to or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it open (exit code 75).
    #[error("{path} is in use by another process: stop it, or use another directory")]
    Locked {
        /// The journal's directory.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something that is no regular file has the name of one of ours.
    #[error("{path} is not a regular file: move it away")]
    NotAFile {
        /// What it is called.
        path: PathBuf,
    },
    /// A segment holds something else than the frames it should, and not at the end of the newest.
    #[error("{path} is damaged at byte {offset}: {reason}")]
    Damaged {
        /// The segment, or the id file.
        path: PathBuf,
        /// Where the trouble begins, in bytes from the start of the file.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The payload is longer than the journal allows; nothing was written.
    #[error("a frame of {len} bytes exceeds the journal's limit of {limit} bytes")]
    TooLong {
        /// The payload's length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// An earlier write could not be made durable or taken back. The journal must be opened anew.
    #[error("{path} is not written any more: {reason}")]
    Poisoned {
        /// The segment.
        path: PathBuf,
        /// What happened to it.
        reason: String,
    },
    /// A reader wants a frame that is not there: its segment was deleted.
    #[error("{path} holds no segment with frame {frame}")]
    Missing {
        /// The journal's directory.
        path: PathBuf,
        /// The frame's number.
        frame: u64,
    },
}

impl JournalError {
    /// Whether the disk, the quota or the file size limit is used up: trying again later may help.
    pub fn is_full(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }

    /// The segment that cannot be read because of what is in it or under it, for
    /// [`crate::Journal::mend`].
    pub fn damaged_segment(&self) -> Option<&Path> {
        match self {
            Self::Damaged { path, .. } => Some(path),
            Self::Io { action: "read", path, source }
                if source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
            {
                Some(path)
            }
            _ => None,
        }
    }

    /// Turns an I/O error into one that says what was attempted on what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, reason: reason.into() }
    }
}
