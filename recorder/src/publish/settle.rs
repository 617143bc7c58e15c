//! What remains to be done once a version is committed: the parts get their names, and those that it
//! no longer names leave the tables.

use std::io;

use schemas::manifest::{Delta, REPLACED, UNCOMMITTED};

use super::{PublishError, fsync_failed};
use crate::files::Files;

/// Paths of parts, below the data directory.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// May still carry their uncommitted names.
    pub(super) unnamed: Vec<String>,
    /// May still be among the tables.
    pub(super) leaving: Vec<String>,
}

impl Unsettled {
    pub(super) fn take_over(&mut self, delta: &Delta) {
        self.unnamed.extend(delta.add.iter().map(|part| part.path.clone()));
        self.leaving.extend_from_slice(&delta.remove);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unnamed.is_empty() && self.leaving.is_empty()
    }

    /// Does it, durably. It may have been done in part, or altogether.
    pub(super) fn settle(&self, files: &Files) -> Result<(), PublishError> {
        for path in &self.unnamed {
            move_once(files, &format!("{path}{UNCOMMITTED}"), path)?;
        }
        sync(files, &self.unnamed)?;
        let replaced: Vec<_> =
            self.leaving.iter().map(|path| format!("{REPLACED}/{path}")).collect();
        for (path, replaced) in self.leaving.iter().zip(&replaced) {
            move_once(files, path, replaced)?;
        }
        // First where it comes to, so that it is somewhere whatever happens in between.
        sync(files, &replaced)?;
        sync(files, &self.leaving)
    }
}

/// Renames a file; that it is gone from its old place means that this was done before, and for one
/// that leaves the tables, perhaps so long ago that it was deleted.
fn move_once(files: &Files, from: &str, to: &str) -> Result<(), PublishError> {
    let (from, to) = (files.at(from), files.at(to));
    if let Some(directory) = to.parent() {
        files.make_directory(directory).map_err(PublishError::io("create", directory))?;
    }
    match files.fs().rename(&from, &to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed.map_err(PublishError::io("rename", &from)),
    }
}

fn sync(files: &Files, paths: &[String]) -> Result<(), PublishError> {
    files.sync_parents(paths.iter().map(String::as_str)).map_err(fsync_failed)
}
