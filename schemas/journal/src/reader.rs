//! Reading a journal: following the one that is being written, and going over all of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemas::wire::{CRITICAL, Frame, SegmentHeader};

use crate::fs::{Disk, FileSystem};
use crate::segment::{SegmentReader, Step, file_name};
use crate::{JournalError, directory};

/// Follows a journal that is being written, over segment after segment, with descriptors of its
/// own. It needs no lock, and segments that it has read may be deleted.
#[derive(Debug)]
pub struct Reader {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    segment: SegmentReader,
    /// Frames before this one are passed over.
    from: u64,
    /// Bytes read ahead are to be believed up to this frame: what lies beyond was not durable when
    /// it was read, and may have been cut and rewritten since.
    believed: u64,
}

impl Reader {
    /// A reader on this machine's disk whose first frame is `from`, or the oldest there is if that
    /// is later.
    ///
    /// # Errors
    /// The directory or the segment cannot be read, or there is no segment.
    pub fn open(dir: &Path, from: u64) -> Result<Self, JournalError> {
        Self::open_on(Arc::new(Disk), dir, from)
    }

    /// As [`Self::open`], on any file system.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(fs: Arc<dyn FileSystem>, dir: &Path, from: u64) -> Result<Self, JournalError> {
        let segments = directory::segments(&*fs, dir)?;
        let holding = segments.iter().rev().find(|(first, _)| *first <= from);
        let (_, path) = holding
            .or(segments.first())
            .ok_or_else(|| JournalError::Missing { path: dir.to_owned(), frame: from })?;
        let segment = SegmentReader::open_on(&*fs, path)?;
        Ok(Self { fs, dir: dir.to_owned(), segment, from, believed: 0 })
    }

    /// The next frame and its CRC, if its number is at most `durable`.
    ///
    /// # Errors
    /// The frame's segment cannot be read, is damaged, or was deleted before it was read.
    pub fn next(&mut self, durable: u64) -> Result<Option<(Frame, u32)>, JournalError> {
        while self.segment.next_number() <= durable {
            if self.segment.next_number() > self.believed {
                self.look_again()?;
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

    /// Forgets what was read ahead of durability, and goes on in the file that has the segment's
    /// name, should that be another one.
    fn look_again(&mut self) -> Result<(), JournalError> {
        if self.segment.is_replaced()? {
            self.from = self.from.max(self.segment.next_number());
            self.segment = SegmentReader::open_on(&*self.fs, self.segment.path())?;
        } else {
            self.segment.forget_ahead();
        }
        Ok(())
    }

    /// The header of the segment the reader stands in.
    pub fn header(&self) -> &SegmentHeader {
        self.segment.header()
    }

    fn enter_next_segment(&mut self) -> Result<(), JournalError> {
        let frame = self.segment.next_number();
        let path = self.dir.join(file_name(frame));
        if self.fs.exists(&path) {
            self.segment = SegmentReader::open_on(&*self.fs, &path)?;
            return Ok(());
        }
        // Segments are deleted oldest first.
        if self.fs.exists(self.segment.path()) {
            return Err(self.segment.damage(format!("it ends before frame {frame}")));
        }
        Err(JournalError::Missing { path: self.dir.clone(), frame })
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

/// Goes over everything in a journal on this machine's disk, oldest first. A frame that the newest
/// segment ends within is taken for one that is just being written: the scan ends before it.
///
/// # Errors
/// The directory cannot be listed.
pub fn scan(dir: &Path) -> Result<Scan, JournalError> {
    scan_on(Arc::new(Disk), dir)
}

/// As [`scan`], on any file system.
///
/// # Errors
/// As [`scan`].
pub fn scan_on(fs: Arc<dyn FileSystem>, dir: &Path) -> Result<Scan, JournalError> {
    Scan::through(fs, dir, 0)
}

/// The iterator of [`scan`]. It ends after the first error.
#[derive(Debug)]
pub struct Scan {
    fs: Arc<dyn FileSystem>,
    rest: std::vec::IntoIter<(u64, PathBuf)>,
    segment: Option<SegmentReader>,
    /// 0: nothing is known of it.
    last_crc: u32,
    /// Frames up to this one must be there.
    through: u64,
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
    /// Goes over a journal that must hold the frames up to `through`.
    pub(crate) fn through(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        through: u64,
    ) -> Result<Self, JournalError> {
        let segments = directory::segments(&*fs, dir)?.into_iter();
        Ok(Self { fs, rest: segments, segment: None, last_crc: 0, through })
    }

    fn advance(&mut self) -> Option<Result<Entry, JournalError>> {
        let Some(segment) = &mut self.segment else { return self.enter() };
        match segment.step() {
            Ok(Step::Frame(frame, crc)) => {
                // The next header names the frame that this one stands in for.
                let stands_in = frame.flags & CRITICAL == 0;
                self.last_crc = if stands_in { 0 } else { crc };
                Some(Ok(Entry::Frame(frame, crc)))
            }
            Ok(Step::End) => self.enter(),
            Ok(Step::Torn)
                if self.rest.as_slice().is_empty() && segment.next_number() > self.through =>
            {
                None
            }
            Ok(Step::Torn) => Some(Err(segment.damage("it ends within a frame"))),
            Ok(Step::Bad(reason)) => Some(Err(segment.damage(reason))),
            Err(error) => Some(Err(error)),
        }
    }

    /// Enters the next segment, which must begin where the one before it ends.
    fn enter(&mut self) -> Option<Result<Entry, JournalError>> {
        let Some((first, path)) = self.rest.next() else {
            let ended = self.segment.take()?;
            let missing = ended.next_number() <= self.through;
            return missing.then(|| Err(ended.damage("it ends before the journal does")));
        };
        let before = self.segment.as_ref().map_or(first, SegmentReader::next_number);
        if let Some(segment) = self.segment.as_ref().filter(|_| before < first) {
            return Some(Err(segment.damage(format!("it ends before frame {}", first - 1))));
        }
        if before > first {
            let reason = format!("the segment before it ends with frame {}", before - 1);
            return Some(Err(JournalError::damaged(&path, 0, reason)));
        }
        let segment = match SegmentReader::open_on(&*self.fs, &path) {
            Ok(segment) => segment,
            Err(error) => return Some(Err(error)),
        };
        let header = segment.header().clone();
        let follows = self.segment.is_some() && self.last_crc != 0 && header.previous_crc != 0;
        if follows && self.last_crc != header.previous_crc {
            let reason = "the segment before it does not end with the frame that its header names";
            return Some(Err(JournalError::damaged(&path, 0, reason)));
        }
        self.last_crc = header.previous_crc;
        self.segment = Some(segment);
        Some(Ok(Entry::Segment(header)))
    }
}
