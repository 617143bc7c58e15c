//! A disk in memory that knows what is durable, and can be made to fail or crash at any operation.
//!
//! Every call through [`FileSystem`] or [`OpenFile`] is one operation. A test counts those of a run
//! without trouble, then repeats the run once for each of them with a [`Fault`] planned there, and
//! looks at what [`SimulatedDisk::survivors`] gives. The same calls, faults and seeds always give
//! the same disk.
//!
//! Paths are absolute; the root directory is there from the start.

mod content;
mod names;
mod state;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::state::State;
use super::{Access, Entry, FileSystem, Lock, Metadata, OpenFile};

/// A disk in memory. Clones are handles on the same disk.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// ENOSPC; nothing is done. At a sync as [`Fault::Io`].
    Full,
    /// EIO; nothing is done. At the sync of a file what was written since the last one is marked
    /// clean, as Linux does it: it can be read until a power loss, and no later sync makes it
    /// durable.
    Io,
    /// As [`Fault::Io`], but what the sync was for is gone at once: the file reads as the disk has
    /// it, with zeros behind that up to its length.
    Evicted,
    /// A write takes half of its bytes and says so. Any other operation: as [`Fault::Io`].
    Short,
    /// A hard link is made and reported as failed (EIO), as a disk behind a network may. Any other
    /// operation: as [`Fault::Io`].
    Unsaid,
    /// The process dies, or the machine, before the operation; all later ones fail.
    Crash,
    /// As [`Fault::Crash`], but only after the operation is done, or half done if it is a write.
    CrashWithin,
}

impl Fault {
    /// Every fault that leaves the process alive.
    pub const SURVIVABLE: [Self; 5] =
        [Self::Full, Self::Io, Self::Evicted, Self::Short, Self::Unsaid];

    /// Every fault.
    pub const ALL: [Self; 7] = [
        Self::Full,
        Self::Io,
        Self::Evicted,
        Self::Short,
        Self::Unsaid,
        Self::Crash,
        Self::CrashWithin,
    ];

    fn error(self) -> io::Error {
        match self {
            Self::Full => rustix::io::Errno::NOSPC.into(),
            Self::Io | Self::Evicted | Self::Short | Self::Unsaid => rustix::io::Errno::IO.into(),
            Self::Crash | Self::CrashWithin => io::Error::other("the machine has crashed"),
        }
    }
}

/// What a disk is looked at after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The process died: all that was done is there, durable or not.
    Kill,
    /// The machine died. What is durable is there.
    PowerLoss {
        /// Decides over the rest: 0 loses it, 1 keeps it, any other number loses, keeps or tears
        /// each write by chance, and loses or keeps each name.
        seed: u64,
    },
}

/// An operation that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.path.display())
    }
}

impl SimulatedDisk {
    /// An empty disk without bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds the bytes that all files together may hold or reserve; `None`: no bound. A write takes
    /// what fits and fails when nothing does.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().set_capacity(bytes);
    }

    /// Plans a fault for the `nth` operation from now; 1 is the next one.
    ///
    /// # Panics
    /// `nth` is 0.
    pub fn plan(&self, nth: usize, fault: Fault) {
        assert!(nth > 0, "the operation before the next one is over");
        self.state().plan(nth, fault);
    }

    /// Forgets the faults that were planned and have not come.
    pub fn forget_plans(&self) {
        self.state().forget_plans();
    }

    /// The operations so far, refused ones too; none are counted behind a crash.
    pub fn operations(&self) -> Vec<Operation> {
        self.state().operations().to_vec()
    }

    /// Whether a planned crash has come.
    pub fn has_crashed(&self) -> bool {
        self.state().has_crashed()
    }

    /// The disk as the next process finds it: without locks, plans and counted operations. This one
    /// stays as it is.
    #[must_use]
    pub fn survivors(&self, after: After) -> Self {
        Self { state: Arc::new(Mutex::new(self.state().survivors(after))) }
    }

    /// Every file, in order. No operation.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().files()
    }

    /// What a file holds for a reader. No operation.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.state().content(path)
    }

    /// Changes a file behind everybody's back, durably; one that is not there is made. No operation.
    ///
    /// # Panics
    /// There is no directory for it, or a directory has its name.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        self.state().tamper(path, change);
    }

    /// No operation leaves a state behind that the next could not stand on, so that a test which
    /// panicked amid one spoils nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, path: &Path, file: usize, access: Access) -> Box<dyn OpenFile> {
        Box::new(Handle { disk: self.clone(), path: path.to_owned(), file, access })
    }
}

impl FileSystem for SimulatedDisk {
    fn create_new(&self, path: &Path, _mode: u32) -> io::Result<Box<dyn OpenFile>> {
        let file = self.state().create_new(path)?;
        Ok(self.handle(path, file, Access::ReadWrite))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn OpenFile>> {
        let file = self.state().open(path)?;
        Ok(self.handle(path, file, access))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().rename(from, to)
    }

    fn hard_link(&self, original: &Path, link: &Path) -> io::Result<()> {
        self.state().hard_link(original, link)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().remove(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.state().list(directory)
    }

    fn create_directory(&self, path: &Path, _mode: u32) -> io::Result<()> {
        self.state().create_directory(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.state().remove_directory(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.state().sync_directory(directory)
    }

    fn lock_directory(&self, directory: &Path) -> io::Result<Box<dyn Lock>> {
        self.state().lock(directory)?;
        Ok(Box::new(Locked { disk: self.clone(), directory: directory.to_owned() }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.state().metadata(path)
    }
}

#[derive(Debug)]
struct Locked {
    disk: SimulatedDisk,
    directory: PathBuf,
}

impl Lock for Locked {}

impl Drop for Locked {
    fn drop(&mut self) {
        self.disk.state().unlock(&self.directory);
    }
}

#[derive(Debug)]
struct Handle {
    disk: SimulatedDisk,
    /// As it was opened; for people.
    path: PathBuf,
    file: usize,
    access: Access,
}

impl Handle {
    fn writable(&self) -> io::Result<()> {
        match self.access {
            Access::Read => Err(rustix::io::Errno::BADF.into()),
            Access::ReadWrite => Ok(()),
        }
    }
}

impl OpenFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.state().read_at(&self.path, self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.writable()?;
        self.disk.state().write_at(&self.path, self.file, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.disk.state().set_len(&self.path, self.file, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.disk.state().allocate(&self.path, self.file, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.state().sync("fdatasync", &self.path, self.file)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.state().sync("fsync", &self.path, self.file)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.disk.state().is_at(path, self.file)
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.state().len(&self.path, self.file)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disk.state().close(self.file);
    }
}
