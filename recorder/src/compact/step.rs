//! One step, up to the commit: its inputs are checked, merged, written and compared.
//!
//! Nothing of it is seen by anybody until the commit. What is cut off leaves `….parquet.new` files
//! that the next start, or the next attempt, removes.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use schemas::manifest::{Part, UNCOMMITTED};

use super::input::{Footer, InputError, Source};
use super::merge::{Merge, MergeError};
use super::output::Output;
use super::plan::Step;
use crate::files::Files;

/// The file of a part that is not committed.
pub(super) fn uncommitted(files: &Files, path: &str) -> PathBuf {
    files.at(format!("{path}{UNCOMMITTED}"))
}

/// What a step made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Parts, durable under their uncommitted names.
    pub parts: Vec<Part>,
    /// Rows in them, as many as the inputs had.
    pub rows: u64,
}

/// Why a step made nothing. The tables are as before.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// An input is damaged, or rows cannot be put together.
    #[error(transparent)]
    Merge(MergeError),
    /// A part could not be written.
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
    /// What was written is not what was read: a bug, or a machine that cannot be trusted.
    #[error("{path} does not hold what its parts held ({column} differs)")]
    Unfaithful {
        /// The part's file, or the directory of all of them.
        path: PathBuf,
        /// The first column that differs, or `rows`.
        column: String,
    },
    /// The recorder stops.
    #[error("the recorder is stopping")]
    Stopped,
}

impl StepError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn parquet(path: &Path) -> impl FnOnce(ParquetError) -> Self {
        let path = path.to_owned();
        move |source| Self::Parquet { path, source }
    }

    /// The parts of the step that will never be merged, however often it is tried.
    pub fn hopeless(&self, step: &Step, files: &Files) -> Vec<String> {
        let of = |damaged: &Path| {
            let is_it = |part: &&Part| {
                damaged == files.at(&part.path) || damaged == uncommitted(files, &part.path)
            };
            step.inputs.iter().find(is_it).map(|part| part.path.clone())
        };
        match self {
            Self::Merge(MergeError::Input(
                InputError::Damaged { path, .. } | InputError::Newer { path, .. },
            )) => of(path).into_iter().collect(),
            Self::Merge(MergeError::Arrow(_)) | Self::Unfaithful { .. } => {
                step.inputs.iter().map(|part| part.path.clone()).collect()
            }
            Self::Merge(MergeError::Input(InputError::Io { .. }))
            | Self::Parquet { .. }
            | Self::Io { .. }
            | Self::Stopped => Vec::new(),
        }
    }
}

/// Merges the inputs of `step`, and sees to it that nothing was lost or added. `stop` is asked again
/// and again.
///
/// # Errors
/// Nothing was made.
pub fn merge(files: &Files, step: &Step, stop: &dyn Fn() -> bool) -> Result<Merged, StepError> {
    let made = try_merge(files, step, stop);
    if made.is_err() {
        discard(files, step);
    }
    made
}

/// Removes what a step made that was not committed.
pub fn discard(files: &Files, step: &Step) {
    for nth in 0.. {
        // What cannot be removed is by the next start; the names go up without gap.
        let removed = files.fs().remove_if_there(&uncommitted(files, &step.output(nth)));
        if !matches!(removed, Ok(true)) {
            return;
        }
    }
}

fn try_merge(files: &Files, step: &Step, stop: &dyn Fn() -> bool) -> Result<Merged, StepError> {
    let schema = step.table.schema();
    let sources: Vec<_> = step.inputs.iter().map(|part| Source { files, part }).collect();
    let mut footer = Footer::default();
    for source in &sources {
        if stop() {
            return Err(StepError::Stopped);
        }
        let checked = source.check_hash().and_then(|()| source.check_footer(&schema));
        footer.join(checked.map_err(|error| StepError::Merge(error.into()))?);
    }
    let mut output = Output::new(files, step, &footer);
    let mut merge = Merge::new(step.table, sources).map_err(StepError::Merge)?;
    while let Some(batch) = merge.next_batch().map_err(StepError::Merge)? {
        if stop() {
            return Err(StepError::Stopped);
        }
        output.write(&batch)?;
    }
    let before = merge.sums();
    let (parts, after) = output.finish()?;
    if *before != after {
        let column = before.first_difference(&after);
        let column = column.map_or("rows", |index| step.table.columns[index].name).to_owned();
        return Err(StepError::Unfaithful { path: files.at(&step.directory), column });
    }
    Ok(Merged { parts, rows: after.rows })
}
