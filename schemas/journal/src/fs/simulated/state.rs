//! The disk itself: each operation with its faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::content::Content;
use super::names::{Names, Node};
use super::{After, Fault, Operation};
use crate::fs::{Entry, Kind, Metadata, as_u64};

#[derive(Debug, Default)]
pub(super) struct State {
    names: Names,
    /// By number. A file without name and descriptor keeps its number and takes no room.
    files: Vec<Content>,
    locks: BTreeSet<PathBuf>,
    capacity: Option<usize>,
    /// Faults by the number of the operation.
    plan: BTreeMap<usize, Fault>,
    operations: Vec<Operation>,
    crashed: bool,
}

impl State {
    pub(super) fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes.map(length);
    }

    pub(super) fn plan(&mut self, nth: usize, fault: Fault) {
        self.plan.insert(self.operations.len() + nth, fault);
    }

    pub(super) fn forget_plans(&mut self) {
        self.plan.clear();
    }

    pub(super) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    pub(super) fn has_crashed(&self) -> bool {
        self.crashed
    }

    pub(super) fn survivors(&self, after: After) -> Self {
        // Each file draws its own luck.
        let luck = |file: usize| match after {
            After::PowerLoss { seed } if seed > 1 => {
                After::PowerLoss { seed: seed.wrapping_mul(31).wrapping_add(as_u64(file)).max(2) }
            }
            other => other,
        };
        let files = self.files.iter().enumerate();
        Self {
            names: self.names.survivors(after),
            files: files.map(|(file, content)| content.survivor(luck(file))).collect(),
            capacity: self.capacity,
            ..Self::default()
        }
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.names.files().map(|(path, _)| path.to_owned()).collect()
    }

    pub(super) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.names.file(path).ok().map(|file| self.files[file].cached().to_vec())
    }

    pub(super) fn tamper(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.content(path).unwrap_or_default();
        change(&mut bytes);
        let file = match self.names.file(path) {
            Ok(file) => file,
            Err(_) => {
                self.names.vacant(path).expect("a tampered file has a directory to be in");
                self.files.push(Content::default());
                self.names.plant(path, Node::File(self.files.len() - 1));
                self.files.len() - 1
            }
        };
        let opened = self.files[file].opened;
        self.files[file] = Content::of(bytes);
        self.files[file].opened = opened;
    }

    // === operations on names ===

    pub(super) fn create_new(&mut self, path: &Path) -> io::Result<usize> {
        self.operation("create", path, |state| {
            state.names.vacant(path)?;
            state.files.push(Content::default());
            let file = state.files.len() - 1;
            state.files[file].opened = 1;
            state.names.add(path, Node::File(file));
            Ok(file)
        })
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<usize> {
        self.operation("open", path, |state| {
            let file = state.names.file(path)?;
            state.files[file].opened += 1;
            Ok(file)
        })
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation("rename", from, |state| {
            let file = state.names.file(from)?;
            match state.names.vacant(to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // rename(2): two names of one file are left alone.
                    if state.names.file(to)? == file {
                        return Ok(());
                    }
                }
                vacant => vacant?,
            }
            state.names.rename(from, to, file);
            Ok(())
        })
    }

    pub(super) fn hard_link(&mut self, original: &Path, link: &Path) -> io::Result<()> {
        self.done_unsaid("link", link, |state| {
            let file = state.names.file(original)?;
            state.names.vacant(link)?;
            state.names.add(link, Node::File(file));
            Ok(())
        })
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.operation("remove", path, |state| {
            state.names.file(path)?;
            state.names.remove(path);
            Ok(())
        })
    }

    pub(super) fn list(&mut self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.operation("list", directory, |state| {
            state.names.directory(directory)?;
            let entries = state.names.within(directory);
            Ok(entries
                .map(|(path, node)| Entry { path: path.to_owned(), kind: kind(node) })
                .collect())
        })
    }

    pub(super) fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.operation("create directory", path, |state| {
            state.names.vacant(path)?;
            state.names.add(path, Node::Directory);
            Ok(())
        })
    }

    pub(super) fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        self.operation("remove directory", path, |state| {
            state.names.directory(path)?;
            if state.names.within(path).next().is_some() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            state.names.remove(path);
            Ok(())
        })
    }

    pub(super) fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        self.operation("fsync directory", directory, |state| {
            state.names.directory(directory)?;
            state.names.sync(directory);
            Ok(())
        })
    }

    pub(super) fn lock(&mut self, directory: &Path) -> io::Result<()> {
        self.operation("lock", directory, |state| {
            state.names.directory(directory)?;
            match state.locks.insert(directory.to_owned()) {
                true => Ok(()),
                false => Err(io::ErrorKind::WouldBlock.into()),
            }
        })
    }

    pub(super) fn unlock(&mut self, directory: &Path) {
        self.locks.remove(directory);
    }

    pub(super) fn metadata(&mut self, path: &Path) -> io::Result<Metadata> {
        self.operation("examine", path, |state| {
            let node = state.names.get(path)?;
            let len = match node {
                Node::Directory => 0,
                Node::File(file) => as_u64(state.files[file].cached().len()),
            };
            Ok(Metadata { kind: kind(node), len })
        })
    }

    // === operations on files ===

    pub(super) fn read_at(
        &mut self,
        path: &Path,
        file: usize,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        self.operation("read", path, |state| Ok(state.files[file].read(buffer, length(offset))))
    }

    pub(super) fn write_at(
        &mut self,
        path: &Path,
        file: usize,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<usize> {
        let offset = length(offset);
        match self.begin("write", path)? {
            None => self.write_what_fits(file, bytes, offset),
            Some(Fault::Short) => self.write_what_fits(file, &bytes[..bytes.len() / 2], offset),
            Some(Fault::CrashWithin) => {
                drop(self.write_what_fits(file, &bytes[..bytes.len() / 2], offset));
                Err(Fault::CrashWithin.error())
            }
            Some(fault) => Err(fault.error()),
        }
    }

    fn write_what_fits(&mut self, file: usize, bytes: &[u8], offset: usize) -> io::Result<usize> {
        let room = self.free_room().saturating_add(self.files[file].room());
        let fitting = bytes.len().min(room.saturating_sub(offset));
        if fitting == 0 && !bytes.is_empty() {
            return Err(Fault::Full.error());
        }
        self.files[file].write(offset, &bytes[..fitting]);
        Ok(fitting)
    }

    pub(super) fn set_len(&mut self, path: &Path, file: usize, len: u64) -> io::Result<()> {
        self.operation("truncate", path, |state| {
            state.files[file].set_len(length(len));
            Ok(())
        })
    }

    pub(super) fn allocate(&mut self, path: &Path, file: usize, len: u64) -> io::Result<()> {
        self.operation("allocate", path, |state| {
            let room = state.free_room().saturating_add(state.files[file].room());
            if length(len) > room {
                return Err(Fault::Full.error());
            }
            state.files[file].allocate(length(len));
            Ok(())
        })
    }

    pub(super) fn sync(
        &mut self,
        action: &'static str,
        path: &Path,
        file: usize,
    ) -> io::Result<()> {
        match self.begin(action, path)? {
            None => self.files[file].sync(),
            Some(Fault::CrashWithin) => {
                self.files[file].sync();
                return Err(Fault::CrashWithin.error());
            }
            Some(fault) => {
                self.files[file].lose_unsynced(fault == Fault::Evicted);
                return Err(Fault::Io.error());
            }
        }
        Ok(())
    }

    pub(super) fn is_at(&mut self, path: &Path, file: usize) -> io::Result<bool> {
        self.operation("examine", path, |state| Ok(state.names.get(path)? == Node::File(file)))
    }

    pub(super) fn len(&mut self, path: &Path, file: usize) -> io::Result<u64> {
        self.operation("examine", path, |state| Ok(as_u64(state.files[file].cached().len())))
    }

    pub(super) fn close(&mut self, file: usize) {
        self.files[file].opened -= 1;
    }

    // === faults ===

    /// Counts an operation. The fault that is left to its caller: any but [`Fault::Crash`].
    fn begin(&mut self, action: &'static str, path: &Path) -> io::Result<Option<Fault>> {
        if self.crashed {
            return Err(Fault::Crash.error());
        }
        self.operations.push(Operation { action, path: path.to_owned() });
        let fault = self.plan.remove(&self.operations.len());
        self.crashed = matches!(fault, Some(Fault::Crash | Fault::CrashWithin));
        if fault == Some(Fault::Crash) { Err(Fault::Crash.error()) } else { Ok(fault) }
    }

    /// An operation that is done or is not.
    fn operation<T>(
        &mut self,
        action: &'static str,
        path: &Path,
        work: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.begin(action, path)? {
            None => work(self),
            Some(Fault::CrashWithin) => {
                drop(work(self));
                Err(Fault::CrashWithin.error())
            }
            Some(fault) => Err(fault.error()),
        }
    }

    /// An operation that may be done and reported as failed.
    fn done_unsaid(
        &mut self,
        action: &'static str,
        path: &Path,
        work: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.begin(action, path)? {
            None => work(self),
            Some(fault @ (Fault::CrashWithin | Fault::Unsaid)) => {
                drop(work(self));
                Err(fault.error())
            }
            Some(fault) => Err(fault.error()),
        }
    }

    fn free_room(&self) -> usize {
        let Some(capacity) = self.capacity else { return usize::MAX };
        let named: BTreeSet<usize> = self.names.files().map(|(_, file)| file).collect();
        let files = self.files.iter().enumerate();
        let taken = files.filter(|(file, content)| content.opened > 0 || named.contains(file));
        capacity.saturating_sub(taken.map(|(_, content)| content.room()).sum())
    }
}

fn kind(node: Node) -> Kind {
    match node {
        Node::File(_) => Kind::File,
        Node::Directory => Kind::Directory,
    }
}

/// A length in a file as a length in memory.
fn length(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
