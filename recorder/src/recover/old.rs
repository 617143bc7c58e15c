//! What can still be read of the manifest that is to be made again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemas::exit::{Exit, Failure};
use schemas::manifest::{
    BootMark, Checkpoint, Delta, Part, Retired, SpoolMark, Unreadable, checkpoint_version,
    delta_version,
};

use super::part::join_boot;
use crate::files::Files;
use crate::manifest::DIRECTORY;

/// Marks only grow, so that the largest of all versions are the newest.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The newest version that a file is named for.
    pub(super) version: u64,
    pub(super) spools: BTreeMap<String, SpoolMark>,
    pub(super) boots: BTreeMap<(String, String), BootMark>,
    pub(super) retired: BTreeMap<String, i64>,
    pub(super) log_through: u64,
    /// SHA-256 of parts by path.
    pub(super) hashes: BTreeMap<String, String>,
    /// The files of the manifest.
    pub(super) files: Vec<PathBuf>,
    /// Those that say nothing, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

impl Known {
    /// Reads every file of the manifest that is whole.
    pub(super) fn read(files: &Files) -> Result<Self, Failure> {
        let directory = files.at(DIRECTORY);
        let entries = files.fs().list(&directory).map_err(|error| {
            Failure::io(&error, format_args!("cannot list {}", directory.display()))
        })?;
        let mut known = Self::default();
        for entry in entries {
            let name = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let content = files.fs().read(&entry.path);
            let content = content.unwrap_or_default();
            let read = if let Some(version) = delta_version(&name) {
                known.version = known.version.max(version);
                Delta::decode(&content, version).map(|delta| known.take_delta(delta))
            } else if let Some(version) = checkpoint_version(&name) {
                known.version = known.version.max(version);
                Checkpoint::decode(&content, version).map(|checkpoint| known.take(checkpoint))
            } else {
                continue;
            };
            match read {
                Ok(()) => {}
                Err(Unreadable::Damaged(reason)) => {
                    known.unreadable.push((entry.path.clone(), reason));
                }
                Err(newer @ Unreadable::Newer(_)) => {
                    let message = format!("{}: {newer}", entry.path.display());
                    return Err(Failure::new(Exit::Config, message));
                }
            }
            known.files.push(entry.path);
        }
        known.files.sort_unstable();
        Ok(known)
    }

    fn take(&mut self, checkpoint: Checkpoint) {
        let Checkpoint { version: _, parts, spools, boots, retired, log_through } = checkpoint;
        self.take_all(parts, spools, boots, retired, log_through);
    }

    fn take_delta(&mut self, delta: Delta) {
        let Delta { version: _, add, remove: _, spools, boots, retired, log_through } = delta;
        self.take_all(add, spools, boots, retired, log_through);
    }

    fn take_all(
        &mut self,
        parts: Vec<Part>,
        spools: Vec<SpoolMark>,
        boots: Vec<BootMark>,
        retired: Vec<Retired>,
        log_through: u64,
    ) {
        self.hashes.extend(parts.into_iter().map(|part| (part.path, part.sha256)));
        self.take_marks(spools, boots);
        for Retired { table, before_us } in retired {
            let known = self.retired.entry(table).or_insert(before_us);
            *known = before_us.max(*known);
        }
        self.log_through = self.log_through.max(log_through);
    }

    /// Takes over marks from wherever they were found.
    pub(super) fn take_marks(&mut self, spools: Vec<SpoolMark>, boots: Vec<BootMark>) {
        for mark in spools {
            let known = self.spools.entry(mark.spool_id.clone()).or_insert_with(|| mark.clone());
            if mark.last_frame > known.last_frame {
                *known = mark;
            }
        }
        for mark in boots {
            join_boot(self.boot(&mark.node, &mark.boot), mark);
        }
    }

    /// The mark of a boot.
    pub(super) fn boot(&mut self, node: &str, boot: &str) -> &mut BootMark {
        let new =
            || BootMark { node: node.to_owned(), boot: boot.to_owned(), ..BootMark::default() };
        self.boots.entry((node.to_owned(), boot.to_owned())).or_insert_with(new)
    }
}
