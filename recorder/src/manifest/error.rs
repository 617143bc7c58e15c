//! What can go wrong with the manifest.

use std::io;
use std::path::{Path, PathBuf};

/// What to do about a manifest that does not tell what the tables are.
const WAY_OUT: &str = "the parts of the tables are still there. Bring the file back from a copy of \
                       the data directory, or have `recorder recover -c FILE` make the manifest \
                       again from the parts";

/// Why the manifest could not be read or added to.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
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
    /// A version does not say what it should, and no checkpoint stands for it.
    #[error(
        "{path} is damaged: {reason}. What the tables are made of since version {since} cannot be \
         read; {WAY_OUT}"
    )]
    Damaged {
        /// The version's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// The last version that can be read.
        since: u64,
    },
    /// A version is not there, and no checkpoint stands for it.
    #[error(
        "{path} is missing. What the tables are made of since version {since} cannot be read; \
         {WAY_OUT}"
    )]
    Missing {
        /// The version's file.
        path: PathBuf,
        /// The last version that can be read.
        since: u64,
    },
    /// A newer version of Weir wrote the file.
    #[error(
        "{path} has format {format}, written by a newer version of Weir; this one knows formats up \
         to {known}: upgrade, or name another directory as data",
        known = schemas::manifest::codec::FORMAT
    )]
    Newer {
        /// The version's file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The version to be written is there already.
    #[error("{path} exists: somebody else writes this manifest")]
    Taken {
        /// The version's file.
        path: PathBuf,
    },
}

impl ManifestError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
