//! The side that answers.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::{
    Answer, CaptureStatus, Complaint, Connection, Flushed, LogStatus, MAX_REQUEST_BYTES, Received,
    Request, Status,
};
use crate::capture::Captures;
use crate::ingest::{Bound, Watcher};
use crate::log::LogHandle;
use crate::log_lines::Dropped;
use crate::publish::PublicationHandle;
use crate::upkeep::UpkeepHandle;
use schemas::exit::Exit;

/// Connections served at once; more are closed.
const MAX_CONNECTIONS: usize = 16;
/// How long a peer may take to send a request, or to take an answer.
const PEER_PATIENCE: Duration = Duration::from_secs(5);
/// How long accepting pauses when the system is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the answers are made from.
#[derive(Debug)]
pub struct State {
    /// The configuration file.
    pub config_file: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// When the recorder started.
    pub started: Instant,
    /// Publishing.
    pub publication: PublicationHandle,
    /// Compaction and retention.
    pub upkeep: UpkeepHandle,
    /// The log.
    pub log: LogHandle,
    /// Receiving.
    pub ingest: Watcher,
    /// The capture.
    pub captures: Captures,
    /// Log lines that were not written.
    pub log_lines_dropped: Dropped,
}

/// The bound admin socket. Its file goes when the server is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Answers on a bound socket.
    pub fn new(Bound { listener, path }: Bound) -> Self {
        Self { listener, path }
    }

    /// Answers requests until the future is dropped; answers on their way are cut off then.
    /// Cancel-safe.
    pub async fn serve(self, state: State) {
        let state = Arc::new(state);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("the admin socket cannot accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                turn_away(&stream);
                continue;
            };
            let state = Arc::clone(&state);
            connections.spawn(async move {
                converse(stream, &state).await;
                drop(permit);
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; either way the next start replaces it.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Answers one request after the other, as long as the peer keeps to the rules.
async fn converse(stream: UnixStream, state: &State) {
    let codec = LinesCodec::new_with_max_length(MAX_REQUEST_BYTES);
    let mut lines = Framed::new(stream, codec);
    while let Ok(Some(line)) = timeout(PEER_PATIENCE, lines.next()).await {
        let (answer, goes_on) = match line {
            Ok(line) => (answer(&line, state).await, true),
            Err(LinesCodecError::MaxLineLengthExceeded) => {
                let text = format!("a request may have {MAX_REQUEST_BYTES} bytes");
                (complaint(Exit::Usage, text), false)
            }
            Err(LinesCodecError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                (complaint(Exit::Usage, "a request is UTF-8 text"), false)
            }
            Err(LinesCodecError::Io(_)) => return,
        };
        let text = serde_json::to_string(&answer).expect("an answer is numbers, texts and lists");
        let sent = timeout(PEER_PATIENCE, lines.send(text)).await;
        if !goes_on || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

async fn answer(line: &str, state: &State) -> Answer {
    match serde_json::from_str(line) {
        Ok(Request::Status) => Answer::Status(Box::new(state.status().await)),
        Ok(Request::Flush) => state.flush().await,
        Err(error) => {
            complaint(Exit::Usage, format!("this recorder does not know the request: {error}"))
        }
    }
}

/// Tells a peer that there are too many, if it takes that without waiting.
fn turn_away(stream: &UnixStream) {
    let text = format!("{MAX_CONNECTIONS} others ask already; try again in a moment");
    let answer = complaint(Exit::Unreachable, text);
    let mut line = serde_json::to_string(&answer).expect("an answer is numbers, texts and lists");
    line.push('\n');
    if let Err(error) = stream.try_write(line.as_bytes()) {
        tracing::debug!("an admin connection beyond the limit was closed unanswered: {error}");
    }
}

fn complaint(exit: Exit, message: impl Into<String>) -> Answer {
    Answer::Error(Complaint { exit: exit as u8, message: message.into() })
}

impl State {
    /// Takes as long as the disk does; whoever asks has a deadline of his own.
    async fn flush(&self) -> Answer {
        if let Err(error) = self.captures.close_files().await {
            let text = format!("cannot close the capture files: {error}; they are tried again");
            return complaint(Exit::Io, text);
        }
        match self.publication.flush().await {
            Ok(published) => {
                Answer::Flush(Flushed { parts: published.parts, rows: published.rows })
            }
            Err(error) => {
                let text = format!("cannot publish: {error}; the log keeps everything");
                complaint(Exit::Io, text)
            }
        }
    }

    async fn status(&self) -> Status {
        let publish = self.publication.status();
        let log = self.log.extent().await.map_or_else(
            |_stopped| LogStatus::default(),
            |extent| LogStatus {
                unpublished_frames: extent.last_frame.saturating_sub(publish.log_through),
                bytes: extent.bytes,
            },
        );
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            config_file: self.config_file.display().to_string(),
            data: self.data.display().to_string(),
            publish,
            upkeep: self.upkeep.status(),
            log,
            connections: self.connections(),
            received: self.received(),
            capture: self.capture(),
            log_lines_dropped: self.log_lines_dropped.count(),
        }
    }

    fn connections(&self) -> Vec<Connection> {
        let connections = self.ingest.connections().into_iter();
        connections
            .map(|c| Connection {
                node: c.node,
                boot: c.boot,
                lane: c.lane.to_owned(),
                spool: c.spool,
                seconds: c.seconds,
            })
            .collect()
    }

    fn received(&self) -> Received {
        let counts = self.ingest.counts();
        Received {
            connections: counts.connections,
            refused: counts.refused,
            frames: counts.frames,
            bytes: counts.bytes,
            duplicates: counts.duplicates,
        }
    }

    fn capture(&self) -> CaptureStatus {
        let counts = self.captures.counts();
        CaptureStatus {
            sessions_open: counts.sessions_open,
            files: counts.files,
            undigested_files: counts.undigested_files,
            packets: counts.packets,
            dropped_bytes: counts.dropped_bytes,
            write_errors: counts.write_errors,
        }
    }
}
