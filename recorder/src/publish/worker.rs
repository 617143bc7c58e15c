//! When segments are published: every interval in which something came, and when asked.
//!
//! One task owns the rhythm; the work itself runs on a blocking thread. A round that failed is tried
//! again after a pause that doubles from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`]; until then the log
//! keeps everything. The operator is told once when trouble begins and once when it is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use schemas::vocab::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::{PublishError, Published, Publisher};
use crate::log::{LogError, LogHandle, SealedSegment};
use crate::manifest::Totals;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Most flushes that wait for one another.
const QUEUE: usize = 16;

/// Why a round of publishing ended early.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The parts or the manifest.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Our bug.
    #[error("publishing ended by a panic; see the message above")]
    Panic,
    /// The recorder stops.
    #[error("the recorder is stopping")]
    Stopping,
}

impl RoundError {
    fn is_full(&self) -> bool {
        match self {
            Self::Publish(error) => error.is_full(),
            Self::Log(_) | Self::Panic | Self::Stopping => false,
        }
    }
}

/// What was published since the recorder started, and what the tables consist of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishStatus {
    /// The newest version of the manifest.
    pub manifest_version: u64,
    /// Every frame of the log up to this one is in the tables.
    pub log_through: u64,
    /// When rows were last added to the tables, in microseconds since 1970 UTC.
    pub last_published_us: Option<i64>,
    /// What the last round failed with; none when it did not.
    pub error: Option<String>,
    /// Rounds that failed.
    pub failures: u64,
    /// Rows left out because the tables have them.
    pub duplicates: u64,
    /// Frames of the log that hold nothing this version can read.
    pub undecodable: u64,
    /// The tables by name.
    pub tables: std::collections::BTreeMap<String, Totals>,
}

/// Publishing, running.
#[derive(Debug)]
pub struct Publication {
    handle: PublicationHandle,
    task: JoinHandle<()>,
}

/// Asks for a flush, and sees how publishing is doing. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PublicationHandle {
    publisher: Arc<Mutex<Publisher>>,
    requests: mpsc::Sender<Request>,
    status: Arc<Mutex<PublishStatus>>,
}

#[derive(Debug)]
enum Request {
    Flush(oneshot::Sender<Result<Published, RoundError>>),
    Stop,
}

impl Publication {
    /// Publishes what `log` seals, now and every `every`, on the current runtime.
    pub fn start(publisher: Publisher, log: LogHandle, every: Duration) -> Self {
        let (requests, inbox) = mpsc::channel(QUEUE);
        let status = Arc::new(Mutex::new(PublishStatus::default()));
        let publisher = Arc::new(Mutex::new(publisher));
        let handle = PublicationHandle {
            publisher: Arc::clone(&publisher),
            requests,
            status: Arc::clone(&status),
        };
        show(&publisher, &status);
        let worker = Worker { publisher, log, status, trouble: None };
        let task = tokio::spawn(worker.run(inbox, every));
        Self { handle, task }
    }

    /// The way to ask.
    pub fn handle(&self) -> PublicationHandle {
        self.handle.clone()
    }

    /// Publishes once more and ends. What could not be published stays in the log.
    pub async fn stop(self) {
        drop(self.handle.requests.send(Request::Stop).await);
        if self.task.await.is_err() {
            tracing::error!("publishing ended by a panic; the rest stays in the log");
        }
    }
}

impl PublicationHandle {
    /// Publishes everything received so far; returns when it is on disk.
    ///
    /// # Errors
    /// Some of it could not be published. It stays in the log and is tried again.
    pub async fn flush(&self) -> Result<Published, RoundError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(Request::Flush(done)).await.map_err(|_closed| RoundError::Stopping)?;
        answer.await.map_err(|_closed| RoundError::Stopping)?
    }

    /// How publishing is doing.
    pub fn status(&self) -> PublishStatus {
        lock(&self.status).clone()
    }

    /// The publisher, for whoever changes the tables beside us. While it is locked nothing is
    /// published.
    pub fn publisher(&self) -> Arc<Mutex<Publisher>> {
        Arc::clone(&self.publisher)
    }
}

struct Worker {
    publisher: Arc<Mutex<Publisher>>,
    log: LogHandle,
    status: Arc<Mutex<PublishStatus>>,
    /// The pause before the next attempt, while rounds fail.
    trouble: Option<Duration>,
}

impl Worker {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, every: Duration) {
        let mut next = Instant::now();
        loop {
            // Both branches are cancel-safe: a request is either received or still in the queue.
            let request = tokio::select! {
                request = requests.recv() => Some(request.unwrap_or(Request::Stop)),
                () = sleep_until(next) => None,
            };
            let began = Instant::now();
            match request {
                None => drop(self.round().await),
                // Nobody waits for an answer any more: it was done all the same.
                Some(Request::Flush(done)) => drop(done.send(self.everything().await)),
                Some(Request::Stop) => {
                    drop(self.everything().await);
                    return;
                }
            }
            next = match self.trouble {
                Some(pause) => Instant::now() + pause,
                None => began + every,
            };
        }
    }

    /// Two rounds: the log answers the first with what was sealed before, even when it could not
    /// seal the newest frames; the second tells.
    async fn everything(&mut self) -> Result<Published, RoundError> {
        let first = self.round().await?;
        let second = self.round().await?;
        Ok(first + second)
    }

    /// Publishes everything that is sealed, or can be.
    async fn round(&mut self) -> Result<Published, RoundError> {
        let mut sum = Published::default();
        let result = self.publish_sealed(&mut sum).await;
        self.count(sum, result.as_ref().err());
        // Somebody else may be at a commit: on this thread forwarders are acknowledged.
        let (publisher, status) = (Arc::clone(&self.publisher), Arc::clone(&self.status));
        drop(spawn_blocking(move || show(&publisher, &status)).await);
        result.map(|()| sum)
    }

    async fn publish_sealed(&self, sum: &mut Published) -> Result<(), RoundError> {
        for segment in self.log.seal().await? {
            let last_frame = segment.last_frame;
            let publisher = Arc::clone(&self.publisher);
            let publish = move || publish(&publisher, &segment);
            *sum = *sum + spawn_blocking(publish).await.map_err(|_panic| RoundError::Panic)??;
            self.log.remove_through(last_frame).await?;
        }
        Ok(())
    }

    fn count(&mut self, sum: Published, error: Option<&RoundError>) {
        let mut status = lock(&self.status);
        status.duplicates += sum.duplicates;
        status.undecodable += sum.undecodable;
        if sum.rows > 0 {
            status.last_published_us = Some(Timestamp::from_system(SystemTime::now()).0);
            tracing::debug!(rows = sum.rows, parts = sum.parts, "published");
        }
        status.error = error.map(ToString::to_string);
        let Some(error) = error else {
            if self.trouble.take().is_some() {
                tracing::info!("publishing works again");
            }
            return;
        };
        status.failures += 1;
        self.trouble = Some(match self.trouble {
            None => {
                let full = if error.is_full() { "; make room on the disk" } else { "" };
                tracing::warn!("cannot publish: {error}{full}. The log keeps it; trying again");
                FIRST_PAUSE
            }
            Some(pause) => (pause * 2).min(LONGEST_PAUSE),
        });
    }
}

fn show(publisher: &Mutex<Publisher>, status: &Mutex<PublishStatus>) {
    let publisher = lock(publisher);
    let manifest = publisher.manifest();
    let mut status = lock(status);
    status.manifest_version = manifest.version();
    status.log_through = manifest.marks().log_through();
    status.tables.clone_from(manifest.totals());
}

fn publish(
    publisher: &Mutex<Publisher>,
    segment: &SealedSegment,
) -> Result<Published, PublishError> {
    lock(publisher).publish(segment)
}

/// After a panic the value is as good as after an error: every step can be done again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use schemas::table::Event;
    use schemas::wire::Rows;

    use super::*;
    use crate::data_dir::{DataDir, Group};
    use crate::log::Log;

    const NEVER: Duration = Duration::from_secs(3600);

    fn event(message: &str) -> Rows {
        let event = Event { message: message.into(), ..Event::default() };
        Rows { events: vec![event], ..Rows::default() }
    }

    /// The first round, which follows every start, is over when this returns.
    async fn start(data: &Path, every: Duration) -> (Log, Publication) {
        drop(DataDir::claim(data).unwrap());
        let publisher = Publisher::open(data, Group::nobody()).unwrap();
        let spools: Vec<_> = publisher.manifest().marks().spools().cloned().collect();
        let (log, _) = Log::start(data, &spools).unwrap();
        let publication = Publication::start(publisher, log.handle(), every);
        publication.handle().flush().await.unwrap();
        (log, publication)
    }

    async fn stop(log: Log, publication: Publication) {
        publication.stop().await;
        spawn_blocking(|| log.stop()).await.unwrap();
    }

    #[tokio::test]
    async fn a_flush_returns_when_everything_received_is_on_disk() {
        let data = tempfile::tempdir().unwrap();
        let (log, publication) = start(data.path(), NEVER).await;
        log.handle().append_rows(&event("one")).await.unwrap();
        log.handle().append_rows(&event("two")).await.unwrap();
        let published = publication.handle().flush().await.unwrap();
        assert_eq!(published.rows, 2);
        let status = publication.handle().status();
        assert_eq!((status.tables["events"].rows, status.log_through), (2, 2));
        assert!(log.handle().seal().await.unwrap().is_empty(), "the log was not emptied");
        stop(log, publication).await;
    }

    #[tokio::test]
    async fn nothing_received_makes_no_version() {
        let data = tempfile::tempdir().unwrap();
        let (log, publication) = start(data.path(), Duration::from_millis(1)).await;
        publication.handle().flush().await.unwrap();
        assert_eq!(publication.handle().status().manifest_version, 0);
        stop(log, publication).await;
    }

    #[tokio::test]
    async fn a_stop_publishes_what_came_and_the_next_start_has_it() {
        let data = tempfile::tempdir().unwrap();
        let (log, publication) = start(data.path(), NEVER).await;
        log.handle().append_rows(&event("last words")).await.unwrap();
        stop(log, publication).await;
        let (log, publication) = start(data.path(), NEVER).await;
        assert_eq!(publication.handle().status().tables["events"].rows, 1);
        stop(log, publication).await;
    }

    #[tokio::test]
    async fn a_failed_round_is_told_and_nothing_is_lost() {
        let data = tempfile::tempdir().unwrap();
        let (log, publication) = start(data.path(), NEVER).await;
        let in_the_way = data.path().join("accounting/events");
        std::fs::write(&in_the_way, "").unwrap();
        log.handle().append_rows(&event("kept")).await.unwrap();
        let failed = publication.handle().flush().await.unwrap_err();
        assert!(failed.to_string().contains("accounting/events"), "{failed}");
        let status = publication.handle().status();
        assert_eq!((status.error, status.failures), (Some(failed.to_string()), 1));

        std::fs::remove_file(&in_the_way).unwrap();
        assert_eq!(publication.handle().flush().await.unwrap().rows, 1);
        assert_eq!(publication.handle().status().error, None);
        stop(log, publication).await;
    }
}
