//! The data threads' end of the lane.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use forwarder_core::config::CaptureMode;
use schemas::vocab::{Direction, EndReason, PerDirection};
use schemas::wire::{
    CaptureData, CaptureEnd, CaptureMark, CaptureOpen, Frame, FrameKind, MAX_CAPTURE_PAYLOAD,
    MarkKind,
};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{CONTROL_RESERVE, MAX_QUEUED_BYTES, MAX_QUEUED_CHUNKS};

/// Room for the message in front of the payload of a frame, in bytes.
const MESSAGE_ROOM: usize = 256;
/// Most payload of one frame, in bytes.
const MAX_CHUNK: usize = MAX_CAPTURE_PAYLOAD - MESSAGE_ROOM;

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
    /// Bytes that wait for the recorder.
    pub queued_bytes: usize,
    /// Payload dropped, in bytes.
    pub dropped_bytes: u64,
    /// Beginnings and marks that found no place in the queue.
    pub dropped_messages: u64,
}

/// What both ends of the lane share.
pub(super) struct Shared {
    queue: mpsc::Sender<Message>,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) queued_chunks: AtomicUsize,
    /// The recorder has been away for too long: nothing is queued.
    pub(super) away: AtomicBool,
    pub(super) connected: AtomicBool,
    /// An end found no place in the queue; the sender must look for it.
    pub(super) end_missed: AtomicBool,
    dropped_bytes: AtomicU64,
    dropped_messages: AtomicU64,
    report_dropped: Box<dyn Fn(u64) + Send + Sync>,
}

/// What travels through the queue.
#[derive(Debug)]
pub(super) enum Message {
    Begin(Arc<Captured>),
    Data(Chunk),
    Mark { number: u64, frame: Frame },
    End { number: u64 },
}

/// Payload on its way.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) number: u64,
    pub(super) frame: Frame,
    pub(super) payload: usize,
    pub(super) direction: Direction,
    /// Where the stream stands behind it.
    pub(super) offset: u64,
}

/// What a session's two ends share.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) open: CaptureOpen,
    handed: AtomicU64,
    dropped: AtomicU64,
    pub(super) end: OnceLock<CaptureEnd>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("queued_bytes", &self.queued_bytes).finish_non_exhaustive()
    }
}

impl Chunk {
    /// What it takes of the queue's bytes.
    pub(super) fn cost(&self) -> usize {
        cost(self.payload)
    }
}

fn cost(payload: usize) -> usize {
    payload + MESSAGE_ROOM
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

impl Shared {
    /// A chunk has left the queue.
    pub(super) fn taken(&self, chunk: &Chunk) {
        self.queued_bytes.fetch_sub(chunk.cost(), Relaxed);
        self.queued_chunks.fetch_sub(1, Relaxed);
    }

    /// A chunk that was handed over is dropped.
    pub(super) fn lose(&self, session: Option<&Arc<Captured>>, payload: usize) {
        let bytes = as_u64(payload);
        if let Some(session) = session {
            session.lose(bytes);
        }
        self.count_dropped(bytes);
    }

    fn count_dropped(&self, bytes: u64) {
        if bytes > 0 {
            self.dropped_bytes.fetch_add(bytes, Relaxed);
            (self.report_dropped)(bytes);
        }
    }

    /// Takes room in the queue; false: there is none.
    fn reserve(&self, cost: usize) -> bool {
        if self.away.load(Relaxed) {
            return false;
        }
        let chunks = self.queued_chunks.fetch_add(1, Relaxed);
        let bytes = self.queued_bytes.fetch_add(cost, Relaxed);
        if chunks < MAX_QUEUED_CHUNKS && bytes + cost <= MAX_QUEUED_BYTES {
            return true;
        }
        self.queued_chunks.fetch_sub(1, Relaxed);
        self.queued_bytes.fetch_sub(cost, Relaxed);
        false
    }
}

impl Default for CaptureLane {
    fn default() -> Self {
        Self::new(|_| {}).0
    }
}

impl CaptureLane {
    /// A lane and its other end. `report_dropped` is told of dropped payload, in bytes.
    pub(super) fn new(
        report_dropped: impl Fn(u64) + Send + Sync + 'static,
    ) -> (Self, mpsc::Receiver<Message>) {
        let (queue, other_end) = mpsc::channel(MAX_QUEUED_CHUNKS + CONTROL_RESERVE);
        let shared = Shared {
            queue,
            queued_bytes: AtomicUsize::new(0),
            queued_chunks: AtomicUsize::new(0),
            away: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            end_missed: AtomicBool::new(false),
            dropped_bytes: AtomicU64::new(0),
            dropped_messages: AtomicU64::new(0),
            report_dropped: Box::new(report_dropped),
        };
        (Self { shared: Arc::new(shared) }, other_end)
    }

    /// Announces a session. Never blocks. `open.mode` is filled in from `mode`.
    pub fn begin(&self, open: CaptureOpen, mode: CaptureMode) -> SessionCapture {
        let open = CaptureOpen { mode: mode_text(mode), ..open };
        let session = Arc::new(Captured {
            open,
            handed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            end: OnceLock::new(),
        });
        let wanted = mode != CaptureMode::Off;
        let announced = wanted && self.control(Message::Begin(Arc::clone(&session)));
        SessionCapture {
            shared: Arc::clone(&self.shared),
            session,
            mode,
            announced,
            received: PerDirection::default(),
            last_time_ns: 0,
        }
    }

    /// What the lane has done so far.
    pub fn counts(&self) -> Counts {
        Counts {
            connected: self.shared.connected.load(Relaxed),
            queued_bytes: self.shared.queued_bytes.load(Relaxed),
            dropped_bytes: self.shared.dropped_bytes.load(Relaxed),
            dropped_messages: self.shared.dropped_messages.load(Relaxed),
        }
    }

    fn control(&self, message: Message) -> bool {
        control(&self.shared, message)
    }
}

/// Queues a message that is not payload; false: not even the reserve has a place.
fn control(shared: &Shared, message: Message) -> bool {
    let taken = shared.queue.try_send(message).is_ok();
    if !taken {
        shared.dropped_messages.fetch_add(1, Relaxed);
    }
    taken
}

fn mode_text(mode: CaptureMode) -> String {
    match mode {
        CaptureMode::Off => String::new(),
        CaptureMode::Headers => "headers".to_owned(),
        CaptureMode::Prefix(bytes) => format!("prefix {bytes}"),
        CaptureMode::Full => "full".to_owned(),
    }
}

/// One captured session, as the data thread that carries it sees it. No method blocks. Dropped
/// without [`SessionCapture::end`] it ends as `internal`.
#[derive(Debug)]
pub struct SessionCapture {
    shared: Arc<Shared>,
    session: Arc<Captured>,
    mode: CaptureMode,
    announced: bool,
    received: PerDirection<u64>,
    last_time_ns: i64,
}

impl SessionCapture {
    /// A chunk of a stream, or one whole datagram (empty ones too), as it was received.
    /// `time_ns`: when it was read, nanoseconds since 1970 UTC.
    pub fn data(&mut self, direction: Direction, bytes: &[u8], time_ns: i64) {
        self.last_time_ns = time_ns;
        if bytes.is_empty() {
            return self.piece(direction, bytes, time_ns);
        }
        for piece in bytes.chunks(MAX_CHUNK) {
            self.piece(direction, piece, time_ns);
        }
    }

    fn piece(&mut self, direction: Direction, bytes: &[u8], time_ns: i64) {
        let offset = self.received[direction];
        let kept = self.kept(bytes.len());
        self.received[direction] += as_u64(bytes.len());
        if self.mode == CaptureMode::Off {
            return;
        }
        let payload = &bytes[..kept];
        if !self.announced || !self.shared.reserve(cost(kept)) {
            return self.drop_payload(kept);
        }
        let data = CaptureData {
            session_no: self.session.open.session_no,
            down: direction == Direction::Down,
            offset,
            original_len: u32::try_from(bytes.len()).expect("pieces are below 256 KiB"),
            time_ns,
        };
        let chunk = Chunk {
            number: data.session_no,
            frame: Frame::message_and_bytes(FrameKind::CaptureData, &data, payload),
            payload: kept,
            direction,
            offset: self.received[direction],
        };
        // Counted before the sender can see it, who may have to take it back.
        self.session.handed.fetch_add(as_u64(kept), Relaxed);
        if let Err(error) = self.shared.queue.try_send(Message::Data(chunk)) {
            if let Message::Data(chunk) = error.into_inner() {
                self.shared.taken(&chunk);
            }
            self.shared.lose(Some(&self.session), kept);
        }
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

    fn drop_payload(&self, bytes: usize) {
        let bytes = as_u64(bytes);
        self.session.dropped.fetch_add(bytes, Relaxed);
        self.shared.count_dropped(bytes);
    }

    /// A FIN or a reset from the sender of `direction`.
    pub fn mark(&mut self, direction: Direction, kind: MarkKind, time_ns: i64) {
        self.last_time_ns = time_ns;
        if !self.announced {
            return;
        }
        let number = self.session.open.session_no;
        let mark = CaptureMark {
            session_no: number,
            down: direction == Direction::Down,
            kind: kind.into(),
            time_ns,
            offset: self.received[direction],
        };
        // A mark that is lost is made up for when the recorder hears of the end.
        control(
            &self.shared,
            Message::Mark { number, frame: Frame::message(FrameKind::CaptureMark, 0, &mark) },
        );
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
        if self.shared.queue.try_send(Message::End { number }).is_err() {
            self.shared.end_missed.store(true, Relaxed);
        }
    }
}

impl Drop for SessionCapture {
    fn drop(&mut self) {
        self.close(EndReason::Internal, self.received, self.received, self.last_time_ns);
    }
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
