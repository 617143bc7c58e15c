//! Files that must not outlive the command: reports being written, and what DuckDB spills.
//!
//! They are removed when their owner is dropped and, because a signal ends a process without
//! dropping anything, by the thread that waits for Ctrl-C and SIGTERM.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// What is to be removed when the process is told to end.
static PENDING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Names that are tried before giving up on a scratch directory.
const ATTEMPTS: u32 = 100;

/// Marks a file or directory as one to remove at an end by signal.
pub fn guard(path: &Path) {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
}

/// Ends the guard of `path` by doing `last` to it, which no signal can interrupt half way.
///
/// # Errors
/// What `last` says.
pub fn release<T>(path: &Path, last: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
    let result = last();
    pending.retain(|other| other != path);
    result
}

/// Starts the thread that cleans up and exits on Ctrl-C (130) and SIGTERM (143).
///
/// # Errors
/// 70 when the signals cannot be waited for.
pub fn clean_up_on_signals() -> Result<(), Failure> {
    let unavailable =
        |error: io::Error| Failure::Internal(format!("cannot wait for signals: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(unavailable)?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(unavailable)?,
            signal(SignalKind::terminate()).map_err(unavailable)?,
        )
    };
    let wait = move || {
        let code = runtime.block_on(async {
            // Both branches are cancel-safe, and the loser is never asked again.
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        let pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        for path in pending.iter() {
            remove(path);
        }
        // The lock is held to the end, so that no report is completed after it.
        process::exit(code)
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(unavailable)?;
    Ok(())
}

/// A private directory for what does not fit into memory.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a directory that only we can read, below the system's temporary directory.
    ///
    /// # Errors
    /// 74 or 77 when it cannot be made.
    pub fn create() -> Result<Self, Failure> {
        let base = env::temp_dir();
        let mut taken = None;
        for attempt in 0..ATTEMPTS {
            let path = base.join(format!("weir-analyze-{}-{attempt}", process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    guard(&path);
                    return Ok(Self { path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = Some(error),
                Err(error) => return Err(Failure::file("make a directory in", &base, &error)),
            }
        }
        let error = taken.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into());
        Err(Failure::file("make a directory in", &base, &error))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = release(&self.path, || {
            remove(&self.path);
            Ok(())
        });
        debug_assert!(removed.is_ok(), "removal reports nothing");
    }
}

/// Removes a file or directory as far as possible: nobody is left to act on a failure.
fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    drop(removed);
}
