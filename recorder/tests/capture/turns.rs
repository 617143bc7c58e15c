//! Connections and files that keep the capture busy: everybody else still gets a turn.

use std::io::Write as _;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use recorder::capture::Captures;
use schemas::vocab::Direction::Up;
use schemas::wire::{CaptureData, CaptureOpen, Frame, FrameCodec, FrameKind, MAX_CAPTURE_PAYLOAD};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

use crate::speaker::{BOOT, NODE, Recorder, tcp};

const CLIENT: &str = "192.0.2.1:50001";
const MOMENT: Duration = Duration::from_secs(20);

/// A peer whose socket is never empty, and which is owed no answer.
struct Babbler {
    hushed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Babbler {
    fn connect(captures: Captures) -> Self {
        let (mut ours, theirs) = StdStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.set_write_timeout(Some(MOMENT)).unwrap();
        let theirs = UnixStream::from_std(theirs).unwrap();
        let theirs = Framed::new(theirs, FrameCodec::new(MAX_CAPTURE_PAYLOAD));
        tokio::spawn(async move {
            let (node, boot) = ("edge-2".parse().unwrap(), BOOT.parse().unwrap());
            captures.serve(theirs, node, boot, CancellationToken::new()).await;
        });
        let mut announcement = BytesMut::new();
        let open = CaptureOpen {
            session_no: 9,
            service: "dns".to_owned(),
            rule: "everyone".to_owned(),
            transport: "udp".to_owned(),
            client: CLIENT.to_owned(),
            listen: "198.51.100.7:5300".to_owned(),
            mode: "headers".to_owned(),
            ..CaptureOpen::default()
        };
        Frame::message(FrameKind::CaptureOpen, 0, &open).encode(&mut announcement);
        let mut words = BytesMut::new();
        let empty = CaptureData { session_no: 9, ..CaptureData::default() };
        for _ in 0..2_000 {
            Frame::empty(FrameKind::Pong).encode(&mut words);
            Frame::message(FrameKind::CaptureData, 0, &empty).encode(&mut words);
        }
        let hushed = Arc::<AtomicBool>::default();
        let until = Arc::clone(&hushed);
        let thread = std::thread::spawn(move || {
            ours.write_all(&announcement).unwrap();
            while !until.load(Relaxed) && ours.write_all(&words).is_ok() {}
        });
        Self { hushed, thread }
    }

    fn hush(self) {
        self.hushed.store(true, Relaxed);
        self.thread.join().unwrap();
    }
}

#[tokio::test]
async fn a_lane_that_is_never_empty_keeps_nobody_waiting() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let babbler = Babbler::connect(recorder.captures());
    let mut forwarder = recorder.connect();
    forwarder.open(tcp(1, CLIENT)).await;
    forwarder.data(1, Up, b"beside").await;
    forwarder.flush().await;
    timeout(MOMENT, recorder.captures().close_files()).await.expect("closed in time").unwrap();
    assert!(recorder.captures().counts().files >= 1);
    forwarder.finish(1).await;
    forwarder.hang_up().await;
    // The lane that is never empty is cut off by the stop.
    let rows = timeout(MOMENT, recorder.stop()).await.expect("stopped in time");
    let of_web = rows.iter().filter(|row| row.node == NODE).count();
    assert_eq!(of_web, 2, "one row for each file that the session was in");
    babbler.hush();
}
