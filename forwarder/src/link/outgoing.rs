//! What is on its way to the recorder: read, sent, and not yet acknowledged.

use std::collections::VecDeque;

use journal::Reader;
use schemas::wire::{Frame, FrameKind};
use tokio::task::{JoinHandle, spawn_blocking};

use super::LinkError;

/// Most bytes that are sent and not acknowledged.
pub const WINDOW_BYTES: usize = 8 << 20;
/// Bytes that are read from the spool at a time.
const BATCH_BYTES: usize = 256 << 10;

/// The state of one connection's frames.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The next frame to be read from the spool.
    next: u64,
    /// Read, not sent; pings and pongs among them.
    queue: VecDeque<Frame>,
    ping_waits: bool,
    pong_waits: bool,
    /// The connection's buffer holds something.
    unflushed: bool,
    sent_frame: u64,
    /// Number and size of what was sent; their sum is at most [`WINDOW_BYTES`] and a batch.
    unacked: VecDeque<(u64, usize)>,
    unacked_bytes: usize,
    acked: u64,
}

impl Outgoing {
    /// Nothing is on its way; frame `next` is the first that will be, and what is before it is done.
    pub(super) fn from(next: u64) -> Self {
        Self {
            next,
            queue: VecDeque::new(),
            ping_waits: false,
            pong_waits: false,
            unflushed: false,
            sent_frame: next - 1,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            acked: next - 1,
        }
    }

    /// Whether to read more from a spool that is durable through frame `durable`.
    pub(super) fn wants_frames(&self, durable: u64) -> bool {
        self.queue.is_empty() && self.next <= durable && self.unacked_bytes < WINDOW_BYTES
    }

    /// Takes what was read.
    pub(super) fn extend(&mut self, batch: Vec<Frame>) {
        if let Some(last) = batch.last() {
            self.next = last.number + 1;
        }
        self.queue.extend(batch);
    }

    /// Asks for a sign of life, unless that is waiting to be sent already.
    pub(super) fn ping(&mut self) {
        if !std::mem::replace(&mut self.ping_waits, true) {
            self.queue.push_back(Frame::empty(FrameKind::Ping));
        }
    }

    /// Gives a sign of life, unless that is waiting to be sent already.
    pub(super) fn pong(&mut self) {
        if !std::mem::replace(&mut self.pong_waits, true) {
            self.queue.push_back(Frame::empty(FrameKind::Pong));
        }
    }

    /// What goes into the connection's buffer next; `None`: the buffer is to be sent off.
    pub(super) fn front(&self) -> Option<&Frame> {
        self.queue.front()
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.queue.is_empty() && !self.unflushed
    }

    /// [`Self::front`] is done.
    pub(super) fn pushed(&mut self) {
        let Some(frame) = self.queue.pop_front() else {
            self.unflushed = false;
            return;
        };
        self.unflushed = true;
        match frame.kind {
            FrameKind::Ping => self.ping_waits = false,
            FrameKind::Pong => self.pong_waits = false,
            _ => {
                self.sent_frame = frame.number;
                self.unacked.push_back((frame.number, frame.encoded_len()));
                self.unacked_bytes += frame.encoded_len();
            }
        }
    }

    /// Everything through frame `through` arrived; false: it cannot have, it was never sent.
    pub(super) fn acknowledge(&mut self, through: u64) -> bool {
        if through > self.sent_frame {
            return false;
        }
        self.acked = through;
        while let Some((_, bytes)) = self.unacked.pop_front_if(|(number, _)| *number <= through) {
            self.unacked_bytes -= bytes;
        }
        true
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) fn sent_frame(&self) -> u64 {
        self.sent_frame
    }

    pub(super) fn unacked_bytes(&self) -> usize {
        self.unacked_bytes
    }
}

/// Reading the spool, off the runtime's thread.
#[derive(Debug)]
pub(super) enum Reading {
    /// Nothing is being read.
    Idle(Reader),
    /// A batch is.
    Busy(JoinHandle<Result<(Reader, Vec<Frame>), LinkError>>),
}

impl Reading {
    /// Begins to read the next batch of frames through `durable`.
    pub(super) fn begin(self, durable: u64) -> Self {
        match self {
            Self::Idle(reader) => Self::Busy(spawn_blocking(move || read_batch(reader, durable))),
            busy @ Self::Busy(_) => busy,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_))
    }

    /// The batch, and the reader for the next one. Cancel-safe. Never returns while idle.
    pub(super) async fn finish(&mut self) -> Result<(Reader, Vec<Frame>), LinkError> {
        match self {
            Self::Idle(_) => std::future::pending().await,
            Self::Busy(task) => task.await.unwrap_or_else(|error| Err(died(&error))),
        }
    }
}

fn read_batch(mut reader: Reader, durable: u64) -> Result<(Reader, Vec<Frame>), LinkError> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        let Some((frame, _crc)) = reader.next(durable)? else { break };
        bytes += frame.encoded_len();
        batch.push(frame);
    }
    Ok((reader, batch))
}

/// Does what may wait for the disk, off the runtime's thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LinkError> + Send + 'static,
) -> Result<T, LinkError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(died(&error)))
}

fn died(error: &tokio::task::JoinError) -> LinkError {
    LinkError::Spool(format!("the reading thread died: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64) -> Frame {
        Frame { number, ..Frame::empty(FrameKind::Rows) }
    }

    #[test]
    fn a_frame_that_was_read_and_not_yet_sent_cannot_be_acknowledged() {
        let mut outgoing = Outgoing::from(7);
        outgoing.extend(vec![frame(7), frame(8)]);
        assert!(outgoing.acknowledge(6));
        assert!(!outgoing.acknowledge(7));
        outgoing.pushed();
        assert!(!outgoing.acknowledge(8));
        assert_eq!(outgoing.acked(), 6);
        assert!(outgoing.acknowledge(7));
        assert_eq!((outgoing.acked(), outgoing.unacked_bytes()), (7, 0));
    }
}
