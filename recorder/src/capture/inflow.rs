//! What arrives on a connection, read into one buffer and used there.

use schemas::wire::{FrameError, FrameView, HEADER_LEN, MAX_CAPTURE_PAYLOAD};

/// Longest frame, in bytes.
const LONGEST: usize = HEADER_LEN + MAX_CAPTURE_PAYLOAD;
/// Room for what is read, in bytes: small enough to stay in a core's cache between the read and the
/// write, and all the payload that the recorder keeps in memory for a connection.
const CAPACITY: usize = 2 * LONGEST;

/// Frames that were read and not used.
#[derive(Debug)]
pub(super) struct Inflow {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Inflow {
    /// Begins with `heard`, at most a few KiB that came behind the handshake.
    pub(super) fn new(heard: &[u8]) -> Self {
        // The system gives these pages when they are first written to.
        let mut buffer = vec![0; CAPACITY.max(heard.len() + LONGEST)];
        buffer[..heard.len()].copy_from_slice(heard);
        Self { buffer, begin: 0, end: heard.len() }
    }

    /// The frame at the front, if it is whole.
    pub(super) fn frame(&self) -> Result<Option<FrameView<'_>>, FrameError> {
        FrameView::at_front(&self.buffer[self.begin..self.end], MAX_CAPTURE_PAYLOAD)
    }

    /// The first `len` bytes have been used.
    pub(super) fn consume(&mut self, len: usize) {
        self.begin += len;
    }

    /// Where to read to: never empty when [`Self::frame`] has just found none.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.begin == self.end || self.buffer.len() - self.begin < LONGEST {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// `len` bytes have been read into the room.
    pub(super) fn filled(&mut self, len: usize) {
        self.end += len;
    }
}
