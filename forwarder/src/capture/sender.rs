//! The lane's thread: one connection to the recorder, made again whenever it is lost.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use futures_util::StreamExt;
use schemas::vocab::{BootId, NodeName};
use schemas::wire::{Hello, Lane, PROTOCOL};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::lane::{CaptureLane, Shared};
use super::outbox::Outbox;
use super::queues::{Loss, Queues};
use super::{AWAY_AFTER, LAST_WORD_WITHIN};
use crate::link::{
    Backoff, Connection, LinkError, PING_EVERY, SILENCE, connect, last_word, random,
};

/// A connection that lived this long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(1);

/// What the lane needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The recorder's socket.
    pub socket: PathBuf,
    /// Who we are.
    pub node: NodeName,
    /// Our run.
    pub boot: BootId,
    /// Size of each data thread's pipe in bytes: [`super::PIPE_BYTES`]. 0: payload is copied.
    pub pipe_bytes: usize,
}

/// The lane's thread, running. Dropped without [`CaptureSender::stop`], it ends at once.
#[derive(Debug)]
pub struct CaptureSender {
    lane: CaptureLane,
    stopping: CancellationToken,
    ended: oneshot::Receiver<bool>,
    _end: DropGuard,
}

impl CaptureSender {
    /// Starts the lane's thread. `report_dropped` is told of payload that is dropped, in bytes, on any
    /// thread; it must not block.
    ///
    /// # Errors
    /// The system gives no thread, or no descriptors for its runtime.
    pub fn start(
        settings: Settings,
        report_dropped: impl Fn(u64) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let lane = CaptureLane::new(settings.pipe_bytes, report_dropped);
        let (stopping, ending) = (CancellationToken::new(), CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mover = Mover {
            settings,
            shared: Arc::clone(&lane.shared),
            queues: Queues::new(Arc::clone(&lane.shared)),
            stopping: stopping.clone(),
            absence: None,
        };
        let (farewell, ended) = oneshot::channel();
        let until = ending.clone();
        std::thread::Builder::new().name("capture".to_owned()).spawn(move || {
            if let Some(nothing_lost) = runtime.block_on(until.run_until_cancelled(mover.run())) {
                // Who dropped the sender does not ask.
                farewell.send(nothing_lost).ok();
            }
        })?;
        Ok(Self { lane, stopping, ended, _end: ending.drop_guard() })
    }

    /// The way in, for data threads.
    pub fn lane(&self) -> CaptureLane {
        self.lane.clone()
    }

    /// Waits until the recorder has got everything that was handed over, at most
    /// [`LAST_WORD_WITHIN`], and ends the lane. True: nothing is known to be lost. A recorder that
    /// is not there is not waited for. Sessions must have ended before.
    pub async fn stop(mut self) -> bool {
        self.stopping.cancel();
        matches!(timeout(LAST_WORD_WITHIN, &mut self.ended).await, Ok(Ok(true)))
    }
}

struct Mover {
    settings: Settings,
    shared: Arc<Shared>,
    queues: Queues,
    stopping: CancellationToken,
    /// `None`: the recorder is there.
    absence: Option<Absence>,
}

/// A time without a recorder.
struct Absence {
    /// What the last attempt met.
    error: LinkError,
    /// What had been dropped when it began, in bytes.
    dropped_before: u64,
    /// It has cost something, which was said.
    is_said: bool,
}

impl Mover {
    /// True: when we were to stop, nothing was lost any more.
    async fn run(mut self) -> bool {
        let mut backoff = Backoff::default();
        let mut away_from = Instant::now() + AWAY_AFTER;
        loop {
            let begun = Instant::now();
            let error = match self.attempt(away_from).await {
                Ok(all_is_said) => return all_is_said,
                Err(error) => error,
            };
            if self.shared.connected.swap(false, Relaxed) {
                if self.stopping.is_cancelled() {
                    return false;
                }
                away_from = Instant::now() + AWAY_AFTER;
                if begun.elapsed() > GOOD_AFTER {
                    backoff.reset();
                }
            }
            let wait = backoff.next(random()).max(error.retry_after());
            self.lost(error);
            let paused = self.meanwhile(away_from, sleep(wait)).await;
            if paused.is_none() {
                return self.give_up();
            }
        }
    }

    /// One connection, from dial to loss. `Ok`: stopped; true, if nothing was lost by it.
    async fn attempt(&mut self, away_from: Instant) -> Result<bool, LinkError> {
        let hello = Hello {
            protocol: PROTOCOL,
            node: self.settings.node.to_string(),
            boot: self.settings.boot.to_string(),
            lane: Lane::Capture.into(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            ..Hello::default()
        };
        let socket = self.settings.socket.clone();
        let connecting = async move { connect(&socket, &hello).await };
        let Some(connection) = self.meanwhile(away_from, connecting).await else {
            return Ok(self.give_up());
        };
        let connection = connection?;
        if self.absence.take().is_some_and(|absence| absence.is_said) {
            tracing::info!("the recorder takes captures again");
        }
        self.shared.connected.store(true, Relaxed);
        self.shared.away.store(false, SeqCst);
        self.queues.wake_all();
        self.serve(connection).await?;
        Ok(true)
    }

    /// Waits for `something` without a recorder; from `away_from` on, what arrives is dropped, but
    /// for that of slow sessions. `None`: we are to stop.
    async fn meanwhile<T>(
        &mut self,
        away_from: Instant,
        something: impl Future<Output = T>,
    ) -> Option<T> {
        let mut something = pin!(something);
        loop {
            let is_away = self.shared.away.load(SeqCst);
            if is_away {
                self.queues.pass_by(Loss::SparesSlow);
            }
            self.complain();
            // Cancel-safe: they only wait.
            tokio::select! {
                done = &mut something => return Some(done),
                () = self.stopping.cancelled() => return None,
                () = sleep_until(away_from), if !is_away => {
                    self.shared.away.store(true, SeqCst);
                }
                () = self.shared.bell.notified(), if is_away => {}
            }
        }
    }

    /// We stop, and nobody is there: all that waits is dropped. True: that was nothing.
    fn give_up(&mut self) -> bool {
        self.shared.away.store(true, SeqCst);
        self.queues.pass_by(Loss::Total)
    }

    fn lost(&mut self, error: LinkError) {
        tracing::debug!("no recorder for captures: {error}");
        match &mut self.absence {
            Some(absence) => absence.error = error,
            none => {
                let dropped_before = self.shared.dropped_bytes.load(Relaxed);
                *none = Some(Absence { error, dropped_before, is_said: false });
            }
        }
    }

    /// Says that nobody takes captures, once, and only when that costs something: the accounting lane
    /// speaks of the recorder itself.
    fn complain(&mut self) {
        let Some(absence) = &mut self.absence else { return };
        let error = &absence.error;
        if absence.is_said {
            return;
        }
        if self.shared.dropped_bytes.load(Relaxed) > absence.dropped_before {
            tracing::warn!("{error}; captured payload is dropped and counted until it is back");
            absence.is_said = true;
        } else if self.shared.away.load(SeqCst) && self.queues.holds_sessions_up() {
            tracing::warn!("{error}; sessions with `capture_when_behind = \"slow\"` wait for it");
            absence.is_said = true;
        }
    }

    /// Sends and hears until the connection is lost (then what waits for credit waits on), or, once
    /// stopping, the recorder has got everything.
    async fn serve(&mut self, connection: Connection) -> Result<(), LinkError> {
        let mut outbox = self.queues.announce_again(connection.welcome.credit);
        let served = self.serve_with(connection, &mut outbox).await;
        self.queues.take_back(outbox.unsaid());
        served
    }

    async fn serve_with(
        &mut self,
        connection: Connection,
        outbox: &mut Outbox,
    ) -> Result<(), LinkError> {
        let Connection { reader: mut from, writer, .. } = connection;
        let to = writer.into_inner();
        let socket: &UnixStream = to.as_ref();
        let mut heard = Instant::now();
        let mut pings = interval_at(heard + PING_EVERY, PING_EVERY);
        loop {
            self.queues.load(outbox);
            if outbox.is_idle() {
                self.queues.find_missed_ends(outbox);
            }
            if outbox.is_idle() && self.stopping.is_cancelled() {
                outbox.close();
            }
            // Cancel-safe: hearing keeps half a frame in its buffer, the others only wait.
            tokio::select! {
                frame = from.next() => {
                    heard = Instant::now();
                    let frame = frame.ok_or_else(|| {
                        LinkError::Lost("it closed the connection".to_owned())
                    })??;
                    if outbox.hear(&frame)? {
                        return Ok(());
                    }
                }
                writable = socket.writable(), if outbox.has_work() => {
                    if let Err(error) = writable.and_then(|()| outbox.push(socket)) {
                        let error = LinkError::Lost(error.to_string());
                        return Err(last_word(&mut from, error).await);
                    }
                }
                () = self.shared.bell.notified(), if outbox.is_idle() => {}
                () = self.stopping.cancelled(), if outbox.is_idle() => {}
                _ = pings.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(LinkError::Lost(format!("silence for {SILENCE:?}")));
                    }
                    outbox.ping();
                }
            }
        }
    }
}
