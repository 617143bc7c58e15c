//! Where the frames of one connection are checked before they are believed.

use std::cell::RefMut;
use std::collections::HashMap;
use std::rc::Rc;

use prost::Message;
use schemas::vocab::{BootId, Direction, EndReason, NodeName, PerDirection};
use schemas::wire::{CaptureData, CaptureEnd, CaptureMark, CaptureOpen, FrameKind, FrameView};

use super::session::{Announcement, Event, MalformedOpen, SessionKey, Totals};
use super::store::Store;
use super::writer::Writer;

/// Most sessions that one connection may announce and not end.
const MAX_ANNOUNCED: usize = 1 << 18;
/// Longest stream that can be told, in bytes; sums of a few stay far from the end of 64 bits.
const MAX_STREAM: u64 = 1 << 60;

/// What a frame cannot be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error(transparent)]
    Open(#[from] MalformedOpen),
    #[error("a {0:?} frame cannot be read")]
    Message(FrameKind),
    #[error("a {0:?} frame has no place on the capture lane")]
    Kind(FrameKind),
    #[error("session {0} was not announced")]
    Unannounced(u64),
    #[error("session {0} is announced twice")]
    Twice(u64),
    #[error("session {0} was announced before with another transport or other addresses")]
    Changed(u64),
    #[error("more than {MAX_ANNOUNCED} sessions are announced")]
    TooMany,
    #[error("session {0}: a chunk of {1} bytes that stands for {2}")]
    Lengths(u64, usize, u32),
    #[error("session {0}: a stream of more than {MAX_STREAM} bytes")]
    Stream(u64),
}

/// What a connection has told.
pub(super) struct Desk {
    writer: Rc<Writer>,
    /// Whose connection it is, and the session that is spoken of.
    key: SessionKey,
    /// Sessions that have not ended, and the longest chunk of each.
    announced: HashMap<u64, u32>,
    taken: u64,
}

impl Desk {
    pub(super) fn new(writer: Rc<Writer>, node: NodeName, boot: BootId) -> Self {
        let key = SessionKey::new(&node, boot, 0);
        Self { writer, key, announced: HashMap::new(), taken: 0 }
    }

    /// Payload that was written or lost since the connection began, in bytes.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Does what a frame tells.
    pub(super) fn hear(&mut self, frame: &FrameView<'_>) -> Result<(), Malformed> {
        match frame.kind {
            FrameKind::CaptureOpen => self.read_open(frame),
            FrameKind::CaptureData => self.read_data(frame),
            FrameKind::CaptureMark => self.read_mark(frame),
            FrameKind::CaptureEnd => self.read_end(frame),
            other => Err(Malformed::Kind(other)),
        }
    }

    fn store(&self) -> RefMut<'_, Store> {
        self.writer.store.borrow_mut()
    }

    fn read_open(&mut self, frame: &FrameView<'_>) -> Result<(), Malformed> {
        let open: CaptureOpen = message(frame)?;
        let about = Announcement::new(&self.key.node, self.key.id.boot, &open)?;
        if self.announced.len() >= MAX_ANNOUNCED {
            return Err(Malformed::TooMany);
        }
        check_stream(open.session_no, open.offset_up.max(open.offset_down))?;
        if self.announced.insert(open.session_no, about.max_chunk()).is_some() {
            return Err(Malformed::Twice(open.session_no));
        }
        let is_same = self.store().announced(about);
        if is_same { Ok(()) } else { Err(Malformed::Changed(open.session_no)) }
    }

    fn read_data(&mut self, frame: &FrameView<'_>) -> Result<(), Malformed> {
        let data: CaptureData = message(frame)?;
        let bytes = frame.trailing;
        let longest = self.longest_chunk(data.session_no)?;
        let fits = u32::try_from(bytes.len()).is_ok_and(|len| len <= data.original_len);
        if !fits || data.original_len > longest {
            return Err(Malformed::Lengths(data.session_no, bytes.len(), data.original_len));
        }
        check_stream(data.session_no, data.offset)?;
        let direction = direction(data.down);
        let CaptureData { session_no, offset, original_len, time_ns, .. } = data;
        let event = Event::Data { direction, offset, original_len, bytes, time_ns };
        self.happened(session_no, &event)
    }

    fn read_mark(&mut self, frame: &FrameView<'_>) -> Result<(), Malformed> {
        let mark: CaptureMark = message(frame)?;
        let kind = mark.kind();
        let CaptureMark { session_no, down, offset, time_ns, .. } = mark;
        check_stream(session_no, offset)?;
        let direction = direction(down);
        self.happened(session_no, &Event::Mark { direction, kind, offset, time_ns })
    }

    fn read_end(&mut self, frame: &FrameView<'_>) -> Result<(), Malformed> {
        let end: CaptureEnd = message(frame)?;
        let reason: Option<EndReason> = end.end_reason.parse().ok();
        check_stream(end.session_no, end.received_up.max(end.received_down))?;
        let totals = Totals {
            received: PerDirection { up: end.received_up, down: end.received_down },
            delivered: PerDirection { up: end.bytes_up, down: end.bytes_down },
        };
        let event = Event::End { reason, totals, time_ns: end.time_ns };
        self.happened(end.session_no, &event)?;
        self.announced.remove(&end.session_no);
        Ok(())
    }

    fn longest_chunk(&self, number: u64) -> Result<u32, Malformed> {
        self.announced.get(&number).copied().ok_or(Malformed::Unannounced(number))
    }

    fn happened(&mut self, number: u64, event: &Event<'_>) -> Result<(), Malformed> {
        self.longest_chunk(number)?;
        self.key.id.number = number;
        self.store().happened(&self.key, event);
        if let Event::Data { bytes, .. } = event {
            let len = u64::try_from(bytes.len()).unwrap_or_default();
            self.taken += len;
            self.writer.counters.payload_bytes.add(len);
        }
        Ok(())
    }
}

fn check_stream(number: u64, offset: u64) -> Result<(), Malformed> {
    if offset > MAX_STREAM { Err(Malformed::Stream(number)) } else { Ok(()) }
}

fn direction(down: bool) -> Direction {
    if down { Direction::Down } else { Direction::Up }
}

fn message<M: Message + Default>(frame: &FrameView<'_>) -> Result<M, Malformed> {
    M::decode(frame.message).map_err(|_broken| Malformed::Message(frame.kind))
}
