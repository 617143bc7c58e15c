//! Packets as pcapng blocks, on their way to the file: headers and options are gathered in one
//! buffer, payload stays where it lies, and one call writes both.
//!
//! ```text
//! 6 | length | interface | time, high and low | captured | original | frame, padded to 4 | options | length
//! ```
//! All numbers are little endian and of 32 bits, but for codes and lengths of options.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, IoSlice};

use super::packet::Head;

/// An enhanced packet block's fixed part, in bytes.
const HEAD_LEN: usize = 28;
const BLOCK_TYPE: u32 = 6;
const ALIGNMENT: usize = 4;
const OPTION_COMMENT: u16 = 1;
const OPTION_FLAGS: u16 = 2;
const OPTION_DROP_COUNT: u16 = 4;
const END_OF_OPTIONS: [u8; 4] = [0; 4];
/// Payload below this is copied: that costs less than a piece of its own in the call, in bytes.
const COPY_BELOW: usize = 1024;
/// Most pieces that the kernel takes in one call (IOV_MAX).
const MAX_PIECES: usize = 1024;

/// A packet as it stands in a file.
#[derive(Debug)]
pub struct Block<'a, 'c> {
    /// Its number in the file.
    pub interface: u32,
    /// Nanoseconds since 1970 UTC.
    pub time_ns: u64,
    /// Its headers.
    pub head: Head,
    /// The payload that is kept.
    pub payload: &'a [u8],
    /// Length of the whole frame without cuts, in bytes.
    pub whole_len: u32,
    /// `epb_flags`.
    pub flags: u32,
    /// Packets lost before this one.
    pub lost_packets: u64,
    /// What is said about it.
    pub comments: &'c [String],
}

/// Blocks that have not been written yet.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// Everything but the payload.
    made: Vec<u8>,
    /// Payload, and how much of `made` comes before each piece.
    payload: Vec<(usize, &'a [u8])>,
    payload_len: usize,
}

impl<'a> Batch<'a> {
    /// An empty batch in a buffer that was used before.
    pub fn reusing(mut made: Vec<u8>) -> Self {
        made.clear();
        Self { made, ..Self::default() }
    }

    /// The buffer, for the next batch.
    pub fn into_buffer(self) -> Vec<u8> {
        self.made
    }

    /// Length of the blocks, in bytes.
    pub fn len(&self) -> usize {
        self.made.len() + self.payload_len
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a block that is encoded already.
    pub fn push_encoded(&mut self, block: &[u8]) {
        self.made.extend_from_slice(block);
    }

    /// Adds a packet.
    pub fn push(&mut self, block: &Block<'a, '_>) {
        let head = block.head.as_bytes();
        let frame_len = head.len() + block.payload.len();
        let total = HEAD_LEN + padded(frame_len) + options_len(block) + ALIGNMENT;
        let total = number(total).to_le_bytes();
        for field in [BLOCK_TYPE.to_le_bytes(), total, block.interface.to_le_bytes()] {
            self.made.extend_from_slice(&field);
        }
        // High half, then low half, each in the file's order.
        self.made.extend_from_slice(&block.time_ns.rotate_left(32).to_le_bytes());
        self.made.extend_from_slice(&number(frame_len).to_le_bytes());
        self.made.extend_from_slice(&block.whole_len.to_le_bytes());
        self.made.extend_from_slice(head);
        if block.payload.len() < COPY_BELOW {
            self.made.extend_from_slice(block.payload);
        } else {
            self.payload.push((self.made.len(), block.payload));
            self.payload_len += block.payload.len();
        }
        self.pad(frame_len);
        self.options(block);
        self.made.extend_from_slice(&total);
    }

    fn options(&mut self, block: &Block<'_, '_>) {
        self.option(OPTION_FLAGS, &block.flags.to_le_bytes());
        if block.lost_packets > 0 {
            self.option(OPTION_DROP_COUNT, &block.lost_packets.to_le_bytes());
        }
        for comment in block.comments {
            self.option(OPTION_COMMENT, comment.as_bytes());
        }
        self.made.extend_from_slice(&END_OF_OPTIONS);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let len = u16::try_from(value.len()).expect("comments are made of a few names and numbers");
        self.made.extend_from_slice(&code.to_le_bytes());
        self.made.extend_from_slice(&len.to_le_bytes());
        self.made.extend_from_slice(value);
        self.pad(value.len());
    }

    /// Fills up behind `len` bytes.
    fn pad(&mut self, len: usize) {
        self.made.extend_from_slice(&[0; ALIGNMENT][..padded(len) - len]);
    }

    /// Writes everything at `offset` of `file`, and returns how much that was, in bytes.
    ///
    /// # Errors
    /// The disk took none or part of it.
    pub fn write_at(&self, file: &File, offset: u64) -> io::Result<u64> {
        let mut pieces = Vec::with_capacity(2 * self.payload.len() + 1);
        let mut from = 0;
        for (at, payload) in &self.payload {
            pieces.push(IoSlice::new(&self.made[from..*at]));
            pieces.push(IoSlice::new(payload));
            from = *at;
        }
        pieces.push(IoSlice::new(&self.made[from..]));
        let (mut written, len) = (0, u64::try_from(self.len()).unwrap_or(u64::MAX));
        let mut left = &mut pieces[..];
        while written < len {
            let some = &left[..left.len().min(MAX_PIECES)];
            match rustix::io::pwritev(file, some, offset + written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += u64::try_from(count).unwrap_or_default();
                    IoSlice::advance_slices(&mut left, count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGNMENT)
}

fn options_len(block: &Block<'_, '_>) -> usize {
    const CODE_AND_LEN: usize = 4;
    let comments = block.comments.iter().map(|text| CODE_AND_LEN + padded(text.len()));
    let drop_count = if block.lost_packets > 0 { CODE_AND_LEN + size_of::<u64>() } else { 0 };
    CODE_AND_LEN + size_of::<u32>() + drop_count + comments.sum::<usize>() + END_OF_OPTIONS.len()
}

/// A length as the format holds it: a frame is below 64 KiB and its headers.
fn number(len: usize) -> u32 {
    u32::try_from(len).expect("a block is a frame and a few comments")
}
