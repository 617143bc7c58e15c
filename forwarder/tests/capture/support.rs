//! A lane, sessions that are moved through pipes, and a recorder that listens.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use forwarder::capture::{CaptureSender, Inlet, PIPE_BYTES, SessionCapture, Settings};
use forwarder_core::config::{CaptureMode, WhenBehind};
use futures_util::{SinkExt, StreamExt};
use prost::Message;
use schemas::vocab::{BootId, Direction, EndReason, PerDirection};
use schemas::wire::{
    CaptureData, CaptureEnd, CaptureMark, CaptureOpen, Credit, Frame, FrameCodec, FrameKind, Hello,
    Lane, MAX_CAPTURE_PAYLOAD, PROTOCOL, Welcome,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Framed;

/// Longer than anything here takes.
pub(crate) const MOMENT: Duration = Duration::from_secs(30);
/// Credit that never ends.
pub(crate) const PLENTY: u64 = 1 << 40;
/// Size of the pipes that sessions are moved through.
const SESSION_PIPE: usize = 256 << 10;

pub(crate) fn begin(inlet: &Inlet, number: u64, mode: CaptureMode) -> SessionCapture {
    let open = CaptureOpen { session_no: number, ..CaptureOpen::default() };
    inlet.begin(open, mode, WhenBehind::Drop)
}

pub(crate) fn begin_slow(inlet: &Inlet, number: u64) -> SessionCapture {
    let open = CaptureOpen { session_no: number, ..CaptureOpen::default() };
    inlet.begin(open, CaptureMode::Full, WhenBehind::Slow)
}

/// Ends a session that delivered all it received.
pub(crate) fn end(session: SessionCapture, up: u64, down: u64) {
    let totals = PerDirection { up, down };
    session.end(EndReason::Done, totals, totals, 0);
}

/// Bytes that look like no other place of the stream.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(word).collect();
    bytes.truncate(len);
    bytes
}

pub(crate) async fn room(session: &mut SessionCapture, direction: Direction) {
    let room = std::future::poll_fn(|cx| session.poll_room(direction, cx));
    timeout(MOMENT, room).await.expect("room in time");
}

/// Whether a session would have to wait now.
pub(crate) fn is_held_up(session: &mut SessionCapture, direction: Direction) -> bool {
    let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
    session.poll_room(direction, cx).is_pending()
}

/// The pipe that one direction of a session is moved through.
pub(crate) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        let (reader, writer) = pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&writer, SESSION_PIPE).unwrap();
        Self { reader, writer }
    }

    /// Fills the empty pipe with `bytes`, and moves on what may go until nothing is left.
    pub(crate) async fn carry(
        &mut self,
        session: &mut SessionCapture,
        direction: Direction,
        bytes: &[u8],
    ) {
        room(session, direction).await;
        self.writer.write_all(bytes).unwrap();
        let mut rest = bytes;
        loop {
            let may_go = session.spliced(direction, self.reader.as_fd(), rest.len(), 0);
            let mut gone = vec![0; may_go];
            self.reader.read_exact(&mut gone).unwrap();
            assert!(gone == rest[..may_go], "the session's own payload is untouched");
            rest = &rest[may_go..];
            if rest.is_empty() {
                return;
            }
            room(session, direction).await;
        }
    }
}

pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let waited = timeout(MOMENT, async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("it comes true in time");
}

/// Where a recorder may appear.
pub(crate) struct Scene {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    boot: BootId,
    pub(crate) dropped: Arc<AtomicU64>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("recorder.sock");
        let boot = "k3f9x2ab".parse().unwrap();
        Self { _dir: dir, socket, boot, dropped: Arc::default() }
    }

    pub(crate) fn start(&self) -> CaptureSender {
        self.start_with_pipes(PIPE_BYTES)
    }

    pub(crate) fn start_with_pipes(&self, pipe_bytes: usize) -> CaptureSender {
        let settings = Settings {
            socket: self.socket.clone(),
            node: "edge-1".parse().unwrap(),
            boot: self.boot,
            pipe_bytes,
        };
        let dropped = Arc::clone(&self.dropped);
        CaptureSender::start(settings, move |bytes| {
            dropped.fetch_add(bytes, Relaxed);
        })
        .unwrap()
    }

    /// A recorder appears, welcomes one forwarder and grants `credit`.
    pub(crate) async fn accept(&self, credit: u64) -> Recorder {
        let (socket, _) = timeout(MOMENT, listen(&self.socket).accept()).await.unwrap().unwrap();
        std::fs::remove_file(&self.socket).unwrap();
        let frames = Framed::new(socket, FrameCodec::new(MAX_CAPTURE_PAYLOAD));
        let mut recorder = Recorder { frames };
        let hello = Hello::decode(recorder.frame().await.message_bytes()).unwrap();
        assert_eq!((hello.lane(), hello.boot), (Lane::Capture, self.boot.to_string()));
        let welcome = Welcome { protocol: PROTOCOL, credit, ..Welcome::default() };
        recorder.send(&Frame::message(FrameKind::Welcome, 0, &welcome)).await;
        recorder
    }
}

fn listen(socket: &Path) -> UnixListener {
    UnixListener::bind(socket).unwrap()
}

pub(crate) struct Recorder {
    frames: Framed<UnixStream, FrameCodec>,
}

impl Recorder {
    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.frames.send(frame).await.unwrap();
    }

    /// The next frame that is no ping.
    pub(crate) async fn frame(&mut self) -> Frame {
        let deadline = Instant::now() + MOMENT;
        loop {
            let frame = timeout_at(deadline, self.frames.next()).await.expect("a frame in time");
            let frame = frame.expect("an open connection").unwrap();
            if frame.kind != FrameKind::Ping {
                return frame;
            }
            self.send(&Frame::empty(FrameKind::Pong)).await;
        }
    }

    async fn expect<M: Message + Default>(&mut self, kind: FrameKind) -> (M, Bytes) {
        let frame = self.frame().await;
        assert_eq!(frame.kind, kind);
        (M::decode(frame.message_bytes()).unwrap(), frame.trailing_bytes())
    }

    pub(crate) async fn open(&mut self) -> CaptureOpen {
        self.expect(FrameKind::CaptureOpen).await.0
    }

    pub(crate) async fn data(&mut self) -> (CaptureData, Bytes) {
        self.expect(FrameKind::CaptureData).await
    }

    pub(crate) async fn mark(&mut self) -> CaptureMark {
        self.expect(FrameKind::CaptureMark).await.0
    }

    pub(crate) async fn end(&mut self) -> CaptureEnd {
        self.expect(FrameKind::CaptureEnd).await.0
    }

    /// Listens until session `number` ends.
    pub(crate) async fn heard_of(&mut self, number: u64) -> Heard {
        self.heard_while(number, u64::MAX).await
    }

    /// Like [`Recorder::heard_of`], of a recorder that grants as much as it has read, and asks for a
    /// sign of life in between.
    pub(crate) async fn heard_reluctantly(&mut self, number: u64, every: u64) -> Heard {
        self.heard_while(number, every).await
    }

    async fn heard_while(&mut self, number: u64, credit_every: u64) -> Heard {
        let mut heard = Heard::default();
        let mut owed = 0;
        loop {
            let frame = self.frame().await;
            let message = frame.message_bytes();
            match frame.kind {
                FrameKind::CaptureOpen => heard.opens.push(CaptureOpen::decode(message).unwrap()),
                FrameKind::CaptureData => {
                    let data = CaptureData::decode(message).unwrap();
                    let bytes = frame.trailing_bytes();
                    owed += u64::try_from(bytes.len()).unwrap();
                    heard.pieces.push((data, bytes));
                    if owed >= credit_every {
                        let credit = Credit { bytes: std::mem::take(&mut owed) };
                        self.send(&Frame::message(FrameKind::Credit, 0, &credit)).await;
                        self.send(&Frame::empty(FrameKind::Ping)).await;
                        heard.pings += 1;
                    }
                }
                FrameKind::CaptureMark => {}
                FrameKind::Pong => heard.pongs += 1,
                FrameKind::CaptureEnd => {
                    let end = CaptureEnd::decode(message).unwrap();
                    if end.session_no == number {
                        heard.end = end;
                        return heard;
                    }
                }
                other => panic!("{other:?} from a forwarder"),
            }
        }
    }

    /// Reads `bytes` of whatever comes, and goes away.
    pub(crate) async fn vanish_after(self, bytes: usize) {
        let mut socket = self.frames.into_inner();
        let mut some = vec![0; bytes];
        let reading = tokio::io::AsyncReadExt::read_exact(&mut socket, &mut some);
        timeout(MOMENT, reading).await.expect("so much in time").unwrap();
    }

    /// Answers what a stopping lane asks; whether nothing was lost.
    pub(crate) async fn while_stopping(mut self, sender: CaptureSender) -> bool {
        let answering = async {
            while let Some(Ok(frame)) = self.frames.next().await {
                assert_eq!(frame.kind, FrameKind::Ping);
                self.send(&Frame::empty(FrameKind::Pong)).await;
            }
        };
        let (stopped, ()) = tokio::join!(sender.stop(), answering);
        stopped
    }
}

/// What a recorder heard, in order.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) opens: Vec<CaptureOpen>,
    pub(crate) pieces: Vec<(CaptureData, Bytes)>,
    pub(crate) pings: usize,
    pub(crate) pongs: usize,
    pub(crate) end: CaptureEnd,
}

impl Heard {
    /// The payload of one direction, which stands where its stream has it. What is missing: zeros,
    /// counted.
    pub(crate) fn stream(&self, number: u64, direction: Direction) -> (Vec<u8>, u64) {
        let (mut stream, mut missing) = (Vec::new(), 0);
        for (data, bytes) in &self.pieces {
            if data.session_no != number || data.down != (direction == Direction::Down) {
                continue;
            }
            let offset = usize::try_from(data.offset).unwrap();
            assert!(offset >= stream.len(), "nothing comes twice");
            missing += u64::try_from(offset - stream.len()).unwrap();
            stream.resize(offset, 0);
            stream.extend_from_slice(bytes);
        }
        (stream, missing)
    }
}
