//! The directory of a journal: made, locked, named, listed.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use schemas::vocab::SpoolId;

use crate::JournalError;

const ID_FILE: &str = "id";
/// What a file is called until it is whole.
const HALF_MADE: &str = "new";

/// Makes the directory if need be and locks it for as long as the returned file is open.
pub(crate) fn claim(dir: &Path) -> Result<File, JournalError> {
    if !dir.is_dir() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(JournalError::io("create", dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync(parent)?;
        }
    }
    let lock = File::open(dir).map_err(JournalError::io("open", dir))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Locked { path: dir.to_owned() }),
        Err(error) => Err(JournalError::io("lock", dir)(error.into())),
    }
}

/// The ids of a directory: its own, and those it had before that segments may still bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) current: SpoolId,
    /// Newest first.
    pub(crate) former: Vec<SpoolId>,
}

impl Ids {
    pub(crate) fn new(current: SpoolId) -> Self {
        Self { current, former: Vec::new() }
    }

    pub(crate) fn contains(&self, id: SpoolId) -> bool {
        self.current == id || self.former.contains(&id)
    }
}

/// The ids the directory was given; `None`: it has none yet.
pub(crate) fn read_ids(dir: &Path) -> Result<Option<Ids>, JournalError> {
    let path = dir.join(ID_FILE);
    let file = match open_regular(&path) {
        Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        opened => opened?,
    };
    let text = io::read_to_string(file).map_err(JournalError::io("read", &path))?;
    let mut ids = text.trim_end().split('\n').map(|line| {
        line.parse().map_err(|error| JournalError::damaged(&path, 0, format!("{error}")))
    });
    // Splitting gives at least one line.
    let Some(current) = ids.next() else { return Ok(None) };
    Ok(Some(Ids { current: current?, former: ids.collect::<Result<_, _>>()? }))
}

/// Gives the directory its first id, durably.
pub(crate) fn write_id(dir: &Path, id: SpoolId) -> Result<(), JournalError> {
    create_whole(dir, ID_FILE, format!("{id}\n").as_bytes()).map(drop)
}

/// Gives the directory another id, durably. After an error it has the old one or the new one.
pub(crate) fn replace_ids(dir: &Path, ids: &Ids) -> Result<(), JournalError> {
    let all = std::iter::once(&ids.current).chain(&ids.former);
    let text: String = all.map(|id| format!("{id}\n")).collect();
    write_whole(dir, ID_FILE, text.as_bytes()).map(drop)?;
    sync(dir)
}

/// Creates a file that appears under its name only with all of `bytes` on disk, and is durable when
/// this returns. The file is left open for reading and writing.
pub(crate) fn create_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<File, JournalError> {
    write_whole(dir, name, bytes).and_then(|file| sync(dir).map(|()| file)).inspect_err(|_| {
        // The caller learns of the first error; what stays behind here is dealt with by callers
        // who look for the whole file.
        drop(fs::remove_file(dir.join(name)));
    })
}

/// Puts a file that is whole and durable under a name, which is durable when `dir` is synced.
fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<File, JournalError> {
    let half_made = dir.join(format!("{name}.{HALF_MADE}"));
    let write = || {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&half_made)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&half_made, dir.join(name))?;
        Ok(file)
    };
    // What cannot be removed either is left to `remove_half_made`.
    write()
        .inspect_err(|_| drop(fs::remove_file(&half_made)))
        .map_err(JournalError::io("create", &dir.join(name)))
}

/// Removes what an earlier process did not get to finish.
pub(crate) fn remove_half_made(dir: &Path) -> Result<(), JournalError> {
    for entry in entries(dir)? {
        let path = entry.path();
        if path.extension() == Some(OsStr::new(HALF_MADE)) {
            fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// The segments, oldest first: number of the first frame, and path.
pub(crate) fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let mut segments = Vec::new();
    for entry in entries(dir)? {
        let path = entry.path();
        let Some(first) = crate::segment::first_frame_of(&path) else { continue };
        if is_strange(&entry) {
            return Err(JournalError::NotAFile { path });
        }
        segments.push((first, path));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Whether an entry is something else than a regular file or a link to one. What was deleted since
/// it was listed is not strange: opening it will tell.
fn is_strange(entry: &DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => {
            fs::metadata(entry.path()).is_ok_and(|metadata| !metadata.is_file())
        }
        Ok(kind) => !kind.is_file(),
        Err(_) => false,
    }
}

/// Opens a regular file for reading. Anything else is refused; a FIFO's other end, which may never
/// come, is not waited for.
pub(crate) fn open_regular(path: &Path) -> Result<File, JournalError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(JournalError::io("open", path))?;
    let metadata = file.metadata().map_err(JournalError::io("look at", path))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(JournalError::NotAFile { path: path.to_owned() })
    }
}

/// Makes what was created, renamed or removed in `dir` durable.
pub(crate) fn sync(dir: &Path) -> Result<(), JournalError> {
    File::open(dir)
        .and_then(|directory| directory.sync_all())
        .map_err(JournalError::io("fsync", dir))
}

fn entries(dir: &Path) -> Result<Vec<DirEntry>, JournalError> {
    fs::read_dir(dir).and_then(Iterator::collect).map_err(JournalError::io("list", dir))
}
