//! The thread that writes captures, and the way to it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use schemas::vocab::{BootId, NodeName};
use schemas::wire::Rows;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::Settings;
use super::counters::{Counters, Counts};
use super::file::{Sealed, publish};
use super::recover::{Recovered, remember_open_sessions};
use super::session::{Announcement, Event, SessionKey};
use super::store::Store;
use crate::log::{LogError, LogHandle};

/// Most messages that wait for the thread; at this bound connections are not read.
const QUEUE_MESSAGES: usize = 4096;
/// How often files are looked at for their age, and what failed is tried again.
const TICK: Duration = Duration::from_secs(1);
/// Most rows of the index that are given to the log at once; a frame of it is at most 1 MiB.
const ROWS_AT_ONCE: usize = 1000;
/// Most closed files that wait for the log; more stay under their `.part` names for the next start.
const MAX_UNPUBLISHED: usize = 256;

/// Why files could not be closed completely.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The index could not be made durable; it is tried again.
    #[error("the index of closed captures cannot be written: {0}")]
    Index(#[from] LogError),
    /// A file could not be given its name; the next start does it.
    #[error("a closed capture cannot be renamed: {0}")]
    Rename(#[from] io::Error),
    /// The thread has ended.
    #[error("the capture has stopped")]
    Stopped,
}

/// The capture, running.
#[derive(Debug)]
pub struct CaptureWriter {
    captures: Captures,
    thread: JoinHandle<()>,
}

/// Where captured payload goes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Captures {
    commands: mpsc::Sender<Command>,
    pub(super) counters: Counters,
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Command {
    Connected {
        node: NodeName,
        boot: BootId,
    },
    Disconnected {
        node: NodeName,
    },
    Announced(Announcement),
    /// `written` grows by the payload's length when it has been written or lost.
    Happened {
        key: SessionKey,
        event: Event,
        written: Option<Arc<watch::Sender<u64>>>,
    },
    CloseFiles {
        done: oneshot::Sender<Result<(), CloseError>>,
    },
    Stop,
}

impl CaptureWriter {
    /// Starts the thread. `recovered` comes from [`super::recover()`], which must have run before.
    ///
    /// # Errors
    /// No thread could be had.
    pub fn start(settings: Settings, recovered: Recovered, log: LogHandle) -> io::Result<Self> {
        let (commands, inbox) = mpsc::channel(QUEUE_MESSAGES);
        let counters = Counters::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let data = settings.data.clone();
        let store = Store::new(settings, counters.clone(), recovered.left_open);
        let mut writer = Writer {
            store,
            log,
            unpublished: Vec::new(),
            data,
            trouble: false,
            counters: counters.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || runtime.block_on(writer.run(inbox)))?;
        Ok(Self { captures: Captures { commands, counters }, thread })
    }

    /// The way in.
    pub fn handle(&self) -> Captures {
        self.captures.clone()
    }

    /// Closes every file and ends the thread; what arrives later is lost. Blocks; the log must
    /// still be running.
    pub fn stop(self) {
        let Self { captures, thread } = self;
        let asked = captures.commands.blocking_send(Command::Stop);
        drop(captures);
        if asked.is_ok() && thread.join().is_err() {
            tracing::error!("the capture's thread ended by a panic; see the message above");
        }
    }
}

impl Captures {
    /// Closes every open file: when this returns, they and their index are durable. Sessions that
    /// are still running go on in new files.
    ///
    /// # Errors
    /// A file or its index is not.
    pub async fn close_files(&self) -> Result<(), CloseError> {
        let (done, answer) = oneshot::channel();
        self.send(Command::CloseFiles { done }).await?;
        answer.await.map_err(|_closed| CloseError::Stopped)?
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    pub(super) async fn send(&self, command: Command) -> Result<(), CloseError> {
        self.commands.send(command).await.map_err(|_closed| CloseError::Stopped)
    }
}

struct Writer {
    store: Store,
    log: LogHandle,
    unpublished: Vec<Sealed>,
    data: std::path::PathBuf,
    /// The last attempt failed: until one succeeds there is one a [`TICK`], and no further word.
    trouble: bool,
    counters: Counters,
}

impl Writer {
    async fn run(&mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut next_tick = Instant::now() + TICK;
        loop {
            match timeout_at(next_tick, inbox.recv()).await {
                Ok(Some(Command::Stop) | None) => break,
                Ok(Some(command)) => self.obey(command).await,
                Err(_elapsed) => {
                    next_tick = Instant::now() + TICK;
                    self.store.tick();
                    self.publish_sealed().await;
                }
            }
        }
        self.store.close_all();
        self.publish_sealed().await;
        self.remember();
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Connected { node, boot } => self.store.connected(&node, boot),
            Command::Disconnected { node } => self.store.disconnected(node),
            Command::Announced(about) => self.store.announced(about),
            Command::Happened { key, event, written } => {
                self.store.happened(&key, &event);
                if let (Some(written), Event::Data { bytes, .. }) = (written, &event) {
                    let size = u64::try_from(bytes.len()).unwrap_or_default();
                    written.send_modify(|total| *total += size);
                }
            }
            Command::CloseFiles { done } => {
                self.store.close_all();
                // Nobody waits any more: then nobody need be told.
                drop(done.send(self.publish_all().await));
                return;
            }
            Command::Stop => return,
        }
        if self.store.has_sealed() && !self.trouble {
            self.publish_sealed().await;
        }
    }

    /// Tells once that files cannot be closed completely, and once that they can again.
    async fn publish_sealed(&mut self) {
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
        let sealed = self.store.take_sealed();
        if sealed.is_empty() && self.unpublished.is_empty() {
            return Ok(());
        }
        self.unpublished.extend(sealed);
        self.remember();
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
        let remembered = remember_open_sessions(&self.data, self.store.open_sessions());
        if let (Err(error), false) = (remembered, self.trouble) {
            tracing::warn!("open captures cannot be noted for the next start: {error}");
        }
    }
}

/// Appends rows of the index to the log and waits until they are durable.
pub(super) async fn index(
    log: &LogHandle,
    rows: &[schemas::table::Capture],
) -> Result<(), LogError> {
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

#[cfg(test)]
mod tests {
    use schemas::table::Capture;

    use super::*;
    use crate::config::Config;
    use crate::data_dir::Group;
    use crate::log::Log;

    #[tokio::test]
    async fn rows_of_loss_that_the_log_never_took_are_counted_beyond_the_bound() {
        let data = tempfile::tempdir().unwrap();
        let (log, _) = Log::start(data.path(), &[]).unwrap();
        let handle = log.handle();
        // A log that takes nothing any more.
        tokio::task::spawn_blocking(move || log.stop()).await.unwrap();
        let counters = Counters::default();
        let settings = Settings {
            data: data.path().to_owned(),
            rotate: Config::default().rotate,
            readers: Group::nobody(),
        };
        let rows_of_loss = || Sealed { path: None, rows: vec![Capture::default(); 2] };
        let mut writer = Writer {
            store: Store::new(settings, counters.clone(), Recovered::default().left_open),
            log: handle,
            unpublished: std::iter::repeat_with(rows_of_loss).take(MAX_UNPUBLISHED + 3).collect(),
            data: data.path().to_owned(),
            trouble: false,
            counters: counters.clone(),
        };
        let with_a_file = data.path().join("captures/web.pcapng.part");
        writer.unpublished.push(Sealed { path: Some(with_a_file), ..rows_of_loss() });

        assert!(matches!(writer.publish_all().await, Err(CloseError::Index(_))));
        assert_eq!(writer.unpublished.len(), MAX_UNPUBLISHED);
        assert_eq!(counters.read().write_errors, 6, "the file's rows are read at the next start");
    }
}
