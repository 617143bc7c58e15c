//! One captured session, as the data thread that carries it sees it.

use std::future::Future;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::{Context, Poll};

use forwarder_core::config::CaptureMode;
use schemas::vocab::{Direction, EndReason, PerDirection};
use schemas::wire::{CaptureEnd, CaptureMark, MAX_CAPTURE_PAYLOAD, MarkKind};
use tokio::sync::futures::OwnedNotified;

use super::MAX_QUEUED_BYTES;
use super::inlet::Inlet;
use super::lane::{CHUNK_BYTES, Captured, Chunk, Entry, Payload, as_u64};

/// Most payload of one frame, in bytes.
pub(super) const MAX_PIECE: usize = MAX_CAPTURE_PAYLOAD - CHUNK_BYTES;

/// One captured session. No method blocks. Dropped without [`SessionCapture::end`] it ends as
/// `internal`.
#[derive(Debug)]
pub struct SessionCapture {
    inlet: Inlet,
    session: Arc<Captured>,
    mode: CaptureMode,
    announced: bool,
    received: PerDirection<u64>,
    last_time_ns: i64,
    waiting: PerDirection<Option<Pin<Box<OwnedNotified>>>>,
}

impl SessionCapture {
    pub(super) fn new(inlet: Inlet, session: Captured, mode: CaptureMode) -> Self {
        let mut capture = Self {
            inlet,
            session: Arc::new(session),
            mode,
            announced: false,
            received: PerDirection::default(),
            last_time_ns: 0,
            waiting: PerDirection::default(),
        };
        if mode != CaptureMode::Off && !capture.announce() {
            capture.inlet.shared.dropped_messages.fetch_add(1, Relaxed);
        }
        capture
    }

    fn announce(&mut self) -> bool {
        self.announced =
            self.announced || self.inlet.push_control(Entry::Begin(Arc::clone(&self.session)));
        self.announced
    }

    /// Ready when the session's rule lets it read on: at once, unless it says `slow`. Then it is
    /// asked before every read and every fill, and nothing that is read after it was ready is lost
    /// while the connection to the recorder lasts. Pending, the task is woken when there is room.
    pub fn poll_room(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waits() {
            return Poll::Ready(());
        }
        loop {
            let registered = self.waiting[direction].take();
            if self.has_room() {
                return Poll::Ready(());
            }
            let mut waiting = registered.unwrap_or_else(|| {
                Box::pin(Arc::clone(&self.inlet.fifo.level.room).notified_owned())
            });
            // Room that was made before we were registered wakes nobody.
            if self.has_room() {
                return Poll::Ready(());
            }
            if waiting.as_mut().poll(cx).is_pending() {
                self.waiting[direction] = Some(waiting);
                return Poll::Pending;
            }
        }
    }

    /// Whether this session waits rather than lose payload.
    fn waits(&self) -> bool {
        self.session.slow && self.mode != CaptureMode::Off && !self.inlet.shared.closed.load(SeqCst)
    }

    fn has_room(&mut self) -> bool {
        // A lane that was closed meanwhile makes no room any more.
        !self.waits()
            || self.inlet.shared.is_open() && self.inlet.fifo.level.has_room() && self.announce()
    }

    /// Whether payload may stay in a pipe: [`SessionCapture::spliced`] will find a pipe of the
    /// thread's, or needs none. If not, all payload has to come through [`SessionCapture::data`].
    pub fn may_splice(&self) -> bool {
        matches!(self.mode, CaptureMode::Off | CaptureMode::Headers) || self.inlet.pipe().is_some()
    }

    /// A chunk of a stream, or one whole datagram (empty ones too), as it was received.
    /// `time_ns`: when it was read, nanoseconds since 1970 UTC.
    pub fn data(&mut self, direction: Direction, bytes: &[u8], time_ns: i64) {
        self.last_time_ns = time_ns;
        if bytes.is_empty() {
            return self.piece(direction, bytes, time_ns);
        }
        for piece in bytes.chunks(MAX_PIECE) {
            self.piece(direction, piece, time_ns);
        }
    }

    fn piece(&mut self, direction: Direction, bytes: &[u8], time_ns: i64) {
        let kept = self.kept(bytes.len());
        if self.mode != CaptureMode::Off && self.reserve(CHUNK_BYTES + kept) {
            let payload = Payload::Copied(bytes[..kept].into());
            self.push(direction, bytes.len(), payload, time_ns);
        } else {
            self.pass_over(direction, bytes.len(), kept);
        }
    }

    /// `bytes` were moved from the sender of `direction` into `pipe`, which was empty. Gives how many
    /// of them may be moved on: all, and what did not fit is dropped; or, of a slow session, those
    /// that are kept, and it asks again for the rest when [`SessionCapture::poll_room`] is ready.
    pub fn spliced(
        &mut self,
        direction: Direction,
        pipe: BorrowedFd<'_>,
        bytes: usize,
        time_ns: i64,
    ) -> usize {
        self.last_time_ns = time_ns;
        let wanted = self.kept(bytes);
        let has_place = self.mode != CaptureMode::Off && self.reserve(CHUNK_BYTES);
        let teed = if has_place { self.tee(pipe, wanted) } else { Some(0) };
        let kept = teed.unwrap_or(0);
        if has_place && kept == wanted {
            self.push(direction, bytes, Payload::Piped(kept), time_ns);
            return bytes;
        }
        if kept > 0 {
            self.push(direction, kept, Payload::Piped(kept), time_ns);
        } else if has_place {
            self.release(CHUNK_BYTES);
        }
        if self.waits() && teed.is_some() {
            return kept;
        }
        self.pass_over(direction, bytes - kept, wanted - kept);
        bytes
    }

    /// Duplicates payload into the thread's pipe, and says how much; `None`: it never will be.
    fn tee(&self, from: BorrowedFd<'_>, wanted: usize) -> Option<usize> {
        if wanted == 0 {
            return Some(0);
        }
        let taken = self.inlet.pipe()?.tee(from, wanted);
        if let Err(error) = &taken {
            tracing::debug!(%error, "payload cannot be captured from a pipe");
        }
        let taken = taken.ok()?;
        self.inlet.fifo.level.filled(taken, taken < wanted);
        Some(taken)
    }

    /// How much of the next `len` bytes the mode keeps.
    fn kept(&self, len: usize) -> usize {
        match self.mode {
            CaptureMode::Off | CaptureMode::Headers => 0,
            CaptureMode::Prefix(limit) => {
                let left = limit.saturating_sub(self.received.sum());
                usize::try_from(left).unwrap_or(usize::MAX).min(len)
            }
            CaptureMode::Full => len,
        }
    }

    /// Takes a place for a chunk. What a slow session has read has one, also beyond the bound for
    /// all: it was held up before.
    fn reserve(&self, cost: usize) -> bool {
        let Inlet { shared, fifo } = &self.inlet;
        if !self.announced {
            return false;
        }
        if !self.waits() {
            return shared.reserve(cost);
        }
        let has_place = fifo.level.slow_bytes() < MAX_QUEUED_BYTES;
        if has_place {
            fifo.level.queued(cost);
            shared.reserve_anyway(cost);
        }
        has_place
    }

    fn release(&self, cost: usize) {
        let Inlet { shared, fifo } = &self.inlet;
        shared.release(cost);
        if self.session.slow {
            fifo.level.taken(cost);
        }
    }

    /// Hands over the next `original` bytes of a stream, for which there is a place.
    fn push(&mut self, direction: Direction, original: usize, payload: Payload, time_ns: i64) {
        let chunk = Chunk {
            number: self.session.open.session_no,
            direction,
            offset: self.received[direction],
            original,
            payload,
            time_ns,
            slow: self.session.slow,
        };
        self.received[direction] += as_u64(original);
        // Counted before the mover can see it, who may have to take it back.
        self.session.handed.fetch_add(as_u64(chunk.payload_len()), Relaxed);
        self.inlet.push(Entry::Data(chunk));
    }

    /// Hands nothing over of the next `original` bytes of a stream, though `dropped` of them should
    /// be.
    fn pass_over(&mut self, direction: Direction, original: usize, dropped: usize) {
        self.received[direction] += as_u64(original);
        let dropped = as_u64(dropped);
        self.session.dropped.fetch_add(dropped, Relaxed);
        self.inlet.shared.count_dropped(dropped);
    }

    /// A FIN or a reset from the sender of `direction`.
    pub fn mark(&mut self, direction: Direction, kind: MarkKind, time_ns: i64) {
        self.last_time_ns = time_ns;
        if !self.announced {
            return;
        }
        let mark = CaptureMark {
            session_no: self.session.open.session_no,
            down: direction == Direction::Down,
            kind: kind.into(),
            time_ns,
            offset: self.received[direction],
        };
        if !self.inlet.push_control(Entry::Mark(mark)) {
            // Made up for when the recorder hears of the end.
            self.inlet.shared.dropped_messages.fetch_add(1, Relaxed);
        }
    }

    /// Payload handed over and payload dropped so far, in bytes.
    pub fn handed_and_dropped(&self) -> (u64, u64) {
        (self.session.handed.load(Relaxed), self.session.dropped.load(Relaxed))
    }

    /// The session is over.
    pub fn end(
        self,
        reason: EndReason,
        received: PerDirection<u64>,
        delivered: PerDirection<u64>,
        time_ns: i64,
    ) {
        self.close(reason, received, delivered, time_ns);
    }

    fn close(
        &self,
        reason: EndReason,
        received: PerDirection<u64>,
        delivered: PerDirection<u64>,
        time_ns: i64,
    ) {
        let number = self.session.open.session_no;
        let end = CaptureEnd {
            session_no: number,
            end_reason: reason.as_str().to_owned(),
            received_up: received.up,
            received_down: received.down,
            bytes_up: delivered.up,
            bytes_down: delivered.down,
            dropped: 0,
            time_ns,
        };
        if self.session.end.set(end).is_err() || !self.announced {
            return;
        }
        if !self.inlet.push_control(Entry::End { number }) {
            self.inlet.shared.end_missed.store(true, Relaxed);
        }
    }
}

impl Drop for SessionCapture {
    fn drop(&mut self) {
        self.close(EndReason::Internal, self.received, self.received, self.last_time_ns);
    }
}
