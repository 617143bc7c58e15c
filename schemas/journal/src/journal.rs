//! The journal as its one writer has it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use schemas::vocab::SpoolId;
use schemas::wire::{CRITICAL, Frame, FrameKind, SegmentHeader};

use crate::directory::Ids;
use crate::recovery::{Tail, cut_and_sync};
use crate::segment::{FORMAT, SegmentReader, as_u64, file_name};
use crate::{Heading, JournalError, MAX_PAYLOAD, Recovery, Settings, directory};

/// A journal that is open for appending. Dropping it does not sync.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// Held for its lock.
    _lock: File,
    ids: Ids,
    settings: Settings,
    /// Oldest first; never empty; the last one is written.
    segments: VecDeque<SegmentFile>,
    file: File,
    last_frame: u64,
    last_crc: u32,
    durable: Durable,
    unsynced: VecDeque<Frame>,
    unsynced_bytes: usize,
    poison: Option<String>,
}

/// The last frame that is durable, and where it ends in the newest segment.
#[derive(Debug, Clone, Copy)]
struct Durable {
    frame: u64,
    crc: u32,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) first_frame: u64,
    pub(crate) bytes: u64,
}

/// A segment, as [`Journal::segments`] lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its file.
    pub path: PathBuf,
    /// Number of its first frame.
    pub first_frame: u64,
    /// Number of its last frame; `first_frame - 1` when it holds none.
    pub last_frame: u64,
    /// Size of the file.
    pub bytes: u64,
}

impl Journal {
    /// Opens the journal in `dir`, creating it if need be. Everything found is durable.
    ///
    /// # Errors
    /// It is open elsewhere, it cannot be read or written, or it is damaged before its tail.
    pub fn open(dir: &Path, settings: Settings) -> Result<(Self, Recovery), JournalError> {
        let lock = directory::claim(dir)?;
        directory::remove_half_made(dir)?;
        let mut segments = segment_files(dir)?;
        let mut ids = directory::read_ids(dir)?;
        if ids.is_none() && segments.is_empty() {
            directory::write_id(dir, settings.new_id)?;
            ids = Some(Ids::new(settings.new_id));
        }
        let tail = Tail::recover(dir, &mut segments, ids.as_ref())?;
        let ids = match (ids, &tail.header) {
            (Some(ids), _) => ids,
            (None, header) => {
                let id = header.as_ref().map_or(settings.new_id, |h| SpoolId(h.spool_id));
                directory::write_id(dir, id)?;
                Ids::new(id)
            }
        };
        let file = match tail.file {
            Some(file) => file,
            None => {
                let (segment, file) = new_segment(
                    dir,
                    ids.current,
                    &settings.heading,
                    tail.last_frame + 1,
                    tail.last_crc,
                )?;
                segments.push_back(segment);
                file
            }
        };
        let recovery = Recovery {
            cut_bytes: tail.cut_bytes,
            damaged: tail.damaged,
            segments: segments.len(),
            first_frame: segments[0].first_frame,
            last_frame: tail.last_frame,
        };
        let durable = Durable {
            frame: tail.last_frame,
            crc: tail.last_crc,
            bytes: segments.back().map_or(0, |newest| newest.bytes),
        };
        let journal = Self {
            dir: dir.to_owned(),
            _lock: lock,
            ids,
            settings,
            segments,
            file,
            last_frame: tail.last_frame,
            last_crc: tail.last_crc,
            durable,
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            poison: None,
        };
        Ok((journal, recovery))
    }

    /// Says what the header of the next new segment shall hold.
    pub fn set_heading(&mut self, heading: Heading) {
        self.settings.heading = heading;
    }

    /// Appends a frame and returns its number. It is durable after the next [`Self::sync`].
    ///
    /// # Errors
    /// The payload is too long, or it could not be written; the number is not used up.
    pub fn append(&mut self, kind: FrameKind, payload: Bytes) -> Result<u64, JournalError> {
        self.usable()?;
        let limit = self.settings.max_payload.min(MAX_PAYLOAD);
        if payload.len() > limit {
            return Err(JournalError::TooLong { len: payload.len(), limit });
        }
        if self.unsynced_bytes + payload.len() > self.settings.group_bytes {
            self.sync()?;
        }
        let number = self.last_frame + 1;
        let frame = Frame { kind, flags: CRITICAL, number, message_len: 0, payload };
        if self.newest().bytes + as_u64(frame.encoded_len()) > self.settings.segment_bytes {
            self.seal()?;
        }
        let crc = self.write(&frame)?;
        self.last_frame = number;
        self.last_crc = crc;
        self.unsynced_bytes += frame.payload.len();
        self.unsynced.push_back(frame);
        Ok(number)
    }

    /// Makes every appended frame durable and returns the last one's number. Without new frames it
    /// does nothing.
    ///
    /// # Errors
    /// fdatasync failed, now or earlier. The frames it was for stay in [`Self::unsynced`].
    pub fn sync(&mut self) -> Result<u64, JournalError> {
        self.usable()?;
        if self.durable.frame < self.last_frame {
            let synced = self.file.sync_data();
            if let Err(error) = synced {
                self.poison = Some(format!("fdatasync failed: {error}"));
                return Err(JournalError::io("fdatasync", &self.newest().path)(error));
            }
            self.durable =
                Durable { frame: self.last_frame, crc: self.last_crc, bytes: self.newest().bytes };
            self.unsynced.clear();
            self.unsynced_bytes = 0;
        }
        Ok(self.durable.frame)
    }

    /// Ends the current segment and begins a new one, durably; without a frame in the current one
    /// it does nothing.
    ///
    /// # Errors
    /// As [`Self::sync`], or the new segment could not be made: the current one goes on.
    pub fn seal(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        let next = self.last_frame + 1;
        if self.newest().first_frame == next {
            return Ok(());
        }
        match new_segment(&self.dir, self.ids.current, &self.settings.heading, next, self.last_crc)
        {
            Ok((segment, file)) => {
                self.durable.bytes = segment.bytes;
                self.segments.push_back(segment);
                self.file = file;
                Ok(())
            }
            Err(error) => {
                if self.dir.join(file_name(next)).exists() {
                    // Frames appended here would stand in two segments.
                    self.poison = Some("its half-made successor cannot be removed".to_owned());
                }
                Err(error)
            }
        }
    }

    /// Takes back every frame that is not durable, whose numbers will be used again, and makes a
    /// journal that answers [`JournalError::Poisoned`] usable again if the disk lets it: the newest
    /// segment is cut after its last durable frame, through a descriptor that has seen no error.
    /// Returns the frames, oldest first, for whoever wants to append them again.
    ///
    /// # Errors
    /// The cut could not be made durable; nothing is taken back.
    pub fn retreat(&mut self) -> Result<Vec<Frame>, JournalError> {
        let successor = self.dir.join(file_name(self.last_frame + 1));
        if successor != self.newest().path && successor.exists() {
            fs::remove_file(&successor).map_err(JournalError::io("remove", &successor))?;
            directory::sync(&self.dir)?;
        }
        let Durable { frame, crc, bytes } = self.durable;
        self.file = cut_and_sync(&self.newest().path, bytes)?;
        if let Some(newest) = self.segments.back_mut() {
            newest.bytes = bytes;
        }
        self.last_frame = frame;
        self.last_crc = crc;
        self.unsynced_bytes = 0;
        self.poison = None;
        Ok(self.unsynced.drain(..).collect())
    }

    /// Whether the journal answers [`JournalError::Poisoned`] until [`Self::retreat`] succeeds.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// Deletes every segment whose last frame is at most `frame`, but never the newest.
    ///
    /// # Errors
    /// A segment could not be deleted; it and those behind it are still there.
    pub fn remove_through(&mut self, frame: u64) -> Result<(), JournalError> {
        let mut removed = false;
        while self.segments.get(1).is_some_and(|next| next.first_frame <= frame.saturating_add(1)) {
            let path = &self.segments[0].path;
            fs::remove_file(path).map_err(JournalError::io("remove", path))?;
            self.segments.pop_front();
            removed = true;
        }
        if removed { directory::sync(&self.dir) } else { Ok(()) }
    }

    /// The directory's id: frame numbers mean something only together with it.
    pub fn id(&self) -> SpoolId {
        self.ids.current
    }

    /// Whether the directory has this id, or had it before a [`Self::renew_id`].
    pub fn has_had_id(&self, id: SpoolId) -> bool {
        self.ids.contains(id)
    }

    /// Gives the directory another id, durably: its frames turned out not to be the only ones under
    /// their numbers. Frames and numbers stay; segments made before keep the id of their time in
    /// their heads, which is known to be one of this directory.
    ///
    /// # Errors
    /// It could not be made durable: the journal goes on with the id it has, the next opening finds
    /// that or the new one.
    pub fn renew_id(&mut self, id: SpoolId) -> Result<(), JournalError> {
        let mut in_use = vec![self.ids.current];
        for segment in &self.segments {
            in_use.push(SpoolId(SegmentReader::open(&segment.path)?.header().spool_id));
        }
        // What an attempt that failed left on disk may be in a copy of this directory.
        let on_disk = directory::read_ids(&self.dir)?.map(|ids| ids.current);
        let former = on_disk.into_iter().chain([self.ids.current]).chain(self.ids.former.clone());
        let mut ids = Ids::new(id);
        for known in former.filter(|known| in_use.contains(known) || Some(*known) == on_disk) {
            if !ids.contains(known) {
                ids.former.push(known);
            }
        }
        directory::replace_ids(&self.dir, &ids)?;
        self.ids = ids;
        Ok(())
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The oldest frame on disk; `last_frame() + 1` when there is none.
    pub fn first_frame(&self) -> u64 {
        self.segments[0].first_frame
    }

    /// The newest frame, durable or not; 0: there never was one.
    pub fn last_frame(&self) -> u64 {
        self.last_frame
    }

    /// CRC of the newest frame; 0: it is not known.
    pub fn last_crc(&self) -> u32 {
        self.last_crc
    }

    /// The newest frame that is durable.
    pub fn durable_frame(&self) -> u64 {
        self.durable.frame
    }

    /// The frames that were appended since the last sync, oldest first.
    pub fn unsynced(&self) -> impl ExactSizeIterator<Item = &Frame> {
        self.unsynced.iter()
    }

    /// Size of all segments, in bytes.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The segments, oldest first; the last one is written.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Segment> + '_ {
        let count = self.segments.len();
        (0..count).map(move |at| {
            let next = self.segments.get(at + 1);
            let segment = &self.segments[at];
            Segment {
                path: segment.path.clone(),
                first_frame: segment.first_frame,
                last_frame: next.map_or(self.last_frame, |next| next.first_frame - 1),
                bytes: segment.bytes,
            }
        })
    }

    fn usable(&self) -> Result<(), JournalError> {
        match &self.poison {
            None => Ok(()),
            Some(reason) => Err(JournalError::Poisoned {
                path: self.newest().path.clone(),
                reason: reason.clone(),
            }),
        }
    }

    fn newest(&self) -> &SegmentFile {
        self.segments.back().expect("a journal has a newest segment from its opening on")
    }

    fn write(&mut self, frame: &Frame) -> Result<u32, JournalError> {
        let mut bytes = BytesMut::with_capacity(frame.encoded_len());
        let crc = frame.encode(&mut bytes);
        let end = self.newest().bytes;
        if let Err(error) = self.file.write_all_at(&bytes, end) {
            if let Err(cut) = self.file.set_len(end) {
                self.poison = Some(format!("a short write could not be cut back: {cut}"));
            }
            return Err(JournalError::io("append to", &self.newest().path)(error));
        }
        if let Some(newest) = self.segments.back_mut() {
            newest.bytes = end + as_u64(bytes.len());
        }
        Ok(crc)
    }
}

fn segment_files(dir: &Path) -> Result<VecDeque<SegmentFile>, JournalError> {
    directory::segments(dir)?
        .into_iter()
        .map(|(first_frame, path)| {
            let bytes = fs::metadata(&path).map_err(JournalError::io("examine", &path))?.len();
            Ok(SegmentFile { path, first_frame, bytes })
        })
        .collect()
}

fn new_segment(
    dir: &Path,
    id: SpoolId,
    heading: &Heading,
    first_frame: u64,
    previous_crc: u32,
) -> Result<(SegmentFile, File), JournalError> {
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
    let name = file_name(first_frame);
    let file = directory::create_whole(dir, &name, &bytes)?;
    Ok((SegmentFile { path: dir.join(name), first_frame, bytes: as_u64(bytes.len()) }, file))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_failed_fdatasync_is_final_until_the_journal_has_retreated() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path(), Settings::new(SpoolId(1))).unwrap();
        journal.append(FrameKind::Rows, "one".into()).unwrap();
        journal.sync().unwrap();
        journal.append(FrameKind::Rows, "two".into()).unwrap();
        // A pipe cannot be fdatasynced, which is all that is wanted of a broken disk here.
        let (pipe, _other_end) = std::io::pipe().unwrap();
        journal.file = File::from(OwnedFd::from(pipe));

        let failed = journal.sync().unwrap_err();
        assert!(matches!(failed, JournalError::Io { action: "fdatasync", .. }), "{failed}");
        assert!(journal.is_poisoned());
        for refused in [journal.sync(), journal.append(FrameKind::Rows, "three".into())] {
            assert!(matches!(refused, Err(JournalError::Poisoned { .. })), "{refused:?}");
        }
        assert_eq!((journal.durable_frame(), journal.unsynced().len()), (1, 1));

        let taken_back = journal.retreat().unwrap();
        assert_eq!(taken_back[0].payload, "two");
        assert_eq!(journal.append(FrameKind::Rows, "2.0".into()).unwrap(), 2);
        assert_eq!(journal.sync().unwrap(), 2);
        drop(journal);
        let (_, recovery) = Journal::open(dir.path(), Settings::new(SpoolId(1))).unwrap();
        assert_eq!((recovery.last_frame, recovery.cut_bytes), (2, 0));
    }
}
