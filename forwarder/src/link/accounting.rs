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
use schemas::vocab::{BootId, NodeName, SpoolId};
use schemas::wire::{
    Ack, Frame, FrameCodec, FrameKind, Hello, Lane, PROTOCOL, RejectCode, Welcome,
};
use serde::Serialize;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};
use tokio_util::codec::FramedWrite;
use tokio_util::sync::CancellationToken;

use super::acked::{AckNote, Acked};
use super::connection::{message, refused};
use super::outgoing::{Outgoing, Reading, blocking};
use super::word::Word;
use super::{Backoff, Connection, LinkError, PING_EVERY, SILENCE, backoff, connect, resume};
use crate::clock::Clock;

pub use super::outgoing::WINDOW_BYTES;

/// How long [`AccountingLane::stop`] waits for the last acknowledgement.
pub const LAST_ACK_WITHIN: Duration = Duration::from_secs(5);
/// A connection that lived this long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(1);
/// How often it is noted what is acknowledged.
const NOTE_EVERY: Duration = Duration::from_millis(100);
/// Wait after a fork, a frame that is refused, or with an unreadable spool.
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
    /// The spool's id, which changes after a fork.
    pub spool_id: watch::Receiver<SpoolId>,
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
    /// frame, published by the journal thread. `report` takes the events `recorder_lost`,
    /// `recorder_refuses` and `recorder_back`, without `node`, `boot` and `seq`; `report_fork` is
    /// told that the recorder holds other frames under the spool's id, and why that is known, so
    /// that the spool gets another one. Neither must block.
    pub fn start(
        settings: Settings,
        durable: watch::Receiver<u64>,
        report: impl Fn(Event) + Send + Sync + 'static,
        report_fork: impl Fn(SpoolId, String) + Send + Sync + 'static,
    ) -> Self {
        let (acked_to, acked) = watch::channel(0);
        let (status_to, status) = watch::channel(LinkStatus::default());
        let stopping = CancellationToken::new();
        let spool_id = *settings.spool_id.borrow();
        let word = Word::new(settings.socket.clone(), settings.clock, status_to.clone(), report);
        let link = Link {
            settings,
            spool_id,
            durable: durable.clone(),
            report_fork: Arc::new(report_fork),
            acked: acked_to,
            note: AckNote::default(),
            recorder_id: 0,
            status: status_to,
            stopping: stopping.clone(),
            word,
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
    spool_id: SpoolId,
    durable: watch::Receiver<u64>,
    report_fork: Arc<dyn Fn(SpoolId, String) + Send + Sync>,
    acked: watch::Sender<u64>,
    note: AckNote,
    /// The recorder of this connection; 0: it does not say.
    recorder_id: u64,
    status: watch::Sender<LinkStatus>,
    stopping: CancellationToken,
    word: Word,
}

impl Link {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        let spool = self.settings.spool.clone();
        self.note.take(blocking(move || Ok(Acked::read(&spool))).await.ok().flatten());
        loop {
            let begun = Instant::now();
            let final_attempt = self.stopping.is_cancelled();
            if final_attempt && *self.acked.borrow() >= *self.durable.borrow() {
                return;
            }
            let attempted = self.attempt().await;
            self.note.close(&self.settings.spool).await;
            let Err(error) = attempted else { return };
            self.word.lost(&error);
            if final_attempt {
                return;
            }
            let lived = begun.elapsed() > GOOD_AFTER;
            if lived && !error.is_grave() && !matches!(error, LinkError::Unreachable { .. }) {
                backoff.reset();
            }
            let wait = match &error {
                // A frame that is refused stays refused, but nothing is dropped for that.
                LinkError::Refused { code: RejectCode::Malformed, .. }
                | LinkError::Forked(_)
                | LinkError::Spool(_) => SLOWLY,
                error => backoff.next(backoff::random()).max(error.retry_after()),
            };
            if let LinkError::Forked(reason) = error {
                (self.report_fork)(self.spool_id, reason);
            }
            // All branches only wait.
            tokio::select! {
                () = sleep(wait) => {}
                renewed = self.settings.spool_id.changed() => {
                    if renewed.is_err() {
                        self.stopping.cancel();
                    }
                }
                () = self.stopping.cancelled() => {}
            }
        }
    }

    /// A forked spool got another id: nobody has acknowledged anything under that.
    fn take_up_id(&mut self) {
        let id = *self.settings.spool_id.borrow_and_update();
        if std::mem::replace(&mut self.spool_id, id) != id {
            self.acked.send_replace(0);
            self.note.take(None);
        }
    }

    /// One connection, from dial to loss. `Ok`: stopped, and everything is acknowledged.
    async fn attempt(&mut self) -> Result<(), LinkError> {
        self.take_up_id();
        let hello = self.hello().await?;
        let connection = connect(&self.settings.socket, &hello).await?;
        self.recorder_id = connection.welcome.recorder_id;
        let (reader, next) = self.resume(hello, connection.welcome.clone()).await?;
        self.word.back();
        let mut session = Outgoing::from(next);
        self.show_acked(&session);
        self.serve(connection, reader, &mut session).await
    }

    async fn hello(&self) -> Result<Hello, LinkError> {
        let (spool, durable) = (self.settings.spool.clone(), *self.durable.borrow());
        let first_frame = blocking(move || resume::first_frame(&spool, durable)).await?;
        let acked =
            self.note.last().filter(|acked| acked.spool == self.spool_id && acked.frame <= durable);
        Ok(Hello {
            protocol: PROTOCOL,
            node: self.settings.node.to_string(),
            boot: self.settings.boot.to_string(),
            lane: Lane::Accounting.into(),
            spool_id: self.spool_id.0,
            first_frame,
            last_frame: if first_frame == 0 { 0 } else { durable },
            build: env!("CARGO_PKG_VERSION").to_owned(),
            first_unacked: acked.map_or(0, |acked| acked.frame + 1),
            acked_by: acked.map_or(0, |acked| acked.recorder),
        })
    }

    async fn resume(&self, hello: Hello, welcome: Welcome) -> Result<(Reader, u64), LinkError> {
        let (spool, durable) = (self.settings.spool.clone(), *self.durable.borrow());
        blocking(move || resume::resume(&spool, durable, &hello, &welcome)).await
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
        let mut notes = interval_at(Instant::now() + NOTE_EVERY, NOTE_EVERY);
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
                _ = notes.tick() => self.note.save(&self.settings.spool),
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

    fn hear(&mut self, session: &mut Outgoing, frame: &Frame) -> Result<(), LinkError> {
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

    fn acknowledge(&mut self, session: &mut Outgoing, through: u64) -> Result<(), LinkError> {
        let before = session.acked();
        if !session.acknowledge(through) {
            let text = format!("it acknowledges frame {through}, which was never sent");
            return Err(LinkError::Protocol(text));
        }
        if through > before {
            self.word.progress();
        }
        if self.recorder_id != 0 {
            let (spool, recorder) = (self.spool_id, self.recorder_id);
            self.note.take(Some(Acked { spool, recorder, frame: through }));
        }
        self.show_acked(session);
        Ok(())
    }

    fn show_acked(&self, session: &Outgoing) {
        let through = session.acked();
        self.acked.send_if_modified(|acked| {
            let more = through > *acked;
            *acked = through.max(*acked);
            more
        });
        self.status.send_modify(|status| {
            status.acked_frame = through;
            status.unacked_bytes = session.unacked_bytes();
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
