//! Files among the tables that the manifest does not name.
//!
//! Nothing there may be the only copy of a row and be deleted. What carries an uncommitted name was
//! never committed: its rows are in the log or in the parts it was made from, so it is removed. Any
//! other part is moved to `<data>/orphans/`, where nobody reads it and whoever knows better finds it.

use std::ops::Add;
use std::path::{Path, PathBuf};

use journal::fs::Kind;
use schemas::manifest::UNCOMMITTED;

use super::settle::Unsettled;
use super::{PublishError, Publisher, fsync_failed};
use crate::data_dir::ACCOUNTING;
use crate::files::Files;
use crate::manifest::Manifest;

/// Directory below the data directory of parts that nobody names.
pub(crate) const DIRECTORY: &str = "orphans";
const PART: &str = ".parquet";

/// What was found among the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrphansFound {
    /// Uncommitted parts that were removed.
    pub removed: usize,
    /// Parts that were moved to `orphans/`.
    pub moved: usize,
}

impl Add for OrphansFound {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { removed: self.removed + more.removed, moved: self.moved + more.moved }
    }
}

impl Publisher {
    /// The directories with parts, to be given to [`Self::collect_orphans`].
    ///
    /// # Errors
    /// A directory cannot be listed.
    pub fn part_directories(&self) -> Result<Vec<PathBuf>, PublishError> {
        part_directories(&self.files)
    }

    /// Removes and moves away what the manifest does not name in one directory of a table. Nobody
    /// may be writing a part there.
    ///
    /// # Errors
    /// The directory cannot be listed, or a file in it not be moved.
    pub fn collect_orphans(&mut self, directory: &Path) -> Result<OrphansFound, PublishError> {
        self.settle()?;
        let mut collected = OrphansFound::default();
        for path in parts(&self.files, directory)? {
            let place = self.files.at(&path);
            // Every part of the tables has its name by now.
            if path.ends_with(UNCOMMITTED) {
                self.files
                    .fs()
                    .remove_if_there(&place)
                    .map_err(PublishError::io("remove", &place))?;
                tracing::info!(path = %place.display(), "removed a part that was never committed");
                collected.removed += 1;
            } else if self.manifest.part(&path).is_none() {
                self.set_aside(&path)?;
                collected.moved += 1;
            }
        }
        Ok(collected)
    }

    fn set_aside(&self, path: &str) -> Result<(), PublishError> {
        let (from, aside) = (self.files.at(path), format!("{DIRECTORY}/{path}"));
        let to = self.files.at(&aside);
        if let Some(directory) = to.parent() {
            self.files.make_directory(directory).map_err(PublishError::io("create", directory))?;
        }
        self.files.fs().rename(&from, &to).map_err(PublishError::io("rename", &from))?;
        tracing::warn!(
            "{} is no part of the tables: the manifest does not name it. Moved to {}; remove it \
             there if nobody misses it",
            from.display(),
            to.display()
        );
        self.files.sync_parents([aside.as_str(), path]).map_err(fsync_failed)
    }
}

/// What may be unsettled when nobody knows what the newest version changed.
pub(super) fn find_unsettled(
    files: &Files,
    manifest: &Manifest,
    unsettled: &mut Unsettled,
) -> Result<(), PublishError> {
    for directory in part_directories(files)? {
        let found = parts(files, &directory)?;
        let uncommitted = found.iter().filter_map(|path| path.strip_suffix(UNCOMMITTED));
        let named = uncommitted.filter(|path| manifest.part(path).is_some());
        unsettled.unnamed.extend(named.map(str::to_owned));
    }
    Ok(())
}

fn part_directories(files: &Files) -> Result<Vec<PathBuf>, PublishError> {
    let mut found = Vec::new();
    for table in directories(files, &files.at(ACCOUNTING))? {
        found.append(&mut directories(files, &table)?);
    }
    found.sort_unstable();
    Ok(found)
}

fn directories(files: &Files, within: &Path) -> Result<Vec<PathBuf>, PublishError> {
    let entries = files.fs().list(within).map_err(PublishError::io("list", within))?;
    let directories = entries.into_iter().filter(|entry| entry.kind == Kind::Directory);
    Ok(directories.map(|entry| entry.path).collect())
}

/// The parts in a directory, uncommitted ones too: their paths below the data directory.
fn parts(files: &Files, directory: &Path) -> Result<Vec<String>, PublishError> {
    let entries = files.fs().list(directory).map_err(PublishError::io("list", directory))?;
    let mut parts: Vec<String> = entries
        .into_iter()
        .filter_map(|entry| entry.path.strip_prefix(files.data()).ok()?.to_str().map(str::to_owned))
        .filter(|path| path.strip_suffix(UNCOMMITTED).unwrap_or(path).ends_with(PART))
        .collect();
    parts.sort_unstable();
    Ok(parts)
}
