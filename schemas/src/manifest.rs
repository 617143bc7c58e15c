//! The manifest: which parts make up the tables.
//!
//! `<data>/manifest/<version:020>.json` holds one [`Delta`] per commit, JSON, written to a temporary
//! name, fsynced, linked to its name, the directory fsynced, and never overwritten. The tables are
//! the parts of all deltas in the order of their versions: `remove` takes away, then `add` adds.
//! Versions are 1, 2, 3… without gap. `<data>/weir.json` holds a [`Format`].
//!
//! Every [`CHECKPOINT_EVERY`] versions `<version:020>.checkpoint.json` holds a [`Checkpoint`], the
//! tables as they are after the delta of that version. A reader takes the newest checkpoint that is
//! whole, then the deltas of the versions above it. What is older than the last checkpoint but one
//! is deleted, so that there are always two ways to the newest version.
//!
//! How a file is written, and what shows that it is whole, is told in [`codec`].
//!
//! A part's file is found as its path; or as path + `.new` while a commit is renaming it; or, for a
//! reader of an older version, as the same path below `<data>/replaced/` ([`REPLACED`]), where it
//! stays for a while once a later version no longer names it.

pub mod codec;

use serde::{Deserialize, Serialize};

pub use codec::{Unreadable, checkpoint_file, checkpoint_version, delta_file, delta_version};

/// Format of the data directory that this binary writes and reads.
pub const DATA_FORMAT: u32 = 1;
/// Added to the name of a part's file until the manifest names the part and it got its name.
pub const UNCOMMITTED: &str = ".new";
/// Directory below the data directory of what a later version no longer names, under the same paths.
pub const REPLACED: &str = "replaced";
/// Versions from one checkpoint to the next.
pub const CHECKPOINT_EVERY: u64 = 100;

/// What `<data>/weir.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// [`DATA_FORMAT`]. A reader refuses a higher one.
    pub format: u32,
    /// [`crate::table::SCHEMA_VERSION`] of the recorder that made the directory.
    pub schema: String,
}

/// One commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Its number, also in the file name.
    pub version: u64,
    /// Parts that are now part of the tables.
    #[serde(default)]
    pub add: Vec<Part>,
    /// Paths of parts that no longer are.
    #[serde(default)]
    pub remove: Vec<String>,
    /// How far each spool is in the tables; a spool not named stays as it was.
    #[serde(default)]
    pub spools: Vec<SpoolMark>,
    /// How far each boot is in the tables; a boot not named stays as it was.
    #[serde(default)]
    pub boots: Vec<BootMark>,
    /// What retention has deleted; a table not named stays as it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
    /// Every frame of the recorder's log up to this one is in the tables.
    pub log_through: u64,
}

/// Rows that retention deleted. Without this a reader could not tell them from lost ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// The table's name.
    pub table: String,
    /// Its rows with a partition time before this one may be gone, in microseconds since 1970 UTC.
    pub before_us: i64,
}

/// The tables as they are after a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The version, also in the file name.
    pub version: u64,
    /// Every part of the tables.
    pub parts: Vec<Part>,
    /// How far each spool is in the tables.
    pub spools: Vec<SpoolMark>,
    /// How far each boot is in the tables.
    pub boots: Vec<BootMark>,
    /// What retention has deleted; a table not named is whole.
    #[serde(default)]
    pub retired: Vec<Retired>,
    /// Every frame of the recorder's log up to this one is in the tables.
    pub log_through: u64,
}

/// One published Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The table's name.
    pub table: String,
    /// Path below the data directory, with `/`.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Smallest value of the table's partition time, in microseconds since 1970 UTC.
    pub min_time_us: i64,
    /// Largest value of the table's partition time, in microseconds since 1970 UTC.
    pub max_time_us: i64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// How far a spool is in the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolMark {
    /// The spool, as [`crate::vocab::SpoolId`] prints it.
    pub spool_id: String,
    /// The forwarder that last sent it.
    pub node: String,
    /// Number of its last frame.
    pub last_frame: u64,
    /// CRC of that frame.
    pub last_crc: u32,
}

/// How far a boot is in the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootMark {
    /// The forwarder.
    pub node: String,
    /// Its run.
    pub boot: String,
    /// The largest `seq` in the tables.
    pub last_seq: i64,
    /// The boot's end; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<BootEndMark>,
    /// Rows that went to another recorder, so that they are not missing here, oldest first: the
    /// forwarder was moved, as an event `stream_start` says. What concerns sessions and slots of
    /// such a boot may be incomplete on either side and whole on both together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<SeqRange>,
    /// Parts with the rows that the recorder made for sessions of a boot that was lost. Should the
    /// boot turn out to be alive, they leave the tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<String>,
}

/// Some rows of a boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeqRange {
    /// The first `seq`.
    pub first: i64,
    /// The last `seq`, not below `first`.
    pub last: i64,
}

/// The end of a boot, as [`crate::wire::BootEnd`] told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootEndMark {
    /// The last `seq` the boot used; 0: none.
    pub last_seq: i64,
    /// The last session number the boot gave out; 0: none.
    pub last_session_no: i64,
    /// Numbers given out for sessions that were not open yet at a kill.
    pub unopened: i64,
    /// Every row of the boot was written.
    pub exact: bool,
    /// When, in microseconds since 1970 UTC.
    pub ended_at: i64,
}
