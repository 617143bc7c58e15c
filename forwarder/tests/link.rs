//! The accounting lane against a recorder that is played by the test.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use forwarder::clock::Clock;
use forwarder::link::accounting::{AccountingLane, LinkStatus, Settings, WINDOW_BYTES};
use futures_util::{SinkExt, StreamExt};
use journal::{Entry, Journal};
use prost::Message;
use schemas::table::Event;
use schemas::vocab::SpoolId;
use schemas::wire::{
    Ack, Frame, FrameCodec, FrameKind, Hello, MAX_ACCOUNTING_PAYLOAD, PROTOCOL, Reject, RejectCode,
    Welcome,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::codec::Framed;

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn durable_frames_are_sent_and_acknowledged() {
    let mut spool = Spool::new();
    let listener = spool.listen();
    let lane = spool.start();
    let (mut recorder, hello) = accept(&listener).await;
    assert_eq!((hello.node.as_str(), hello.first_frame, hello.last_frame), ("edge-1", 0, 0));
    assert_eq!(hello.spool_id, spool.journal.id().0);
    recorder.welcome(0, 0).await;
    spool.append("one");
    spool.append_unsynced("two");
    assert_eq!(recorder.receive().await, (1, "one".to_owned()));
    spool.sync();
    assert_eq!(recorder.receive().await, (2, "two".to_owned()));
    recorder.ack(2).await;
    reaches(&mut lane.acked(), |acked| *acked == 2).await;
    assert!(lane.stop().await);
}

#[tokio::test]
async fn a_connection_lost_in_mid_stream_goes_on_behind_what_is_held() {
    let mut spool = Spool::new();
    let listener = spool.listen();
    for number in 1..=10 {
        spool.append(&number.to_string());
    }
    let lane = spool.start();
    let (mut recorder, _) = accept(&listener).await;
    recorder.welcome(0, 0).await;
    let mut crc = 0;
    for number in 1..=4 {
        let frame = recorder.frame().await;
        assert_eq!(frame.number, number);
        crc = frame.encode(&mut Vec::new());
    }
    drop(recorder);

    let (mut recorder, hello) = accept(&listener).await;
    assert_eq!((hello.first_frame, hello.last_frame), (1, 10));
    recorder.welcome(4, crc).await;
    reaches(&mut lane.acked(), |acked| *acked == 4).await;
    for number in 5..=10 {
        assert_eq!(recorder.receive().await, (number, number.to_string()));
    }
    recorder.ack(10).await;
    assert!(lane.stop().await);
    assert_eq!(spool.events(), ["recorder_lost", "recorder_back"]);
}

#[tokio::test]
async fn an_absent_recorder_is_said_once_and_found_soon_after_it_comes() {
    let mut spool = Spool::new();
    spool.append("one");
    let lane = spool.start();
    reaches(&mut lane.status(), |status| status.last_error.is_some()).await;
    let error = lane.status().borrow().last_error.clone().unwrap();
    assert!(error.starts_with("cannot reach the recorder at "), "{error}");
    // Several attempts later it is still said once.
    let mut status = lane.status();
    for _ in 0..5 {
        timeout(DEADLINE, status.changed()).await.unwrap().unwrap();
    }
    assert_eq!(spool.events(), ["recorder_lost"]);
    let listener = spool.listen();
    let (mut recorder, _) = accept(&listener).await;
    recorder.welcome(0, 0).await;
    assert_eq!(recorder.receive().await.0, 1);
    assert_eq!(spool.events(), ["recorder_lost", "recorder_back"]);
    recorder.ack(1).await;
    assert!(lane.stop().await);
}

#[tokio::test]
async fn no_more_than_a_window_is_sent_without_acknowledgement() {
    let mut spool = Spool::new();
    let listener = spool.listen();
    let payload = "x".repeat(500_000);
    for _ in 0..40 {
        spool.append(&payload);
    }
    let lane = spool.start();
    let (mut recorder, _) = accept(&listener).await;
    recorder.welcome(0, 0).await;
    let mut received = 0;
    let quiet = loop {
        // Only silence can show that no more comes.
        match timeout(Duration::from_millis(500), recorder.frame()).await {
            Ok(frame) => received += frame.encoded_len(),
            Err(_elapsed) => break lane.status().borrow().clone(),
        }
    };
    assert_eq!(quiet.unacked_bytes, received);
    assert!((WINDOW_BYTES..WINDOW_BYTES + (1 << 20)).contains(&received), "{received}");
    recorder.ack(quiet.sent_frame).await;
    let mut last = quiet.sent_frame;
    while last < 40 {
        let (number, _) = recorder.receive().await;
        assert_eq!(number, last + 1);
        last = number;
        recorder.ack(number).await;
    }
    assert!(lane.stop().await);
}

#[tokio::test]
async fn a_recorder_with_another_frame_of_our_number_gets_everything_anew_under_another_id() {
    let mut spool = Spool::new();
    let listener = spool.listen();
    spool.append("one");
    spool.append("two");
    let lane = spool.start();
    let (mut recorder, _) = accept(&listener).await;
    recorder.welcome(1, 0xbad).await;
    assert!(timeout(DEADLINE, recorder.framed.next()).await.unwrap().is_none());
    let status = reaches(&mut lane.status(), |status| status.forks == 1).await;
    let error = status.last_error.unwrap();
    assert!(error.starts_with("the spool is forked: frame 1 has the checksum"), "{error}");
    assert_eq!(*lane.acked().borrow(), 0, "nothing may be deleted");
    let (old, reason) = wait_for_fork(&spool).await;
    assert_eq!(old, SpoolId(7));
    assert!(reason.starts_with("frame 1 has the checksum"), "{reason}");

    spool.journal.renew_id(SpoolId(8)).unwrap();
    spool.id.send_replace(SpoolId(8));
    let (mut recorder, hello) = accept(&listener).await;
    assert_eq!((hello.spool_id, hello.first_frame, hello.first_unacked), (8, 1, 0));
    recorder.welcome(0, 0).await;
    assert_eq!(recorder.receive().await, (1, "one".to_owned()));
    assert_eq!(recorder.receive().await, (2, "two".to_owned()));
    recorder.ack(2).await;
    assert!(lane.stop().await);
    assert!(spool.events().is_empty(), "who gives the id tells");
}

async fn wait_for_fork(spool: &Spool) -> (SpoolId, String) {
    let begun = Instant::now();
    loop {
        if let Some(fork) = spool.forks.lock().unwrap().first().cloned() {
            return fork;
        }
        assert!(begun.elapsed() < DEADLINE, "no fork was reported");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_recorder_that_is_new_to_us_begins_where_the_one_before_it_ended() {
    let mut spool = Spool::new();
    let listener = spool.listen();
    (1..=3).for_each(|number| spool.append(&number.to_string()));
    let lane = spool.start();
    let (mut first, hello) = accept(&listener).await;
    assert_eq!((hello.first_unacked, hello.acked_by), (0, 0));
    first.welcome_as(1, 0, 0).await;
    first.receive().await;
    first.receive().await;
    first.ack(2).await;
    reaches(&mut lane.acked(), |acked| *acked == 2).await;
    drop(first);
    // The other one has none of our frames, or had some of them once.
    for held in [0, 1] {
        let (mut other, hello) = accept(&listener).await;
        assert_eq!((hello.first_frame, hello.first_unacked, hello.acked_by), (1, 3, 1));
        other.welcome_as(2, held, if held == 0 { 0 } else { spool.crc(held) }).await;
        assert_eq!(other.receive().await.0, 3);
    }
    // The first one has lost a frame that it acknowledged.
    let (mut first, _) = accept(&listener).await;
    first.welcome_as(1, 1, spool.crc(1)).await;
    assert_eq!(first.receive().await.0, 2);
    assert_eq!(first.receive().await.0, 3);
    first.ack(3).await;
    assert!(lane.stop().await);

    // What was acknowledged, and by whom, outlives the process.
    spool.append("four");
    let lane = spool.start();
    let (mut other, hello) = accept(&listener).await;
    assert_eq!((hello.first_unacked, hello.acked_by), (4, 1));
    other.welcome_as(2, 0, 0).await;
    assert_eq!(other.receive().await, (4, "four".to_owned()));
    other.ack(4).await;
    assert!(lane.stop().await);
}

#[tokio::test]
async fn a_frame_that_is_refused_is_kept_tried_again_and_told_once() {
    let mut spool = Spool::new();
    let listener = spool.listen();
    spool.append("one");
    let lane = spool.start();
    let (mut recorder, _) = accept(&listener).await;
    recorder.welcome(0, 0).await;
    recorder.receive().await;
    let reject = Reject {
        code: RejectCode::Malformed.into(),
        text: "frame 1: \"../web\" is not a name".to_owned(),
        retry_after_ms: 0,
    };
    recorder.send(&Frame::message(FrameKind::Reject, 0, &reject)).await;
    let refused = |status: &LinkStatus| status.last_error.is_some();
    let error = reaches(&mut lane.status(), refused).await.last_error.unwrap();
    assert_eq!(error, "the recorder refuses: frame 1: \"../web\" is not a name");
    assert_eq!(spool.events(), ["recorder_refuses"]);
    let again = timeout(Duration::from_secs(2), listener.accept()).await;
    assert!(again.is_err(), "it is not sent again at once");
    assert_eq!(*lane.acked().borrow(), 0);
}

#[tokio::test]
async fn a_recorder_that_is_ahead_of_us_is_a_fork() {
    let mut spool = Spool::new();
    let listener = spool.listen();
    spool.append("one");
    let lane = spool.start();
    let (mut recorder, _) = accept(&listener).await;
    recorder.welcome(2, 7).await;
    let status = reaches(&mut lane.status(), |status| status.forks == 1).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("the recorder holds frame 2, our last is 1"), "{error}");
    assert_eq!(*lane.acked().borrow(), 0);
}

#[tokio::test]
async fn a_refusal_is_shown_and_not_contested_before_its_time() {
    let mut spool = Spool::new();
    let listener = spool.listen();
    spool.append("one");
    let lane = spool.start();
    let (mut recorder, _) = accept(&listener).await;
    let refused = Instant::now();
    let reject = Reject {
        code: RejectCode::Storage.into(),
        text: "no space left".to_owned(),
        retry_after_ms: 400,
    };
    recorder.send(&Frame::message(FrameKind::Reject, 0, &reject)).await;
    drop(recorder);
    let (mut recorder, _) = accept(&listener).await;
    assert!(refused.elapsed() >= Duration::from_millis(400));
    let error = lane.status().borrow().last_error.clone().unwrap();
    assert_eq!(error, "the recorder refuses: no space left");
    recorder.welcome(0, 0).await;
    assert_eq!(recorder.receive().await.0, 1);
    recorder.ack(1).await;
    assert!(lane.stop().await);
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_never_sent_is_not_believed() {
    let mut spool = Spool::new();
    let listener = spool.listen();
    spool.append("one");
    let lane = spool.start();
    let (mut recorder, _) = accept(&listener).await;
    recorder.welcome(0, 0).await;
    recorder.receive().await;
    recorder.ack(99).await;
    assert!(timeout(DEADLINE, recorder.framed.next()).await.unwrap().is_none());
    assert_eq!(*lane.acked().borrow(), 0);
}

#[tokio::test]
async fn stopping_waits_for_the_last_acknowledgement() {
    let mut spool = Spool::new();
    let listener = spool.listen();
    let lane = spool.start();
    let (mut recorder, _) = accept(&listener).await;
    recorder.welcome(0, 0).await;
    spool.append("one");
    let stopping = tokio::spawn(lane.stop());
    assert_eq!(recorder.receive().await.0, 1);
    recorder.ack(1).await;
    assert!(timeout(DEADLINE, stopping).await.unwrap().unwrap());
}

#[tokio::test]
async fn stopping_without_a_recorder_does_not_wait() {
    let mut spool = Spool::new();
    spool.append("one");
    let lane = spool.start();
    reaches(&mut lane.status(), |status| status.last_error.is_some()).await;
    let begun = Instant::now();
    assert!(!lane.stop().await, "one frame waits in the spool");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

/// A spool with a journal thread's duties done by hand.
struct Spool {
    dir: tempfile::TempDir,
    journal: Journal,
    durable: watch::Sender<u64>,
    id: watch::Sender<SpoolId>,
    events: Arc<Mutex<Vec<String>>>,
    forks: Arc<Mutex<Vec<(SpoolId, String)>>>,
}

impl Spool {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            journal::Settings { segment_bytes: 2 << 20, ..journal::Settings::new(SpoolId(7)) };
        let (journal, _) = Journal::open(&dir.path().join("spool"), settings).unwrap();
        let id = watch::Sender::new(journal.id());
        let durable = watch::Sender::new(0);
        Self { dir, journal, durable, id, events: Arc::default(), forks: Arc::default() }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("recorder.sock")
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.socket()).unwrap()
    }

    fn start(&self) -> AccountingLane {
        let settings = Settings {
            socket: self.socket(),
            node: "edge-1".parse().unwrap(),
            boot: "k3f9x2ab".parse().unwrap(),
            spool: Path::join(self.dir.path(), "spool"),
            spool_id: self.id.subscribe(),
            clock: Clock::start(),
        };
        let events = Arc::clone(&self.events);
        let forks = Arc::clone(&self.forks);
        let report = move |event: Event| events.lock().unwrap().push(event.kind);
        let report_fork = move |id, reason| forks.lock().unwrap().push((id, reason));
        AccountingLane::start(settings, self.durable.subscribe(), report, report_fork)
    }

    fn append_unsynced(&mut self, text: &str) {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        self.journal.append(FrameKind::Rows, payload).unwrap();
    }

    fn sync(&mut self) {
        self.durable.send_replace(self.journal.sync().unwrap());
    }

    fn append(&mut self, text: &str) {
        self.append_unsynced(text);
        self.sync();
    }

    fn crc(&self, frame: u64) -> u32 {
        let mut entries = journal::scan(self.journal.dir()).unwrap().map(Result::unwrap);
        let crc = entries.find_map(|entry| match entry {
            Entry::Frame(found, crc) if found.number == frame => Some(crc),
            _ => None,
        });
        crc.unwrap()
    }

    fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }
}

/// The recorder's end of a connection.
struct Recorder {
    framed: Framed<UnixStream, FrameCodec>,
}

async fn accept(listener: &UnixListener) -> (Recorder, Hello) {
    let (socket, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let framed = Framed::new(socket, FrameCodec::new(MAX_ACCOUNTING_PAYLOAD));
    let mut recorder = Recorder { framed };
    let hello = recorder.frame().await;
    assert_eq!(hello.kind, FrameKind::Hello);
    let hello = Hello::decode(&hello.payload[..]).unwrap();
    (recorder, hello)
}

impl Recorder {
    async fn send(&mut self, frame: &Frame) {
        timeout(DEADLINE, self.framed.send(frame)).await.unwrap().unwrap();
    }

    async fn welcome(&mut self, last_frame: u64, last_crc: u32) {
        self.welcome_as(0, last_frame, last_crc).await;
    }

    async fn welcome_as(&mut self, recorder_id: u64, last_frame: u64, last_crc: u32) {
        let welcome = Welcome { protocol: PROTOCOL, last_frame, last_crc, recorder_id, credit: 0 };
        self.send(&Frame::message(FrameKind::Welcome, 0, &welcome)).await;
    }

    async fn ack(&mut self, frame: u64) {
        self.send(&Frame::message(FrameKind::Ack, 0, &Ack { frame })).await;
    }

    async fn frame(&mut self) -> Frame {
        loop {
            let next = timeout(DEADLINE, self.framed.next()).await.unwrap();
            let frame = next.unwrap().unwrap();
            if frame.kind != FrameKind::Ping {
                return frame;
            }
        }
    }

    async fn receive(&mut self) -> (u64, String) {
        let frame = self.frame().await;
        assert_eq!(frame.kind, FrameKind::Rows);
        (frame.number, String::from_utf8(frame.payload.to_vec()).unwrap())
    }
}

async fn reaches<T: Clone>(watch: &mut watch::Receiver<T>, good: impl FnMut(&T) -> bool) -> T {
    timeout(DEADLINE, watch.wait_for(good)).await.unwrap().unwrap().clone()
}
