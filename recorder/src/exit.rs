//! Exit codes, the same for all programs of Weir (sysexits).

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// How a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// The command line is wrong.
    Usage = 64,
    /// An address cannot be bound, or nobody answers on a socket.
    Unreachable = 69,
    /// Our bug.
    Bug = 70,
    /// Reading or writing failed.
    Io = 74,
    /// Another recorder has the data directory.
    Locked = 75,
    /// We may not.
    Permission = 77,
    /// The configuration is wrong, or names a directory that this version cannot use.
    Config = 78,
}

impl Exit {
    /// The exit of a code that a recorder sent; a code of a newer version is a bug to us.
    pub fn from_code(code: u8) -> Self {
        let known = [
            Self::Fine,
            Self::Usage,
            Self::Unreachable,
            Self::Io,
            Self::Locked,
            Self::Permission,
            Self::Config,
        ];
        known.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Self::Bug)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the program ends before its work is done: an exit code, and a sentence for people.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What was attempted, on what, why it failed, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with this code and text.
    pub fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// A failure of an operation on a file: a lack of permission has a code of its own.
    pub fn io(kind: io::ErrorKind, message: impl Display) -> Self {
        let exit = match kind {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Exit::Permission,
            _ => Exit::Io,
        };
        Self::new(exit, message)
    }
}
