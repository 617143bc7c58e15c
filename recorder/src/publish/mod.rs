//! Publishing: a sealed segment of the write-ahead log becomes Parquet parts, exactly once.
//!
//! What a segment becomes is a function of the segment and of the manifest before it: names and
//! contents of the parts come from nothing else, so that a publication cut off anywhere is simply
//! done again. The steps, each durable before the next:
//! 1. every part is written as `….parquet.new` and fsynced, then the directories are;
//! 2. the manifest gets one more version. **This is the moment of the commit;**
//! 3. the parts are renamed to their names, the directories fsynced;
//! 4. the segment is removed from the log.
//!
//! A segment with a frame that cannot be read gets a second name before step 1, under which it stays
//! for whoever can read more of it.
//!
//! At start, a `.new` file that the manifest names is renamed (the end came in step 3), any other
//! is removed (it came before step 2), and a segment whose frames the manifest has is only removed.

mod collect;
pub(crate) mod format;
mod part;
mod worker;

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io;
use std::ops::Add;
use std::path::{Path, PathBuf};

use journal::JournalError;
use parquet::errors::ParquetError;
use schemas::manifest::Delta;

use self::collect::{Collected, Frames};
use crate::data_dir::{self, ACCOUNTING, Group};
use crate::log::SealedSegment;
use crate::manifest::{Manifest, ManifestError};

pub use worker::{Publication, PublicationHandle, PublishStatus, RoundError};

/// What a part is called until the manifest names it.
const UNCOMMITTED: &str = ".new";
/// What is added to the name of a segment that is kept because not all of it could be read.
const SUSPECT: &str = ".suspect";

/// Why a segment could not be published. It can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] JournalError),
    /// The manifest could not be added to.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A part could not be made.
    #[error("cannot write {path}: {source}")]
    Parquet {
        /// The part's file.
        path: PathBuf,
        /// Why.
        source: ParquetError,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl PublishError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the disk, the quota or the file size limit is used up.
    pub fn is_full(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::QuotaExceeded
                        | io::ErrorKind::FileTooLarge
                );
            }
            cause = error.source();
        }
        false
    }
}

/// What publishing a segment came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// Parts added to the tables.
    pub parts: usize,
    /// Rows added to the tables.
    pub rows: u64,
    /// Rows that were in the tables already, and left out.
    pub duplicates: u64,
    /// Frames that hold no rows this version can read, and were left out.
    pub undecodable: u64,
}

impl Add for Published {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            parts: self.parts + more.parts,
            rows: self.rows + more.rows,
            duplicates: self.duplicates + more.duplicates,
            undecodable: self.undecodable + more.undecodable,
        }
    }
}

/// A point between two steps, for whoever wants to stop there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    PartWritten,
    PartsSynced,
    Committed,
    PartRenamed,
    RenamesSynced,
}

/// The one who publishes into a data directory.
#[derive(Debug)]
pub struct Publisher {
    data: PathBuf,
    group: Group,
    manifest: Manifest,
    /// Paths of committed parts that may still carry their uncommitted names.
    unnamed: Vec<String>,
}

impl Publisher {
    /// Finishes what an earlier process was at.
    ///
    /// # Errors
    /// The manifest or the parts cannot be read or renamed.
    pub fn open(data: &Path, group: Group) -> Result<Self, PublishError> {
        let manifest = Manifest::open(data, group)?;
        let mut publisher = Self { data: data.to_owned(), group, manifest, unnamed: Vec::new() };
        for path in uncommitted(data)? {
            if publisher.manifest.part(&path).is_some() {
                publisher.unnamed.push(path);
            } else {
                let orphan = data.join(path + UNCOMMITTED);
                fs::remove_file(&orphan).map_err(PublishError::io("remove", &orphan))?;
                tracing::info!(path = %orphan.display(), "removed a part that was never committed");
            }
        }
        publisher.name_parts(&mut |_| Ok(()))?;
        Ok(publisher)
    }

    /// What the tables consist of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Publishes a sealed segment, unless that was done. When this returns without error the
    /// segment may be removed.
    ///
    /// # Errors
    /// It could not be read, or parts or manifest not be written. Nothing is lost: asked again, it
    /// goes on where it was.
    pub fn publish(&mut self, segment: &SealedSegment) -> Result<Published, PublishError> {
        self.publish_by_steps(segment, &mut |_| Ok(()))
    }

    fn publish_by_steps(
        &mut self,
        segment: &SealedSegment,
        after: &mut impl FnMut(Step) -> Result<(), PublishError>,
    ) -> Result<Published, PublishError> {
        self.name_parts(after)?;
        if segment.last_frame <= self.manifest.marks().log_through() {
            return Ok(Published::default());
        }
        let frames = Frames::read(segment)?;
        let collected = Collected::of(&frames, self.manifest.marks());
        keep_suspect(segment, &collected)?;
        let (published, delta) = self.write_parts(segment, collected, after)?;
        let paths: Vec<String> = delta.add.iter().map(|part| part.path.clone()).collect();
        let before = self.manifest.version();
        let committed = self.manifest.commit(delta);
        if self.manifest.version() > before {
            self.unnamed = paths;
        }
        committed?;
        after(Step::Committed)?;
        self.name_parts(after)?;
        Ok(published)
    }

    /// Step 1.
    fn write_parts(
        &self,
        segment: &SealedSegment,
        collected: Collected<'_>,
        after: &mut impl FnMut(Step) -> Result<(), PublishError>,
    ) -> Result<(Published, Delta), PublishError> {
        let mut published = Published {
            duplicates: collected.duplicates,
            undecodable: collected.undecodable,
            ..Published::default()
        };
        let writer = part::Writer {
            data: &self.data,
            group: self.group,
            first_frame: segment.first_frame,
            last_frame: segment.last_frame,
        };
        let mut add = Vec::new();
        writer.write_tables(&collected.rows, |part| {
            add.push(part);
            after(Step::PartWritten)
        })?;
        published.parts = add.len();
        published.rows = add.iter().map(|part| part.rows).sum();
        sync_parents(&self.data, add.iter().map(|part| part.path.as_str()))?;
        after(Step::PartsSynced)?;
        let delta = Delta {
            version: 0,
            add,
            remove: Vec::new(),
            spools: collected.spools,
            boots: collected.boots,
            retired: Vec::new(),
            log_through: segment.last_frame,
        };
        Ok((published, delta))
    }

    /// Step 3.
    fn name_parts(
        &mut self,
        after: &mut impl FnMut(Step) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        if self.unnamed.is_empty() {
            return Ok(());
        }
        self.manifest.sync()?;
        for path in &self.unnamed {
            let named = self.data.join(path);
            let uncommitted = self.data.join(format!("{path}{UNCOMMITTED}"));
            match fs::rename(&uncommitted, &named) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && named.exists() => {}
                renamed => renamed.map_err(PublishError::io("rename", &uncommitted))?,
            }
            after(Step::PartRenamed)?;
        }
        sync_parents(&self.data, self.unnamed.iter().map(String::as_str))?;
        self.unnamed.clear();
        after(Step::RenamesSynced)
    }
}

/// Gives a segment of which a frame is left out a second name, which outlasts its removal from the
/// log. Says so once, however often the publication is tried.
fn keep_suspect(segment: &SealedSegment, collected: &Collected<'_>) -> Result<(), PublishError> {
    let Some((frame, reason)) = &collected.first_undecodable else { return Ok(()) };
    let mut kept = segment.path.clone().into_os_string();
    kept.push(SUSPECT);
    let kept = PathBuf::from(kept);
    match fs::hard_link(&segment.path, &kept) {
        Ok(()) => tracing::error!(
            "left out {} frames of the log that cannot be read, first frame {frame}: {reason}; \
             their segment is kept as {}",
            collected.undecodable,
            kept.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(PublishError::io("create", &kept)(error)),
    }
    let directory = kept.parent().unwrap_or(Path::new("."));
    data_dir::sync_directory(directory).map_err(PublishError::io("fsync", directory))
}

fn sync_parents<'p>(data: &Path, paths: impl Iterator<Item = &'p str>) -> Result<(), PublishError> {
    let parents: BTreeSet<PathBuf> =
        paths.filter_map(|path| data.join(path).parent().map(Path::to_owned)).collect();
    for parent in parents {
        data_dir::sync_directory(&parent).map_err(PublishError::io("fsync", &parent))?;
    }
    Ok(())
}

/// The parts that carry their uncommitted names: their paths below `data`, without `.new`.
fn uncommitted(data: &Path) -> Result<Vec<String>, PublishError> {
    let mut found = Vec::new();
    for table in list(&data.join(ACCOUNTING))?.into_iter().filter(|path| path.is_dir()) {
        for date in list(&table)?.into_iter().filter(|path| path.is_dir()) {
            for file in list(&date)? {
                let path = file.strip_prefix(data).ok().and_then(Path::to_str);
                found.extend(path.and_then(|p| p.strip_suffix(UNCOMMITTED)).map(str::to_owned));
            }
        }
    }
    Ok(found)
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, PublishError> {
    fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(PublishError::io("list", directory))
}

#[cfg(test)]
mod tests;
