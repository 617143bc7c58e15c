//! What is left in a segment's file, damaged or not.

use std::ops::{Range, RangeInclusive};
use std::path::Path;

use prost::Message;
use schemas::wire::{
    FrameError, FrameKind, FrameView, HEADER_LEN, SETTLED, SegmentHeader, VERSION,
};

use crate::segment::FORMAT;
use crate::{JournalError, MAX_PAYLOAD};

/// How a frame begins: magic and version (see [`schemas::wire::Frame`]).
const FRAME_MARK: [u8; 3] = [0x46, 0x52, VERSION];

/// The whole frames of a segment.
pub(crate) struct Survey {
    /// `None`: it is damaged or torn.
    pub(crate) header: Option<SegmentHeader>,
    /// Where the header ends.
    pub(crate) header_end: usize,
    /// In their order.
    pub(crate) frames: Vec<Found>,
    /// Where the last frame ends, or the header if there is none.
    pub(crate) end: usize,
    /// Where the first thing begins that is no frame, if a frame follows it.
    pub(crate) damaged_at: Option<usize>,
}

/// A frame, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) number: u64,
    pub(crate) crc: u32,
    pub(crate) bytes: Range<usize>,
    /// Every frame before it was durable when it was written.
    settled: bool,
}

impl Found {
    /// Number and place of a frame that follows this one.
    fn next(&self) -> (u64, usize) {
        (self.number + 1, self.bytes.end)
    }
}

impl Survey {
    /// Looks for the frames from `first` to below `limit`.
    ///
    /// # Errors
    /// The segment is of a newer version, or not the one that its name says: nothing in it is to be
    /// changed.
    pub(crate) fn of(
        path: &Path,
        bytes: &[u8],
        first: u64,
        limit: u64,
    ) -> Result<Self, JournalError> {
        let (header, mut at) = match read_header(path, bytes, first)? {
            Some((header, end)) => (Some(header), end),
            None => (None, 0),
        };
        let mut survey = Self {
            damaged_at: header.is_none().then_some(0),
            header,
            header_end: at,
            frames: Vec::new(),
            end: at,
        };
        let mut next = first;
        while next < limit {
            let found = match frame_at(bytes, at) {
                Ok(Some(found)) if found.number == next => found,
                Err(error @ FrameError::UnknownCritical { .. }) => {
                    return Err(JournalError::damaged(path, offset(at), error.to_string()));
                }
                _ => match resume(bytes, at, next, limit) {
                    None => break,
                    Some(found) => {
                        survey.damaged_at.get_or_insert(at);
                        found
                    }
                },
            };
            next = found.number + 1;
            at = found.bytes.end;
            survey.end = at;
            survey.frames.push(found);
        }
        Ok(survey)
    }

    /// Gives up the frames behind one that is missing, where nothing says that the missing one was
    /// ever durable: a power loss takes any part of what was not. Whether there were such.
    pub(crate) fn cut_unsettled(&mut self, first: u64) -> bool {
        let settled = self.frames.iter().rposition(|found| found.settled).map_or(0, |at| at + 1);
        let before = &self.frames[..settled];
        let mut next = before.last().map_or((first, self.header_end), Found::next);
        let follows = |found: &&Found| {
            let expected = std::mem::replace(&mut next, found.next());
            let header_lost = expected.1 == 0;
            found.number == expected.0 && (found.bytes.start == expected.1 || header_lost)
        };
        let kept = settled + self.frames[settled..].iter().take_while(follows).count();
        if kept == self.frames.len() {
            return false;
        }
        self.frames.truncate(kept);
        self.end = self.frames.last().map_or(self.header_end, |found| found.bytes.end);
        self.damaged_at = self.damaged_at.filter(|at| *at < self.end);
        true
    }

    /// The frames from `first` to below `limit` that are not there.
    pub(crate) fn lost(&self, first: u64, limit: u64) -> Vec<RangeInclusive<u64>> {
        let mut lost = Vec::new();
        let mut next = first;
        for number in self.frames.iter().map(|found| found.number).chain([limit]) {
            if number > next {
                lost.push(next..=number - 1);
            }
            next = number + 1;
        }
        lost
    }
}

/// The header and where it ends; `None`: it is damaged.
fn read_header(
    path: &Path,
    bytes: &[u8],
    first: u64,
) -> Result<Option<(SegmentHeader, usize)>, JournalError> {
    let refuse = |reason: String| Err(JournalError::damaged(path, 0, reason));
    let view = match FrameView::at_front(bytes, MAX_PAYLOAD) {
        Ok(Some(view)) => view,
        Err(error @ (FrameError::Version { .. } | FrameError::UnknownCritical { .. })) => {
            return refuse(error.to_string());
        }
        Ok(None) | Err(_) => return Ok(None),
    };
    if view.kind != FrameKind::Segment {
        return Ok(None);
    }
    let header = match SegmentHeader::decode(view.message) {
        Ok(header) => header,
        Err(error) => return refuse(format!("its header cannot be read: {error}")),
    };
    if header.format != FORMAT {
        return refuse(format!("format {} is not supported, only {FORMAT}", header.format));
    }
    if header.first_frame != first {
        return refuse(format!("its header says that it begins at frame {}", header.first_frame));
    }
    Ok(Some((header, encoded_len(&view))))
}

/// The next frame at or behind something that is none.
fn resume(bytes: &[u8], damage: usize, next: u64, limit: u64) -> Option<Found> {
    let fits = |found: &Found| {
        // Between the damage and the frame there must have been room for those that are missing.
        let room = (found.bytes.start - damage) / HEADER_LEN;
        (next..limit).contains(&found.number)
            && usize::try_from(found.number - next).is_ok_and(|missing| missing <= room)
    };
    let whole = |at: usize| frame_at(bytes, at).ok().flatten().filter(fits);
    // Where the damaged frame says that it ends, unless it is its length that is damaged.
    let announced = announced_end(bytes, damage).and_then(whole);
    if let Some(found) = announced.filter(|found| found.number == next + 1) {
        return Some(found);
    }
    let rest = bytes.get(damage..).unwrap_or_default();
    let marks = rest.windows(FRAME_MARK.len()).enumerate().filter(|(_, mark)| *mark == FRAME_MARK);
    // A payload may hold frames of its own, which stand between no frames of ours.
    let between_frames = |found: &Found| {
        found.bytes.end == bytes.len()
            || matches!(frame_at(bytes, found.bytes.end), Ok(Some(after)) if after.number == found.number + 1)
    };
    marks.filter_map(|(at, _)| whole(damage + at)).find(between_frames)
}

fn announced_end(bytes: &[u8], at: usize) -> Option<usize> {
    let header = bytes.get(at..at + HEADER_LEN)?;
    let len = u32::from_le_bytes(header[8..12].try_into().ok()?);
    (header[..3] == FRAME_MARK).then_some(at + HEADER_LEN + usize::try_from(len).ok()?)
}

/// The whole, numbered frame that begins there.
fn frame_at(bytes: &[u8], at: usize) -> Result<Option<Found>, FrameError> {
    let Some(rest) = bytes.get(at..) else { return Ok(None) };
    let Some(view) = FrameView::at_front(rest, MAX_PAYLOAD)? else { return Ok(None) };
    if view.number == 0 {
        return Ok(None);
    }
    let end = at + encoded_len(&view);
    let crc = rest[HEADER_LEN - 4..HEADER_LEN].try_into().map_or(0, u32::from_le_bytes);
    let settled = view.flags & SETTLED != 0;
    Ok(Some(Found { number: view.number, crc, bytes: at..end, settled }))
}

fn encoded_len(view: &FrameView<'_>) -> usize {
    HEADER_LEN + view.message.len() + view.trailing.len()
}

fn offset(at: usize) -> u64 {
    crate::fs::as_u64(at)
}
