//! One session's packets out of the rolling capture files, by the index that `captures` is.
//!
//! Nothing is asked of the database here: a caller gives what the tables say of the session. Several
//! rows for one (extent) are one: a recorder that died between indexing a file and naming it indexes
//! it again.

mod block;
mod copy;
mod payload;
mod source;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemas::vocab::{SessionId, Transport};

/// Where one session's packets lie.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The session.
    pub session: SessionId,
    /// What it spoke.
    pub transport: Transport,
    /// `client_ip` and `client_port` of its row.
    pub client: SocketAddr,
    /// `listen_ip` and `listen_port` of its row.
    pub listen: SocketAddr,
    /// Its rows of `captures` that name a file, in the order of `extent`.
    pub extents: Vec<Extent>,
}

/// One row of `captures`.
#[derive(Debug, Clone)]
pub struct Extent {
    /// `file`, below the data directory.
    pub file: PathBuf,
    /// `offset_first`
    pub offset_first: u64,
    /// `offset_last`
    pub offset_last: u64,
}

/// What is wanted of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A pcapng file: the packets as they lie in the captures, comments and all.
    Pcapng,
    /// A pcap file with nanosecond times: frames alone.
    Pcap,
    /// The payload of one direction or of both (in the order of time), and nothing else.
    Payload(Side),
}

/// Whose payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What the client sent.
    Up,
    /// What the target sent.
    Down,
    /// Both, in the order of their times.
    Both,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Packets copied or read.
    pub packets: u64,
    /// Payload in them, in bytes.
    pub payload_bytes: u64,
}

/// Why a session's packets could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// It has no extents: it was not captured, or retention has deleted the files. Exit 66.
    #[error(
        "session {0} has no capture: the rule that let it pass has capture = \"off\", its files are deleted, \
         or the recorder has not closed its file yet (`recorder flush` does)"
    )]
    NotCaptured(SessionId),
    /// A capture file is gone. Exit 66.
    #[error("capture {} is gone: retention or somebody else has deleted it", .0.display())]
    Gone(PathBuf),
    /// A capture file cannot be read. Exit 74, or 77 when the system forbids it.
    #[error("cannot read capture {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A capture file is not what the index says. Exit 74.
    #[error("capture {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Payload is wanted and some of it is not there. Exit 74.
    #[error(
        "session {session}: {what}; `analyze pcap` without --payload gives the packets that there are"
    )]
    Incomplete {
        /// The session.
        session: SessionId,
        /// What is missing.
        what: String,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Write(io::Error),
}

/// Writes one session's packets, or its payload, to `out`.
///
/// # Errors
/// The session has no capture, its files cannot be read or are damaged, wanted payload is missing,
/// or `out` does not take it. Something may have been written by then.
pub fn export(
    data: &Path,
    captured: &Captured,
    output: Output,
    out: &mut dyn Write,
) -> Result<Exported, PcapError> {
    if captured.extents.is_empty() {
        return Err(PcapError::NotCaptured(captured.session));
    }
    match output {
        Output::Pcapng => copy::pcapng(data, captured, out),
        Output::Pcap => copy::pcap(data, captured, out),
        Output::Payload(side) => payload::write(data, captured, side, out),
    }
}

impl Exported {
    fn add(&mut self, payload: &[u8]) {
        self.packets += 1;
        self.payload_bytes += u64::try_from(payload.len()).unwrap_or_default();
    }
}
