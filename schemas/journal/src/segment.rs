//! One segment file, read from front to back.

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use prost::Message;
use schemas::vocab::SpoolId;
use schemas::wire::{Frame, FrameError, FrameKind, SegmentHeader};

use crate::fs::{Access, Disk, FileSystem, OpenFile, as_u64};
use crate::{Heading, JournalError, MAX_PAYLOAD, directory};

/// The format this module reads and writes.
pub(crate) const FORMAT: u32 = 1;

/// Bytes asked of the file at a time.
const READ_BYTES: usize = 64 << 10;

pub(crate) fn file_name(first_frame: u64) -> String {
    format!("{first_frame:020}.seg")
}

/// The number in a segment's file name; `None` for any other file.
pub(crate) fn first_frame_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    let good = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|first| good && *first > 0)
}

/// The head of a new segment.
pub(crate) fn encode_header(
    id: SpoolId,
    first_frame: u64,
    previous_crc: u32,
    heading: &Heading,
) -> BytesMut {
    let header = SegmentHeader {
        format: FORMAT,
        spool_id: id.0,
        first_frame,
        previous_crc,
        boot: heading.boot.clone(),
        next_seq: heading.next_seq,
        boot_ended: heading.boot_ended,
    };
    let mut bytes = BytesMut::new();
    Frame::message(FrameKind::Segment, 0, &header).encode(&mut bytes);
    bytes
}

/// What stands at a reader's place.
pub(crate) enum Step {
    /// A frame, and its CRC. The reader has moved on.
    Frame(Frame, u32),
    /// The end of the file.
    End,
    /// The beginning of a frame, and the end of the file.
    Torn,
    /// Bytes that are not a frame, and why not. The reader must not be asked again.
    Bad(String),
}

/// The frames of one segment, with a descriptor of its own.
#[derive(Debug)]
pub struct SegmentReader {
    path: PathBuf,
    file: Box<dyn OpenFile>,
    header: SegmentHeader,
    /// Read, not yet taken; begins at `offset`.
    buffer: BytesMut,
    /// Where the next frame begins.
    offset: u64,
    next_frame: u64,
}

impl SegmentReader {
    /// Opens a segment of this machine's disk that should be whole, and reads its header.
    ///
    /// # Errors
    /// The file cannot be read or does not begin with the header that belongs to its name.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_on(&Disk, path)
    }

    /// As [`Self::open`], on any file system.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(fs: &dyn FileSystem, path: &Path) -> Result<Self, JournalError> {
        let file = directory::open(fs, path, Access::Read)?;
        let mut reader = Self {
            path: path.to_owned(),
            file,
            header: SegmentHeader::default(),
            buffer: BytesMut::new(),
            offset: 0,
            next_frame: 0,
        };
        let frame = match reader.decode()? {
            Step::Frame(frame, _crc) => frame,
            Step::End | Step::Torn => return Err(reader.damage("it ends within its header")),
            Step::Bad(reason) => return Err(reader.damage(reason)),
        };
        let header = Self::header_of(&frame).map_err(|reason| reader.damage(reason))?;
        if first_frame_of(path).is_some_and(|named| named != header.first_frame) {
            let reason = format!("its header says that it begins at frame {}", header.first_frame);
            return Err(reader.damage(reason));
        }
        reader.next_frame = header.first_frame;
        reader.header = header;
        Ok(reader)
    }

    fn header_of(frame: &Frame) -> Result<SegmentHeader, String> {
        if frame.kind != FrameKind::Segment {
            return Err(format!("it begins with a frame of kind {:?}, not a header", frame.kind));
        }
        let header = SegmentHeader::decode(&frame.payload[..])
            .map_err(|error| format!("its header cannot be read: {error}"))?;
        if header.format != FORMAT {
            return Err(format!("format {} is not supported, only {FORMAT}", header.format));
        }
        Ok(header)
    }

    /// The segment's header.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The next frame and its CRC; `None`: the segment has no more.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else than the next frame.
    pub fn next_frame(&mut self) -> Result<Option<(Frame, u32)>, JournalError> {
        match self.step()? {
            Step::Frame(frame, crc) => Ok(Some((frame, crc))),
            Step::End => Ok(None),
            Step::Torn => Err(self.damage("it ends within a frame")),
            Step::Bad(reason) => Err(self.damage(reason)),
        }
    }

    /// The next frame, or what else stands there. A good frame that does not belong there, or that
    /// only a newer binary understands, is an error: it is not a torn tail, and must not be cut.
    pub(crate) fn step(&mut self) -> Result<Step, JournalError> {
        let step = self.decode()?;
        if matches!(step, Step::Frame(..)) {
            self.next_frame += 1;
        }
        Ok(step)
    }

    fn decode(&mut self) -> Result<Step, JournalError> {
        loop {
            match Frame::decode(&mut self.buffer, MAX_PAYLOAD) {
                Ok(Some((frame, crc))) if frame.number == self.next_frame => {
                    self.offset += as_u64(frame.encoded_len());
                    return Ok(Step::Frame(frame, crc));
                }
                Ok(Some((frame, _))) => {
                    let expected = self.next_frame;
                    let reason = format!("frame {} stands where {expected} should", frame.number);
                    return Err(self.damage(reason));
                }
                Ok(None) if self.fill()? > 0 => {}
                Ok(None) if self.buffer.is_empty() => return Ok(Step::End),
                Ok(None) => return Ok(Step::Torn),
                Err(error @ FrameError::UnknownCritical { .. }) => {
                    return Err(self.damage(error.to_string()));
                }
                Err(error) => return Ok(Step::Bad(error.to_string())),
            }
        }
    }

    fn fill(&mut self) -> Result<usize, JournalError> {
        let have = self.buffer.len();
        let at = self.offset + as_u64(have);
        // A frame that has begun has room for the whole of it.
        let room = (self.buffer.capacity() - have).max(READ_BYTES);
        self.buffer.resize(have + room, 0);
        let read = self.file.read_at(&mut self.buffer[have..], at);
        self.buffer.truncate(have + read.as_ref().copied().unwrap_or(0));
        read.map_err(JournalError::io("read", &self.path))
    }

    /// Forgets what was read ahead: the file may have been cut and written anew there.
    pub(crate) fn forget_ahead(&mut self) {
        self.buffer.clear();
    }

    /// Number of the frame that stands, or will stand, at the reader's place.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_frame
    }

    /// Whether another file has taken the segment's name: what was not durable in this one was
    /// written again in that. A segment that was deleted can still be read.
    pub(crate) fn is_replaced(&self) -> Result<bool, JournalError> {
        match self.file.is_at(&self.path) {
            Ok(same) => Ok(!same),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(JournalError::io("examine", &self.path)(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn damage(&self, reason: impl Into<String>) -> JournalError {
        JournalError::damaged(&self.path, self.offset, reason)
    }
}
