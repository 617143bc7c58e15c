//! The recorder's side of the capture lane: payload in, pcapng files and their index out.
//!
//! Each connection of the lane is given by [`Captures::serve`] to one thread. The thread reads all of
//! them and checks what comes in, keeps the sessions, makes packets of what happens in them, and
//! writes one rolling file per service:
//! ```text
//! <data>/captures/<service>/<YYYY>/<MM>/<DD>/<YYYYMMDD>T<HHMMSS.mmm>Z-<service>-<seq>.pcapng
//! ```
//! A file carries `.part` behind its name while it is open. It is closed when it is large or old
//! enough, by [`Captures::close_files`], and when the recorder stops; a recorder that starts begins
//! new files. Closing makes it durable, then its `captures` rows (through the log), then gives it
//! its name. [`recover()`] does the same at start for files that a crash left open, as far as they can
//! be read.
//!
//! A disk that refuses stops the capture for a while and never the account: what is lost is counted
//! here and shows in `captures` as dropped bytes.

pub mod block;
mod checksum;
mod closing;
mod counters;
mod desk;
mod extent;
mod file;
mod inflow;
mod lane;
pub mod packet;
mod path;
mod patience;
mod recover;
mod scan;
mod session;
mod store;
mod tcp;
mod udp;
mod writer;

use std::path::PathBuf;

pub use counters::Counts;
pub use lane::INITIAL_CREDIT;
pub use recover::{RecoverError, Recovered, recover};
pub use writer::{CaptureWriter, Captures, CloseError};

use crate::config::Rotate;
use crate::data_dir::Group;

/// Directory of the capture files below the data directory.
pub const DIRECTORY: &str = "captures";

/// What the capture is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data directory.
    pub data: PathBuf,
    /// When a file gives way to a new one.
    pub rotate: Rotate,
    /// Who besides us may read the files.
    pub readers: Group,
}
