//! Append-only segment files of frames: the forwarder's spool and the recorder's write-ahead log.
//!
//! One process appends (an exclusive lock says which), any number of readers follow with
//! descriptors of their own. The names and contents of the segments are the only truth: there is no
//! index and no cursor that could disagree with them.
//!
//! # Layout
//! ```text
//! <dir>/                        0700, flock'ed by the one journal that is open
//!   id                          the spool's id: 16 hexadecimal digits and a newline; in lines below it
//!                               the ids it had before that segments still bear
//!   00000000000000000001.seg    named for its first frame, 20 digits
//!   00000000000000004711.seg    the newest: the only one that is written; never deleted
//!   00000000000000000001.seg.0000000512.suspect    set aside
//! ```
//! A segment is a sequence of [`schemas::wire::Frame`]s and nothing else. The first is of kind
//! `Segment`, has number 0 and holds a [`SegmentHeader`]: the format (1), the spool's id, the number
//! of the segment's first frame, the CRC of the frame before that, and the [`Heading`] of the moment
//! when the segment was made. The others are numbered 1, 2, 3… without gap over all segments, for as
//! long as the directory lives; a segment of header alone is normal. All frames of a segment have
//! the frame version of its header.
//!
//! # Operation
//! - *Append* is one write at the end, into room that is reserved 1 MiB ahead: a full disk is met
//!   there, not in the midst of a frame. A short or failed write is cut back, and its number is not
//!   used.
//! - *Sync* is one fdatasync for all frames since the last. Until then their payloads stay in
//!   memory ([`Journal::unsynced`]), at most [`Settings::group_bytes`] of them: an append beyond
//!   that syncs first. A failed fdatasync is final, because the kernel may have dropped the pages
//!   it could not write: the journal answers [`JournalError::Poisoned`] until
//!   [`Journal::retreat`] has set the segment aside as `.suspect` and written its durable frames
//!   anew; those that were not durable are in memory.
//! - *A new segment* is written as `<name>.new`, header and all, fsynced, renamed, the directory
//!   fsynced, and only then used; the segment before it was fdatasynced first. So a segment found
//!   under its name has a whole header, and only the newest can have a torn tail. A segment that is
//!   written anew takes the place of the old one in the same way.
//! - *Opening* removes `.new` files, scans the newest segment, cuts it behind the last frame before
//!   the first that is torn, and writes it again before it fsyncs it, because what can be read may
//!   be in memory alone: everything that is found after opening is durable. What is missing before
//!   a frame with the flag [`schemas::wire::SETTLED`] had been durable and is no torn tail: it stays
//!   where it is, for [`Journal::mend`].
//! - *Damage*, a frame that is none before the tail, is [`JournalError::Damaged`] for whoever reads
//!   it, until [`Journal::mend`] has set the segment aside and written it anew, with other frames in
//!   the place of those that are lost.
//! - *Set aside* is what a segment held before it was written anew, as
//!   `<segment>.<offset>.suspect`: from that offset on it is not believed. Four are kept.
//!
//! Everything goes through [`fs::FileSystem`]. The tests crash and disturb a simulated disk at each
//! operation, see `tests/crash`.

#![forbid(unsafe_code)]

mod aside;
mod directory;
mod error;
pub mod fs;
mod journal;
mod reader;
mod recovery;
mod segment;
mod survey;

pub use error::JournalError;
pub use journal::{Journal, Mended, Segment};
pub use reader::{Entry, Reader, Scan, scan, scan_on};
pub use schemas::wire::SegmentHeader;
pub use segment::SegmentReader;

use schemas::vocab::SpoolId;
use schemas::wire::MAX_ACCOUNTING_PAYLOAD;

/// Longest payload in any journal, in bytes: a frame of the accounting lane in the envelope
/// ([`schemas::wire::Received`]) that the recorder's log puts around it.
pub const MAX_PAYLOAD: usize = MAX_ACCOUNTING_PAYLOAD + 1024;

/// What each new segment's header says about the boot that writes, so that it is known even when
/// every older segment has been deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heading {
    /// The boot; empty in the recorder's log.
    pub boot: String,
    /// The boot's next `seq`.
    pub next_seq: i64,
    /// Whether the boot has ended.
    pub boot_ended: bool,
}

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A segment that would grow beyond this many bytes gives way to a new one.
    pub segment_bytes: u64,
    /// Most bytes of payload between two fdatasyncs.
    pub group_bytes: usize,
    /// Longest payload that may be appended, in bytes; at most [`MAX_PAYLOAD`].
    pub max_payload: usize,
    /// The id of the directory, drawn at random, should this be its first opening.
    pub new_id: SpoolId,
    /// For the first segment, should there be none.
    pub heading: Heading,
}

impl Settings {
    /// The usual sizes: segments of 32 MiB, groups of at most 4 MiB, payloads that fit the
    /// accounting lane.
    pub fn new(new_id: SpoolId) -> Self {
        Self {
            segment_bytes: 32 << 20,
            group_bytes: 4 << 20,
            max_payload: MAX_ACCOUNTING_PAYLOAD,
            new_id,
            heading: Heading::default(),
        }
    }
}

/// What opening found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of torn frames that were cut off the tail.
    pub cut_bytes: u64,
    /// Whole frames were cut off behind a torn one: a power loss leaves that, where they had not been
    /// synced, and so does damage. The segment as it was is kept aside as `.suspect`.
    pub cut_frames: bool,
    /// Frames of the newest segment that were durable are lost: reading them says
    /// [`JournalError::Damaged`] until [`Journal::mend`].
    pub damaged: bool,
    /// Number of segments.
    pub segments: usize,
    /// The oldest frame on disk; `last_frame + 1` when there is none.
    pub first_frame: u64,
    /// The newest frame, on disk or deleted; 0: there never was one.
    pub last_frame: u64,
}
