//! Runs a statement that its reader typed where it can do no harm.
//!
//! A statement is run by a second process of this program, one per statement. We find the parts,
//! make the directory to spill to and give the report its name; the process limits itself, tells
//! the kernel (Landlock) that it will read the tables and write that directory and nothing else,
//! and only then opens DuckDB, whose threads are born confined. DuckDB's own settings are locked
//! as for every report. It runs exactly one statement that DuckDB's parser calls a SELECT, writes
//! the report to its standard output and ends.
//!
//! The process has no environment but where its libraries lie, no descriptor but its standard ones,
//! and its standard input is the socket on which it is asked and answers. When the socket falls
//! silent, because we have ended in whatever way, it kills itself.

mod confine;
mod message;
mod process;
mod question;
mod serve;

use std::ffi::OsStr;
use std::time::Duration;

pub(crate) use confine::default_memory;
pub use question::{Question, ask};
pub use serve::serve;

/// What the program is called with to be that process.
const ARGUMENT: &str = "__sql";

/// Longest statement, in bytes.
pub const MAX_STATEMENT: usize = 1024 * 1024;

/// Whether the first argument of this process says that it is to run a statement.
pub fn is_asked_for(argument: Option<&OsStr>) -> bool {
    argument == Some(OsStr::new(ARGUMENT))
}

/// What a statement may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for DuckDB; what does not fit is spilled where DuckDB can.
    pub memory: u64,
    /// From the beginning to the last row; `None`: as long as it takes.
    pub time: Option<Duration>,
}
