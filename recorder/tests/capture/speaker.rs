//! A recorder's capture with a forwarder that speaks to it, and sessions as they are told.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use prost::Message;
use recorder::capture::{CaptureWriter, Captures, Settings, recover};
use recorder::config::Rotate;
use recorder::data_dir::Group;
use recorder::log::{Log, LogHandle};
use schemas::table::Capture;
use schemas::vocab::{BootId, Direction, EndReason, PerDirection, SessionId};
use schemas::wire::{
    CaptureData, CaptureEnd, CaptureMark, CaptureOpen, Frame, FrameCodec, FrameKind,
    MAX_CAPTURE_PAYLOAD, MarkKind, Reject, Rows,
};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

pub(crate) const NODE: &str = "edge-1";
pub(crate) const BOOT: &str = "k3f9x2ab";
/// 2026-09-21T14:13:20.123456789Z
pub(crate) const START_NS: i64 = 1_790_000_000_123_456_789;
/// Ports that tshark is told to take for plain data.
pub(crate) const TCP_PORT: u16 = 2222;
pub(crate) const UDP_PORT: u16 = 5300;
const MOMENT: Duration = Duration::from_secs(20);
const CHUNK: usize = MAX_CAPTURE_PAYLOAD - 1024;

/// A running capture on a data directory.
pub(crate) struct Recorder {
    log: Log,
    capture: CaptureWriter,
}

impl Recorder {
    pub(crate) async fn start(data: &Path) -> Self {
        let rotate = Rotate { size_bytes: 1 << 30, every: Duration::from_secs(900) };
        Self::start_with(data, rotate).await
    }

    pub(crate) async fn start_with(data: &Path, rotate: Rotate) -> Self {
        let (log, _) = Log::start(data, &[]).unwrap();
        let recovered = recover(data, &log.handle()).await.unwrap();
        let settings = Settings { data: data.to_owned(), rotate, readers: Group::nobody() };
        let capture = CaptureWriter::start(settings, recovered, log.handle()).unwrap();
        Self { log, capture }
    }

    pub(crate) fn captures(&self) -> Captures {
        self.capture.handle()
    }

    /// Connects a forwarder of the usual boot.
    pub(crate) fn connect(&self) -> Forwarder {
        self.connect_as(BOOT)
    }

    pub(crate) fn connect_as(&self, boot: &str) -> Forwarder {
        connect(self.captures(), boot)
    }

    /// Stops and gives every row of the index that the log holds.
    pub(crate) async fn stop(self) -> Vec<Capture> {
        let Self { log, capture } = self;
        tokio::task::spawn_blocking(move || capture.stop()).await.unwrap();
        let rows = rows_in(&log.handle()).await;
        tokio::task::spawn_blocking(move || log.stop()).await.unwrap();
        rows
    }
}

/// Connects a forwarder to a capture.
pub(crate) fn connect(captures: Captures, boot: &str) -> Forwarder {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let boot: BootId = boot.parse().unwrap();
    let closing = CancellationToken::new();
    let theirs = Framed::new(theirs, FrameCodec::new(MAX_CAPTURE_PAYLOAD));
    let serving = tokio::spawn(async move {
        captures.serve(theirs, NODE.parse().unwrap(), boot, closing).await;
    });
    let frames = Framed::new(ours, FrameCodec::new(MAX_CAPTURE_PAYLOAD));
    Forwarder { frames, serving, now_ns: START_NS, sessions: HashMap::new(), credit: 0 }
}

/// The `captures` rows in the log.
pub(crate) async fn rows_in(log: &LogHandle) -> Vec<Capture> {
    let mut rows = Vec::new();
    for segment in log.seal().await.unwrap() {
        let mut reader = journal::SegmentReader::open(&segment.path).unwrap();
        while let Some((frame, _)) = reader.next_frame().unwrap() {
            if frame.kind == FrameKind::Rows {
                rows.extend(Rows::decode(frame.message_bytes()).unwrap().captures);
            }
        }
    }
    rows
}

/// The capture lane of a forwarder.
pub(crate) struct Forwarder {
    frames: Framed<UnixStream, FrameCodec>,
    serving: JoinHandle<()>,
    pub(crate) now_ns: i64,
    sessions: HashMap<u64, PerDirection<u64>>,
    credit: u64,
}

/// What is announced of a session.
pub(crate) struct Opening<'a> {
    pub(crate) number: u64,
    pub(crate) service: &'a str,
    pub(crate) transport: &'a str,
    pub(crate) client: &'a str,
    pub(crate) listen: &'a str,
    pub(crate) mode: &'a str,
    pub(crate) resumed: Option<PerDirection<u64>>,
}

pub(crate) fn tcp(number: u64, client: &str) -> Opening<'_> {
    let listen = if client.starts_with('[') { "[2001:db8::7]:2222" } else { "198.51.100.7:2222" };
    Opening {
        number,
        service: "web",
        transport: "tcp",
        client,
        listen,
        mode: "full",
        resumed: None,
    }
}

pub(crate) fn udp(number: u64, client: &str) -> Opening<'_> {
    let listen = if client.starts_with('[') { "[2001:db8::7]:5300" } else { "198.51.100.7:5300" };
    Opening { transport: "udp", listen, ..tcp(number, client) }
}

pub(crate) fn session(number: u64) -> String {
    SessionId { boot: BOOT.parse().unwrap(), number }.to_string()
}

impl Forwarder {
    fn tick(&mut self) -> i64 {
        self.now_ns += 1_000_001;
        self.now_ns
    }

    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.frames.feed(frame).await.unwrap();
    }

    pub(crate) async fn open(&mut self, opening: Opening<'_>) {
        let ts_start_ns = self.tick();
        let at = opening.resumed.unwrap_or_default();
        self.sessions.insert(opening.number, at);
        let open = CaptureOpen {
            session_no: opening.number,
            service: opening.service.to_owned(),
            rule: "everyone".to_owned(),
            customer: "acme".to_owned(),
            transport: opening.transport.to_owned(),
            client: opening.client.to_owned(),
            listen: opening.listen.to_owned(),
            target: "10.0.0.6:80".to_owned(),
            ts_start_ns,
            mode: opening.mode.to_owned(),
            resumed: opening.resumed.is_some(),
            offset_up: at.up,
            offset_down: at.down,
        };
        self.send(&Frame::message(FrameKind::CaptureOpen, 0, &open)).await;
    }

    /// Payload of one read, or one datagram.
    pub(crate) async fn data(&mut self, number: u64, direction: Direction, bytes: &[u8]) {
        self.data_cut(number, direction, bytes, bytes.len()).await;
    }

    /// Payload of one read of which only the first `keep` bytes are sent.
    pub(crate) async fn data_cut(
        &mut self,
        number: u64,
        direction: Direction,
        bytes: &[u8],
        keep: usize,
    ) {
        for (index, chunk) in chunks(bytes).enumerate() {
            let kept = keep.saturating_sub(index * CHUNK).min(chunk.len());
            let time_ns = self.tick();
            let offset = &mut self.sessions.get_mut(&number).unwrap()[direction];
            let data = CaptureData {
                session_no: number,
                down: direction == Direction::Down,
                offset: *offset,
                original_len: u32::try_from(chunk.len()).unwrap(),
                time_ns,
            };
            *offset += u64::try_from(chunk.len()).unwrap();
            let frame = Frame::message_and_bytes(FrameKind::CaptureData, &data, &chunk[..kept]);
            self.spend(kept).await;
            self.send(&frame).await;
        }
    }

    /// Payload that never arrives.
    pub(crate) fn lose(&mut self, number: u64, direction: Direction, bytes: u64) {
        self.sessions.get_mut(&number).unwrap()[direction] += bytes;
    }

    /// Waits for credit before more than the first window is sent.
    async fn spend(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap();
        self.credit += bytes;
        while self.credit > recorder::capture::INITIAL_CREDIT {
            self.frames.flush().await.unwrap();
            let answer = tokio::time::timeout(MOMENT, self.frames.next()).await;
            let frame = answer.expect("credit in time").expect("an open connection").unwrap();
            assert_eq!(frame.kind, FrameKind::Credit);
            let credit = schemas::wire::Credit::decode(frame.message_bytes()).unwrap();
            self.credit -= credit.bytes;
        }
    }

    pub(crate) async fn mark(&mut self, number: u64, direction: Direction, kind: MarkKind) {
        let mark = CaptureMark {
            session_no: number,
            down: direction == Direction::Down,
            kind: kind.into(),
            time_ns: self.tick(),
            offset: self.sessions[&number][direction],
        };
        self.send(&Frame::message(FrameKind::CaptureMark, 0, &mark)).await;
    }

    pub(crate) async fn end(&mut self, number: u64, reason: EndReason) {
        let received = self.sessions[&number];
        let end = CaptureEnd {
            session_no: number,
            end_reason: reason.as_str().to_owned(),
            received_up: received.up,
            received_down: received.down,
            bytes_up: received.up,
            bytes_down: received.down,
            dropped: 0,
            time_ns: self.tick(),
        };
        self.send(&Frame::message(FrameKind::CaptureEnd, 0, &end)).await;
    }

    /// Both FINs, the client's first, and the end.
    pub(crate) async fn finish(&mut self, number: u64) {
        self.mark(number, Direction::Up, MarkKind::Fin).await;
        self.mark(number, Direction::Down, MarkKind::Fin).await;
        self.end(number, EndReason::Done).await;
    }

    /// Waits until everything that was said has been heard.
    pub(crate) async fn flush(&mut self) {
        self.send(&Frame::empty(FrameKind::Ping)).await;
        self.frames.flush().await.unwrap();
        loop {
            let answer = tokio::time::timeout(MOMENT, self.frames.next()).await;
            match answer.expect("a pong in time").expect("an open connection").unwrap().kind {
                FrameKind::Pong => return,
                FrameKind::Credit => {}
                other => panic!("an answer of kind {other:?}"),
            }
        }
    }

    /// Says goodbye and waits until the recorder has closed.
    pub(crate) async fn hang_up(mut self) {
        self.flush().await;
        drop(self.frames);
        self.serving.await.unwrap();
    }

    /// The recorder's refusal.
    pub(crate) async fn refusal(mut self) -> Reject {
        self.frames.flush().await.unwrap();
        let reject = loop {
            let answer = tokio::time::timeout(MOMENT, self.frames.next()).await;
            let frame = answer.expect("a word in time").expect("a last word").unwrap();
            if frame.kind == FrameKind::Reject {
                break Reject::decode(frame.message_bytes()).unwrap();
            }
        };
        self.serving.await.unwrap();
        reject
    }

    /// Puts bytes on the wire that are no frame.
    pub(crate) async fn babble(&mut self, bytes: &[u8]) {
        use tokio::io::AsyncWriteExt;
        self.frames.flush().await.unwrap();
        self.frames.get_mut().write_all(&BytesMut::from(bytes)).await.unwrap();
    }
}

/// The pieces of a read; an empty datagram is one empty piece.
fn chunks(bytes: &[u8]) -> Box<dyn Iterator<Item = &[u8]> + Send + '_> {
    if bytes.is_empty() { Box::new(std::iter::once(bytes)) } else { Box::new(bytes.chunks(CHUNK)) }
}

/// Bytes that look random and are the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| byte()).collect()
}

/// The only capture file of a service.
pub(crate) fn only_file(data: &Path, service: &str) -> PathBuf {
    let mut files = files(data, service);
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// The capture files of a service, oldest first.
pub(crate) fn files(data: &Path, service: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![data.join("captures").join(service)];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { directories.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}
