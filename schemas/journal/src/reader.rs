//! Reading a journal: following the one that is being written, and going over all of it.

use std::path::{Path, PathBuf};

use schemas::wire::{Frame, SegmentHeader};

use crate::segment::{SegmentReader, Step, file_name};
use crate::{JournalError, directory};

/// Follows a journal that is being written, over segment after segment, with descriptors of its
/// own. It needs no lock, and segments that it has read may be deleted.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    segment: SegmentReader,
    /// Frames before this one are passed over.
    from: u64,
    /// Bytes read ahead are to be believed up to this frame: what lies beyond was not durable when
    /// it was read, and may have been cut and rewritten since.
    believed: u64,
}

impl Reader {
    /// A reader whose first frame is `from`, or the oldest there is if that is later.
    ///
    /// # Errors
    /// The directory or the segment cannot be read, or there is no segment.
    pub fn open(dir: &Path, from: u64) -> Result<Self, JournalError> {
        let segments = directory::segments(dir)?;
        let holding = segments.iter().rev().find(|(first, _)| *first <= from);
        let (_, path) = holding
            .or(segments.first())
            .ok_or_else(|| JournalError::Missing { path: dir.to_owned(), frame: from })?;
        let segment = SegmentReader::open(path)?;
        Ok(Self { dir: dir.to_owned(), segment, from, believed: 0 })
    }

    /// The next frame and its CRC, if its number is at most `durable`.
    ///
    /// # Errors
    /// The frame's segment cannot be read, is damaged, or was deleted before it was read.
    pub fn next(&mut self, durable: u64) -> Result<Option<(Frame, u32)>, JournalError> {
        while self.segment.next_number() <= durable {
            if self.segment.next_number() > self.believed {
                self.segment.forget_ahead();
                self.believed = durable;
            }
            match self.segment.step()? {
                Step::Frame(frame, _) if frame.number < self.from => {}
                Step::Frame(frame, crc) => return Ok(Some((frame, crc))),
                Step::End => self.enter_next_segment()?,
                Step::Torn => return Err(self.segment.damage("it ends within a frame")),
                Step::Bad(reason) => return Err(self.segment.damage(reason)),
            }
        }
        Ok(None)
    }

    /// The header of the segment the reader stands in.
    pub fn header(&self) -> &SegmentHeader {
        self.segment.header()
    }

    fn enter_next_segment(&mut self) -> Result<(), JournalError> {
        let frame = self.segment.next_number();
        let path = self.dir.join(file_name(frame));
        if !path.exists() {
            return Err(JournalError::Missing { path: self.dir.clone(), frame });
        }
        self.segment = SegmentReader::open(&path)?;
        Ok(())
    }
}

/// What a [`Scan`] finds.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A segment begins.
    Segment(SegmentHeader),
    /// A frame, and its CRC.
    Frame(Frame, u32),
}

/// Goes over everything in a journal, oldest first. A frame that the newest segment ends within is
/// taken for one that is just being written: the scan ends before it.
///
/// # Errors
/// The directory cannot be listed.
pub fn scan(dir: &Path) -> Result<Scan, JournalError> {
    let segments: Vec<_> = directory::segments(dir)?.into_iter().map(|(_, path)| path).collect();
    Ok(Scan { rest: segments.into_iter(), segment: None, last_crc: 0 })
}

/// The iterator of [`scan`]. It ends after the first error.
#[derive(Debug)]
pub struct Scan {
    rest: std::vec::IntoIter<PathBuf>,
    segment: Option<SegmentReader>,
    last_crc: u32,
}

impl Iterator for Scan {
    type Item = Result<Entry, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.advance();
        if matches!(found, Some(Err(_))) {
            self.rest = Vec::new().into_iter();
            self.segment = None;
        }
        found
    }
}

impl Scan {
    fn advance(&mut self) -> Option<Result<Entry, JournalError>> {
        let Some(segment) = &mut self.segment else { return self.enter(None) };
        let next_number = segment.next_number();
        match segment.step() {
            Ok(Step::Frame(frame, crc)) => {
                self.last_crc = crc;
                Some(Ok(Entry::Frame(frame, crc)))
            }
            Ok(Step::End) => self.enter(Some(next_number)),
            Ok(Step::Torn) if self.rest.as_slice().is_empty() => None,
            Ok(Step::Torn) => Some(Err(segment.damage("it ends within a frame"))),
            Ok(Step::Bad(reason)) => Some(Err(segment.damage(reason))),
            Err(error) => Some(Err(error)),
        }
    }

    /// Enters the next segment, which must begin with frame `expected`.
    fn enter(&mut self, expected: Option<u64>) -> Option<Result<Entry, JournalError>> {
        let path = self.rest.next()?;
        let segment = match SegmentReader::open(&path) {
            Ok(segment) => segment,
            Err(error) => return Some(Err(error)),
        };
        let header = segment.header().clone();
        if expected.is_some_and(|expected| expected != header.first_frame) {
            let reason = format!(
                "it begins at frame {}, but the segment before it ends before frame {}",
                header.first_frame,
                expected.unwrap_or_default()
            );
            return Some(Err(JournalError::damaged(&path, 0, reason)));
        }
        if expected.is_some() && self.last_crc != 0 && self.last_crc != header.previous_crc {
            let reason = "the segment before it does not end with the frame that its header names";
            return Some(Err(JournalError::damaged(&path, 0, reason)));
        }
        self.last_crc = header.previous_crc;
        self.segment = Some(segment);
        Some(Ok(Entry::Segment(header)))
    }
}
