//! What stands between us and a disk, so that every promise about crashes can be put to the test.
//!
//! Whoever writes something that must outlive its process does so through an
//! `Arc<dyn FileSystem>`: [`Disk`] in production, [`SimulatedDisk`] in tests, which knows what is
//! durable, fails where it is told to, and gives what is left after a kill or a power loss.
//!
//! The contract is POSIX at its strictest: what was written is durable after
//! [`OpenFile::sync_data`], a name that was made, changed or removed after
//! [`FileSystem::sync_directory`] of the directory that holds it (for a rename, of both), and
//! nothing is before. After a sync that failed nobody knows what is durable, and asking again does
//! not tell: the kernel reports an error once and may drop what it could not write.
//!
//! Owners, modes of what exists already, and times are no matter of crashes and no part of this.
//!
//! The simulated disk is an ordinary public module, neither a feature nor test code of this crate:
//! the tests of other packages stand on it as well, and a feature that only their tests ask for
//! would change what a build of the whole workspace compiles. A binary that does not name it does
//! not contain it.

mod disk;
mod simulated;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

pub use disk::Disk;
pub use simulated::{After, Fault, Operation, SimulatedDisk};

/// A tree of directories and files.
pub trait FileSystem: Debug + Send + Sync {
    /// Makes a regular file that was not there and opens it for reading and writing. `mode` are its
    /// permissions, which the umask narrows.
    ///
    /// # Errors
    /// `AlreadyExists`, among others.
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<Box<dyn OpenFile>>;

    /// Opens a regular file for reading and writing, or for reading alone. Never waits for the other
    /// end of a FIFO.
    ///
    /// # Errors
    /// `InvalidInput`: it is no regular file. `NotFound`, among others.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn OpenFile>>;

    /// Everything that a regular file holds.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Access::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], as_u64(filled))? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Gives what is called `from` the name `to`, which is replaced if it is there.
    ///
    /// # Errors
    /// `NotFound`, among others.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file one more name.
    ///
    /// # Errors
    /// `AlreadyExists`: `link` is there; it is never replaced.
    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()>;

    /// Removes a name of a file. The file's room is free when it has no name and nobody has it open.
    ///
    /// # Errors
    /// `NotFound`, among others.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// As [`Self::remove`], for a file that may not be there; whether it was.
    ///
    /// # Errors
    /// As [`Self::remove`].
    fn remove_if_there(&self, path: &Path) -> io::Result<bool> {
        match self.remove(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a directory holds, in no order.
    ///
    /// # Errors
    /// `NotFound`, among others.
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>>;

    /// Makes a directory in one that exists.
    ///
    /// # Errors
    /// `AlreadyExists`, among others.
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `DirectoryNotEmpty`, among others.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes durable what was created, renamed or removed in a directory.
    ///
    /// # Errors
    /// The directory cannot be opened or fsynced.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Locks a directory for as long as the returned value lives.
    ///
    /// # Errors
    /// `WouldBlock`: somebody else has the lock.
    fn lock_directory(&self, directory: &Path) -> io::Result<Box<dyn Lock>>;

    /// What a path leads to; symbolic links are followed.
    ///
    /// # Errors
    /// `NotFound`, among others.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Whether a path leads to something. A path that cannot be asked leads to nothing.
    fn exists(&self, path: &Path) -> bool {
        self.metadata(path).is_ok()
    }
}

/// A regular file that is open. Dropping it closes it and makes nothing durable.
#[expect(clippy::len_without_is_empty, reason = "a file is asked for its length, as in std")]
pub trait OpenFile: Debug + Send + Sync {
    /// Reads what stands at `offset`; 0 at and beyond the end.
    ///
    /// # Errors
    /// As pread(2).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of `bytes` at `offset`, and returns how many: not all of them where the disk is
    /// full behind those.
    ///
    /// # Errors
    /// As pwrite(2).
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As [`Self::write_at`]; an unknown part of the bytes is written then.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += as_u64(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Cuts the file, and gives up the room behind, or extends it with zeros.
    ///
    /// # Errors
    /// As ftruncate(2).
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves room for the first `len` bytes, so that writes there cannot find the disk full. The
    /// file's length stays as it is. Does nothing where the file system cannot do it.
    ///
    /// # Errors
    /// `StorageFull`, among others; the file may keep a part of the room.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Makes durable what was written, and as much of the length as reading it takes.
    ///
    /// # Errors
    /// As fdatasync(2). What was written since the last success may be lost, whatever a later call
    /// says.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`Self::sync_data`], with all that is known about the file.
    ///
    /// # Errors
    /// As [`Self::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Whether `path` leads to this very file.
    ///
    /// # Errors
    /// `NotFound`: it leads to nothing.
    fn is_at(&self, path: &Path) -> io::Result<bool>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// As fstat(2).
    fn len(&self) -> io::Result<u64>;
}

/// What holds a lock until it is dropped.
pub trait Lock: Debug + Send + Sync {}

/// What an open file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The directory's path and the name in it.
    pub path: PathBuf,
    /// What it is, or what it links to.
    pub kind: Kind,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else, a link to nothing among it.
    Other,
}

/// What is known about a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Its length in bytes; of meaning for a regular file alone.
    pub len: u64,
}

/// Writes a file from its beginning, for what takes an [`io::Write`]. It buffers nothing.
#[derive(Debug)]
pub struct Sequential {
    file: Box<dyn OpenFile>,
    at: u64,
}

impl Sequential {
    /// Writes `file` from its beginning.
    pub fn new(file: Box<dyn OpenFile>) -> Self {
        Self { file, at: 0 }
    }

    /// Bytes written.
    pub fn written(&self) -> u64 {
        self.at
    }

    /// The file.
    pub fn into_inner(self) -> Box<dyn OpenFile> {
        self.file
    }
}

impl io::Write for Sequential {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.at += as_u64(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A length in memory as a length in a file.
pub(crate) fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
