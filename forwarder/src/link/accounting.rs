//! The accounting lane: every durable frame of the spool to the recorder, in order, until it is
//! acknowledged.
//!
//! The lane never holds anybody up: without a recorder the spool grows, and the loss of the
//! recorder is said once, as is its return. What is acknowledged is published; the journal thread
//! deletes the segments.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use journal::Reader;
use schemas::table::Event;
use schemas::vocab::{BootId, NodeName, Severity, SpoolId};
use schemas::wire::{Ack, Frame, FrameCodec, FrameKind, Hello, Lane, PROTOCOL, Welcome};
use serde::Serialize;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};
use tokio_util::codec::FramedWrite;
use tokio_util::sync::CancellationToken;

use super::connection::{message, refused};
use super::outgoing::{Outgoing, Reading, blocking};
use super::{Backoff, Connection, LinkError, PING_EVERY, SILENCE, backoff, connect, resume};
use crate::clock::Clock;

pub use super::outgoing::WINDOW_BYTES;

/// How long [`AccountingLane::stop`] waits for the last acknowledgement.
pub const LAST_ACK_WITHIN: Duration = Duration::from_secs(5);
/// A connection that lived this long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(1);
/// Wait after a fork or an unreadable spool: a person has to look.
const SLOWLY: Duration = Duration::from_secs(30);

/// What the lane needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The recorder's socket.
    pub socket: PathBuf,
    /// Who we are.
    pub node: NodeName,
    /// Our run.
    pub boot: BootId,
    /// The spool's directory.
    pub spool: PathBuf,
    /// The spool's id.
    pub spool_id: SpoolId,
    /// Labels the events.
    pub clock: Clock,
}

/// The state of the lane, for `forwarder status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// Since when the recorder is connected, in microseconds since 1970 UTC; absent while it is
    /// not.
    pub connected_since_us: Option<i64>,
    /// Why it is not connected, or was not the last time.
    pub last_error: Option<String>,
    /// Number of the last frame that was sent on this connection or the one before.
    pub sent_frame: u64,
    /// Number of the last frame that was acknowledged.
    pub acked_frame: u64,
    /// Bytes that were sent and are not acknowledged.
    pub unacked_bytes: usize,
    /// Connections that were made.
    pub connections: u64,
    /// How often the recorder was found to hold other frames than we do.
    pub forks: u64,
}

/// The lane, running. Dropped without [`AccountingLane::stop`], it ends at once.
#[derive(Debug)]
pub struct AccountingLane {
    durable: watch::Receiver<u64>,
    acked: watch::Receiver<u64>,
    status: watch::Receiver<LinkStatus>,
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl AccountingLane {
    /// Starts the lane on the current runtime. `durable` is the number of the last fdatasynced
    /// frame, published by the journal thread. `report` takes the events `recorder_lost` and
    /// `recorder_back`, without `node`, `boot` and `seq`; it must not block.
    pub fn start(
        settings: Settings,
        durable: watch::Receiver<u64>,
        report: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        let (acked_to, acked) = watch::channel(0);
        let (status_to, status) = watch::channel(LinkStatus::default());
        let stopping = CancellationToken::new();
        let link = Link {
            settings,
            durable: durable.clone(),
            report: Arc::new(report),
            acked: acked_to,
            status: status_to,
            stopping: stopping.clone(),
            lost_at: None,
        };
        Self { durable, acked, status, stopping, task: tokio::spawn(link.run()) }
    }

    /// The number of the last frame that is durable at the recorder: segments up to it may be
    /// deleted.
    pub fn acked(&self) -> watch::Receiver<u64> {
        self.acked.clone()
    }

    /// The lane's state.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    /// Waits until everything durable is acknowledged, at most [`LAST_ACK_WITHIN`], and ends the
    /// lane. True: everything is. A recorder that is not there is not waited for.
    pub async fn stop(mut self) -> bool {
        self.stopping.cancel();
        let ended = timeout(LAST_ACK_WITHIN, &mut self.task).await;
        if ended.is_err() {
            self.task.abort();
        }
        *self.acked.borrow() >= *self.durable.borrow()
    }
}

impl Drop for AccountingLane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Link {
    settings: Settings,
    durable: watch::Receiver<u64>,
    report: Arc<dyn Fn(Event) + Send + Sync>,
    acked: watch::Sender<u64>,
    status: watch::Sender<LinkStatus>,
    stopping: CancellationToken,
    /// Since when the recorder is lost, once that was said.
    lost_at: Option<Instant>,
}

impl Link {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            let final_attempt = self.stopping.is_cancelled();
            if final_attempt && *self.acked.borrow() >= *self.durable.borrow() {
                return;
            }
            let Err(error) = self.attempt().await else { return };
            self.lost(&error);
            if final_attempt {
                return;
            }
            if begun.elapsed() > GOOD_AFTER && !matches!(error, LinkError::Unreachable { .. }) {
                backoff.reset();
            }
            let wait = match error {
                LinkError::Forked(_) | LinkError::Spool(_) => SLOWLY,
                ref error => backoff.next(backoff::random()).max(error.retry_after()),
            };
            // Both branches only wait.
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }

    /// One connection, from dial to loss. `Ok`: stopped, and everything is acknowledged.
    async fn attempt(&mut self) -> Result<(), LinkError> {
        let hello = self.hello().await?;
        let connection = connect(&self.settings.socket, &hello).await?;
        let (reader, next) = self.resume(connection.welcome.clone()).await?;
        self.back();
        let mut session = Outgoing::from(next);
        self.acknowledge(&mut session, connection.welcome.last_frame)?;
        self.serve(connection, reader, &mut session).await
    }

    async fn hello(&self) -> Result<Hello, LinkError> {
        let (spool, durable) = (self.settings.spool.clone(), *self.durable.borrow());
        let first_frame = blocking(move || resume::first_frame(&spool, durable)).await?;
        Ok(Hello {
            protocol: PROTOCOL,
            node: self.settings.node.to_string(),
            boot: self.settings.boot.to_string(),
            lane: Lane::Accounting.into(),
            spool_id: self.settings.spool_id.0,
            first_frame,
            last_frame: if first_frame == 0 { 0 } else { durable },
            build: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    async fn resume(&self, welcome: Welcome) -> Result<(Reader, u64), LinkError> {
        let (spool, durable) = (self.settings.spool.clone(), *self.durable.borrow());
        blocking(move || resume::resume(&spool, durable, &welcome)).await
    }

    /// Sends and hears until the connection is lost, or, once stopping, everything is acknowledged.
    async fn serve(
        &mut self,
        connection: Connection,
        reader: Reader,
        session: &mut Outgoing,
    ) -> Result<(), LinkError> {
        let Connection { reader: mut from, writer: mut to, .. } = connection;
        let mut reading = Reading::Idle(reader);
        let mut heard = Instant::now();
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        loop {
            let durable = *self.durable.borrow_and_update();
            let stopping = self.stopping.is_cancelled();
            if stopping && session.acked() >= durable {
                return Ok(());
            }
            if !reading.is_busy() && session.wants_frames(durable) {
                reading = reading.begin(durable);
            }
            // Cancel-safe: hearing keeps half a frame in its buffer, feeding takes a frame whole or
            // not at all, and the batch being read stays in its task.
            tokio::select! {
                frame = from.next() => {
                    heard = Instant::now();
                    match frame {
                        Some(frame) => self.hear(session, &frame?)?,
                        None => return Err(LinkError::Lost("it closed the connection".to_owned())),
                    }
                }
                batch = reading.finish(), if reading.is_busy() => {
                    let (reader, batch) = batch?;
                    reading = Reading::Idle(reader);
                    session.extend(batch);
                }
                fed = push(&mut to, session.front()), if !session.is_flushed() => {
                    if let Err(error) = fed {
                        return Err(super::last_word(&mut from, error).await);
                    }
                    session.pushed();
                    self.status.send_modify(|status| {
                        status.sent_frame = session.sent_frame();
                        status.unacked_bytes = session.unacked_bytes();
                    });
                }
                _ = pings.tick() => session.ping(),
                changed = self.durable.changed(), if !stopping => {
                    if changed.is_err() {
                        self.stopping.cancel();
                    }
                }
                () = self.stopping.cancelled(), if !stopping => {}
                () = sleep_until(heard + SILENCE) => {
                    return Err(LinkError::Lost(format!("silence for {SILENCE:?}")));
                }
            }
        }
    }

    fn hear(&self, session: &mut Outgoing, frame: &Frame) -> Result<(), LinkError> {
        match frame.kind {
            FrameKind::Ack => self.acknowledge(session, message::<Ack>(frame)?.frame),
            FrameKind::Ping => {
                session.pong();
                Ok(())
            }
            FrameKind::Pong => Ok(()),
            FrameKind::Reject => Err(refused(frame)),
            kind => Err(LinkError::Protocol(format!("{kind:?} on the accounting lane"))),
        }
    }

    fn acknowledge(&self, session: &mut Outgoing, through: u64) -> Result<(), LinkError> {
        if !session.acknowledge(through) {
            let text = format!("it acknowledges frame {through}, which was never sent");
            return Err(LinkError::Protocol(text));
        }
        self.acked.send_if_modified(|acked| {
            let more = through > *acked;
            *acked = through.max(*acked);
            more
        });
        self.status.send_modify(|status| {
            status.acked_frame = through;
            status.unacked_bytes = session.unacked_bytes();
        });
        Ok(())
    }

    /// The recorder is lost: said once.
    fn lost(&mut self, error: &LinkError) {
        let forked = matches!(error, LinkError::Forked(_));
        self.status.send_modify(|status| {
            status.connected_since_us = None;
            status.unacked_bytes = 0;
            status.last_error = Some(error.to_string());
            status.forks += u64::from(forked);
        });
        if self.lost_at.is_some() {
            return;
        }
        self.lost_at = Some(Instant::now());
        let message = format!("{error}; the account waits in the spool");
        if forked {
            tracing::error!("{message}");
        } else {
            tracing::warn!("{message}");
        }
        self.event(Severity::Warning, "recorder_lost", message);
    }

    /// The recorder is back, or there for the first time: said once.
    fn back(&mut self) {
        let now = self.settings.clock.wall(self.settings.clock.now());
        self.status.send_modify(|status| {
            status.connected_since_us = Some(now.0);
            status.last_error = None;
            status.connections += 1;
        });
        let Some(lost_at) = self.lost_at.take() else {
            tracing::info!("the recorder at {} is connected", self.settings.socket.display());
            return;
        };
        let seconds = lost_at.elapsed().as_secs_f64();
        let message = format!("the recorder is back after {seconds:.1} s");
        tracing::info!("{message}");
        self.event(Severity::Info, "recorder_back", message);
    }

    fn event(&self, severity: Severity, kind: &str, message: String) {
        (self.report)(Event {
            ts: self.settings.clock.wall(self.settings.clock.now()).0,
            severity: severity.as_str().to_owned(),
            kind: kind.to_owned(),
            message,
            ..Event::default()
        });
    }
}

/// Puts the next frame into the connection's buffer, or, without one, sends the buffer off.
async fn push(
    to: &mut FramedWrite<OwnedWriteHalf, FrameCodec>,
    next: Option<&Frame>,
) -> Result<(), LinkError> {
    match next {
        Some(frame) => to.feed(frame).await?,
        None => SinkExt::<&Frame>::flush(to).await?,
    }
    Ok(())
}
