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
//! A replacement of parts by others goes the same way without a segment; in step 3 the parts that the
//! manifest no longer names are moved out of the tables.
//!
//! A segment with a frame that cannot be read gets a second name before step 1, under which it stays
//! for whoever can read more of it.
//!
//! At start, step 3 is finished for the newest version; it was done for every older one. A segment
//! whose frames the manifest has is only removed. What an end before step 2 left behind is
//! overwritten or collected later, by `orphans`.

mod collect;
pub(crate) mod format;
mod lost;
mod orphans;
mod part;
mod settle;
mod worker;

use std::error::Error;
use std::fs;
use std::io;
use std::ops::Add;
use std::path::{Path, PathBuf};

use journal::JournalError;
use parquet::errors::ParquetError;
use schemas::manifest::{BootMark, Delta, Part, Retired};

use self::collect::{Collected, Frames};
use self::lost::LostBoot;
use self::settle::Unsettled;
use crate::data_dir::{self, Group};
use crate::files::Files;
use crate::log::SealedSegment;
use crate::manifest::{Manifest, ManifestError};
use crate::recover::PartMarks;

pub(crate) use lost::LOST;
pub(crate) use orphans::DIRECTORY as ORPHANS;
pub use orphans::OrphansFound;
pub use worker::{Publication, PublicationHandle, PublishStatus, RoundError};

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
    /// A replacement was planned for other tables than there are.
    #[error("cannot replace parts: {path} is not where the plan has it")]
    Gone {
        /// The part's path below the data directory.
        path: String,
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

/// Parts that take the place of others in the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replacement {
    /// Whole, fsynced, and under their uncommitted names.
    pub add: Vec<Part>,
    /// Paths of parts that the tables have.
    pub remove: Vec<String>,
    /// What is deleted by this, rather than put into other parts.
    pub retired: Vec<Retired>,
}

/// The one who publishes into a data directory.
#[derive(Debug)]
pub struct Publisher {
    files: Files,
    manifest: Manifest,
    unsettled: Unsettled,
}

impl Publisher {
    /// Finishes what an earlier process was at, in the data directory `data`.
    ///
    /// # Errors
    /// The manifest or the parts cannot be read or renamed.
    pub fn open(data: &Path, group: Group) -> Result<Self, PublishError> {
        Self::open_on(Files::new(data, group))
    }

    /// As [`Self::open`], on any disk.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(files: Files) -> Result<Self, PublishError> {
        let manifest = Manifest::open(&files)?;
        let mut unsettled = Unsettled::default();
        match manifest.newest() {
            // What was committed before was settled before.
            Some(newest) => unsettled.take_over(newest),
            None => orphans::find_unsettled(&files, &manifest, &mut unsettled)?,
        }
        let mut publisher = Self { files, manifest, unsettled };
        publisher.settle()?;
        Ok(publisher)
    }

    /// What the tables consist of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it publishes.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Publishes a sealed segment, unless that was done. When this returns without error the
    /// segment may be removed.
    ///
    /// # Errors
    /// It could not be read, or parts or manifest not be written. Nothing is lost: asked again, it
    /// goes on where it was.
    pub fn publish(&mut self, segment: &SealedSegment) -> Result<Published, PublishError> {
        self.settle()?;
        if segment.last_frame <= self.manifest.marks().log_through() {
            return Ok(Published::default());
        }
        let frames = Frames::read(segment)?;
        let collected = Collected::of(&frames, self.manifest.marks());
        keep_suspect(segment, &collected)?;
        let (published, delta) = self.write_parts(segment, collected)?;
        self.commit(delta)?;
        Ok(published)
    }

    /// Puts parts in the place of others, all at once. The parts that go are moved to
    /// [`schemas::manifest::REPLACED`], where readers of an older version find them.
    ///
    /// # Errors
    /// [`PublishError::Gone`]: a part to be removed is none of the tables, or one to be added is one
    /// already; nothing was done. Otherwise it could not be written: the tables are as before, or,
    /// when the manifest's version has grown, they are as asked for, and the next commit or start
    /// finishes the moves.
    pub fn replace(&mut self, replacement: Replacement) -> Result<(), PublishError> {
        self.settle()?;
        let Replacement { add, remove, retired } = replacement;
        let has = |path: &String| self.manifest.part(path).is_some();
        let stale = remove.iter().find(|path| !has(path));
        if let Some(path) = stale.or_else(|| add.iter().map(|part| &part.path).find(|p| has(p))) {
            return Err(PublishError::Gone { path: path.clone() });
        }
        self.files.sync_parents(add.iter().map(|part| part.path.as_str())).map_err(fsync_failed)?;
        let log_through = self.manifest.marks().log_through();
        self.commit(Delta { add, remove, retired, log_through, ..Delta::default() })
    }

    /// Steps 2 and 3.
    fn commit(&mut self, delta: Delta) -> Result<(), PublishError> {
        let before = self.manifest.version();
        let committed = self.manifest.commit(delta);
        if self.manifest.version() > before
            && let Some(newest) = self.manifest.newest()
        {
            self.unsettled.take_over(newest);
        }
        committed?;
        self.settle()?;
        self.manifest.checkpoint_if_due();
        Ok(())
    }

    /// Step 1.
    fn write_parts(
        &self,
        segment: &SealedSegment,
        mut collected: Collected<'_>,
    ) -> Result<(Published, Delta), PublishError> {
        let mut published = Published {
            duplicates: collected.duplicates,
            undecodable: collected.undecodable,
            ..Published::default()
        };
        let remove = self.take_back(&mut collected.boots);
        let lost = self.lost_boots(&collected);
        let mut add = Vec::new();
        for lost in &lost {
            let name = format!("{LOST}{:020}-{}", segment.first_frame, lost.boot);
            let writer = self.writer(segment, &collected, name);
            let (sessions, events) = writer.write_lost(lost)?;
            let paths = sessions.iter().map(|part| part.path.clone()).collect();
            if let Some(mark) = collected.boots.iter_mut().find(|mark| mark.boot == lost.boot) {
                mark.closed = paths;
            }
            add.extend(sessions.into_iter().chain(events));
        }
        let name = format!("log-{:020}", segment.first_frame);
        add.extend(self.writer(segment, &collected, name).write_tables(&collected.rows)?);
        published.parts = add.len();
        published.rows = add.iter().map(|part| part.rows).sum();
        self.files.sync_parents(add.iter().map(|part| part.path.as_str())).map_err(fsync_failed)?;
        let delta = Delta {
            add,
            remove,
            spools: collected.spools,
            boots: collected.boots,
            log_through: segment.last_frame,
            ..Delta::default()
        };
        Ok((published, delta))
    }

    fn writer(
        &self,
        segment: &SealedSegment,
        collected: &Collected<'_>,
        name: String,
    ) -> part::Writer<'_> {
        let (spools, boots) = (collected.spools.clone(), collected.boots.clone());
        part::Writer {
            files: &self.files,
            first_frame: segment.first_frame,
            last_frame: segment.last_frame,
            marks: serde_json::to_string(&PartMarks { spools, boots })
                .expect("marks are numbers and texts"),
            name,
        }
    }

    /// What is left of the boots of which a segment says for the first time that they were lost.
    fn lost_boots(&self, collected: &Collected<'_>) -> Vec<LostBoot> {
        let is_lost = |mark: &&BootMark| mark.end.as_ref().is_some_and(|end| !end.exact);
        let is_news = |mark: &&BootMark| {
            let known = self.manifest.marks().boot(&mark.node, &mark.boot);
            known.is_none_or(|known| known.end.is_none())
        };
        let lost = collected.boots.iter().filter(is_lost).filter(is_news);
        lost.map(|mark| lost::close(&self.files, self.manifest.parts(), &collected.rows, mark))
            .collect()
    }

    /// The parts that were made for lost boots of which there is something to hear after all.
    fn take_back(&self, boots: &mut [BootMark]) -> Vec<String> {
        let mut back = Vec::new();
        for mark in boots {
            let known = self.manifest.marks().boot(&mark.node, &mark.boot);
            if known.is_some_and(|known| known.last_seq < mark.last_seq) {
                back.append(&mut mark.closed);
            }
        }
        back.retain(|path| self.manifest.part(path).is_some());
        back
    }

    /// Step 3, for the newest version. Before another version is committed it must be done, so that
    /// a start need not look at older ones.
    fn settle(&mut self) -> Result<(), PublishError> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        self.manifest.sync()?;
        self.unsettled.settle(&self.files)?;
        self.unsettled = Unsettled::default();
        Ok(())
    }
}

fn fsync_failed((directory, source): (PathBuf, io::Error)) -> PublishError {
    PublishError::Io { action: "fsync", path: directory, source }
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

#[cfg(test)]
mod crashes;
#[cfg(test)]
pub(crate) mod tests;
