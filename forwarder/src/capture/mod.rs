//! The capture lane: payload on its way to the recorder. Bounded; it drops and counts, or holds
//! sessions up, as their rules say.
//!
//! Each data thread has an [`Inlet`]: a queue of its own, and beside it a pipe for payload that is
//! never copied. A session ([`SessionCapture`]) hands over copies of what was read, or has what lies
//! in its pipe duplicated into the capture pipe by `tee(2)`; the queue then says how many bytes of
//! the pipe are its. So the order of the pipe is that of the queue. A thread of the lane's own
//! ([`CaptureSender`]) takes turns at the queues, writes the head of each frame and splices the
//! payload behind it into the recorder's socket, as the recorder gives credit.
//!
//! Where a bound is reached, a session whose rule says `drop` loses payload, which is counted and
//! never waited for. One that says `slow` asks [`SessionCapture::poll_room`] before it reads, and
//! loses nothing while the connection lasts, however long the recorder takes or stays away. While the
//! recorder is away for longer than [`AWAY_AFTER`], nothing is queued.
//!
//! What begins, marks and ends a session has [`CONTROL_RESERVE`] places of its own. A beginning that
//! finds none costs a session its capture (a slow one waits for it), a mark is made up for at the
//! end, and an end is kept until it is written: the sender finds it in the session itself.
//!
//! Handed and dropped: `handed` is payload that the lane took and did not drop itself, `dropped` is
//! payload that should have been kept and was not. With `capture = "full"` they add up to everything
//! that was received; what `headers` and `prefix` leave out is neither. What a breaking connection
//! swallows only the recorder can tell, who sees the gap.

mod inlet;
mod lane;
mod level;
mod outbox;
mod pipe;
mod queues;
mod sender;
mod session;

pub use inlet::Inlet;
pub use lane::{CaptureLane, Counts};
pub use sender::{CaptureSender, Settings};
pub use session::SessionCapture;

use std::time::Duration;

/// Most copied bytes that wait for the recorder, all sessions together. A slow session's are not
/// refused for it: [`SLOW_BYTES`] holds it up long before.
pub const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Most chunks and datagrams that wait for the recorder.
pub const MAX_QUEUED_CHUNKS: usize = 1 << 16;
/// Places in each thread's queue that payload never takes.
pub const CONTROL_RESERVE: usize = 1 << 14;
/// Copied bytes of slow sessions in one thread's queue from which on they wait.
pub const SLOW_BYTES: usize = 1 << 20;
/// Size of a thread's capture pipe in bytes, if the kernel gives so much.
pub const PIPE_BYTES: usize = 1 << 20;
/// How long the queues keep filling after the recorder was lost, so that one that is being restarted
/// loses little.
pub const AWAY_AFTER: Duration = Duration::from_secs(2);
/// How long [`CaptureSender::stop`] waits until the recorder has got everything.
pub const LAST_WORD_WITHIN: Duration = Duration::from_secs(5);
