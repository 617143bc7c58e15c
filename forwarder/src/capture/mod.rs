//! The capture lane: payload on its way to the recorder. Bounded; it may drop, and counts every byte
//! that it drops.
//!
//! Data threads hand over what they received ([`CaptureLane`], [`SessionCapture`]) without ever
//! waiting: into a queue of at most [`MAX_QUEUED_BYTES`] and [`MAX_QUEUED_CHUNKS`], and no further. A
//! task on the control runtime ([`CaptureSender`]) takes it from there, as the recorder gives credit.
//! While the recorder is away for longer than [`AWAY_AFTER`], nothing is queued.
//!
//! What begins, marks and ends a session has [`CONTROL_RESERVE`] places of its own. A beginning that
//! finds none costs the session its capture, a mark is made up for at the end, and an end is never
//! lost: the sender finds it in the session itself.
//!
//! Handed and dropped: `handed` is payload that the lane took and did not drop itself, `dropped` is
//! payload that should have been kept and was not. With `capture = "full"` they add up to everything
//! that was received; what `headers` and `prefix` leave out is neither. What a breaking connection
//! swallows only the recorder can tell, who sees the gap.

mod lane;
mod sender;

pub use lane::{CaptureLane, Counts, SessionCapture};
pub use sender::{CaptureSender, Settings};

use std::time::Duration;

/// Most bytes that wait for the recorder, all sessions together.
pub const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Most chunks and datagrams that wait for the recorder.
pub const MAX_QUEUED_CHUNKS: usize = 1 << 16;
/// Places in the queue that payload never takes.
pub const CONTROL_RESERVE: usize = 1 << 14;
/// How long the queue keeps filling after the recorder was lost, so that one that is being restarted
/// loses little.
pub const AWAY_AFTER: Duration = Duration::from_secs(2);
/// How long [`CaptureSender::stop`] waits until the recorder has got everything.
pub const LAST_WORD_WITHIN: Duration = Duration::from_secs(5);
