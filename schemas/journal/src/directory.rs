//! The directory of a journal: made, locked, named, listed.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use schemas::vocab::SpoolId;

use crate::JournalError;
use crate::fs::{Access, Entry, FileSystem, Kind, Lock, OpenFile};

const ID_FILE: &str = "id";
/// What a file is called until it is whole.
const HALF_MADE: &str = "new";
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Makes the directory if need be and locks it for as long as the returned value lives.
pub(crate) fn claim(fs: &dyn FileSystem, dir: &Path) -> Result<Box<dyn Lock>, JournalError> {
    make(fs, dir)?;
    sync_way_to(fs, dir)?;
    match fs.lock_directory(dir) {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(JournalError::Locked { path: dir.to_owned() })
        }
        Err(error) => Err(JournalError::io("lock", dir)(error)),
    }
}

/// Makes a directory and those above it.
fn make(fs: &dyn FileSystem, dir: &Path) -> Result<(), JournalError> {
    if fs.metadata(dir).is_ok_and(|found| found.kind == Kind::Directory) {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make(fs, parent)?;
    }
    fs.create_directory(dir, DIRECTORY_MODE).map_err(JournalError::io("create", dir))
}

/// Makes the names on the way to a directory durable, whoever made them: who did may have died
/// before that. Those that we may not see were not made by us.
fn sync_way_to(fs: &dyn FileSystem, dir: &Path) -> Result<(), JournalError> {
    for above in dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match fs.sync_directory(above) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced.map_err(JournalError::io("fsync", above))?,
        }
    }
    Ok(())
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
pub(crate) fn read_ids(fs: &dyn FileSystem, dir: &Path) -> Result<Option<Ids>, JournalError> {
    let path = dir.join(ID_FILE);
    let text = match fs.read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(refused("read", &path))?,
    };
    let text = String::from_utf8_lossy(&text);
    let mut ids = text.trim_end().split('\n').map(|line| {
        line.parse().map_err(|error| JournalError::damaged(&path, 0, format!("{error}")))
    });
    // Splitting gives at least one line.
    let Some(current) = ids.next() else { return Ok(None) };
    Ok(Some(Ids { current: current?, former: ids.collect::<Result<_, _>>()? }))
}

/// Gives the directory its first id, durably.
pub(crate) fn write_id(fs: &dyn FileSystem, dir: &Path, id: SpoolId) -> Result<(), JournalError> {
    replace_ids(fs, dir, &Ids::new(id))
}

/// Gives the directory another id, durably. After an error it has the old one or the new one.
pub(crate) fn replace_ids(fs: &dyn FileSystem, dir: &Path, ids: &Ids) -> Result<(), JournalError> {
    let all = std::iter::once(&ids.current).chain(&ids.former);
    let text: String = all.map(|id| format!("{id}\n")).collect();
    write_whole(fs, dir, ID_FILE, text.as_bytes()).map(drop)?;
    sync(fs, dir)
}

/// Puts a file that is whole and durable under a name, which is durable when `dir` is synced. The
/// file is left open for reading and writing.
pub(crate) fn write_whole(
    fs: &dyn FileSystem,
    dir: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<Box<dyn OpenFile>, JournalError> {
    let half_made = dir.join(format!("{name}.{HALF_MADE}"));
    let write = || {
        fs.remove_if_there(&half_made)?;
        let file = fs.create_new(&half_made, FILE_MODE)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        fs.rename(&half_made, &dir.join(name))?;
        Ok(file)
    };
    // What cannot be removed either is left to `remove_half_made`.
    write()
        .inspect_err(|_| drop(fs.remove(&half_made)))
        .map_err(JournalError::io("create", &dir.join(name)))
}

/// Removes what an earlier process did not get to finish.
pub(crate) fn remove_half_made(fs: &dyn FileSystem, dir: &Path) -> Result<(), JournalError> {
    for Entry { path, .. } in entries(fs, dir)? {
        if path.extension() == Some(OsStr::new(HALF_MADE)) {
            fs.remove(&path).map_err(JournalError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// The segments, oldest first: number of the first frame, and path.
pub(crate) fn segments(
    fs: &dyn FileSystem,
    dir: &Path,
) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let mut segments = Vec::new();
    for Entry { path, kind } in entries(fs, dir)? {
        let Some(first) = crate::segment::first_frame_of(&path) else { continue };
        if kind != Kind::File {
            return Err(JournalError::NotAFile { path });
        }
        segments.push((first, path));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Opens a regular file. Anything else is refused; a FIFO's other end, which may never come, is not
/// waited for.
pub(crate) fn open(
    fs: &dyn FileSystem,
    path: &Path,
    access: Access,
) -> Result<Box<dyn OpenFile>, JournalError> {
    fs.open(path, access).map_err(refused("open", path))
}

/// Makes what was created, renamed or removed in `dir` durable.
pub(crate) fn sync(fs: &dyn FileSystem, dir: &Path) -> Result<(), JournalError> {
    fs.sync_directory(dir).map_err(JournalError::io("fsync", dir))
}

/// As [`JournalError::io`], for what may turn out to be no regular file.
fn refused(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::InvalidInput => JournalError::NotAFile { path },
        _ => JournalError::io(action, &path)(error),
    }
}

pub(crate) fn entries(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<Entry>, JournalError> {
    fs.list(dir).map_err(JournalError::io("list", dir))
}
