//! A recorder for relays under test: it keeps what the capture lane sends.

use std::collections::BTreeMap;
use std::thread::JoinHandle;

use forwarder::capture::{CaptureLane, CaptureSender, PIPE_BYTES, Settings};
use futures_util::{SinkExt, StreamExt};
use prost::Message;
use schemas::vocab::{Direction, PerDirection};
use schemas::wire::{
    CaptureData, CaptureEnd, Frame, FrameCodec, FrameKind, MAX_CAPTURE_PAYLOAD, PROTOCOL, Welcome,
};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_util::codec::Framed;

use crate::support::DEADLINE;

/// More than any test sends, in bytes.
const PLENTY: u64 = 1 << 40;

/// What was kept of one session.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Payload as it was sent, one piece behind the other.
    pub(crate) payload: PerDirection<Vec<u8>>,
    /// Its end, once it was told.
    pub(crate) end: Option<CaptureEnd>,
}

/// A capture lane and the recorder at its other end.
#[derive(Debug)]
pub(crate) struct Recorder {
    sender: CaptureSender,
    keeping: JoinHandle<BTreeMap<u64, Kept>>,
    _dir: TempDir,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("recorder.sock");
        let runtime = runtime();
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(&socket).unwrap()
        };
        let keeping = std::thread::spawn(move || runtime.block_on(keep(listener)));
        let settings = Settings {
            socket,
            node: "test".parse().unwrap(),
            boot: "k3f9x2ab".parse().unwrap(),
            pipe_bytes: PIPE_BYTES,
        };
        let sender = CaptureSender::start(settings, |_| {}).unwrap();
        Self { sender, keeping, _dir: dir }
    }

    pub(crate) fn lane(&self) -> CaptureLane {
        self.sender.lane()
    }

    /// Waits until everything has arrived, and gives it by session number.
    pub(crate) fn finish(self) -> BTreeMap<u64, Kept> {
        assert!(runtime().block_on(self.sender.stop()), "nothing that was taken is lost");
        self.keeping.join().unwrap()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn keep(listener: UnixListener) -> BTreeMap<u64, Kept> {
    let (socket, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let mut frames = Framed::new(socket, FrameCodec::new(MAX_CAPTURE_PAYLOAD));
    let mut kept: BTreeMap<u64, Kept> = BTreeMap::new();
    while let Some(frame) = next(&mut frames).await {
        match frame.kind {
            FrameKind::Hello => {
                let welcome = Welcome { protocol: PROTOCOL, credit: PLENTY, ..Welcome::default() };
                frames.send(&Frame::message(FrameKind::Welcome, 0, &welcome)).await.unwrap();
            }
            FrameKind::Ping => frames.send(&Frame::empty(FrameKind::Pong)).await.unwrap(),
            FrameKind::CaptureData => {
                let data = CaptureData::decode(frame.message_bytes()).unwrap();
                let direction = if data.down { Direction::Down } else { Direction::Up };
                let payload = &mut kept.entry(data.session_no).or_default().payload[direction];
                assert_eq!(data.offset, payload.len() as u64, "no gap");
                payload.extend_from_slice(&frame.trailing_bytes());
            }
            FrameKind::CaptureEnd => {
                let end = CaptureEnd::decode(frame.message_bytes()).unwrap();
                let number = end.session_no;
                kept.entry(number).or_default().end = Some(end);
            }
            _ => {}
        }
    }
    kept
}

async fn next(frames: &mut Framed<UnixStream, FrameCodec>) -> Option<Frame> {
    timeout(DEADLINE, frames.next()).await.expect("a frame, a ping or the end in time")?.ok()
}
