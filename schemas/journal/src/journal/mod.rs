//! The journal as its one writer has it.

mod repair;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use schemas::vocab::SpoolId;
use schemas::wire::{CRITICAL, Frame, FrameKind, SETTLED};

pub use repair::Mended;

use crate::directory::Ids;
use crate::fs::{Disk, FileSystem, Lock, OpenFile, as_u64};
use crate::reader::Scan;
use crate::recovery::Tail;
use crate::segment::{SegmentReader, encode_header, file_name};
use crate::{Heading, JournalError, MAX_PAYLOAD, Recovery, Settings, directory};

/// How far ahead of the last frame room is reserved in the newest segment, in bytes: a disk that is
/// full refuses that, and not a part of a frame.
const RESERVE_AHEAD: u64 = 1 << 20;
/// What a failed fdatasync may have spoiled begins at a multiple of this many bytes: no page that
/// memory is written to disk by is larger.
const PAGE: u64 = 64 << 10;

/// A journal that is open for appending. Dropping it does not sync.
#[derive(Debug)]
pub struct Journal {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    /// Held for its lock.
    _lock: Box<dyn Lock>,
    ids: Ids,
    settings: Settings,
    /// Oldest first; never empty; the last one is written.
    segments: VecDeque<SegmentFile>,
    file: Box<dyn OpenFile>,
    /// Bytes of the newest segment that have room for certain.
    reserved: u64,
    last_frame: u64,
    last_crc: u32,
    durable: Durable,
    /// The end of the newest segment, from the last page on that is durable as a whole.
    end: BytesMut,
    unsynced: VecDeque<Frame>,
    unsynced_bytes: usize,
    poison: Option<String>,
    /// A segment was deleted, which is not durable yet.
    removal_unsynced: bool,
}

/// The last frame that is durable, and where it ends in the newest segment.
#[derive(Debug, Clone, Copy, Default)]
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
    /// Opens the journal in `dir` on this machine's disk, creating it if need be. Everything found
    /// is durable.
    ///
    /// # Errors
    /// It is open elsewhere, it cannot be read or written, or a newer version wrote it.
    pub fn open(dir: &Path, settings: Settings) -> Result<(Self, Recovery), JournalError> {
        Self::open_on(Arc::new(Disk), dir, settings)
    }

    /// As [`Self::open`], on any file system.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        settings: Settings,
    ) -> Result<(Self, Recovery), JournalError> {
        let lock = directory::claim(&*fs, dir)?;
        directory::remove_half_made(&*fs, dir)?;
        let mut segments = segment_files(&*fs, dir)?;
        let mut ids = directory::read_ids(&*fs, dir)?;
        if ids.is_none() && segments.is_empty() {
            directory::write_id(&*fs, dir, settings.new_id)?;
            ids = Some(Ids::new(settings.new_id));
        }
        let tail = Tail::recover(&*fs, dir, &mut segments, ids.as_ref(), settings.new_id)?;
        let ids = match ids {
            Some(ids) => ids,
            None => {
                let id = tail.newest.as_ref().map_or(settings.new_id, |newest| newest.id);
                directory::write_id(&*fs, dir, id)?;
                Ids::new(id)
            }
        };
        let (file, bytes) = match tail.newest {
            Some(newest) => (newest.file, newest.bytes),
            None => {
                let next = tail.last_frame + 1;
                let head = encode_header(ids.current, next, tail.last_crc, &settings.heading);
                let (segment, file) = new_segment(&*fs, dir, next, &head)?;
                segments.push_back(segment);
                (file, head.to_vec())
            }
        };
        // Names may have been found that no fsync has made durable yet.
        directory::sync(&*fs, dir)?;
        let recovery = Recovery {
            cut_bytes: tail.cut_bytes,
            cut_frames: tail.cut_frames,
            damaged: tail.damaged,
            segments: segments.len(),
            first_frame: segments[0].first_frame,
            last_frame: tail.last_frame,
        };
        let mut journal = Self {
            fs,
            dir: dir.to_owned(),
            _lock: lock,
            ids,
            settings,
            segments,
            file,
            reserved: as_u64(bytes.len()),
            last_frame: tail.last_frame,
            last_crc: tail.last_crc,
            durable: Durable::default(),
            end: BytesMut::new(),
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            poison: None,
            removal_unsynced: false,
        };
        journal.keep_end_of(&bytes);
        journal.all_is_durable();
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
        let mut frame = Frame { kind, flags: CRITICAL, number, message_len: 0, payload };
        if self.newest().bytes + as_u64(frame.encoded_len()) > self.settings.segment_bytes {
            self.seal()?;
        }
        if self.durable.frame == self.last_frame {
            frame.flags |= SETTLED;
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
            self.all_is_durable();
        }
        Ok(self.durable.frame)
    }

    fn all_is_durable(&mut self) {
        let bytes = self.newest().bytes;
        self.durable = Durable { frame: self.last_frame, crc: self.last_crc, bytes };
        self.unsynced.clear();
        self.unsynced_bytes = 0;
        let passed = self.end.len().saturating_sub(in_last_page(bytes));
        // Not split off: its memory is what the next frames are encoded in.
        self.end.advance(passed);
    }

    /// Keeps the last page of the newest segment, which is durable and holds `bytes`.
    fn keep_end_of(&mut self, bytes: &[u8]) {
        let passed = bytes.len() - in_last_page(as_u64(bytes.len()));
        self.end = BytesMut::from(&bytes[passed..]);
    }

    /// Whether a segment that could not be made is not there, and will not be.
    fn is_gone(&self, segment: &Path) -> bool {
        match self.fs.remove_if_there(segment) {
            Ok(true) => self.fs.sync_directory(&self.dir).is_ok(),
            Ok(false) => true,
            Err(_) => false,
        }
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
        let head = encode_header(self.ids.current, next, self.last_crc, &self.settings.heading);
        let (segment, file) = match new_segment(&*self.fs, &self.dir, next, &head) {
            Ok(made) => made,
            Err(error) => {
                if !self.is_gone(&self.dir.join(file_name(next))) {
                    // Frames appended here would stand in two segments.
                    self.poison = Some("its half-made successor cannot be removed".to_owned());
                }
                return Err(error);
            }
        };
        // What was reserved for it and not used is free again. Whether that works is of no weight.
        drop(self.file.set_len(self.newest().bytes));
        self.reserved = segment.bytes;
        self.segments.push_back(segment);
        self.file = file;
        self.keep_end_of(&head);
        self.all_is_durable();
        Ok(())
    }

    /// Whether the journal answers [`JournalError::Poisoned`] until [`Self::retreat`] succeeds.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// Deletes every segment whose last frame is at most `frame`, but never the newest. Each is gone
    /// durably before the next goes: a power loss that brought back one in front of a gap would
    /// look like damage.
    ///
    /// # Errors
    /// A segment could not be deleted; it and those behind it are still there.
    pub fn remove_through(&mut self, frame: u64) -> Result<(), JournalError> {
        self.sync_removal()?;
        while self.segments.get(1).is_some_and(|next| next.first_frame <= frame.saturating_add(1)) {
            let path = &self.segments[0].path;
            self.fs.remove(path).map_err(JournalError::io("remove", path))?;
            self.segments.pop_front();
            self.removal_unsynced = true;
            self.sync_removal()?;
        }
        Ok(())
    }

    fn sync_removal(&mut self) -> Result<(), JournalError> {
        if self.removal_unsynced {
            directory::sync(&*self.fs, &self.dir)?;
            self.removal_unsynced = false;
        }
        Ok(())
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
            in_use
                .push(SpoolId(SegmentReader::open_on(&*self.fs, &segment.path)?.header().spool_id));
        }
        // What an attempt that failed left on disk may be in a copy of this directory.
        let on_disk = directory::read_ids(&*self.fs, &self.dir)?.map(|ids| ids.current);
        let former = on_disk.into_iter().chain([self.ids.current]).chain(self.ids.former.clone());
        let mut ids = Ids::new(id);
        for known in former.filter(|known| in_use.contains(known) || Some(*known) == on_disk) {
            if !ids.contains(known) {
                ids.former.push(known);
            }
        }
        directory::replace_ids(&*self.fs, &self.dir, &ids)?;
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

    /// Goes over everything that was appended, oldest first.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn scan(&self) -> Result<Scan, JournalError> {
        Scan::through(Arc::clone(&self.fs), &self.dir, self.last_frame)
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
        let end = self.newest().bytes;
        let new_end = end + as_u64(frame.encoded_len());
        if new_end > self.reserved {
            let ahead = (self.reserved + RESERVE_AHEAD).min(self.settings.segment_bytes);
            let reserved = new_end.max(ahead);
            let action = "reserve room in";
            self.file.allocate(reserved).map_err(JournalError::io(action, &self.newest().path))?;
            self.reserved = reserved;
        }
        let kept = self.end.len();
        let crc = frame.encode(&mut self.end);
        if let Err(error) = self.file.write_all_at(&self.end[kept..], end) {
            self.end.truncate(kept);
            self.reserved = end;
            if let Err(cut) = self.file.set_len(end) {
                self.poison = Some(format!("a short write could not be cut back: {cut}"));
            }
            return Err(JournalError::io("append to", &self.newest().path)(error));
        }
        if let Some(newest) = self.segments.back_mut() {
            newest.bytes = new_end;
        }
        Ok(crc)
    }
}

/// How many of a file's first `bytes` bytes are in the page that it ends in.
fn in_last_page(bytes: u64) -> usize {
    usize::try_from(bytes % PAGE).unwrap_or(usize::MAX)
}

fn segment_files(fs: &dyn FileSystem, dir: &Path) -> Result<VecDeque<SegmentFile>, JournalError> {
    directory::segments(fs, dir)?
        .into_iter()
        .map(|(first_frame, path)| {
            let bytes = fs.metadata(&path).map_err(JournalError::io("examine", &path))?.len;
            Ok(SegmentFile { path, first_frame, bytes })
        })
        .collect()
}

/// Makes a segment, durably; `head` is all that it holds.
fn new_segment(
    fs: &dyn FileSystem,
    dir: &Path,
    first_frame: u64,
    head: &[u8],
) -> Result<(SegmentFile, Box<dyn OpenFile>), JournalError> {
    let name = file_name(first_frame);
    let file = directory::write_whole(fs, dir, &name, head)?;
    directory::sync(fs, dir)?;
    Ok((SegmentFile { path: dir.join(name), first_frame, bytes: as_u64(head.len()) }, file))
}
