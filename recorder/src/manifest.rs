//! The manifest as its one writer has it: read at start, one [`Delta`] more with each commit.
//!
//! The layout is told in [`schemas::manifest`]. A commit writes `<version:020>.json.tmp`, fsyncs it,
//! links it to its name (a link never overwrites), removes the temporary name and fsyncs the
//! directory. What carries a temporary name at start was never committed. Checkpoints are written in
//! the same way, after the commit they stand for; when they cannot be, the deltas are all there is to
//! read for a while.

mod error;
mod marks;
mod read;
mod tables;

use std::collections::BTreeMap;
use std::io;

use schemas::manifest::{
    CHECKPOINT_EVERY, Checkpoint, Delta, Part, checkpoint_file, checkpoint_version, delta_file,
    delta_version,
};

use crate::files::Files;
pub use error::ManifestError;
pub use marks::Marks;
use tables::Tables;
pub use tables::Totals;

/// The directory below the data directory.
pub const DIRECTORY: &str = "manifest";
const TEMPORARY: &str = ".tmp";
/// Of the versions from one checkpoint to the next, the part after which one that could not be
/// written is tried again.
const RETRY_AFTER: u64 = 10;

/// The manifest.
#[derive(Debug)]
pub struct Manifest {
    files: Files,
    tables: Tables,
    /// The newest two checkpoints that are known to be whole, oldest first.
    checkpoints: Vec<u64>,
    /// Versions from one checkpoint to the next.
    checkpoints_every: u64,
    /// The version from which on the next checkpoint is due.
    next_checkpoint: u64,
    /// What the newest version changed; `None`: its delta is not there to tell.
    newest: Option<Delta>,
}

impl Manifest {
    /// Reads the manifest, and removes what an earlier process did not get to commit.
    ///
    /// # Errors
    /// A version that no checkpoint stands for is missing, damaged, of a newer format, or cannot be
    /// read.
    pub fn open(files: &Files) -> Result<Self, ManifestError> {
        let found = read::read(files)?;
        let manifest = Self {
            files: files.clone(),
            next_checkpoint: found.checkpoint.unwrap_or(0) + CHECKPOINT_EVERY,
            checkpoints: found.checkpoint.into_iter().collect(),
            checkpoints_every: CHECKPOINT_EVERY,
            newest: found.newest,
            tables: found.tables,
        };
        // What was read may have been linked by a process that died before its fsync.
        manifest.sync()?;
        Ok(manifest)
    }

    /// The newest version; 0: nothing was ever committed.
    pub fn version(&self) -> u64 {
        self.tables.version
    }

    /// How far spools, boots and the log are in the tables.
    pub fn marks(&self) -> &Marks {
        &self.tables.marks
    }

    /// The part of this path, if it belongs to the tables.
    pub fn part(&self, path: &str) -> Option<&Part> {
        self.tables.parts.get(path)
    }

    /// The parts of the tables.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.tables.parts.values()
    }

    /// What each table consists of.
    pub fn totals(&self) -> &BTreeMap<String, Totals> {
        &self.tables.totals
    }

    /// What retention has deleted of a table: rows before this time, in microseconds since 1970 UTC.
    pub fn retired_before(&self, table: &str) -> Option<i64> {
        self.tables.retired.get(table).copied()
    }

    /// What the newest version changed; `None`: its delta is not there to tell.
    pub(crate) fn newest(&self) -> Option<&Delta> {
        self.newest.as_ref()
    }

    /// Makes `delta` the next version, durably. Its `version` is filled in here.
    ///
    /// # Errors
    /// It could not be written, and the tables are as before; or, when [`Self::version`] has grown,
    /// only the fsync of the directory failed, which [`Self::sync`] tries again.
    pub fn commit(&mut self, mut delta: Delta) -> Result<(), ManifestError> {
        delta.version = self.version() + 1;
        self.write_once(&delta_file(delta.version), &delta.encode())?;
        // From here on it is committed.
        self.tables.apply(delta.clone());
        self.newest = Some(delta);
        self.sync()
    }

    /// Makes the newest version's name durable.
    ///
    /// # Errors
    /// The directory could not be fsynced.
    pub fn sync(&self) -> Result<(), ManifestError> {
        let directory = self.files.at(DIRECTORY);
        self.files.fs().sync_directory(&directory).map_err(ManifestError::io("fsync", &directory))
    }

    #[cfg(test)]
    pub(crate) fn set_checkpoints_every(&mut self, versions: u64) {
        self.next_checkpoint = self.checkpoints.last().unwrap_or(&0) + versions;
        self.checkpoints_every = versions;
    }

    /// Writes a checkpoint if one is due, and deletes what is older than the last but one. That it
    /// fails is told, and is no reason to stop: the tables are durable without it.
    pub fn checkpoint_if_due(&mut self) {
        let version = self.version();
        if version < self.next_checkpoint {
            return;
        }
        let checkpoint = self.tables.to_checkpoint();
        if let Err(error) = self.write_checkpoint(&checkpoint) {
            self.next_checkpoint = version + self.checkpoints_every.div_ceil(RETRY_AFTER);
            tracing::warn!(
                "cannot write a checkpoint of the manifest: {error}; trying again later"
            );
            return;
        }
        self.next_checkpoint = version + self.checkpoints_every;
        self.checkpoints.push(version);
        let excess = self.checkpoints.len().saturating_sub(2);
        self.checkpoints.drain(..excess);
        if let [kept, _] = self.checkpoints[..]
            && let Err(error) = self.remove_before(kept)
        {
            tracing::warn!(
                "cannot remove old versions of the manifest: {error}; trying again later"
            );
        }
    }

    /// Makes `checkpoint` the newest version, above every other there is, whatever those say.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn begin_with(files: &Files, checkpoint: &Checkpoint) -> Result<(), ManifestError> {
        let manifest = Self {
            files: files.clone(),
            tables: Tables::default(),
            checkpoints: Vec::new(),
            checkpoints_every: CHECKPOINT_EVERY,
            next_checkpoint: 0,
            newest: None,
        };
        manifest.write_checkpoint(checkpoint)
    }

    fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), ManifestError> {
        self.write_once(&checkpoint_file(checkpoint.version), &checkpoint.encode())?;
        self.sync()
    }

    fn write_once(&self, name: &str, content: &[u8]) -> Result<(), ManifestError> {
        let path = self.files.at(DIRECTORY).join(name);
        let temporary = self.files.at(DIRECTORY).join(format!("{name}{TEMPORARY}"));
        self.files.write_once(&path, &temporary, content).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ManifestError::Taken { path },
            _ => ManifestError::io("write", &path)(error),
        })
    }

    /// Removes the versions that the checkpoint of version `kept` stands for, oldest first, and the
    /// checkpoints before it.
    fn remove_before(&self, kept: u64) -> Result<(), ManifestError> {
        let directory = self.files.at(DIRECTORY);
        let entries =
            self.files.fs().list(&directory).map_err(ManifestError::io("list", &directory))?;
        let mut old: Vec<_> = entries
            .into_iter()
            .filter(|entry| {
                let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
                delta_version(&name).is_some_and(|version| version <= kept)
                    || checkpoint_version(&name).is_some_and(|version| version < kept)
            })
            .collect();
        old.sort_unstable();
        for entry in old {
            let removed = self.files.fs().remove_if_there(&entry.path);
            removed.map_err(ManifestError::io("remove", &entry.path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
