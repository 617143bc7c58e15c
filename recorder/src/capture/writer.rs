//! The thread that writes captures, and the way to it.
//!
//! It serves the connections of the capture lane itself: payload goes from the socket into a buffer
//! and from there into the file, without another thread in between. While a disk is slow nothing is
//! read and no credit given, and that is all that a forwarder notices.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use schemas::vocab::{BootId, NodeName};
use schemas::wire::FrameCodec;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::closing::Closing;
use super::counters::{Counters, Counts};
use super::lane;
use super::recover::Recovered;
use super::store::Store;
use crate::log::{LogError, LogHandle};

/// Most messages that wait for the thread; connections are few.
const QUEUE_MESSAGES: usize = 64;
/// How often files are looked at for their age.
const TICK: Duration = Duration::from_secs(1);

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
    threads: [JoinHandle<()>; 2],
}

/// Where captured payload goes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Captures {
    commands: mpsc::Sender<Command>,
    counters: Counters,
}

/// What the thread is told.
#[derive(Debug)]
enum Command {
    Serve(Guest),
    CloseFiles { done: oneshot::Sender<Result<(), CloseError>> },
    Stop,
}

/// A connection of the lane, and who it is.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) stream: std::os::unix::net::UnixStream,
    /// What was read from it already.
    pub(super) heard: BytesMut,
    pub(super) node: NodeName,
    pub(super) boot: BootId,
    pub(super) closing: CancellationToken,
    /// Dropped when the connection has been closed.
    pub(super) gone: oneshot::Sender<()>,
}

impl CaptureWriter {
    /// Starts the threads. `recovered` comes from [`super::recover()`], which must have run before.
    ///
    /// # Errors
    /// No thread could be had.
    pub fn start(settings: Settings, recovered: Recovered, log: LogHandle) -> io::Result<Self> {
        let (commands, inbox) = mpsc::channel(QUEUE_MESSAGES);
        let counters = Counters::default();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (closing, closer) = Closing::start(settings.data.clone(), log, counters.clone())?;
        let for_writer = counters.clone();
        let writer = std::thread::Builder::new().name("capture".to_owned()).spawn(move || {
            let store = Store::new(settings, for_writer.clone(), recovered.left_open);
            let writer =
                Rc::new(Writer { store: RefCell::new(store), closing, counters: for_writer });
            LocalSet::new().block_on(&runtime, writer.run(inbox));
        })?;
        Ok(Self { captures: Captures { commands, counters }, threads: [writer, closer] })
    }

    /// The way in.
    pub fn handle(&self) -> Captures {
        self.captures.clone()
    }

    /// Closes every file and ends the threads; what arrives later is lost. Blocks; the log must
    /// still be running.
    pub fn stop(self) {
        let Self { captures, threads } = self;
        let asked = captures.commands.blocking_send(Command::Stop);
        drop(captures);
        if asked.is_ok() && threads.into_iter().any(|thread| thread.join().is_err()) {
            tracing::error!("a thread of the capture ended by a panic; see the message above");
        }
    }
}

impl Captures {
    /// Serves one connection of the capture lane, whose handshake is done, until it ends or
    /// `closing` is cancelled (a newer connection of the same node, or the end of the recorder):
    /// then it returns soon, and leaves nothing half written.
    pub async fn serve(
        &self,
        connection: Framed<UnixStream, FrameCodec>,
        node: NodeName,
        boot: BootId,
        closing: CancellationToken,
    ) {
        let parts = connection.into_parts();
        let stream = match parts.io.into_std() {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(node = node.as_str(), "the capture lane cannot be served: {error}");
                return;
            }
        };
        let (gone, end) = oneshot::channel();
        let guest = Guest { stream, heard: parts.read_buf, node, boot, closing, gone };
        if self.send(Command::Serve(guest)).await.is_ok() {
            // Nothing is ever sent: it ends when the other side is dropped.
            drop(end.await);
        }
    }

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

    async fn send(&self, command: Command) -> Result<(), CloseError> {
        self.commands.send(command).await.map_err(|_closed| CloseError::Stopped)
    }
}

/// What the connections share.
pub(super) struct Writer {
    /// Borrowed between two awaits only.
    pub(super) store: RefCell<Store>,
    closing: Closing,
    pub(super) counters: Counters,
}

impl Writer {
    async fn run(self: Rc<Self>, mut inbox: mpsc::Receiver<Command>) {
        let mut lanes = JoinSet::new();
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Stop) | None => break,
                    Some(Command::Serve(guest)) => {
                        lanes.spawn_local(lane::serve(guest, Rc::clone(&self)));
                    }
                    Some(Command::CloseFiles { done }) => self.close_files(done).await,
                },
                _ = ticks.tick() => {
                    self.store.borrow_mut().tick();
                    self.hand_over().await;
                }
            }
            while let Some(end) = lanes.try_join_next() {
                if let Err(error) = end {
                    tracing::error!("a capture lane ended by a fault of the recorder: {error}");
                }
            }
        }
        // A connection is only ever cut off between two frames: what it told is written.
        lanes.shutdown().await;
        // Nobody waits for this answer; the thread that gives it is waited for.
        self.close_files(oneshot::channel().0).await;
    }

    async fn close_files(&self, done: oneshot::Sender<Result<(), CloseError>>) {
        // Said first: the files that wait already are in the way of those that are wanted.
        let hurry = self.closing.hurry();
        self.store.borrow_mut().close_all();
        self.hand_over().await;
        if let Some(place) = self.closing.place().await {
            place.flush(done, hurry);
        }
    }

    /// Gives away the files that were closed, by whomever. Whoever brings payload waits here while
    /// too many of them are not durable yet; what it waits with stays in the store, so that it may
    /// be cut off, and that everything closed before is on its way when this returns.
    pub(super) async fn hand_over(&self) {
        while self.store.borrow().has_news() {
            let place = self.closing.place().await;
            let mut store = self.store.borrow_mut();
            let Some(place) = place else {
                tracing::error!("closed captures are left to the next start: their thread ended");
                return store.forget_news();
            };
            if let Some(open) = store.take_note() {
                self.closing.note(open);
            }
            if let Some(file) = store.take_closed() {
                place.file(file);
            } else if let Some(lost) = store.take_lost() {
                place.lost(lost);
            }
        }
    }
}
