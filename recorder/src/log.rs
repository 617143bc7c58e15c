//! The write-ahead log: everything the recorder has acknowledged and not yet published.
//!
//! `<data>/log` is a [`journal`]. Its frames are of two kinds: `Received`, a frame of a forwarder's
//! spool as it came (with the sender's node and the spool), and `Rows`, rows that the recorder
//! makes itself: `captures` and its own events, with `node` and `boot` in each row and `seq` NULL;
//! they must not be filled in by [`Rows::fill_in`].
//!
//! One thread writes. It gathers what arrives within [`GROUP_INTERVAL`] or [`GROUP_BYTES`] and makes
//! it durable with one fdatasync; only then are forwarders told and own rows answered.
//!
//! # When the disk does not take it
//! A frame that cannot be appended or synced is answered with [`LogError::Storage`], and with it
//! every later frame of its stream, so that no gap can arise: the forwarder is refused, keeps the
//! frames in its spool and comes back. After a failed fdatasync the log is cut back to what is
//! durable before anything else is written. Trouble is logged once when it begins and once when it
//! is over; it is tried again at most every [`RETRY_INTERVAL`].

mod marks;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use journal::{Journal, JournalError, Recovery, Settings};
use prost::Message;
use schemas::manifest::SpoolMark;
use schemas::vocab::{BootId, InvalidId, NodeName, SpoolId};
use schemas::wire::{Frame, Received, Rows};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

pub use marks::Mark;
use writer::Writer;

/// Directory of the log below the data directory.
pub const DIRECTORY: &str = "log";
/// Shortest time between two fdatasyncs while frames keep coming.
pub const GROUP_INTERVAL: Duration = Duration::from_millis(5);
/// Bytes that are made durable without waiting for more.
pub const GROUP_BYTES: usize = 1 << 20;
/// Shortest time between two attempts to write while the disk refuses.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Most bytes that wait for the writer; at this bound connections are not read.
pub const QUEUE_BYTES: usize = 16 << 20;
/// Most requests that wait for the writer.
const QUEUE_REQUESTS: usize = 4096;
/// Size of a segment that is not sealed earlier.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Why the log did not take something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The disk refused. What was given is not durable; it may be given again.
    #[error("the log cannot be written: {0}")]
    Storage(String),
    /// The recorder is stopping.
    #[error("the recorder is stopping")]
    Stopped,
}

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal below it.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The manifest names a spool that is not one.
    #[error("the manifest's mark cannot be used: {0}")]
    Mark(#[from] InvalidId),
    /// A thread or a random number could not be had.
    #[error("cannot start the log: {0}")]
    System(#[from] std::io::Error),
}

/// The log, running. Dropped without [`Log::stop`], it ends when the last handle is gone.
#[derive(Debug)]
pub struct Log {
    handle: LogHandle,
    writer: JoinHandle<()>,
}

/// A sealed segment, to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSegment {
    /// Its file, to be read with [`journal::SegmentReader`].
    pub path: PathBuf,
    /// Number of its first frame in the log.
    pub first_frame: u64,
    /// Number of its last frame in the log.
    pub last_frame: u64,
}

impl Log {
    /// Opens `<data>/log`, creating it if need be, and starts its thread. `marks`: how far each
    /// spool is in the tables, from the manifest; the log's own frames are laid over them.
    ///
    /// # Errors
    /// The log is open elsewhere (exit code 75), damaged, or not to be written.
    pub fn start(data: &Path, marks: &[SpoolMark]) -> Result<(Self, Recovery), StartError> {
        let mut settings = Settings::new(SpoolId(random()?));
        settings.segment_bytes = SEGMENT_BYTES;
        settings.max_payload = journal::MAX_PAYLOAD;
        let dir = data.join(DIRECTORY);
        let (mut journal, recovery) = Journal::open(&dir, settings)?;
        let marks = marks::read(&mut journal, marks)?;
        Ok((Self::run(journal, marks)?, recovery))
    }

    fn run(journal: Journal, marks: marks::Marks) -> std::io::Result<Self> {
        let id = journal.id();
        let (requests, inbox) = mpsc::channel(QUEUE_REQUESTS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let writer = Writer::new(journal, marks);
        let writer = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || runtime.block_on(writer.run(inbox)))?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        Ok(Self { handle: LogHandle { id, requests, room }, writer })
    }

    /// The way in.
    pub fn handle(&self) -> LogHandle {
        self.handle.clone()
    }

    /// Makes everything durable that was accepted so far, and ends the thread. Blocks for one
    /// fdatasync; later requests are answered [`LogError::Stopped`].
    pub fn stop(self) {
        let Self { handle, writer } = self;
        let asked = handle.requests.blocking_send(Request::Stop);
        drop(handle);
        if asked.is_ok() && writer.join().is_err() {
            tracing::error!("the log's thread ended by a panic; see the message above");
        }
    }
}

/// How much is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The newest durable frame; 0: there never was one.
    pub last_frame: u64,
    /// Size of the segments.
    pub bytes: u64,
}

/// The way into the log, for connections and the publisher. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogHandle {
    id: SpoolId,
    requests: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
}

/// A spool as the forwarder's `Hello` tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolOffer {
    /// Its id.
    pub id: SpoolId,
    /// The oldest frame the forwarder still has; 0: none.
    pub first_frame: u64,
    /// The first frame that no recorder has acknowledged; 0: not known.
    pub first_unacked: u64,
    /// Another recorder acknowledged the frames before that.
    pub acked_elsewhere: bool,
}

impl SpoolOffer {
    /// The frame that shall come first.
    fn next(&self, held: Option<Mark>) -> Option<u64> {
        let first = if self.acked_elsewhere {
            self.first_frame.max(self.first_unacked)
        } else {
            self.first_frame
        };
        match held {
            Some(held) => Some(first.max(held.frame.saturating_add(1))),
            None => Some(first).filter(|first| *first > 0),
        }
    }
}

impl LogHandle {
    /// The log's id, by which forwarders know one recorder from another.
    pub fn id(&self) -> SpoolId {
        self.id
    }

    /// Appends rows of the recorder's own and waits until they are durable.
    ///
    /// # Errors
    /// They are not durable.
    pub async fn append_rows(&self, rows: &Rows) -> Result<(), LogError> {
        let payload = Bytes::from(rows.encode_to_vec());
        let room = self.reserve(payload.len()).await?;
        self.ask(|done| Request::Rows { payload, done, room }).await?
    }

    /// Seals the current segment durably, if it holds a frame, and returns every sealed segment
    /// that was not removed yet, oldest first.
    ///
    /// # Errors
    /// The segment could not be sealed, and there is no earlier one.
    pub async fn seal(&self) -> Result<Vec<SealedSegment>, LogError> {
        self.ask(|done| Request::Seal { done }).await?
    }

    /// Deletes the sealed segments whose last frame is at most `frame`: they are published.
    ///
    /// # Errors
    /// A segment could not be deleted; it will be listed by [`Self::seal`] again.
    pub async fn remove_through(&self, frame: u64) -> Result<(), LogError> {
        self.ask(|done| Request::RemoveThrough { frame, done }).await?
    }

    /// How much is in the log.
    ///
    /// # Errors
    /// The log has stopped.
    pub async fn extent(&self) -> Result<Extent, LogError> {
        self.ask(|done| Request::Extent { done }).await
    }

    /// The last durable frame of a spool that this recorder holds, in the log or in the tables.
    ///
    /// # Errors
    /// What was received of it cannot be made durable.
    pub async fn spool_mark(&self, spool: SpoolId) -> Result<Option<Mark>, LogError> {
        self.ask(|done| Request::Mark { spool, done }).await?
    }

    /// Takes up a spool's stream. There may be one [`Stream`] of a spool at a time: the caller ends
    /// an earlier one first.
    ///
    /// # Errors
    /// As [`Self::spool_mark`].
    pub async fn stream(
        &self,
        node: NodeName,
        boot: BootId,
        offer: SpoolOffer,
    ) -> Result<Stream, LogError> {
        let held = self.spool_mark(offer.id).await?;
        let next = offer.next(held);
        let (progress, _) = watch::channel(Ok(held.map_or(0, |mark| mark.frame)));
        let progress = Arc::new(progress);
        Ok(Stream { handle: self.clone(), node, boot, offer, held, next, progress })
    }

    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, LogError> {
        let permits = u32::try_from(bytes.min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await;
        room.map_err(|_closed| LogError::Stopped)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, LogError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_closed| LogError::Stopped)?;
        answer.await.map_err(|_closed| LogError::Stopped)
    }
}

/// What became of a frame that was given to a [`Stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is on its way; [`Stream::progress`] tells when it is durable.
    New,
    /// It was here already.
    Duplicate,
    /// It is not the one that comes next.
    Gap {
        /// The number that comes next.
        expected: u64,
    },
}

/// How far a stream is durable, or why it will get no further.
pub type Progress = Result<u64, LogError>;

/// The frames of one spool on their way into the log.
#[derive(Debug)]
pub struct Stream {
    handle: LogHandle,
    node: NodeName,
    boot: BootId,
    offer: SpoolOffer,
    held: Option<Mark>,
    /// `None`: the spool is unknown and was empty, any number may begin it.
    next: Option<u64>,
    progress: Arc<watch::Sender<Progress>>,
}

impl Stream {
    /// What the log held of the spool when the stream was taken up.
    pub fn held(&self) -> Option<Mark> {
        self.held
    }

    /// Whose frames they are.
    pub fn spool(&self) -> SpoolId {
        self.offer.id
    }

    /// The number of the last durable frame, or the error that ended the stream.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Takes the next frame; waits while the queue is full. `mistaken`: it is the end of a boot that
    /// has not ended.
    ///
    /// # Errors
    /// The log has stopped.
    pub async fn append(&mut self, frame: &Frame, mistaken: bool) -> Result<Taken, LogError> {
        match self.next {
            Some(next) if frame.number < next => return Ok(Taken::Duplicate),
            Some(next) if frame.number > next => return Ok(Taken::Gap { expected: next }),
            _ => {}
        }
        let mut whole = BytesMut::with_capacity(frame.encoded_len());
        let crc = frame.encode(&mut whole);
        let spool = self.offer.id;
        let may_begin = self.held.is_none_or(|held| frame.number > held.frame.saturating_add(1));
        let begins = match self.held {
            None => frame.number > 1,
            Some(_) => may_begin && self.offer.acked_elsewhere,
        };
        let received = Received {
            node: self.node.to_string(),
            spool_id: spool.0,
            frame: whole.freeze(),
            begins,
            mistaken,
        };
        let payload = Bytes::from(received.encode_to_vec());
        let room = self.handle.reserve(payload.len()).await?;
        let request = Request::Received(ReceivedFrame {
            payload,
            node: self.node.clone(),
            boot: self.boot,
            spool,
            mark: Mark { frame: frame.number, crc },
            may_begin,
            begins,
            progress: Arc::clone(&self.progress),
            room,
        });
        self.handle.requests.send(request).await.map_err(|_closed| LogError::Stopped)?;
        self.held = Some(Mark { frame: frame.number, crc });
        // Nobody comes to the last number but who wants to see what happens then.
        self.next = Some(frame.number.saturating_add(1));
        Ok(Taken::New)
    }
}

/// What the writer is asked.
#[derive(Debug)]
enum Request {
    Received(ReceivedFrame),
    Rows { payload: Bytes, done: oneshot::Sender<Result<(), LogError>>, room: OwnedSemaphorePermit },
    Mark { spool: SpoolId, done: oneshot::Sender<Result<Option<Mark>, LogError>> },
    Seal { done: oneshot::Sender<Result<Vec<SealedSegment>, LogError>> },
    Extent { done: oneshot::Sender<Extent> },
    RemoveThrough { frame: u64, done: oneshot::Sender<Result<(), LogError>> },
    Stop,
}

#[derive(Debug)]
struct ReceivedFrame {
    /// A [`Received`] message.
    payload: Bytes,
    node: NodeName,
    boot: BootId,
    spool: SpoolId,
    mark: Mark,
    /// It may follow on nothing, or leave a gap behind the frame before it: the forwarder has
    /// nothing older.
    may_begin: bool,
    /// What is passed over is no loss: another recorder has it.
    begins: bool,
    progress: Arc<watch::Sender<Progress>>,
    room: OwnedSemaphorePermit,
}

fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    let mut have = 0;
    while have < bytes.len() {
        have += rustix::rand::getrandom(&mut bytes[have..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(u64::from_le_bytes(bytes))
}
