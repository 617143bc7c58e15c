//! What must not outlive the command: reports being written, what DuckDB spills, processes that run
//! a statement.
//!
//! Files are removed and processes killed when their owner is dropped and, because a signal ends a process without
//! dropping anything, by the thread that waits for Ctrl-C and SIGTERM.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// What is to be removed when the process is told to end.
static PENDING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The processes that work for us.
static HELPERS: Mutex<Vec<Arc<Helper>>> = Mutex::new(Vec::new());

/// Whether Ctrl-C ends what the helpers do, and not us.
static OUTLIVES: AtomicBool = AtomicBool::new(false);

/// How the terminal was before a line was edited on it.
static TERMINAL: Mutex<Option<Termios>> = Mutex::new(None);

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

/// A process that works for us and does not outlive us.
#[derive(Debug)]
pub struct Helper {
    child: Mutex<Child>,
    interrupted: AtomicBool,
}

/// Starts a helper. No signal can come between its start and its being known.
///
/// # Errors
/// What `start` says.
pub fn employ(start: impl FnOnce() -> io::Result<Child>) -> io::Result<Arc<Helper>> {
    let mut helpers = HELPERS.lock().unwrap_or_else(PoisonError::into_inner);
    let child = Mutex::new(start()?);
    let helper = Arc::new(Helper { child, interrupted: AtomicBool::new(false) });
    helpers.push(Arc::clone(&helper));
    Ok(helper)
}

impl Helper {
    /// Whether Ctrl-C ended it.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// How it ended. To be asked when it has closed its socket: that is, when it is ending.
    ///
    /// # Errors
    /// It is no child of ours any more.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        self.child().wait()
    }

    /// Kills it, if it still runs, and forgets it.
    pub fn dismiss(&self) {
        self.kill();
        let mut helpers = HELPERS.lock().unwrap_or_else(PoisonError::into_inner);
        helpers.retain(|helper| !std::ptr::eq(&**helper, self));
    }

    fn kill(&self) {
        let mut child = self.child();
        // One that has ended cannot be killed, which is what we want.
        drop(child.kill());
        drop(child.wait());
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From now on Ctrl-C ends what the helpers do, and not us.
pub fn outlive_interrupts() {
    OUTLIVES.store(true, Ordering::Relaxed);
}

/// Whether we go on after Ctrl-C.
pub fn outlives_interrupts() -> bool {
    OUTLIVES.load(Ordering::Relaxed)
}

/// Gives the terminal on standard input these modes back at an end by signal, which may come while
/// a line is being edited.
pub fn restore_terminal(modes: Termios) {
    *TERMINAL.lock().unwrap_or_else(PoisonError::into_inner) = Some(modes);
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
        let (code, helpers) = loop {
            let code = runtime.block_on(async {
                // Both branches are cancel-safe.
                tokio::select! {
                    _ = interrupt.recv() => 130,
                    _ = terminate.recv() => 143,
                }
            });
            let helpers = HELPERS.lock().unwrap_or_else(PoisonError::into_inner);
            for helper in helpers.iter() {
                helper.interrupted.store(true, Ordering::Relaxed);
                helper.kill();
            }
            if code != 130 || !outlives_interrupts() {
                // The lock is held to the end, so that no helper is started after it.
                break (code, helpers);
            }
        };
        let pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        for path in pending.iter() {
            remove(path);
        }
        // The lock is held to the end, so that no report is completed after it.
        if let Some(modes) = &*TERMINAL.lock().unwrap_or_else(PoisonError::into_inner) {
            // A terminal that has gone needs nothing.
            tcsetattr(io::stdin(), OptionalActions::Now, modes).unwrap_or_default();
        }
        let _helpers = helpers;
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
