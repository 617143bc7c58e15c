//! The data directory as those see it who write tables: where it is, who may read it, and the disk
//! below it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use journal::fs::{Disk, FileSystem, OpenFile, Sequential};

use crate::data_dir::{Group, NEW_DIRECTORY_MODE, NEW_FILE_MODE};

/// Most directories that are remembered as durable.
const DURABLE_DIRECTORIES: usize = 4096;

/// Writes below a data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Files {
    fs: Arc<dyn FileSystem>,
    data: PathBuf,
    group: Group,
    /// Directories whose own names are known to be durable. A process that was killed may have left
    /// others.
    durable: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Files {
    /// Files below `data` on the disk of the machine, for `group` to read.
    pub fn new(data: &Path, group: Group) -> Self {
        Self::on(Arc::new(Disk), data, group)
    }

    /// Files below `data` on another disk.
    pub fn on(fs: Arc<dyn FileSystem>, data: &Path, group: Group) -> Self {
        Self { fs, data: data.to_owned(), group, durable: Arc::default() }
    }

    /// The disk.
    pub fn fs(&self) -> &dyn FileSystem {
        &*self.fs
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The place of what lies at `path` below the data directory.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.data.join(path)
    }

    /// Makes a file in place of what may have its name, opened for [`Write`].
    ///
    /// # Errors
    /// The old one cannot be removed, or the new one not be made.
    pub fn create(&self, path: &Path) -> io::Result<Sequential> {
        // Removed, not cut: it may be another name of a file that must stay as it is.
        self.fs.remove_if_there(path)?;
        self.fs.create_new(path, NEW_FILE_MODE).map(Sequential::new)
    }

    /// Lets the group read a file that was written whole, and makes its content durable.
    ///
    /// # Errors
    /// The mode cannot be changed, or the file not be fsynced.
    pub fn finish(&self, path: &Path, file: &dyn OpenFile) -> io::Result<()> {
        self.group.admit_file(path)?;
        file.sync_all()
    }

    /// Writes a whole file under a name that was free, never to be seen in part. Its content is
    /// durable, its name is after a fsync of the directory.
    ///
    /// # Errors
    /// `AlreadyExists`, among others.
    pub fn write_once(&self, path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = self.create(temporary)?;
        file.write_all(content)?;
        let file = file.into_inner();
        self.finish(temporary, &*file)?;
        // A disk may report a link as failed and have made it; who then took the content back would
        // take it from under a name that counts.
        if let Err(error) = self.fs.hard_link(temporary, path)
            && !file.is_at(path).unwrap_or(false)
        {
            return Err(error);
        }
        // Whatever becomes of the temporary name: the next start removes it, if this does not.
        drop(self.fs.remove(temporary));
        Ok(())
    }

    /// Makes a directory below the data directory, and those above it.
    ///
    /// # Errors
    /// It could not be made, or something else has its name.
    pub fn make_directory(&self, path: &Path) -> io::Result<()> {
        match self.fs.create_directory(path, NEW_DIRECTORY_MODE) {
            Ok(()) => self.group.admit_directory(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.is_directory(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != self.data => {
                self.make_directory(path.parent().unwrap_or(&self.data))?;
                self.make_directory(path)
            }
            Err(error) => Err(error),
        }
    }

    fn is_directory(&self, path: &Path) -> io::Result<()> {
        match self.fs.metadata(path)?.kind {
            journal::fs::Kind::Directory => Ok(()),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Makes the names in the directories of these files durable, and those of the directories.
    /// The paths are below the data directory.
    ///
    /// # Errors
    /// The directory that could not be fsynced, and why.
    pub fn sync_parents<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p str>,
    ) -> Result<(), (PathBuf, io::Error)> {
        let directories: BTreeSet<PathBuf> = paths
            .into_iter()
            .filter_map(|path| self.at(path).parent().map(Path::to_owned))
            .collect();
        for directory in directories {
            self.sync(&directory)?;
            for above in directory.ancestors().take_while(|above| **above != *self.data) {
                if self.known().contains(above) {
                    break;
                }
                self.sync(above.parent().unwrap_or(&self.data))?;
                let mut known = self.known();
                if known.len() >= DURABLE_DIRECTORIES {
                    known.clear();
                }
                known.insert(above.to_owned());
            }
        }
        Ok(())
    }

    fn sync(&self, directory: &Path) -> Result<(), (PathBuf, io::Error)> {
        self.fs.sync_directory(directory).map_err(|error| (directory.to_owned(), error))
    }

    /// A set is as good after a panic as before.
    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
