//! Serving one connection of the capture lane: checking, passing on, and giving credit back.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use schemas::wire::{Credit, Frame, FrameError, FrameKind, Reject, RejectCode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::desk::Desk;
use super::inflow::Inflow;
use super::writer::{Guest, Writer};

/// Payload bytes that a forwarder may send before the first [`Credit`]; said in the
/// [`schemas::wire::Welcome`].
pub const INITIAL_CREDIT: u64 = 8 << 20;
/// Credit is given back in pieces of at least this, so that small chunks cost few answers. The rest
/// of the credit is far more than one frame, so nobody starves.
const CREDIT_STEP: u64 = INITIAL_CREDIT / 8;
/// A peer that says nothing for this long is dead; forwarders ping every 5 s.
const SILENCE: Duration = Duration::from_secs(15);
/// How long answers may take to be written.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How a connection ends.
enum End {
    /// By the peer, by the connection, or because we are closing.
    Gone(String),
    /// By what the peer sent.
    Refused(String),
    /// Because the connection, or the capture, is to end.
    Stopping,
}

/// Serves a connection until it ends or is to be closed.
pub(super) async fn serve(guest: Guest, writer: Rc<Writer>) {
    let Guest { stream, heard, node, boot, closing, gone } = guest;
    let stream = match UnixStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(node = node.as_str(), "the capture lane cannot be served: {error}");
            return;
        }
    };
    writer.store.borrow_mut().connected(&node, boot);
    let mut lane = Lane {
        stream,
        inflow: Inflow::new(&heard),
        desk: Desk::new(Rc::clone(&writer), node.clone(), boot),
        answers: BytesMut::new(),
        credited: 0,
        writer,
    };
    // Frames are told between two awaits: each is told, or stays unread.
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
            lane.writer.counters.refused.add(1);
            tracing::warn!(node = node.as_str(), "the capture lane is refused: {text}");
            Some((RejectCode::Stream, text))
        }
        End::Stopping => Some((RejectCode::Stopping, "the connection is closed".to_owned())),
    };
    if let Some((code, text)) = reject {
        lane.answer(&Frame::message(
            FrameKind::Reject,
            0,
            &Reject { code: code.into(), text, retry_after_ms: 0 },
        ));
        // A peer that is gone already need not be told.
        drop(lane.send_answers().await);
    }
    lane.writer.store.borrow_mut().disconnected(node);
    drop(lane);
    drop(gone);
}

struct Lane {
    stream: UnixStream,
    inflow: Inflow,
    desk: Desk,
    /// What is still to be sent; a frame that was begun stays whole here.
    answers: BytesMut,
    credited: u64,
    writer: Rc<Writer>,
}

impl Lane {
    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.hear() {
                return end;
            }
            if let Err(end) = self.send_answers().await {
                return end;
            }
            self.writer.hand_over().await;
            match timeout(SILENCE, self.stream.readable()).await {
                Err(_elapsed) => return End::Gone("it is silent".to_owned()),
                Ok(Err(error)) => return End::Gone(error.to_string()),
                Ok(Ok(())) => {}
            }
            match self.stream.try_read(self.inflow.room()) {
                Ok(0) => return End::Gone("it closed the connection".to_owned()),
                Ok(read) => self.inflow.filled(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return End::Gone(error.to_string()),
            }
            // A socket that is never empty makes nothing above wait: the other lanes, the clock and
            // whoever wants an end get their turn here.
            yield_now().await;
        }
    }

    /// Takes every frame that is whole, and makes the answers.
    fn hear(&mut self) -> Result<(), End> {
        loop {
            let frame = match self.inflow.frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(FrameError::Io(error)) => return Err(End::Gone(error.to_string())),
                Err(broken) => return Err(End::Refused(broken.to_string())),
            };
            let len = frame.encoded_len();
            match frame.kind {
                FrameKind::Ping => {
                    Frame::empty(FrameKind::Pong).encode(&mut self.answers);
                }
                FrameKind::Pong | FrameKind::Unknown(_) => {}
                _ => self
                    .desk
                    .hear(&frame)
                    .map_err(|malformed| End::Refused(malformed.to_string()))?,
            }
            self.inflow.consume(len);
        }
        let bytes = self.desk.taken() - self.credited;
        if bytes >= CREDIT_STEP {
            self.credited += bytes;
            self.answer(&Frame::message(FrameKind::Credit, 0, &Credit { bytes }));
        }
        Ok(())
    }

    fn answer(&mut self, frame: &Frame) {
        frame.encode(&mut self.answers);
    }

    async fn send_answers(&mut self) -> Result<(), End> {
        while self.answers.has_remaining() {
            match timeout(ANSWER_WITHIN, self.stream.write_buf(&mut self.answers)).await {
                Ok(Ok(_some)) => {}
                Ok(Err(error)) => return Err(End::Gone(error.to_string())),
                Err(_elapsed) => return Err(End::Gone("it does not read our answers".to_owned())),
            }
        }
        Ok(())
    }
}
