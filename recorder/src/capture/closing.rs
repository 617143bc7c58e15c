//! What becomes of a file that has got its last packet: it is made durable, digested, indexed and
//! named, on a thread of its own, so that nobody who brings payload waits for it.
//!
//! The digest is a favour, not a duty: it takes 0.6 s of a processor for each GiB, so it is left to
//! a quiet moment (see [`Patience`]). A file that does not get one is indexed without.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use schemas::table::Capture;
use schemas::wire::Rows;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::counters::Counters;
use super::file::{ClosedFile, PART_SUFFIX};
use super::patience::{Hurry, Patience, Waiting};
use super::recover::remember_open_sessions;
use super::session::SessionKey;
use super::store::Left;
use super::writer::CloseError;
use crate::log::{LogError, LogHandle};

/// Most closed files, and other jobs, that wait; at this bound no payload is read. Each file holds a
/// descriptor.
const QUEUE_JOBS: usize = 128;
/// How often what failed is tried again.
const TICK: Duration = Duration::from_secs(1);
/// Most rows of the index that are given to the log at once; a frame of it is at most 1 MiB.
const ROWS_AT_ONCE: usize = 1000;
/// Most closed files that wait for the log; more stay under their `.part` names for the next start.
const MAX_UNPUBLISHED: usize = 256;
/// The least claim to a processor that there is.
const NICE: i32 = 19;

/// The thread, and the way to it.
#[derive(Debug)]
pub(super) struct Closing {
    jobs: mpsc::Sender<Job>,
    waiting: Arc<Waiting>,
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Job {
    File(ClosedFile),
    /// Rows that tell of loss and have no file.
    Lost(Vec<Capture>),
    /// Answered when everything before it has been tried.
    Flush(oneshot::Sender<Result<(), CloseError>>, Hurry),
}

/// Room for one job. It is had before the job is, so that who is cut off while waiting for room has
/// taken nothing with it.
pub(super) struct Place<'a> {
    permit: mpsc::Permit<'a, Job>,
    waiting: &'a Waiting,
}

impl Place<'_> {
    /// A file was closed.
    pub(super) fn file(self, file: ClosedFile) {
        self.waiting.files.fetch_add(1, Relaxed);
        self.waiting.bytes.fetch_add(file.len, Relaxed);
        self.permit.send(Job::File(file));
    }

    /// Payload was lost that no file tells of.
    pub(super) fn lost(self, rows: Vec<Capture>) {
        self.permit.send(Job::Lost(rows));
    }

    /// `done` hears when everything told so far has been tried; until then there is `hurry`.
    pub(super) fn flush(self, done: oneshot::Sender<Result<(), CloseError>>, hurry: Hurry) {
        self.permit.send(Job::Flush(done, hurry));
    }
}

/// A file that is whole and durable, and its index.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Its `.part` name; none for rows that only tell of loss.
    pub(super) path: Option<PathBuf>,
    /// The rows of the index.
    pub(super) rows: Vec<Capture>,
}

impl Closing {
    /// Starts the thread; it ends when what is returned is dropped and everything is done.
    ///
    /// # Errors
    /// No thread could be had.
    pub(super) fn start(
        data: PathBuf,
        log: LogHandle,
        counters: Counters,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, inbox) = mpsc::channel(QUEUE_JOBS);
        let waiting = Arc::<Waiting>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let patience = Patience::new(counters.clone(), Arc::clone(&waiting));
        let mut closer = Closer {
            inbox,
            log,
            unpublished: Vec::new(),
            data,
            trouble: false,
            counters,
            patience,
        };
        let thread = std::thread::Builder::new()
            .name("capture-closing".to_owned())
            .spawn(move || runtime.block_on(closer.run()))?;
        Ok((Self { jobs, waiting }, thread))
    }

    /// Waits while too many jobs wait already; none: the thread has ended, and what was closed is
    /// left to the next start.
    pub(super) async fn place(&self) -> Option<Place<'_>> {
        let permit = self.jobs.reserve().await.ok()?;
        Some(Place { permit, waiting: &self.waiting })
    }

    /// Sessions go on; told before the files in which they have been so far.
    pub(super) fn note(&self, open: Vec<(SessionKey, Left)>) {
        *self.waiting.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(open);
    }

    /// Everything told until the next flush is wanted soon.
    pub(super) fn hurry(&self) -> Hurry {
        Hurry::new(&self.waiting)
    }
}

struct Closer {
    inbox: mpsc::Receiver<Job>,
    log: LogHandle,
    unpublished: Vec<Sealed>,
    data: PathBuf,
    /// The last attempt failed: until one succeeds there is one a [`TICK`], and no further word.
    trouble: bool,
    counters: Counters,
    patience: Patience,
}

impl Closer {
    async fn run(&mut self) {
        // Of this thread alone, on Linux.
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::debug!("closing captures competes with the rest: {error}");
        }
        // Its turn comes beside a steady flow of jobs, too.
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                job = self.inbox.recv() => match job {
                    Some(job) => self.obey(job).await,
                    None => break,
                },
                _ = ticks.tick() => self.publish_or_complain().await,
            }
        }
        self.publish_or_complain().await;
    }

    async fn obey(&mut self, job: Job) {
        self.remember();
        match job {
            Job::File(file) => {
                let len = file.len;
                let sealed = self.seal(file).await;
                self.patience.waiting.files.fetch_sub(1, Relaxed);
                self.patience.waiting.bytes.fetch_sub(len, Relaxed);
                self.unpublished.extend(sealed);
                if self.trouble {
                    self.forget_beyond_bound();
                } else {
                    self.publish_or_complain().await;
                }
            }
            Job::Lost(rows) => {
                self.unpublished.push(Sealed { path: None, rows });
                if self.trouble {
                    self.forget_beyond_bound();
                } else if self.unpublished.len() > MAX_UNPUBLISHED {
                    self.publish_or_complain().await;
                }
            }
            Job::Flush(done, hurry) => {
                self.patience.calm_down(hurry);
                // Nobody waits any more: then nobody need be told.
                drop(done.send(self.publish_all().await));
            }
        }
    }

    /// Makes a file durable, and digests it if that can be done in time.
    async fn seal(&mut self, closed: ClosedFile) -> Option<Sealed> {
        let ClosedFile { path, relative, file, extents, .. } = closed;
        if let Err(error) = file.sync_all() {
            self.counters.write_errors.add(1);
            let path = path.display();
            tracing::error!("cannot close capture {path}: {error}; the next start mends it");
            return None;
        }
        let digest = self.patience.digest(&file).await.unwrap_or_else(|error| {
            tracing::warn!("cannot read capture {} for its digest: {error}", path.display());
            None
        });
        if digest.is_none() {
            self.counters.undigested_files.add(1);
        }
        let mut rows: Vec<_> = extents
            .iter()
            .map(|(key, extent)| extent.row(key, Some(&relative), digest.as_deref()))
            .collect();
        rows.sort_by(|a, b| {
            let key = |row: &Capture| (row.node.clone(), row.boot.clone(), row.session_no);
            key(a).cmp(&key(b))
        });
        Some(Sealed { path: Some(path), rows })
    }

    /// Tells once that files cannot be closed completely, and once that they can again.
    async fn publish_or_complain(&mut self) {
        let published = self.publish_all().await;
        match &published {
            Err(error) if !self.trouble => tracing::warn!("{error}; it is tried again"),
            Ok(()) if self.trouble => tracing::info!("closed captures are indexed again"),
            _ => {}
        }
        self.trouble = published.is_err();
    }

    /// Indexes and names every file that was closed.
    async fn publish_all(&mut self) -> Result<(), CloseError> {
        while !self.unpublished.is_empty() {
            if let Err(error) = index(&self.log, &self.unpublished[0].rows).await {
                self.forget_beyond_bound();
                return Err(error.into());
            }
            let sealed = self.unpublished.remove(0);
            if let Some(part) = &sealed.path {
                publish(part)?;
            }
        }
        Ok(())
    }

    /// Files beyond the bound wait under their names for the next start; rows that only tell of
    /// loss have no file to be read from: they are counted as what the disk refused.
    fn forget_beyond_bound(&mut self) {
        let beyond = self.unpublished.split_off(MAX_UNPUBLISHED.min(self.unpublished.len()));
        let lost: usize = beyond.iter().filter(|s| s.path.is_none()).map(|s| s.rows.len()).sum();
        if lost > 0 {
            self.counters.write_errors.add(u64::try_from(lost).unwrap_or(u64::MAX));
        }
    }

    /// Notes which sessions go on, so that another run of the recorder counts their extents on.
    fn remember(&self) {
        let note = self.patience.waiting.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(open) = note else { return };
        let remembered = remember_open_sessions(&self.data, &open);
        if let (Err(error), false) = (remembered, self.trouble) {
            tracing::warn!("open captures cannot be noted for the next start: {error}");
        }
    }
}

/// Appends rows of the index to the log and waits until they are durable.
async fn index(log: &LogHandle, rows: &[Capture]) -> Result<(), LogError> {
    for captures in rows.chunks(ROWS_AT_ONCE) {
        log.append_rows(&Rows { captures: captures.to_vec(), ..Rows::default() }).await?;
    }
    Ok(())
}

/// Indexes and names a file that recovery has mended.
pub(super) async fn index_and_publish(log: &LogHandle, sealed: &Sealed) -> Result<(), CloseError> {
    index(log, &sealed.rows).await?;
    if let Some(part) = &sealed.path {
        publish(part)?;
    }
    Ok(())
}

/// Gives a sealed file its final name, durably.
fn publish(part: &Path) -> io::Result<()> {
    let name = part.to_string_lossy();
    let published = PathBuf::from(name.strip_suffix(PART_SUFFIX).unwrap_or(&name));
    fs::rename(part, &published)?;
    sync_directory(&published)
}

/// Makes the entry of `path` in its directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Bytes as hexadecimal text.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes every write");
    }
    text
}
