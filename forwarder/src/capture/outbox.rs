//! What one connection has still to say.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use schemas::wire::{Credit, Frame, FrameKind};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::inlet::Fifo;
use super::lane::{Chunk, Payload, as_u64};
use super::queues::Running;
use crate::link::{LinkError, message, refused};

/// Small frames are gathered up to so many bytes before they are written.
const BATCH_BYTES: usize = 64 << 10;

/// Frames on their way into the socket, in order: what is encoded, then what is spliced.
#[derive(Debug)]
pub(super) struct Outbox {
    encoded: BytesMut,
    /// Copied payload and ends among what is encoded, oldest first.
    unwritten: VecDeque<Unwritten>,
    /// Bytes written since the connection stands.
    written: u64,
    splicing: Option<Splicing>,
    credit: u64,
    /// There is payload for which there is no credit.
    is_starved: bool,
    /// Pings and pongs to be sent where a frame ends.
    pings_due: u32,
    pongs_due: u32,
    /// Pings that were not answered.
    unanswered: u64,
    /// A last ping was sent, and its pong is all that is waited for.
    is_closing: bool,
}

/// What lies encoded in the outbox and must not be forgotten with it.
#[derive(Debug)]
struct Unwritten {
    number: u64,
    what: Told,
    /// When so many bytes are written, this is.
    end: u64,
}

#[derive(Debug)]
enum Told {
    /// So many bytes of payload.
    Payload(usize),
    /// The end of a session.
    End(Running),
}

/// A frame whose payload lies in a pipe.
#[derive(Debug)]
struct Splicing {
    source: usize,
    fifo: Arc<Fifo>,
    /// What is left of it.
    piece: Chunk,
    left: usize,
    moved: usize,
}

/// What a connection that was lost had not said.
#[derive(Debug)]
pub(super) struct Unsaid {
    /// Session numbers and bytes of payload that is lost.
    pub(super) lost: Vec<(u64, usize)>,
    /// Sessions whose end is to be told again, by number.
    pub(super) ended: Vec<(u64, Running)>,
    /// Payload that is still in the pipe of a source.
    pub(super) left: Option<(usize, Chunk)>,
}

impl Outbox {
    pub(super) fn new(credit: u64) -> Self {
        Self {
            encoded: BytesMut::new(),
            unwritten: VecDeque::new(),
            written: 0,
            splicing: None,
            credit,
            is_starved: false,
            pings_due: 0,
            pongs_due: 0,
            unanswered: 0,
            is_closing: false,
        }
    }

    /// Whether another frame may be added.
    pub(super) fn has_room(&self) -> bool {
        self.encoded.len() < BATCH_BYTES
            && self.splicing.is_none()
            && !self.is_starved
            && !self.is_closing
    }

    /// Whether there is something to write.
    pub(super) fn has_work(&self) -> bool {
        !self.encoded.is_empty() || self.splicing.is_some() || self.pings_due + self.pongs_due > 0
    }

    /// Whether nothing waits here, not even for credit.
    pub(super) fn is_idle(&self) -> bool {
        !self.has_work() && self.has_room()
    }

    /// Takes credit for payload. False: there is not so much, and nothing is to be added before
    /// there is.
    pub(super) fn spend(&mut self, payload: usize) -> bool {
        let left = self.credit.checked_sub(as_u64(payload));
        self.is_starved = left.is_none();
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }

    pub(super) fn add(&mut self, frame: &Frame) {
        self.encoded.reserve(frame.encoded_len());
        frame.encode(&mut self.encoded);
    }

    /// Adds the frame that tells the end of a session, which is kept until that is written.
    pub(super) fn add_end(&mut self, frame: &Frame, number: u64, session: Running) {
        self.add(frame);
        self.note(number, Told::End(session));
    }

    /// Notes that what was encoded last is `what`.
    fn note(&mut self, number: u64, what: Told) {
        let end = self.written + as_u64(self.encoded.len());
        self.unwritten.push_back(Unwritten { number, what, end });
    }

    /// Adds a frame, with `piece`'s payload behind `message`; payload in a pipe is that of `source`.
    pub(super) fn add_data(
        &mut self,
        message: &impl prost::Message,
        piece: Chunk,
        source: usize,
        fifo: &Arc<Fifo>,
    ) {
        let len = piece.payload_len();
        Frame::encode_head(FrameKind::CaptureData, message, len, &mut self.encoded);
        match &piece.payload {
            Payload::Copied(bytes) => {
                self.encoded.extend_from_slice(bytes);
                self.note(piece.number, Told::Payload(len));
            }
            Payload::Piped(0) => {}
            Payload::Piped(_) => {
                let fifo = Arc::clone(fifo);
                self.splicing = Some(Splicing { source, fifo, piece, left: len, moved: 0 });
            }
        }
    }

    pub(super) fn ping(&mut self) {
        self.pings_due += 1;
        self.unanswered += 1;
    }

    /// Asks for a last answer, behind which there is nothing.
    pub(super) fn close(&mut self) {
        self.ping();
        self.is_closing = true;
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn push(&mut self, socket: &UnixStream) -> io::Result<()> {
        match self.push_all(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            pushed => pushed,
        }
    }

    fn push_all(&mut self, socket: &UnixStream) -> io::Result<()> {
        while self.has_work() {
            if self.splicing.is_none() {
                self.add_due();
            }
            self.push_encoded(socket)?;
            self.push_spliced(socket)?;
        }
        Ok(())
    }

    fn add_due(&mut self) {
        for _ in 0..std::mem::take(&mut self.pings_due) {
            self.add(&Frame::empty(FrameKind::Ping));
        }
        for _ in 0..std::mem::take(&mut self.pongs_due) {
            self.add(&Frame::empty(FrameKind::Pong));
        }
    }

    fn push_encoded(&mut self, socket: &UnixStream) -> io::Result<()> {
        while !self.encoded.is_empty() {
            let len = socket.try_write(&self.encoded)?;
            self.encoded.advance(len);
            self.written += as_u64(len);
            while self.unwritten.front().is_some_and(|oldest| oldest.end <= self.written) {
                self.unwritten.pop_front();
            }
        }
        Ok(())
    }

    fn push_spliced(&mut self, socket: &UnixStream) -> io::Result<()> {
        while let Some(Splicing { fifo, left, moved, .. }) = &mut self.splicing {
            let pipe = fifo.pipe.get().expect("payload in a pipe has a pipe");
            let len = socket.try_io(Interest::WRITABLE, || pipe.splice(socket.as_fd(), *left))?;
            if len == 0 {
                let text = "the capture pipe lacks payload";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            fifo.level.drained(len);
            *moved += len;
            *left -= len;
            if *left == 0 {
                self.splicing = None;
            }
        }
        Ok(())
    }

    /// What is left when the connection is lost.
    pub(super) fn unsaid(self) -> Unsaid {
        let (mut lost, mut ended) = (Vec::new(), Vec::new());
        for Unwritten { number, what, .. } in self.unwritten {
            match what {
                Told::Payload(len) => lost.push((number, len)),
                Told::End(session) => ended.push((number, session)),
            }
        }
        let left = self.splicing.map(|splicing| {
            let Splicing { source, mut piece, moved, .. } = splicing;
            lost.push((piece.number, moved));
            piece.advance(moved);
            (source, piece)
        });
        Unsaid { lost, ended, left }
    }

    /// True: all is said, and our last ping was answered.
    ///
    /// # Errors
    /// The recorder refuses, or says what it may not.
    pub(super) fn hear(&mut self, frame: &Frame) -> Result<bool, LinkError> {
        match frame.kind {
            FrameKind::Credit => {
                let credit: Credit = message(frame)?;
                self.credit = self.credit.saturating_add(credit.bytes);
                self.is_starved = false;
                Ok(false)
            }
            FrameKind::Ping => {
                self.pongs_due = self.pongs_due.saturating_add(1);
                Ok(false)
            }
            FrameKind::Pong => {
                self.unanswered = self.unanswered.saturating_sub(1);
                Ok(self.is_closing && self.unanswered == 0)
            }
            FrameKind::Reject => Err(refused(frame)),
            kind => Err(LinkError::Protocol(format!("{kind:?} on the capture lane"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_that_a_lost_connection_did_not_take_are_kept() {
        let (socket, _recorder) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::new(0);
        let frame = Frame::empty(FrameKind::Ping);
        let mut added = 0;
        while outbox.encoded.is_empty() {
            outbox.add_end(&frame, added, Running::default());
            added += 1;
            outbox.push(&socket).unwrap();
        }
        for number in added..added + 10 {
            outbox.add_end(&frame, number, Running::default());
        }
        // The one at which the socket became full may have left in part.
        let kept: Vec<u64> = outbox.unsaid().ended.iter().map(|(number, _)| *number).collect();
        assert_eq!(kept, Vec::from_iter(added - 1..added + 10));
    }
}
