//! What data threads and the mover share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::SegQueue;
use schemas::vocab::Direction;
use schemas::wire::{CaptureEnd, CaptureMark, CaptureOpen, Frame, FrameKind};
use serde::Serialize;
use tokio::sync::Notify;

use super::inlet::{Fifo, Inlet};
use super::{MAX_QUEUED_BYTES, MAX_QUEUED_CHUNKS};

/// What a chunk takes of the queue besides its payload, in bytes; also room enough for the message
/// in front of the payload of a frame.
pub(super) const CHUNK_BYTES: usize = 256;

/// The way in, for data threads. Cheap to clone. The default one leads nowhere: all is dropped.
#[derive(Debug, Clone)]
pub struct CaptureLane {
    pub(super) shared: Arc<Shared>,
}

/// What the lane has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Whether the recorder takes captures at the moment.
    pub connected: bool,
    /// Bytes that wait for the recorder, outside of pipes.
    pub queued_bytes: usize,
    /// Payload dropped, in bytes.
    pub dropped_bytes: u64,
    /// Beginnings and marks that found no place in the queue.
    pub dropped_messages: u64,
    /// Sessions that are captured by copying because the kernel gave no pipe.
    pub pipes_refused: u64,
}

/// What all ends of the lane share.
pub(super) struct Shared {
    pub(super) pipe_bytes: usize,
    /// Threads that the mover has not heard of yet.
    pub(super) joining: SegQueue<Arc<Fifo>>,
    /// Rung when there is something to move.
    pub(super) bell: Notify,
    queued_bytes: AtomicUsize,
    queued_chunks: AtomicUsize,
    /// The recorder has been away for too long: nothing is queued.
    pub(super) away: AtomicBool,
    /// There is no mover: nothing is queued, ever again.
    pub(super) closed: AtomicBool,
    pub(super) connected: AtomicBool,
    /// An end found no place in its queue; the mover must look for it.
    pub(super) end_missed: AtomicBool,
    pub(super) dropped_bytes: AtomicU64,
    pub(super) dropped_messages: AtomicU64,
    pub(super) pipes_refused: AtomicU64,
    report_dropped: Box<dyn Fn(u64) + Send + Sync>,
}

/// What travels through a queue.
#[derive(Debug)]
pub(super) enum Entry {
    Begin(Arc<Captured>),
    Data(Chunk),
    Mark(CaptureMark),
    End { number: u64 },
}

/// Payload on its way.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) number: u64,
    pub(super) direction: Direction,
    /// Where in the stream it begins.
    pub(super) offset: u64,
    /// How much of the stream it stands for; what the mode leaves out comes last.
    pub(super) original: usize,
    pub(super) payload: Payload,
    pub(super) time_ns: i64,
    /// Of a session that waits rather than lose it.
    pub(super) slow: bool,
}

/// Where payload is.
#[derive(Debug)]
pub(super) enum Payload {
    Copied(Box<[u8]>),
    /// So many bytes in the thread's pipe.
    Piped(usize),
}

/// What a session's two ends share.
#[derive(Debug, Default)]
pub(super) struct Captured {
    pub(super) open: CaptureOpen,
    pub(super) slow: bool,
    pub(super) handed: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) end: OnceLock<CaptureEnd>,
}

impl Chunk {
    /// What it takes of the queue's bytes.
    pub(super) fn cost(&self) -> usize {
        match &self.payload {
            Payload::Copied(bytes) => CHUNK_BYTES + bytes.len(),
            Payload::Piped(_) => CHUNK_BYTES,
        }
    }

    /// Splits what one frame can carry off the rest, which there is only of payload in a pipe.
    pub(super) fn split(mut self, frame: usize) -> (Self, Option<Self>) {
        let Payload::Piped(payload) = self.payload else { return (self, None) };
        if self.original <= frame {
            return (self, None);
        }
        let now = payload.min(frame);
        let rest = Self {
            offset: self.offset + as_u64(frame),
            original: self.original - frame,
            payload: Payload::Piped(payload - now),
            ..self
        };
        self.original = frame;
        self.payload = Payload::Piped(now);
        (self, Some(rest))
    }

    /// Takes `moved` bytes of payload in a pipe off its front.
    pub(super) fn advance(&mut self, moved: usize) {
        if let Payload::Piped(left) = &mut self.payload {
            *left -= moved;
        }
        self.offset += as_u64(moved);
        self.original -= moved;
    }

    /// Undoes a split.
    pub(super) fn rejoin(&mut self, rest: &Self) {
        self.original += rest.original;
        if let Payload::Piped(left) = &mut self.payload {
            *left += rest.payload_len();
        }
    }

    /// Payload in bytes.
    pub(super) fn payload_len(&self) -> usize {
        match &self.payload {
            Payload::Copied(bytes) => bytes.len(),
            Payload::Piped(len) => *len,
        }
    }
}

impl Captured {
    /// Payload that was handed over was dropped after all.
    fn lose(&self, bytes: u64) {
        self.handed.fetch_sub(bytes, Relaxed);
        self.dropped.fetch_add(bytes, Relaxed);
    }

    /// The end as the recorder is to hear it.
    pub(super) fn end_frame(&self) -> Option<Frame> {
        let end = CaptureEnd { dropped: self.dropped.load(Relaxed), ..self.end.get()?.clone() };
        Some(Frame::message(FrameKind::CaptureEnd, 0, &end))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("queued_bytes", &self.queued_bytes).finish_non_exhaustive()
    }
}

impl Shared {
    /// Whether payload may be queued at all.
    pub(super) fn is_open(&self) -> bool {
        !self.away.load(SeqCst) && !self.closed.load(SeqCst)
    }

    /// Takes room for a chunk. False: there is none.
    pub(super) fn reserve(&self, cost: usize) -> bool {
        if !self.is_open() {
            return false;
        }
        let chunks = self.queued_chunks.fetch_add(1, Relaxed);
        let bytes = self.queued_bytes.fetch_add(cost, Relaxed);
        if chunks < MAX_QUEUED_CHUNKS && bytes + cost <= MAX_QUEUED_BYTES {
            return true;
        }
        self.release(cost);
        false
    }

    /// Takes room for a chunk, beyond the bound if need be.
    pub(super) fn reserve_anyway(&self, cost: usize) {
        self.queued_chunks.fetch_add(1, Relaxed);
        self.queued_bytes.fetch_add(cost, Relaxed);
    }

    /// A chunk has left the queue, or did not enter it.
    pub(super) fn release(&self, cost: usize) {
        self.queued_bytes.fetch_sub(cost, Relaxed);
        self.queued_chunks.fetch_sub(1, Relaxed);
    }

    /// Payload that was handed over is dropped.
    pub(super) fn lose(&self, session: Option<&Captured>, bytes: usize) {
        let bytes = as_u64(bytes);
        if let Some(session) = session {
            session.lose(bytes);
        }
        self.count_dropped(bytes);
    }

    pub(super) fn count_dropped(&self, bytes: u64) {
        if bytes > 0 {
            self.dropped_bytes.fetch_add(bytes, Relaxed);
            (self.report_dropped)(bytes);
        }
    }
}

impl Default for CaptureLane {
    fn default() -> Self {
        let lane = Self::new(0, |_| {});
        lane.shared.closed.store(true, SeqCst);
        lane
    }
}

impl CaptureLane {
    /// A lane whose threads get pipes of `pipe_bytes`. `report_dropped` is told of dropped payload,
    /// in bytes.
    pub(super) fn new(
        pipe_bytes: usize,
        report_dropped: impl Fn(u64) + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            pipe_bytes,
            joining: SegQueue::new(),
            bell: Notify::new(),
            queued_bytes: AtomicUsize::new(0),
            queued_chunks: AtomicUsize::new(0),
            away: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            end_missed: AtomicBool::new(false),
            dropped_bytes: AtomicU64::new(0),
            dropped_messages: AtomicU64::new(0),
            pipes_refused: AtomicU64::new(0),
            report_dropped: Box::new(report_dropped),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The end for one data thread.
    pub fn inlet(&self) -> Inlet {
        Inlet::new(&self.shared)
    }

    /// What the lane has done so far.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            connected: shared.connected.load(Relaxed),
            queued_bytes: shared.queued_bytes.load(Relaxed),
            dropped_bytes: shared.dropped_bytes.load(Relaxed),
            dropped_messages: shared.dropped_messages.load(Relaxed),
            pipes_refused: shared.pipes_refused.load(Relaxed),
        }
    }
}

pub(super) fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
