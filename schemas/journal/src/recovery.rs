//! The newest segment after its writer died: cut where it is torn, and made durable.

use std::collections::VecDeque;
use std::path::Path;

use schemas::vocab::SpoolId;

use crate::aside::set_aside;
use crate::directory::Ids;
use crate::fs::{Access, FileSystem, OpenFile, as_u64};
use crate::journal::SegmentFile;
use crate::segment::{SegmentReader, encode_header, file_name};
use crate::survey::Survey;
use crate::{Heading, JournalError, directory};

/// The end of a journal as it is found at opening.
pub(crate) struct Tail {
    /// The newest segment; `None`: there is none.
    pub(crate) newest: Option<Newest>,
    pub(crate) last_frame: u64,
    pub(crate) last_crc: u32,
    pub(crate) cut_bytes: u64,
    pub(crate) cut_frames: bool,
    pub(crate) damaged: bool,
}

/// The newest segment, open for writing.
pub(crate) struct Newest {
    pub(crate) file: Box<dyn OpenFile>,
    /// Of the journal that the segment belongs to.
    pub(crate) id: SpoolId,
    pub(crate) bytes: Vec<u8>,
}

impl Tail {
    /// Cuts what is torn off the newest segment and makes the rest durable. `new_id` is the
    /// journal's should nothing tell it.
    pub(crate) fn recover(
        fs: &dyn FileSystem,
        dir: &Path,
        segments: &mut VecDeque<SegmentFile>,
        ids: Option<&Ids>,
        new_id: SpoolId,
    ) -> Result<Self, JournalError> {
        let mut tail = Self {
            newest: None,
            last_frame: 0,
            last_crc: 0,
            cut_bytes: 0,
            cut_frames: false,
            damaged: false,
        };
        let Some(newest) = segments.pop_back() else { return Ok(tail) };
        let (path, first) = (&newest.path, newest.first_frame);
        let mut bytes = fs.read(path).map_err(JournalError::io("read", path))?;
        let mut survey = Survey::of(path, &bytes, first, u64::MAX)?;
        tail.cut_frames = survey.cut_unsettled(first);
        tail.cut_bytes = as_u64(bytes.len() - survey.end);
        let whole_header = survey.header.is_some() || bytes.is_empty();
        tail.damaged = survey.damaged_at.is_some() || !whole_header;
        bytes.truncate(survey.end);
        let (file, id) = match &survey.header {
            Some(header) => {
                let owner = SpoolId(header.spool_id);
                if ids.is_some_and(|ids| !ids.contains(owner)) {
                    let reason = format!("it belongs to the spool {owner}");
                    return Err(JournalError::damaged(path, 0, reason));
                }
                tail.last_crc = header.previous_crc;
                let file = if tail.cut_frames {
                    // Should they have been durable after all, somebody may want to have them.
                    set_aside(fs, dir, path, as_u64(bytes.len()))?;
                    directory::write_whole(fs, dir, &file_name(first), &bytes)?
                } else {
                    write_again(fs, path, &bytes)?
                };
                (file, owner)
            }
            None => {
                let id = ids.map_or(new_id, |ids| ids.current);
                tail.last_crc = last_crc_of_sealed(fs, segments.back(), first - 1);
                let mut whole = encode_header(id, first, tail.last_crc, &Heading::default());
                whole.extend_from_slice(
                    survey.frames.first().map_or(&[], |f| &bytes[f.bytes.start..]),
                );
                bytes = whole.to_vec();
                set_aside(fs, dir, path, 0)?;
                (directory::write_whole(fs, dir, &file_name(first), &bytes)?, id)
            }
        };
        tail.last_frame = first - 1;
        if let Some(last) = survey.frames.last() {
            (tail.last_frame, tail.last_crc) = (last.number, last.crc);
        }
        segments.push_back(SegmentFile { bytes: as_u64(bytes.len()), ..newest });
        tail.newest = Some(Newest { file, id, bytes });
        Ok(tail)
    }
}

/// Makes a segment hold `bytes` and nothing else, durably. It holds them already, but perhaps only
/// in memory and marked clean, because an fdatasync failed before its writer died: no sync would
/// write them then.
fn write_again(
    fs: &dyn FileSystem,
    path: &Path,
    bytes: &[u8],
) -> Result<Box<dyn OpenFile>, JournalError> {
    let file = directory::open(fs, path, Access::ReadWrite)?;
    file.set_len(as_u64(bytes.len())).map_err(JournalError::io("truncate", path))?;
    file.write_all_at(bytes, 0).map_err(JournalError::io("write", path))?;
    file.sync_all().map_err(JournalError::io("fsync", path))?;
    Ok(file)
}

/// CRC of the last frame of a segment that should be whole and end with `last_frame`; 0: it is not
/// known.
fn last_crc_of_sealed(fs: &dyn FileSystem, segment: Option<&SegmentFile>, last_frame: u64) -> u32 {
    let read = |path: &Path| {
        let mut reader = SegmentReader::open_on(fs, path)?;
        let mut last_crc = reader.header().previous_crc;
        while let Some((_, crc)) = reader.next_frame()? {
            last_crc = crc;
        }
        Ok::<_, JournalError>(if reader.next_number() == last_frame + 1 { last_crc } else { 0 })
    };
    segment.map_or(0, |segment| read(&segment.path).unwrap_or(0))
}
