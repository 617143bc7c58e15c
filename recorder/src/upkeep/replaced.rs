//! The end of what left the tables: an hour below `replaced/`, for readers that began before.
//!
//! The hour is one of the kernel's running time since the file was first seen there, so that no step
//! of the wall clock shortens it. After a new start of the machine it begins again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use journal::fs::Kind;
use schemas::manifest::REPLACED;

use crate::files::Files;
use crate::retain::Uptime;

/// How long a file stays after it left the tables, in microseconds.
pub const KEEP_REPLACED_US: i64 = 3_600_000_000;

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) deleted: u64,
    /// Files that stay for now.
    pub(super) left: u64,
    pub(super) left_bytes: u64,
}

/// Deletes the files whose hour is over. `seen` says when each was first seen. One that cannot be
/// deleted holds up none of the others, and is tried again; the first error is told.
pub(super) fn sweep(
    files: &Files,
    seen: &mut BTreeMap<String, Uptime>,
    now: &Uptime,
) -> io::Result<Swept> {
    let mut found = BTreeMap::new();
    let mut swept = Swept::default();
    let mut failed = None;
    for path in all_files(files, &files.at(REPLACED))? {
        let Some(name) = path.strip_prefix(files.data()).ok().and_then(Path::to_str) else {
            continue;
        };
        let since = seen.get(name).filter(|since| now.since(since).is_some()).unwrap_or(now);
        if now.since(since).is_some_and(|us| us >= KEEP_REPLACED_US) {
            match files.fs().remove_if_there(&path) {
                Ok(_) => {
                    swept.deleted += 1;
                    continue;
                }
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        swept.left += 1;
        swept.left_bytes += files.fs().metadata(&path).map_or(0, |metadata| metadata.len);
        found.insert(name.to_owned(), since.clone());
    }
    *seen = found;
    failed.map_or(Ok(swept), Err)
}

fn all_files(files: &Files, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match files.fs().list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        match entry.kind {
            Kind::Directory => all.append(&mut all_files(files, &entry.path)?),
            Kind::File => all.push(entry.path),
            Kind::Other => {}
        }
    }
    all.sort_unstable();
    Ok(all)
}
