//! What the two processes say to each other: a line of JSON each way, both of this program.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Limits;
use crate::cli::ReportFormat;
use crate::failure::Failure;

/// Longest line, in bytes: the paths of a million parts.
const MAX_LINE: u64 = 256 * 1024 * 1024;

/// A statement, and what it may see.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) statement: String,
    /// Zone of times in tables.
    pub(super) zone: String,
    pub(super) format: ReportFormat,
    /// The tables with the paths of their parts.
    pub(super) tables: Vec<(String, Vec<String>)>,
    /// The directories below which the parts lie.
    pub(super) readable: Vec<PathBuf>,
    /// Where DuckDB may spill.
    pub(super) scratch: PathBuf,
    memory: u64,
    time: Option<Duration>,
}

impl Request {
    pub(super) fn new(statement: &str, zone: &str, format: ReportFormat, limits: Limits) -> Self {
        Self {
            statement: statement.to_owned(),
            zone: zone.to_owned(),
            format,
            tables: Vec::new(),
            readable: Vec::new(),
            scratch: PathBuf::new(),
            memory: limits.memory,
            time: limits.time,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { memory: self.memory, time: self.time }
    }
}

/// What the process that runs the statement says, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It is confined; whether the kernel sees to that.
    Confined(bool),
    /// The report is written, or cannot be.
    Ended(Result<(), Failure>),
}

/// One side of the socket between the two.
#[derive(Debug)]
pub(super) struct Channel(BufReader<UnixStream>);

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self(BufReader::new(stream))
    }

    pub(super) fn stream(&self) -> &UnixStream {
        self.0.get_ref()
    }

    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream().write_all(&line)
    }

    /// The next message; `None`: the other side has gone.
    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        (&mut self.0).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }
}
