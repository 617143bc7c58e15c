//! The directory of a journal: made, locked, named, listed.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
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

/// The id the directory was given when it was made; `None`: it has none yet.
pub(crate) fn read_id(dir: &Path) -> Result<Option<SpoolId>, JournalError> {
    let path = dir.join(ID_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => text
            .trim_end()
            .parse()
            .map(Some)
            .map_err(|error| JournalError::damaged(&path, 0, format!("{error}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::io("read", &path)(error)),
    }
}

/// Gives the directory its id, durably.
pub(crate) fn write_id(dir: &Path, id: SpoolId) -> Result<(), JournalError> {
    create_whole(dir, ID_FILE, format!("{id}\n").as_bytes()).map(drop)
}

/// Creates a file that appears under its name only with all of `bytes` on disk, and is durable when
/// this returns. The file is left open for reading and writing.
pub(crate) fn create_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<File, JournalError> {
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
    let made = write().map_err(JournalError::io("create", &dir.join(name)));
    made.and_then(|file| sync(dir).map(|()| file)).inspect_err(|_| {
        // The caller learns of the first error; what stays behind here is dealt with by
        // `remove_half_made`, and by callers who look for the whole file.
        drop(fs::remove_file(&half_made));
        drop(fs::remove_file(dir.join(name)));
    })
}

/// Removes what an earlier process did not get to finish.
pub(crate) fn remove_half_made(dir: &Path) -> Result<(), JournalError> {
    for path in paths(dir)? {
        if path.extension() == Some(OsStr::new(HALF_MADE)) {
            fs::remove_file(&path).map_err(JournalError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// The segments, oldest first: number of the first frame, and path.
pub(crate) fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let mut segments: Vec<_> = paths(dir)?
        .into_iter()
        .filter_map(|path| Some((crate::segment::first_frame_of(&path)?, path)))
        .collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Makes what was created, renamed or removed in `dir` durable.
pub(crate) fn sync(dir: &Path) -> Result<(), JournalError> {
    File::open(dir)
        .and_then(|directory| directory.sync_all())
        .map_err(JournalError::io("fsync", dir))
}

fn paths(dir: &Path) -> Result<Vec<PathBuf>, JournalError> {
    fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(JournalError::io("list", dir))
}
