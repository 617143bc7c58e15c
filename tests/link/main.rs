//! The forwarder's accounting lane against the recorder's, both real, over a connection that is
//! cut again and again.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use forwarder::clock::Clock;
use forwarder::link::accounting::{AccountingLane, Settings};
use journal::{Entry, Journal};
use prost::Message;
use recorder::capture::{CaptureWriter, Recovered, Settings as CaptureSettings};
use recorder::config::Config;
use recorder::data_dir::Group;
use recorder::ingest::{self, Ingest, bind};
use recorder::log::Log;
use schemas::table::Event;
use schemas::vocab::SpoolId;
use schemas::wire::{Frame, FrameKind, Received, Rows};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);
const FRAMES: u64 = 2_000;

#[tokio::test]
async fn every_frame_arrives_once_however_often_the_connection_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(dir.path());
    let wire = dir.path().join("wire.sock");
    tokio::spawn(cut_again_and_again(UnixListener::bind(&wire).unwrap(), recorder.socket.clone()));
    let mut spool = Spool::open(dir.path());
    let lane = spool.lane(&wire);
    for number in 1..=FRAMES {
        spool.append(number);
        if number % 50 == 0 {
            spool.publish();
            tokio::task::yield_now().await;
        }
    }
    spool.publish();
    spool.acknowledged(&lane, FRAMES).await;
    let connections = lane.status().borrow().connections;
    assert!(connections > 3, "only {connections} connections");
    lane.stop().await;
    recorder.stop().await;
    assert_eq!(received(dir.path()), (1..=FRAMES).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_frame_arrives_once_whichever_side_is_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::start(dir.path());
    let mut spool = Spool::open(dir.path());
    let mut lane = spool.lane(&recorder.socket);
    for number in 1..=FRAMES {
        spool.append(number);
        if number % 100 == 0 {
            spool.publish();
            spool.acknowledged(&lane, number - 99).await;
        }
        if number % 500 == 0 {
            // With frames on their way.
            recorder.stop().await;
            recorder = Recorder::start(dir.path());
        }
        if number % 500 == 250 {
            drop(lane);
            drop(spool);
            spool = Spool::open(dir.path());
            lane = spool.lane(&recorder.socket);
        }
    }
    spool.publish();
    spool.acknowledged(&lane, FRAMES).await;
    assert!(lane.stop().await);
    recorder.stop().await;
    assert_eq!(received(dir.path()), (1..=FRAMES).collect::<Vec<_>>());
    assert!(spool.journal.first_frame() > 1, "acknowledged segments are deleted");
}

#[tokio::test]
async fn a_connection_cut_at_any_byte_loses_no_frame_and_brings_none_twice() {
    const SPOOLS: usize = 120;
    const FRAMES: u64 = 4;
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(dir.path());
    let lanes: Vec<_> = (0..SPOOLS)
        .map(|number| {
            let own = dir.path().join(number.to_string());
            std::fs::create_dir(&own).unwrap();
            let wire = own.join("wire.sock");
            let listener = UnixListener::bind(&wire).unwrap();
            // Steps that cut the greeting, heads and payloads alike, and both ways.
            let (up, down) = (number as u64 * 7, number as u64 % 90);
            tokio::spawn(cut_twice(listener, recorder.socket.clone(), up, down));
            let id = SpoolId(100 + number as u64);
            let mut spool = Spool::open_as(&own, id, &format!("edge-{number}"));
            (1..=FRAMES).for_each(|frame| spool.append(100 + frame));
            spool.publish();
            let lane = spool.lane(&wire);
            (spool, lane)
        })
        .collect();
    for (mut spool, lane) in lanes {
        spool.acknowledged(&lane, FRAMES).await;
        assert!(lane.status().borrow().connections > 0);
        lane.stop().await;
    }
    recorder.stop().await;
    let mut held = received_of_spools(dir.path());
    held.sort_unstable();
    let expected =
        (100..100 + SPOOLS as u64).flat_map(|spool| (1..=FRAMES).map(move |n| (spool, n)));
    assert_eq!(held, expected.collect::<Vec<_>>());
}

/// Cuts the first connection after `up` bytes of the forwarder's, the second after `down` bytes of
/// the recorder's, and no other.
async fn cut_twice(listener: UnixListener, recorder: PathBuf, up: u64, down: u64) {
    for limits in [[up, u64::MAX], [u64::MAX, down]] {
        let (near, _) = listener.accept().await.unwrap();
        let far = UnixStream::connect(&recorder).await.unwrap();
        let (from_forwarder, mut to_forwarder) = near.into_split();
        let (from_recorder, mut to_recorder) = far.into_split();
        let mut upwards = from_forwarder.take(limits[0]);
        let mut downwards = from_recorder.take(limits[1]);
        tokio::select! {
            _ = tokio::io::copy(&mut upwards, &mut to_recorder) => {}
            _ = tokio::io::copy(&mut downwards, &mut to_forwarder) => {}
        }
    }
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = UnixStream::connect(&recorder).await.unwrap();
        // However it ends, the next one is carried too.
        drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
    }
}

/// Carries every connection to the recorder for some bytes, then cuts it, mostly within a frame.
async fn cut_again_and_again(listener: UnixListener, recorder: PathBuf) {
    for round in 1_u64.. {
        let (near, _) = listener.accept().await.unwrap();
        let far = UnixStream::connect(&recorder).await.unwrap();
        let (from_forwarder, mut to_forwarder) = near.into_split();
        let (mut from_recorder, mut to_recorder) = far.into_split();
        let mut some = from_forwarder.take(100 + round * 7_919);
        tokio::select! {
            _ = tokio::io::copy(&mut some, &mut to_recorder) => {}
            _ = tokio::io::copy(&mut from_recorder, &mut to_forwarder) => {}
        }
    }
}

struct Recorder {
    socket: PathBuf,
    log: Log,
    capture: CaptureWriter,
    ingest: Ingest,
}

impl Recorder {
    fn start(dir: &Path) -> Self {
        let socket = dir.join("recorder.sock");
        let (log, _) = Log::start(dir, &[]).unwrap();
        let settings = ingest::Settings::new(Vec::new());
        let bound = vec![bind(&socket).unwrap()];
        let rotate = Config::default().rotate;
        let capture = CaptureSettings { data: dir.to_owned(), rotate, readers: Group::nobody() };
        let capture = CaptureWriter::start(capture, Recovered::default(), log.handle()).unwrap();
        let ingest = Ingest::start(bound, settings, log.handle(), capture.handle());
        Self { socket, log, capture, ingest }
    }

    async fn stop(self) {
        self.ingest.stop().await;
        let (capture, log) = (self.capture, self.log);
        let stop = move || {
            capture.stop();
            log.stop();
        };
        tokio::task::spawn_blocking(stop).await.unwrap();
    }
}

/// A spool with a journal thread's duties done by hand.
struct Spool {
    node: String,
    dir: PathBuf,
    journal: Journal,
    durable: watch::Sender<u64>,
    id: watch::Sender<SpoolId>,
}

impl Spool {
    fn open(dir: &Path) -> Self {
        Self::open_as(dir, SpoolId(7), "edge-1")
    }

    fn open_as(dir: &Path, id: SpoolId, node: &str) -> Self {
        let dir = dir.join("spool");
        let settings = journal::Settings { segment_bytes: 64 << 10, ..journal::Settings::new(id) };
        let (journal, _) = Journal::open(&dir, settings).unwrap();
        let durable = watch::Sender::new(journal.durable_frame());
        let id = watch::Sender::new(journal.id());
        Self { node: node.to_owned(), dir, journal, durable, id }
    }

    fn lane(&self, socket: &Path) -> AccountingLane {
        let settings = Settings {
            socket: socket.to_owned(),
            node: self.node.parse().unwrap(),
            boot: "k3f9x2ab".parse().unwrap(),
            spool: self.dir.clone(),
            spool_id: self.id.subscribe(),
            clock: Clock::start(),
        };
        AccountingLane::start(settings, self.durable.subscribe(), |_event| {}, |_id, _why| {})
    }

    fn append(&mut self, number: u64) {
        let message = "x".repeat(usize::try_from(number % 700).unwrap());
        let rows = Rows {
            node: "edge-1".into(),
            boot: "k3f9x2ab".into(),
            events: vec![Event { message, ..Event::default() }],
            ..Rows::default()
        };
        let payload = rows.encode_to_vec().into();
        self.journal.append(FrameKind::Rows, payload).unwrap();
    }

    fn publish(&mut self) {
        self.durable.send_replace(self.journal.sync().unwrap());
    }

    async fn acknowledged(&mut self, lane: &AccountingLane, through: u64) {
        let mut acked = lane.acked();
        let reached = acked.wait_for(|acked| *acked >= through);
        let acked = *timeout(DEADLINE, reached).await.unwrap().unwrap();
        self.journal.remove_through(acked).unwrap();
    }
}

/// Numbers of the spool's frames in the recorder's log, in its order.
fn received(dir: &Path) -> Vec<u64> {
    received_of_spools(dir).into_iter().map(|(_, number)| number).collect()
}

/// Spool and number of every frame in the recorder's log, in its order.
fn received_of_spools(dir: &Path) -> Vec<(u64, u64)> {
    let entries = journal::scan(&dir.join("log")).unwrap().map(Result::unwrap);
    let frames = entries.filter_map(|entry| match entry {
        Entry::Frame(frame, _) if frame.kind == FrameKind::Received => Some(frame),
        Entry::Frame(..) | Entry::Segment(_) => None,
    });
    frames
        .map(|frame| {
            let received = Received::decode(&frame.payload[..]).unwrap();
            let mut bytes = BytesMut::from(&received.frame[..]);
            (received.spool_id, Frame::decode(&mut bytes, 1 << 20).unwrap().unwrap().0.number)
        })
        .collect()
}
