//! The thread that keeps the tables up, and how it is doing.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use schemas::table::Event;
use schemas::vocab::Timestamp;
use schemas::wire::Rows;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::keeper::{Keeper, Room, Settings, Told};
use crate::files::Files;
use crate::log::LogHandle;
use crate::publish::Publisher;
use crate::retain::Uptime;

/// From the end of one round to the beginning of the next.
pub const ROUND: Duration = Duration::from_secs(60);
/// The least claim to a processor that there is.
const NICE: i32 = 19;
/// Share of the disk that compaction leaves free.
const RESERVE: u64 = 20;
/// How long the log may take to take an event.
const EVENT_WITHIN: Duration = Duration::from_secs(30);

/// How upkeep is doing, since the recorder started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpkeepStatus {
    /// When parts were last merged, in microseconds since 1970 UTC.
    pub compaction_last_us: Option<i64>,
    /// Merges that were committed.
    pub compactions: u64,
    /// Parts that were merged.
    pub merged_parts: u64,
    /// Parts that they became.
    pub made_parts: u64,
    /// Rows in them.
    pub merged_rows: u64,
    /// Merges that failed.
    pub compaction_failures: u64,
    /// What the last attempt failed with, while compaction pauses for it.
    pub compaction_error: Option<String>,
    /// Parts that cannot be merged: damaged, or of a newer version.
    pub left_alone: u64,
    /// Parts that were past their age.
    pub retired_parts: u64,
    /// Rows in them.
    pub retired_rows: u64,
    /// Removals that failed.
    pub retention_failures: u64,
    /// The clock cannot be believed, so nothing is deleted.
    pub retention_paused: bool,
    /// Files that left the tables less than an hour ago.
    pub replaced_files: u64,
    /// Their size.
    pub replaced_bytes: u64,
}

/// Upkeep, running.
#[derive(Debug)]
pub struct Upkeep {
    stop: Arc<AtomicBool>,
    /// Dropped to end a wait.
    awake: Sender<()>,
    handle: UpkeepHandle,
    thread: JoinHandle<()>,
}

/// Sees how it is doing. Cheap to clone.
#[derive(Debug, Clone)]
pub struct UpkeepHandle {
    status: Arc<Mutex<UpkeepStatus>>,
}

impl UpkeepHandle {
    /// How it is doing.
    pub fn status(&self) -> UpkeepStatus {
        lock(&self.status).clone()
    }
}

impl Upkeep {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread could be had.
    pub fn start(
        publisher: Arc<Mutex<Publisher>>,
        settings: Settings,
        log: LogHandle,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (awake, asleep) = channel();
        let status = Arc::<Mutex<UpkeepStatus>>::default();
        let handle = UpkeepHandle { status: Arc::clone(&status) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let keep = {
            let stop = Arc::clone(&stop);
            move || {
                collect_orphans(&publisher, &stop);
                let keeper = Keeper::new(publisher, settings, stop);
                run(keeper, &status, &log, &runtime, &asleep);
            }
        };
        let thread = std::thread::Builder::new().name("upkeep".to_owned()).spawn(keep)?;
        Ok(Self { stop, awake, handle, thread })
    }

    /// The way to see.
    pub fn handle(&self) -> UpkeepHandle {
        self.handle.clone()
    }

    /// Cuts off what is under way and ends. Blocks until then, for as long as a batch or a commit
    /// takes.
    pub fn stop(self) {
        let Self { stop, awake, handle: _, thread } = self;
        stop.store(true, Ordering::Relaxed);
        drop(awake);
        if thread.join().is_err() {
            tracing::error!("upkeep ended by a panic; the tables are as it left them");
        }
    }
}

fn run(
    mut keeper: Keeper,
    status: &Mutex<UpkeepStatus>,
    log: &LogHandle,
    runtime: &Runtime,
    asleep: &Receiver<()>,
) {
    // Of this thread alone, on Linux.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!("upkeep competes with the rest: {error}");
    }
    loop {
        let wall_us = Timestamp::from_system(SystemTime::now()).0;
        let events = keeper.round(&Told { wall_us, uptime: Uptime::now() });
        lock(status).clone_from(keeper.status());
        tell(events, log, runtime);
        if let Err(RecvTimeoutError::Disconnected) = asleep.recv_timeout(ROUND) {
            return;
        }
    }
}

fn tell(events: Vec<Event>, log: &LogHandle, runtime: &Runtime) {
    if events.is_empty() {
        return;
    }
    let rows = Rows { events, ..Rows::default() };
    let appended = runtime.block_on(async { timeout(EVENT_WITHIN, log.append_rows(&rows)).await });
    match appended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("an event of upkeep is only told here: {error}"),
        Err(_elapsed) => tracing::warn!("an event of upkeep is only told here: the log is slow"),
    }
}

/// Looks through the directories of the tables once, one at a time, so that publishing has its turn
/// in between.
fn collect_orphans(publisher: &Mutex<Publisher>, stop: &AtomicBool) {
    let directories: Vec<PathBuf> = match lock(publisher).part_directories() {
        Ok(directories) => directories,
        Err(error) => {
            tracing::warn!("cannot look for parts that nobody names: {error}");
            return;
        }
    };
    for directory in directories {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = lock(publisher).collect_orphans(&directory) {
            tracing::warn!("cannot look for parts that nobody names: {error}");
        }
    }
}

/// What the disk of the data directory has left.
///
/// # Errors
/// The system does not tell.
pub fn room_on_disk(files: &Files) -> io::Result<Room> {
    let disk = rustix::fs::statvfs(files.data())?;
    let reserve_bytes = disk.f_blocks.saturating_mul(disk.f_frsize) / RESERVE;
    Ok(Room { free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize), reserve_bytes })
}

/// A value that is read and written whole is as good after a panic as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
