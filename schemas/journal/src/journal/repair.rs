//! Setting aside a segment that is not to be believed, and writing anew what is.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use schemas::wire::{Frame, FrameKind};

use super::{Durable, Journal, in_last_page};
use crate::aside::set_aside;
use crate::fs::{Access, OpenFile, as_u64};
use crate::segment::{encode_header, file_name};
use crate::survey::Survey;
use crate::{Heading, JournalError, MAX_PAYLOAD, directory};

/// Bytes that are read at once of a file that may not be readable everywhere.
const BLOCK: usize = 4096;

/// What became of a damaged segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The frames that are lost. Others stand in for them.
    pub lost: Vec<RangeInclusive<u64>>,
    /// The segment as it was found.
    pub aside: PathBuf,
}

impl Journal {
    /// Takes back every frame that is not durable, whose numbers will be used again, and makes a
    /// journal that answers [`JournalError::Poisoned`] usable again if the disk lets it.
    ///
    /// The newest segment is set aside as `.suspect`, and another takes its name that holds its
    /// durable frames. None of them is read from a page that was written to since it was durable:
    /// those are in memory. Returns the frames taken back, oldest first, for whoever wants to append
    /// them again.
    ///
    /// # Errors
    /// That could not be made durable; nothing is taken back.
    pub fn retreat(&mut self) -> Result<Vec<Frame>, JournalError> {
        let (path, first_frame) = (self.newest().path.clone(), self.newest().first_frame);
        let successor = self.dir.join(file_name(self.last_frame + 1));
        if successor != path {
            let removed = self.fs.remove_if_there(&successor);
            removed.map_err(JournalError::io("remove", &successor))?;
        }
        let Durable { frame, crc, bytes } = self.durable;
        let whole = self.durable_bytes(&path)?;
        let survey = Survey::of(&path, &whole, first_frame, frame + 1)?;
        let last =
            survey.frames.last().map_or((first_frame - 1, None), |f| (f.number, Some(f.crc)));
        if survey.damaged_at.is_some() || last.0 != frame || last.1.is_some_and(|c| c != crc) {
            return Err(JournalError::damaged(&path, 0, "its durable frames cannot be read back"));
        }
        set_aside(&*self.fs, &self.dir, &path, bytes)?;
        self.file = directory::write_whole(&*self.fs, &self.dir, &file_name(first_frame), &whole)?;
        directory::sync(&*self.fs, &self.dir)?;
        self.reserved = bytes;
        if let Some(newest) = self.segments.back_mut() {
            newest.bytes = bytes;
        }
        (self.last_frame, self.last_crc) = (frame, crc);
        self.poison = None;
        let taken_back = std::mem::take(&mut self.unsynced);
        self.keep_end_of(&whole);
        self.all_is_durable();
        Ok(taken_back.into())
    }

    /// The newest segment as far as it is durable.
    fn durable_bytes(&self, path: &Path) -> Result<Vec<u8>, JournalError> {
        let len = usize::try_from(self.durable.bytes).unwrap_or(usize::MAX);
        let in_memory = in_last_page(self.durable.bytes);
        let mut bytes = vec![0; len - in_memory];
        let file = directory::open(&*self.fs, path, Access::Read)?;
        read_exact(&*file, &mut bytes, 0).map_err(JournalError::io("read", path))?;
        bytes.extend_from_slice(&self.end[..in_memory]);
        Ok(bytes)
    }

    /// Mends a segment in which something else stands than its frames: sets it aside as `.suspect`
    /// and writes those that are whole anew under its name, durably. For each frame that is lost
    /// another of its number stands in, of kind `Rows` and not critical, with the payload that
    /// `stand_in` makes of the whole range that is lost and of the frame's number. So numbers stay
    /// dense, and the loss travels with the frames.
    ///
    /// # Errors
    /// `segment` is none of the journal's, there is nothing in it to be mended, it is of a newer
    /// version, or it could not be written anew: then it is as it was.
    pub fn mend(
        &mut self,
        segment: &Path,
        mut stand_in: impl FnMut(&RangeInclusive<u64>, u64) -> Bytes,
    ) -> Result<Mended, JournalError> {
        self.sync()?;
        let at = self.segments.iter().position(|known| known.path == segment);
        let at = at.ok_or_else(|| JournalError::NotAFile { path: segment.to_owned() })?;
        let first = self.segments[at].first_frame;
        let limit = self.segments.get(at + 1).map_or(self.last_frame + 1, |next| next.first_frame);
        let bytes = self.read_what_can_be(segment)?;
        let survey = Survey::of(segment, &bytes, first, limit)?;
        let lost = survey.lost(first, limit);
        if lost.is_empty() && survey.header.is_some() {
            return Err(JournalError::damaged(segment, as_u64(survey.end), "it cannot be mended"));
        }
        let mut whole = match survey.header {
            Some(_) => BytesMut::from(&bytes[..survey.header_end]),
            None => encode_header(self.ids.current, first, 0, &Heading::default()),
        };
        let mut missing: VecDeque<_> = lost.clone().into();
        let mut stand_in_before = |number: u64, whole: &mut BytesMut| {
            while let Some(range) = missing.pop_front_if(|range| *range.start() < number) {
                for number in range.clone() {
                    let mut payload = stand_in(&range, number);
                    payload.truncate(MAX_PAYLOAD);
                    let kind = FrameKind::Rows;
                    Frame { kind, flags: 0, number, message_len: 0, payload }.encode(whole);
                }
            }
        };
        for found in &survey.frames {
            stand_in_before(found.number, &mut whole);
            whole.extend_from_slice(&bytes[found.bytes.clone()]);
        }
        stand_in_before(limit, &mut whole);
        let offset = survey.damaged_at.unwrap_or(survey.end);
        let aside = set_aside(&*self.fs, &self.dir, segment, as_u64(offset))?;
        let file = directory::write_whole(&*self.fs, &self.dir, &file_name(first), &whole)?;
        directory::sync(&*self.fs, &self.dir)?;
        self.segments[at].bytes = as_u64(whole.len());
        if at + 1 == self.segments.len() {
            self.file = file;
            self.reserved = as_u64(whole.len());
            self.keep_end_of(&whole);
            self.all_is_durable();
        }
        Ok(Mended { lost, aside })
    }

    /// What a segment holds; zeros where the disk does not give it.
    fn read_what_can_be(&self, path: &Path) -> Result<Vec<u8>, JournalError> {
        let file = directory::open(&*self.fs, path, Access::Read)?;
        let len = file.len().map_err(JournalError::io("examine", path))?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        if read_exact(&*file, &mut bytes, 0).is_err() {
            for (at, block) in bytes.chunks_mut(BLOCK).enumerate() {
                if read_exact(&*file, block, as_u64(at * BLOCK)).is_err() {
                    block.fill(0);
                }
            }
        }
        Ok(bytes)
    }
}

fn read_exact(file: &dyn OpenFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                buffer = &mut buffer[read..];
                offset += as_u64(read);
            }
        }
    }
    Ok(())
}
