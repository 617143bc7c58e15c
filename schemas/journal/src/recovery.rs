//! The tail of a journal after its writer died: cut where it is torn, and made durable.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::path::Path;

use bytes::BytesMut;
use schemas::vocab::SpoolId;
use schemas::wire::{Frame, SegmentHeader};

use crate::directory::Ids;
use crate::journal::SegmentFile;
use crate::segment::{SegmentReader, Step};
use crate::{JournalError, MAX_PAYLOAD, directory};

/// How a frame begins: magic and version (see [`schemas::wire::Frame`]).
const FRAME_MARK: [u8; 3] = [0x46, 0x52, schemas::wire::VERSION];

/// The end of a journal as it is found at opening.
pub(crate) struct Tail {
    /// The newest segment, open for writing, and its header; `None`: there is no segment.
    pub(crate) file: Option<File>,
    pub(crate) header: Option<SegmentHeader>,
    pub(crate) last_frame: u64,
    pub(crate) last_crc: u32,
    pub(crate) cut_bytes: u64,
    pub(crate) damaged: bool,
}

impl Tail {
    /// Cuts what is torn off the newest segment and makes the rest durable. `segments` is left with
    /// those that remain.
    pub(crate) fn recover(
        dir: &Path,
        segments: &mut VecDeque<SegmentFile>,
        ids: Option<&Ids>,
    ) -> Result<Self, JournalError> {
        let mut tail = Self {
            file: None,
            header: None,
            last_frame: 0,
            last_crc: 0,
            cut_bytes: 0,
            damaged: false,
        };
        let Some(newest) = segments.back_mut() else { return Ok(tail) };
        let Some(mut reader) = SegmentReader::open_unless_torn(&newest.path)? else {
            // Never happens by our own hand (see the module doc), but a header without a frame is
            // all that can be lost, so that it is made again under the same number.
            tail.cut_bytes = newest.bytes;
            tail.last_frame = newest.first_frame - 1;
            fs::remove_file(&newest.path).map_err(JournalError::io("remove", &newest.path))?;
            directory::sync(dir)?;
            segments.pop_back();
            tail.last_crc = last_crc_of_sealed(segments.back(), tail.last_frame)?;
            return Ok(tail);
        };
        let header = reader.header().clone();
        let owner = SpoolId(header.spool_id);
        if ids.is_some_and(|ids| !ids.contains(owner)) {
            return Err(reader.damage(format!("it belongs to the spool {owner}")));
        }
        tail.last_crc = header.previous_crc;
        tail.header = Some(header);
        let end = loop {
            let end = reader.offset();
            match reader.step()? {
                Step::Frame(_, crc) => tail.last_crc = crc,
                Step::End | Step::Torn | Step::Bad(_) => break end,
            }
        };
        tail.last_frame = reader.next_number() - 1;
        tail.cut_bytes = newest.bytes - end;
        tail.damaged = tail.cut_bytes > 0 && set_damage_aside(dir, reader.path(), end)?;
        tail.file = Some(cut_and_sync(reader.path(), end)?);
        newest.bytes = end;
        Ok(tail)
    }
}

/// Looks for a whole frame behind `end`. A writer that died leaves none there: what is cut was
/// written whole and damaged later, so it is kept as `<segment>.cut-<end>` for whoever looks into it.
fn set_damage_aside(dir: &Path, segment: &Path, end: u64) -> Result<bool, JournalError> {
    let bytes = fs::read(segment).map_err(JournalError::io("read", segment))?;
    let cut = &bytes[usize::try_from(end).map_or(bytes.len(), |end| end.min(bytes.len()))..];
    let whole_frame_at = |at: usize| {
        let mut rest = BytesMut::from(&cut[at..]);
        matches!(Frame::decode(&mut rest, MAX_PAYLOAD), Ok(Some((frame, _))) if frame.number > 0)
    };
    let mut marks = cut.windows(FRAME_MARK.len()).enumerate().skip(1);
    let damaged = marks.any(|(at, mark)| mark == FRAME_MARK && whole_frame_at(at));
    if damaged {
        let mut aside = segment.as_os_str().to_owned();
        aside.push(format!(".cut-{end}"));
        let aside = Path::new(&aside);
        fs::write(aside, cut)
            .and_then(|()| File::open(aside)?.sync_all())
            .map_err(JournalError::io("write", aside))?;
        directory::sync(dir)?;
    }
    Ok(damaged)
}

/// Cuts a segment after `end` bytes, durably, and leaves it open for writing.
pub(crate) fn cut_and_sync(path: &Path, end: u64) -> Result<File, JournalError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(JournalError::io("open", path))?;
    file.set_len(end).map_err(JournalError::io("truncate", path))?;
    file.sync_all().map_err(JournalError::io("fsync", path))?;
    Ok(file)
}

/// CRC of the last frame of a segment that must be whole and end with `last_frame`.
fn last_crc_of_sealed(segment: Option<&SegmentFile>, last_frame: u64) -> Result<u32, JournalError> {
    let Some(segment) = segment else { return Ok(0) };
    let mut reader = SegmentReader::open(&segment.path)?;
    let mut last_crc = reader.header().previous_crc;
    while let Some((_, crc)) = reader.next_frame()? {
        last_crc = crc;
    }
    if reader.next_number() != last_frame + 1 {
        return Err(reader.damage(format!("it ends before frame {last_frame}")));
    }
    Ok(last_crc)
}
