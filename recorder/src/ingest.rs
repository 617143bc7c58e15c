//! Receiving: forwarders connect, say who they are, and send the account and the payload.
//!
//! A connection begins with a `Hello` within a deadline; nothing else is parsed before. The
//! peer's credentials decide which node it may be. One connection lives per spool (accounting lane)
//! and per node (capture lane): the newest wins, and the one before it has ended when the newest is
//! welcomed. Whoever is refused is told why in a `Reject`, and the operator in one log line.

mod accounting;
mod bind;
mod handshake;
mod peer;
mod registry;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::SinkExt;
use schemas::wire::{
    Frame, FrameCodec, FrameError, FrameKind, MAX_ACCOUNTING_PAYLOAD, MAX_CAPTURE_PAYLOAD,
    PROTOCOL, Reject, RejectCode, Welcome,
};
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::capture::Captures;
use crate::config::Allow;
use crate::log::{LogError, LogHandle, RETRY_INTERVAL};

pub use bind::{BindError, Bound, bind};
use handshake::{Hailed, HailedLane};
use peer::Peers;
use registry::{Key, Registry};

/// A connection whose frames are being read.
pub type Connection = Framed<UnixStream, FrameCodec>;

/// Most connections at once; beyond it they wait to be accepted.
pub const MAX_CONNECTIONS: usize = 512;
/// How long one answer may take to be written.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long an accept that failed (no descriptors) is left alone.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to end when the recorder stops.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Refusals are logged at most this often; the rest are counted.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// Whom to serve, and how patiently.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who may be which node; empty: peers of our own uid or root may be any.
    pub allow: Vec<Allow>,
    /// How long a peer may take to say who it is.
    pub hello_within: Duration,
    /// A peer that says nothing for this long is dead; forwarders ping every 5 s.
    pub silence: Duration,
}

impl Settings {
    /// The usual patience: 5 s for the `Hello`, 15 s of silence.
    pub fn new(allow: Vec<Allow>) -> Self {
        Self { allow, hello_within: Duration::from_secs(5), silence: Duration::from_secs(15) }
    }
}

/// What ingest has seen since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Connections refused, by [`Reject`] or without a word.
    pub refused: u64,
    /// Frames of spools taken into the log.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// Frames that were here already.
    pub duplicates: u64,
}

/// One connection, for `recorder status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionStatus {
    /// The forwarder.
    pub node: String,
    /// Its run.
    pub boot: String,
    /// `accounting` or `capture`.
    pub lane: &'static str,
    /// The spool; none on the capture lane.
    pub spool: Option<String>,
    /// How long it has been welcome, in seconds.
    pub seconds: u64,
}

/// The receiving side, running.
#[derive(Debug)]
pub struct Ingest {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    closing: CancellationToken,
    sockets: Vec<(PathBuf, u64)>,
}

/// Sees the state of a running [`Ingest`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Watcher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    peers: Peers,
    hello_within: Duration,
    silence: Duration,
    log: LogHandle,
    captures: Captures,
    registry: Registry,
    connections: Arc<Semaphore>,
    counters: Counters,
    complaints: Complaints,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    refused: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    duplicates: AtomicU64,
}

impl Ingest {
    /// Serves the sockets on the current runtime.
    pub fn start(
        listeners: Vec<Bound>,
        settings: Settings,
        log: LogHandle,
        captures: Captures,
    ) -> Self {
        let shared = Arc::new(Shared {
            peers: Peers::new(settings.allow),
            hello_within: settings.hello_within,
            silence: settings.silence,
            log,
            captures,
            registry: Registry::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            counters: Counters::default(),
            complaints: Complaints::default(),
        });
        let tasks = TaskTracker::new();
        let closing = CancellationToken::new();
        let mut sockets = Vec::new();
        for Bound { listener, path } in listeners {
            if let Ok(metadata) = path.symlink_metadata() {
                sockets.push((path, metadata.ino()));
            }
            let (shared, tasks_of, closing) = (Arc::clone(&shared), tasks.clone(), closing.clone());
            tasks.spawn(accept(listener, shared, tasks_of, closing));
        }
        Self { shared, tasks, closing, sockets }
    }

    /// Sees counts and connections.
    pub fn watcher(&self) -> Watcher {
        Watcher(Arc::clone(&self.shared))
    }

    /// Accepts no more, tells every forwarder that the recorder is stopping, and waits until the
    /// connections have ended, at most 5 s.
    pub async fn stop(self) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(STOP_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "connections did not end in time");
        }
        for (path, inode) in self.sockets {
            // Only our own: somebody may have put another in its place.
            if path.symlink_metadata().is_ok_and(|metadata| metadata.ino() == inode) {
                drop(std::fs::remove_file(path));
            }
        }
    }
}

impl Watcher {
    /// What was seen so far.
    pub fn counts(&self) -> Counts {
        let Counters { connections, refused, frames, bytes, duplicates } = &self.0.counters;
        Counts {
            connections: connections.load(Relaxed),
            refused: refused.load(Relaxed),
            frames: frames.load(Relaxed),
            bytes: bytes.load(Relaxed),
            duplicates: duplicates.load(Relaxed),
        }
    }

    /// Who is connected, in the order of node and lane.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        self.0.registry.list()
    }
}

async fn accept(
    listener: UnixListener,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    closing: CancellationToken,
) {
    loop {
        let Ok(permit) = Arc::clone(&shared.connections).acquire_owned().await else { return };
        // Accepting is cancel-safe: a connection is either returned or still in the backlog.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return,
        };
        match accepted {
            Ok((socket, _)) => {
                shared.counters.connections.fetch_add(1, Relaxed);
                let (shared, closing) = (Arc::clone(&shared), closing.clone());
                tasks.spawn(async move {
                    Box::pin(serve(socket, shared, closing)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                shared.complaints.warn(&format!("cannot accept a connection: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection from its first byte to its last.
async fn serve(socket: UnixStream, shared: Arc<Shared>, closing: CancellationToken) {
    let mut connection = Framed::new(socket, FrameCodec::new(handshake::MAX_HELLO));
    // Hearing may be abandoned at any await: nothing was promised yet.
    let heard = tokio::select! {
        heard = handshake::hear(&mut connection, &shared) => heard,
        () = closing.cancelled() => Err(End::Refused(Refusal::stopping())),
    };
    let hailed = match heard {
        Ok(hailed) => hailed,
        Err(end) => return shared.finish(connection, end, "a peer").await,
    };
    let who = hailed.to_string();
    let end = match hailed.lane {
        HailedLane::Accounting(spool) => {
            connection = connection.map_codec(|_| FrameCodec::new(MAX_ACCOUNTING_PAYLOAD));
            accounting::serve(&mut connection, &hailed, spool, &shared, &closing).await
        }
        HailedLane::Capture => match capture(connection, &hailed, &shared, &closing).await {
            Ok(()) => return,
            Err((returned, end)) => {
                connection = *returned;
                end
            }
        },
    };
    shared.finish(connection, end, &who).await;
}

/// Welcomes a connection of the capture lane and hands it on. An error gives it back.
async fn capture(
    mut connection: Connection,
    hailed: &Hailed,
    shared: &Shared,
    closing: &CancellationToken,
) -> Result<(), (Box<Connection>, End)> {
    connection = connection.map_codec(|_| FrameCodec::new(MAX_CAPTURE_PAYLOAD));
    let claim =
        match shared.registry.claim(Key::Capture(hailed.node.clone()), hailed, closing).await {
            Ok(claim) => claim,
            Err(end) => return Err((Box::new(connection), end)),
        };
    let welcome = Welcome {
        protocol: PROTOCOL,
        credit: crate::capture::INITIAL_CREDIT,
        ..Welcome::default()
    };
    let welcome = Frame::message(FrameKind::Welcome, 0, &welcome);
    if let Err(end) = answer(&mut connection, &welcome).await {
        return Err((Box::new(connection), end));
    }
    tracing::info!("{hailed} is connected");
    let (node, boot, closing) = (hailed.node.clone(), hailed.boot, claim.closing());
    shared.captures.serve(connection, node, boot, closing).await;
    tracing::info!("{hailed} is disconnected");
    Ok(())
}

/// How a connection ends.
#[derive(Debug)]
enum End {
    /// By us, with a word to the peer.
    Refused(Refusal),
    /// By the peer, or by the connection.
    Lost(String),
}

/// What the peer is told.
#[derive(Debug)]
struct Refusal {
    code: RejectCode,
    text: String,
    retry_after_ms: u32,
}

impl Refusal {
    fn new(code: RejectCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), retry_after_ms: 0 }
    }

    fn stopping() -> Self {
        Self::new(RejectCode::Stopping, "the recorder is stopping")
    }
}

impl From<LogError> for End {
    fn from(error: LogError) -> Self {
        let text = error.to_string();
        let retry_after_ms = u32::try_from(RETRY_INTERVAL.as_millis()).unwrap_or(u32::MAX);
        Self::Refused(match error {
            LogError::Storage(_) => Refusal { code: RejectCode::Storage, text, retry_after_ms },
            LogError::Stopped => Refusal::stopping(),
        })
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Self::Lost(error.to_string()),
            broken => Self::Refused(Refusal::new(RejectCode::Stream, broken.to_string())),
        }
    }
}

/// Sends one frame, within its deadline.
async fn answer(connection: &mut Connection, frame: &Frame) -> Result<(), End> {
    match timeout(ANSWER_WITHIN, connection.send(frame)).await {
        Ok(sent) => sent.map_err(End::from),
        Err(_elapsed) => Err(End::Lost("it does not read our answers".to_owned())),
    }
}

impl Shared {
    /// Ends a connection: the last word to the peer, and the line in the log.
    async fn finish(&self, mut connection: Connection, end: End, who: &str) {
        let refusal = match end {
            End::Lost(reason) => {
                tracing::debug!("{who} is gone: {reason}");
                return;
            }
            End::Refused(refusal) => refusal,
        };
        self.counters.refused.fetch_add(1, Relaxed);
        if refusal.code == RejectCode::Stopping {
            tracing::debug!("{who} is told that we stop");
        } else {
            self.complaints.warn(&format!("{who} is refused: {}", refusal.text));
        }
        let reject = Reject {
            code: refusal.code.into(),
            text: refusal.text,
            retry_after_ms: refusal.retry_after_ms,
        };
        // A peer that is gone already need not be told.
        drop(answer(&mut connection, &Frame::message(FrameKind::Reject, 0, &reject)).await);
    }
}

/// Warnings that a peer can cause, at most one in [`COMPLAIN_EVERY`].
#[derive(Debug, Default)]
struct Complaints(Mutex<Option<(Instant, u64)>>);

impl Complaints {
    fn warn(&self, text: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Some((at, kept_back)) if at.elapsed() < COMPLAIN_EVERY => *kept_back += 1,
            Some((_, kept_back @ 1..)) => {
                tracing::warn!("{text} (and {kept_back} more warnings that were not logged)");
                *last = Some((Instant::now(), 0));
            }
            _ => {
                tracing::warn!("{text}");
                *last = Some((Instant::now(), 0));
            }
        }
    }
}
