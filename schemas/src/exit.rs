//! Exit codes, the same for all programs of Weir (those of sysexits), and why a command ends with
//! one.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Fine = 0,
    /// The answer is no: `verify` found a fault.
    No = 1,
    /// The command line is wrong.
    Usage = 64,
    /// What is asked for does not exist.
    NoData = 66,
    /// An address cannot be bound, or nobody answers on a socket.
    Unreachable = 69,
    /// Our bug.
    Bug = 70,
    /// Reading or writing failed.
    Io = 74,
    /// Another process has the spool or the data directory.
    Locked = 75,
    /// We may not.
    Permission = 77,
    /// The configuration is wrong, or names a directory that this version cannot use.
    Config = 78,
}

impl Exit {
    /// The code as a number.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The exit of a code that a running program sent; a code of a newer version is a bug to us.
    pub fn from_code(code: u8) -> Self {
        const ALL: [Exit; 9] = [
            Exit::Fine,
            Exit::No,
            Exit::Usage,
            Exit::NoData,
            Exit::Unreachable,
            Exit::Io,
            Exit::Locked,
            Exit::Permission,
            Exit::Config,
        ];
        ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Bug)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command ends before its work is done: an exit code, and words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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

    /// A failure of an operation on a file; a lack of permission has a code of its own.
    pub fn io(error: &io::Error, attempt: impl Display) -> Self {
        Self::of_kind(error.kind(), format!("{attempt}: {error}"))
    }

    /// A failure whose message tells everything, with the code of the error behind it.
    pub fn of_kind(kind: io::ErrorKind, message: impl Display) -> Self {
        let exit = match kind {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Exit::Permission,
            _ => Exit::Io,
        };
        Self::new(exit, message)
    }
}
