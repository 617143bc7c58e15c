//! Serving one connection of the capture lane: checking, passing on, and giving credit back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message;
use schemas::vocab::{BootId, Direction, EndReason, NodeName, PerDirection};
use schemas::wire::{
    CaptureData, CaptureEnd, CaptureMark, CaptureOpen, Credit, Frame, FrameCodec, FrameError,
    FrameKind, Reject, RejectCode,
};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use super::session::{Announcement, Event, MalformedOpen, SessionKey, Totals};
use super::writer::{Captures, Command};

/// Payload bytes that a forwarder may send before the first [`Credit`]; said in the
/// [`schemas::wire::Welcome`].
pub const INITIAL_CREDIT: u64 = 8 << 20;
/// Credit is given back in pieces of at least this, so that small chunks cost few answers. The rest
/// of the credit is far more than one frame, so nobody starves.
const CREDIT_STEP: u64 = INITIAL_CREDIT / 8;
/// Most sessions that one connection may announce and not end.
const MAX_ANNOUNCED: usize = 1 << 18;
/// Longest stream that can be told, in bytes; sums of a few stay far from the end of 64 bits.
const MAX_STREAM: u64 = 1 << 60;
/// A peer that says nothing for this long is dead; forwarders ping every 5 s.
const SILENCE: Duration = Duration::from_secs(15);
/// How long one answer may take to be written.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

type Connection = Framed<UnixStream, FrameCodec>;

/// How a connection ends.
enum End {
    /// By the peer, by the connection, or because we are closing.
    Gone(String),
    /// By what the peer sent.
    Refused(String),
    /// Because the capture has stopped.
    Stopping,
}

/// What a frame cannot be.
#[derive(Debug, thiserror::Error)]
enum Malformed {
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
    #[error("more than {MAX_ANNOUNCED} sessions are announced")]
    TooMany,
    #[error("session {0}: a chunk of {1} bytes that stands for {2}")]
    Lengths(u64, usize, u32),
    #[error("session {0}: a stream of more than {MAX_STREAM} bytes")]
    Stream(u64),
}

impl Captures {
    /// Serves one connection of the capture lane, whose handshake is done, until it ends or
    /// `closing` is cancelled (a newer connection of the same node, or the end of the recorder):
    /// then it returns soon, and leaves nothing half written.
    pub async fn serve(
        &self,
        connection: Framed<UnixStream, FrameCodec>,
        node: NodeName,
        boot: BootId,
        closing: CancellationToken,
    ) {
        let mut lane = Lane::new(self.clone(), connection, node.clone(), boot);
        let connected = Command::Connected { node: node.clone(), boot };
        if self.send(connected).await.is_err() {
            return;
        }
        // Everything that `run` has begun to pass on is whole: a command is queued or it is not.
        let end = tokio::select! {
            end = lane.run() => end,
            () = closing.cancelled() => End::Stopping,
        };
        let reject = match end {
            End::Gone(reason) => {
                tracing::debug!(node = node.as_str(), "the capture lane is gone: {reason}");
                None
            }
            End::Refused(text) => {
                self.counters.refused.add(1);
                tracing::warn!(node = node.as_str(), "the capture lane is refused: {text}");
                Some((RejectCode::Stream, text))
            }
            End::Stopping => Some((RejectCode::Stopping, "the connection is closed".to_owned())),
        };
        if let Some((code, text)) = reject {
            let reject = Reject { code: code.into(), text, retry_after_ms: 0 };
            // A peer that is gone already need not be told.
            drop(lane.answer(&Frame::message(FrameKind::Reject, 0, &reject)).await);
        }
        drop(self.send(Command::Disconnected { node }).await);
    }
}

struct Lane {
    captures: Captures,
    connection: Connection,
    node: NodeName,
    boot: BootId,
    /// Sessions that have not ended, and the longest chunk of each.
    announced: HashMap<u64, u32>,
    written: Arc<watch::Sender<u64>>,
    credited: u64,
}

impl Lane {
    fn new(captures: Captures, connection: Connection, node: NodeName, boot: BootId) -> Self {
        Self {
            captures,
            connection,
            node,
            boot,
            announced: HashMap::new(),
            written: Arc::new(watch::channel(0).0),
            credited: 0,
        }
    }

    async fn run(&mut self) -> End {
        let mut progress = self.written.subscribe();
        loop {
            // Both are cancel-safe: a frame is read whole or stays in the buffer.
            tokio::select! {
                frame = timeout(SILENCE, self.connection.next()) => {
                    if let Err(end) = self.heard(frame).await {
                        return end;
                    }
                }
                changed = progress.changed() => {
                    changed.expect("we keep the sender");
                    let written = *progress.borrow_and_update();
                    if let Err(end) = self.give_credit(written).await {
                        return end;
                    }
                }
            }
        }
    }

    async fn heard(
        &mut self,
        frame: Result<Option<Result<Frame, FrameError>>, tokio::time::error::Elapsed>,
    ) -> Result<(), End> {
        let frame = match frame {
            Err(_elapsed) => return Err(End::Gone("it is silent".to_owned())),
            Ok(None) => return Err(End::Gone("it closed the connection".to_owned())),
            Ok(Some(Err(FrameError::Io(error)))) => return Err(End::Gone(error.to_string())),
            Ok(Some(Err(broken))) => return Err(End::Refused(broken.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        match frame.kind {
            FrameKind::Ping => return self.answer(&Frame::empty(FrameKind::Pong)).await,
            FrameKind::Pong => return Ok(()),
            _ => {}
        }
        let command = self.read(&frame).map_err(|malformed| End::Refused(malformed.to_string()))?;
        self.captures.send(command).await.map_err(|_stopped| End::Stopping)
    }

    async fn give_credit(&mut self, written: u64) -> Result<(), End> {
        let bytes = written - self.credited;
        if bytes < CREDIT_STEP {
            return Ok(());
        }
        self.credited = written;
        self.answer(&Frame::message(FrameKind::Credit, 0, &Credit { bytes })).await
    }

    async fn answer(&mut self, frame: &Frame) -> Result<(), End> {
        match timeout(ANSWER_WITHIN, self.connection.send(frame)).await {
            Ok(sent) => sent.map_err(|error| End::Gone(error.to_string())),
            Err(_elapsed) => Err(End::Gone("it does not read our answers".to_owned())),
        }
    }

    /// What a frame tells the writer.
    fn read(&mut self, frame: &Frame) -> Result<Command, Malformed> {
        match frame.kind {
            FrameKind::CaptureOpen => self.read_open(frame),
            FrameKind::CaptureData => self.read_data(frame),
            FrameKind::CaptureMark => self.read_mark(frame),
            FrameKind::CaptureEnd => self.read_end(frame),
            other => Err(Malformed::Kind(other)),
        }
    }

    fn read_open(&mut self, frame: &Frame) -> Result<Command, Malformed> {
        let open: CaptureOpen = message(frame)?;
        let about = Announcement::new(&self.node, self.boot, &open)?;
        if self.announced.len() >= MAX_ANNOUNCED {
            return Err(Malformed::TooMany);
        }
        check_stream(open.session_no, open.offset_up.max(open.offset_down))?;
        if self.announced.insert(open.session_no, about.max_chunk()).is_some() {
            return Err(Malformed::Twice(open.session_no));
        }
        Ok(Command::Announced(about))
    }

    fn read_data(&mut self, frame: &Frame) -> Result<Command, Malformed> {
        let data: CaptureData = message(frame)?;
        let bytes = frame.trailing_bytes();
        let longest = self.longest_chunk(data.session_no)?;
        let fits = u32::try_from(bytes.len()).is_ok_and(|len| len <= data.original_len);
        if !fits || data.original_len > longest {
            return Err(Malformed::Lengths(data.session_no, bytes.len(), data.original_len));
        }
        check_stream(data.session_no, data.offset)?;
        let direction = direction(data.down);
        let CaptureData { session_no, offset, original_len, time_ns, .. } = data;
        let event = Event::Data { direction, offset, original_len, bytes, time_ns };
        self.happened(session_no, event)
    }

    fn read_mark(&mut self, frame: &Frame) -> Result<Command, Malformed> {
        let mark: CaptureMark = message(frame)?;
        let kind = mark.kind();
        let CaptureMark { session_no, down, offset, time_ns, .. } = mark;
        check_stream(session_no, offset)?;
        let direction = direction(down);
        self.happened(session_no, Event::Mark { direction, kind, offset, time_ns })
    }

    fn read_end(&mut self, frame: &Frame) -> Result<Command, Malformed> {
        let end: CaptureEnd = message(frame)?;
        let reason: Option<EndReason> = end.end_reason.parse().ok();
        check_stream(end.session_no, end.received_up.max(end.received_down))?;
        let totals = Totals {
            received: PerDirection { up: end.received_up, down: end.received_down },
            delivered: PerDirection { up: end.bytes_up, down: end.bytes_down },
        };
        let event = Event::End { reason, totals, time_ns: end.time_ns };
        let command = self.happened(end.session_no, event)?;
        self.announced.remove(&end.session_no);
        Ok(command)
    }

    fn longest_chunk(&self, number: u64) -> Result<u32, Malformed> {
        self.announced.get(&number).copied().ok_or(Malformed::Unannounced(number))
    }

    fn happened(&self, number: u64, event: Event) -> Result<Command, Malformed> {
        self.longest_chunk(number)?;
        let written = matches!(event, Event::Data { .. }).then(|| Arc::clone(&self.written));
        Ok(Command::Happened {
            key: SessionKey::new(&self.node, self.boot, number),
            event,
            written,
        })
    }
}

fn check_stream(number: u64, offset: u64) -> Result<(), Malformed> {
    if offset > MAX_STREAM { Err(Malformed::Stream(number)) } else { Ok(()) }
}

fn direction(down: bool) -> Direction {
    if down { Direction::Down } else { Direction::Up }
}

fn message<M: Message + Default>(frame: &Frame) -> Result<M, Malformed> {
    M::decode(frame.message_bytes()).map_err(|_broken| Malformed::Message(frame.kind))
}
