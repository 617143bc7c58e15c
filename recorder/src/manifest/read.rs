//! Reading the manifest: the newest checkpoint that is whole, then the deltas above it.

use std::path::{Path, PathBuf};

use schemas::manifest::{
    Checkpoint, Delta, Unreadable, checkpoint_file, checkpoint_version, delta_file, delta_version,
};

use super::tables::Tables;
use super::{DIRECTORY, ManifestError, TEMPORARY};
use crate::files::Files;

pub(super) struct Found {
    pub(super) tables: Tables,
    /// The version of the checkpoint that was read.
    pub(super) checkpoint: Option<u64>,
    /// The delta of the newest version.
    pub(super) newest: Option<Delta>,
}

/// The versions in the directory, in order.
struct Versions {
    directory: PathBuf,
    deltas: Vec<u64>,
    checkpoints: Vec<u64>,
}

pub(super) fn read(files: &Files) -> Result<Found, ManifestError> {
    let versions = Versions::list(files)?;
    let checkpoint = newest_checkpoint(files, &versions)?;
    let version = checkpoint.as_ref().map(|checkpoint| checkpoint.version);
    let mut tables = checkpoint.map(Tables::of).unwrap_or_default();
    let mut newest = version.and_then(|version| delta_of(files, &versions, version));
    let newest_there = versions.deltas.last().copied().max(versions.checkpoints.last().copied());
    for version in tables.version + 1..=newest_there.unwrap_or(0) {
        let path = versions.directory.join(delta_file(version));
        if versions.deltas.binary_search(&version).is_err() {
            return Err(ManifestError::Missing { path, since: tables.version });
        }
        let delta = Delta::decode(&content(files, &path)?, version)
            .map_err(|error| unreadable(path, error, tables.version))?;
        newest = Some(delta.clone());
        tables.apply(delta);
    }
    Ok(Found { tables, checkpoint: version, newest })
}

/// The newest checkpoint that is whole. One that is damaged is no loss while those before it and the
/// deltas are there.
fn newest_checkpoint(
    files: &Files,
    versions: &Versions,
) -> Result<Option<Checkpoint>, ManifestError> {
    for &version in versions.checkpoints.iter().rev() {
        let path = versions.directory.join(checkpoint_file(version));
        match Checkpoint::decode(&content(files, &path)?, version) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(Unreadable::Damaged(reason)) => tracing::warn!(
                "{} is damaged: {reason}; reading the versions before it instead. Nothing is lost; \
                 check the disk",
                path.display()
            ),
            Err(error) => return Err(unreadable(path, error, 0)),
        }
    }
    Ok(None)
}

/// The delta of the version that a checkpoint stands for, if it is still there and whole.
fn delta_of(files: &Files, versions: &Versions, version: u64) -> Option<Delta> {
    let path = versions.directory.join(delta_file(version));
    Delta::decode(&files.fs().read(&path).ok()?, version).ok()
}

fn content(files: &Files, path: &Path) -> Result<Vec<u8>, ManifestError> {
    files.fs().read(path).map_err(ManifestError::io("read", path))
}

fn unreadable(path: PathBuf, error: Unreadable, since: u64) -> ManifestError {
    match error {
        Unreadable::Damaged(reason) => ManifestError::Damaged { path, reason, since },
        Unreadable::Newer(format) => ManifestError::Newer { path, format },
    }
}

impl Versions {
    /// Lists the directory; temporary files are removed.
    fn list(files: &Files) -> Result<Self, ManifestError> {
        let directory = files.at(DIRECTORY);
        let entries = files.fs().list(&directory).map_err(ManifestError::io("list", &directory))?;
        let mut versions = Self { directory, deltas: Vec::new(), checkpoints: Vec::new() };
        for entry in entries {
            let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(TEMPORARY) {
                let removed = files.fs().remove_if_there(&entry.path);
                removed.map_err(ManifestError::io("remove", &entry.path))?;
            } else if let Some(version) = delta_version(&name) {
                versions.deltas.push(version);
            } else if let Some(version) = checkpoint_version(&name) {
                versions.checkpoints.push(version);
            }
        }
        versions.deltas.sort_unstable();
        versions.checkpoints.sort_unstable();
        Ok(versions)
    }
}
