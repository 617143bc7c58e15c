//! The lane's task: one connection to the recorder, made again whenever it is lost.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use schemas::vocab::{BootId, NodeName, PerDirection};
use schemas::wire::{CaptureOpen, Credit, Frame, FrameCodec, FrameKind, Hello, Lane, PROTOCOL};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};
use tokio_util::codec::FramedWrite;
use tokio_util::sync::CancellationToken;

use super::lane::{CaptureLane, Captured, Chunk, Message, Shared};
use super::{AWAY_AFTER, LAST_WORD_WITHIN};
use crate::link::{
    Backoff, Connection, LinkError, PING_EVERY, SILENCE, connect, last_word, message, random,
    refused,
};

/// A connection that lived this long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(1);
/// Most sessions that ended while the recorder was away and are told of when it is back.
const MAX_ENDED_AWAY: usize = 1 << 16;

/// What the sender needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The recorder's socket.
    pub socket: PathBuf,
    /// Who we are.
    pub node: NodeName,
    /// Our run.
    pub boot: BootId,
}

/// The lane's task, running. Dropped without [`CaptureSender::stop`], it ends at once.
#[derive(Debug)]
pub struct CaptureSender {
    lane: CaptureLane,
    stopping: CancellationToken,
    task: JoinHandle<bool>,
}

impl CaptureSender {
    /// Starts the lane on the current runtime. `report_dropped` is told of payload that is dropped,
    /// in bytes, on any thread; it must not block.
    pub fn start(settings: Settings, report_dropped: impl Fn(u64) + Send + Sync + 'static) -> Self {
        let (lane, queue) = CaptureLane::new(report_dropped);
        let stopping = CancellationToken::new();
        let sender = Sender {
            settings,
            shared: Arc::clone(&lane.shared),
            queue,
            stopping: stopping.clone(),
            running: HashMap::new(),
            ended_away: 0,
            lost_at: None,
        };
        Self { lane, stopping, task: tokio::spawn(sender.run()) }
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
        matches!(timeout(LAST_WORD_WITHIN, &mut self.task).await, Ok(Ok(true)))
    }
}

impl Drop for CaptureSender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A session that the lane carries.
struct Running {
    session: Arc<Captured>,
    /// The recorder has heard of it, on this connection or an earlier one.
    known: bool,
    /// Behind the last payload that left the queue, sent or dropped.
    position: PerDirection<u64>,
    ended: bool,
}

struct Sender {
    settings: Settings,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Message>,
    stopping: CancellationToken,
    running: HashMap<u64, Running>,
    ended_away: usize,
    /// Since when the recorder is lost, once that was said.
    lost_at: Option<Instant>,
}

/// What one connection has still to say.
struct Outbox {
    frames: VecDeque<Frame>,
    /// Payload for which there is no credit yet.
    waiting: Option<Chunk>,
    credit: u64,
    /// Something was fed and not flushed.
    is_dirty: bool,
    /// Pings that were not answered.
    unanswered: u64,
    /// A last ping was sent, and its pong is all that is waited for.
    is_closing: bool,
}

impl Sender {
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
            self.lost(&error);
            let wait = backoff.next(random()).max(error.retry_after());
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
        if self.lost_at.take().is_some() {
            tracing::info!("the recorder takes captures again");
        }
        self.shared.connected.store(true, Relaxed);
        self.shared.away.store(false, Relaxed);
        self.serve(connection).await?;
        Ok(true)
    }

    /// Waits for `something` without a recorder; from `away_from` on, what arrives is dropped.
    /// `None`: we are to stop.
    async fn meanwhile<T>(
        &mut self,
        away_from: Instant,
        something: impl Future<Output = T>,
    ) -> Option<T> {
        let mut something = pin!(something);
        loop {
            let is_away = self.shared.away.load(Relaxed);
            // Cancel-safe: a message is taken or stays in the queue.
            tokio::select! {
                done = &mut something => return Some(done),
                () = self.stopping.cancelled() => return None,
                () = sleep_until(away_from), if !is_away => {
                    self.shared.away.store(true, Relaxed);
                }
                message = self.queue.recv(), if is_away => {
                    self.pass_by(message?);
                }
            }
        }
    }

    /// What a message means while there is nobody to tell.
    fn pass_by(&mut self, message: Message) {
        match message {
            Message::Begin(session) => self.begin(session),
            Message::Data(chunk) => self.lose(&chunk),
            Message::Mark { .. } => {}
            Message::End { number } => self.ended_without_recorder(number),
        }
    }

    fn begin(&mut self, session: Arc<Captured>) {
        let number = session.open.session_no;
        let position = PerDirection::default();
        self.running.insert(number, Running { session, known: false, position, ended: false });
    }

    fn lose(&mut self, chunk: &Chunk) {
        self.shared.taken(chunk);
        let running = self.running.get_mut(&chunk.number);
        self.shared.lose(running.as_ref().map(|running| &running.session), chunk.payload);
        if let Some(running) = running {
            running.position[chunk.direction] = chunk.offset;
        }
    }

    /// A recorder that knows of a session has to hear of its end some time.
    fn ended_without_recorder(&mut self, number: u64) {
        let Some(running) = self.running.get_mut(&number) else { return };
        if running.known && self.ended_away < MAX_ENDED_AWAY {
            running.ended = true;
            self.ended_away += 1;
        } else {
            self.running.remove(&number);
        }
    }

    /// We stop, and nobody is there: all that waits is dropped. True: that was nothing.
    fn give_up(&mut self) -> bool {
        self.shared.away.store(true, Relaxed);
        let mut nothing = true;
        while let Ok(message) = self.queue.try_recv() {
            nothing &= !matches!(message, Message::Data(_));
            self.pass_by(message);
        }
        nothing
    }

    fn lost(&mut self, error: &LinkError) {
        if self.lost_at.is_none() {
            self.lost_at = Some(Instant::now());
            tracing::warn!("{error}; captured payload is dropped and counted until it is back");
        }
    }

    /// Sends and hears until the connection is lost (then what waits for credit is lost), or, once
    /// stopping, the recorder has got everything.
    async fn serve(&mut self, connection: Connection) -> Result<(), LinkError> {
        let mut outbox = self.announce_again(connection.welcome.credit);
        let served = self.serve_with(connection, &mut outbox).await;
        if let Some(chunk) = outbox.waiting.take() {
            self.lose(&chunk);
        }
        served
    }

    async fn serve_with(
        &mut self,
        connection: Connection,
        outbox: &mut Outbox,
    ) -> Result<(), LinkError> {
        let Connection { reader: mut from, writer: mut to, .. } = connection;
        let mut heard = Instant::now();
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        loop {
            outbox.spend_credit();
            if outbox.has_room() && self.queue.is_empty() {
                self.find_missed_ends(outbox);
                if self.stopping.is_cancelled() && !outbox.is_closing && outbox.has_room() {
                    outbox.is_closing = true;
                    outbox.ping();
                }
            }
            let has_room = outbox.has_room() && !outbox.is_closing;
            // Cancel-safe: hearing keeps half a frame in its buffer, feeding takes a frame whole or
            // not at all, flushing may be taken up again, and a message is taken or stays.
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
                pushed = push(&mut to, outbox.frames.front()), if outbox.has_work() => {
                    if let Err(error) = pushed {
                        return Err(last_word(&mut from, error).await);
                    }
                    outbox.is_dirty = outbox.frames.pop_front().is_some();
                }
                message = self.queue.recv(), if has_room => {
                    let Some(message) = message else { return Ok(()) };
                    self.pass_on(message, outbox);
                }
                () = self.stopping.cancelled(), if has_room => {
                    // The queue is emptied first; recv() has nothing to wait for.
                    if let Ok(message) = self.queue.try_recv() {
                        self.pass_on(message, outbox);
                    }
                }
                _ = pings.tick() => outbox.ping(),
                () = sleep_until(heard + SILENCE) => {
                    return Err(LinkError::Lost(format!("silence for {SILENCE:?}")));
                }
            }
        }
    }

    /// Announces what is still running, and tells the ends that were missed.
    fn announce_again(&mut self, credit: u64) -> Outbox {
        let mut frames = VecDeque::new();
        let mut numbers: Vec<u64> = self.running.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(running) = self.running.get_mut(&number) else { continue };
            frames.push_back(running.announcement());
            if running.ended {
                frames.extend(running.session.end_frame());
                self.running.remove(&number);
            }
        }
        self.ended_away = 0;
        Outbox { frames, waiting: None, credit, is_dirty: false, unanswered: 0, is_closing: false }
    }

    fn pass_on(&mut self, message: Message, outbox: &mut Outbox) {
        match message {
            Message::Begin(session) => {
                let number = session.open.session_no;
                self.begin(session);
                let running = self.running.get_mut(&number);
                outbox.frames.extend(running.map(Running::announcement));
            }
            Message::Data(chunk) => {
                self.shared.taken(&chunk);
                if let Some(running) = self.running.get_mut(&chunk.number) {
                    running.position[chunk.direction] = chunk.offset;
                    outbox.waiting = Some(chunk);
                }
            }
            Message::Mark { number, frame } => {
                if self.running.contains_key(&number) {
                    outbox.frames.push_back(frame);
                }
            }
            Message::End { number } => self.end(number, outbox),
        }
    }

    fn end(&mut self, number: u64, outbox: &mut Outbox) {
        if let Some(running) = self.running.remove(&number) {
            outbox.frames.extend(running.session.end_frame());
        }
    }

    /// Ends that found no place in the queue, once all that came before them is sent.
    fn find_missed_ends(&mut self, outbox: &mut Outbox) {
        if !self.shared.end_missed.swap(false, Relaxed) {
            return;
        }
        let over = |(number, running): (&u64, &Running)| {
            running.session.end.get().is_some().then_some(*number)
        };
        let mut missed: Vec<u64> = self.running.iter().filter_map(over).collect();
        missed.sort_unstable();
        for number in missed {
            self.end(number, outbox);
        }
    }
}

impl Running {
    /// Says that the session begins, or where it stands.
    fn announcement(&mut self) -> Frame {
        let resumed = self.known || self.position.sum() > 0;
        self.known = true;
        let open = CaptureOpen {
            resumed,
            offset_up: self.position.up,
            offset_down: self.position.down,
            ..self.session.open.clone()
        };
        Frame::message(FrameKind::CaptureOpen, 0, &open)
    }
}

impl Outbox {
    /// Whether another message may be taken from the queue.
    fn has_room(&self) -> bool {
        self.frames.is_empty() && self.waiting.is_none()
    }

    /// Whether there is something to feed or to flush.
    fn has_work(&self) -> bool {
        self.is_dirty || !self.frames.is_empty()
    }

    fn ping(&mut self) {
        self.unanswered += 1;
        self.frames.push_back(Frame::empty(FrameKind::Ping));
    }

    /// Lets waiting payload go if there is credit for it.
    fn spend_credit(&mut self) {
        let Some(chunk) = self.waiting.take() else { return };
        match self.credit.checked_sub(u64::try_from(chunk.payload).unwrap_or(u64::MAX)) {
            Some(left) => {
                self.credit = left;
                self.frames.push_back(chunk.frame);
            }
            None => self.waiting = Some(chunk),
        }
    }

    /// True: all is said, and our last ping was answered.
    fn hear(&mut self, frame: &Frame) -> Result<bool, LinkError> {
        match frame.kind {
            FrameKind::Credit => {
                let credit: Credit = message(frame)?;
                self.credit = self.credit.saturating_add(credit.bytes);
                Ok(false)
            }
            FrameKind::Ping => {
                self.frames.push_back(Frame::empty(FrameKind::Pong));
                Ok(false)
            }
            FrameKind::Pong => {
                self.unanswered = self.unanswered.saturating_sub(1);
                Ok(self.is_closing && self.unanswered == 0)
            }
            FrameKind::Reject => Err(refused(frame)),
            kind => Err(LinkError::Protocol(format!("{kind:?} on the capture lane"))),
        }
    }
}

/// Feeds `front`, or flushes when there is none.
async fn push(
    to: &mut FramedWrite<OwnedWriteHalf, FrameCodec>,
    front: Option<&Frame>,
) -> Result<(), LinkError> {
    match front {
        Some(frame) => to.feed(frame).await?,
        None => SinkExt::<&Frame>::flush(to).await?,
    }
    Ok(())
}
