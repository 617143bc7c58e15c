//! The accounting lane as a forwarder sees it, over real sockets and a real log.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use e2e_tests::process::try_output;
use futures_util::{SinkExt, StreamExt};
use journal::Entry;
use prost::Message;
use recorder::capture::{CaptureWriter, Recovered, Settings as CaptureSettings};
use recorder::config::Allow;
use recorder::config::Config;
use recorder::data_dir::Group;
use recorder::ingest::{Ingest, Settings, Watcher, bind};
use recorder::log::{Log, LogHandle};
use schemas::table::Session;
use schemas::vocab::SpoolId;
use schemas::wire::{
    Ack, BootEnd, Frame, FrameCodec, FrameKind, HEADER_LEN, Hello, Lane, MAX_ACCOUNTING_PAYLOAD,
    PROTOCOL, Received, Reject, RejectCode, Rows, Welcome,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::codec::Framed;

const DEADLINE: Duration = Duration::from_secs(20);
const BOOT: &str = "k3f9x2ab";
const SPOOL: SpoolId = SpoolId(7);

#[tokio::test]
async fn frames_are_acknowledged_when_they_are_in_the_log() {
    let recorder = Recorder::start();
    let (mut client, welcome) = recorder.connect(SPOOL).await;
    assert_eq!(welcome.last_frame, 0);
    for number in 1..=3 {
        client.send(number).await;
    }
    client.acknowledged(3).await;
    assert_eq!(recorder.held(), [(SPOOL.0, 1), (SPOOL.0, 2), (SPOOL.0, 3)]);
    assert_eq!(recorder.events(), ["stream_start"]);
    recorder.stop().await;
}

#[tokio::test]
async fn a_restarted_recorder_goes_on_where_its_log_ends() {
    let recorder = Recorder::start();
    let (mut client, _) = recorder.connect(SPOOL).await;
    client.send(1).await;
    client.send(2).await;
    client.acknowledged(2).await;
    let data = recorder.stop().await;
    assert_eq!(client.reject().await.code(), RejectCode::Stopping);

    let recorder = Recorder::start_in(data, Settings::new(Vec::new()));
    let (mut client, welcome) = recorder.connect(SPOOL).await;
    let second = frame(2);
    let crc = second.encode(&mut BytesMut::new());
    assert_eq!((welcome.last_frame, welcome.last_crc), (2, crc));
    client.send(3).await;
    client.acknowledged(3).await;
    assert_eq!(recorder.held().len(), 3);
    recorder.stop().await;
}

#[tokio::test]
async fn a_duplicate_is_counted_and_acknowledged_again_but_not_kept() {
    let recorder = Recorder::start();
    let (mut client, _) = recorder.connect(SPOOL).await;
    client.send(1).await;
    client.acknowledged(1).await;
    client.send(1).await;
    client.acknowledged(1).await;
    assert_eq!(recorder.watcher.counts().duplicates, 1);
    assert_eq!(recorder.held(), [(SPOOL.0, 1)]);
    recorder.stop().await;
}

#[tokio::test]
async fn a_gap_is_refused_with_the_number_that_should_come() {
    let recorder = Recorder::start();
    let (mut client, _) = recorder.connect(SPOOL).await;
    client.send(1).await;
    client.send(3).await;
    let reject = client.reject().await;
    assert_eq!(reject.code(), RejectCode::Stream);
    assert_eq!(reject.text, "frame 3 came where 2 should");
    recorder.take_up_after(1).await;
}

#[tokio::test]
async fn an_unknown_spool_begins_at_its_first_frame_with_an_event() {
    let recorder = Recorder::start();
    let (mut client, _) = recorder.connect(SPOOL).await;
    client.send(4711).await;
    client.acknowledged(4711).await;
    assert_eq!(recorder.events(), ["stream_start"]);
    let mut client = recorder.dial().await;
    client.say(&Hello { first_frame: 5, ..hello(SpoolId(8)) }).await;
    client.welcome().await;
    client.send(6).await;
    assert_eq!(client.reject().await.text, "frame 6 came where 5 should");
    recorder.stop().await;
}

#[tokio::test]
async fn frames_that_the_forwarder_no_longer_has_become_an_event() {
    let recorder = Recorder::start();
    let (mut client, _) = recorder.connect(SPOOL).await;
    client.send(1).await;
    client.acknowledged(1).await;
    drop(client);
    let hello = Hello { first_frame: 5, ..hello(SPOOL) };
    let mut client = recorder.dial().await;
    client.say(&hello).await;
    assert_eq!(client.welcome().await.last_frame, 1);
    client.send(5).await;
    client.acknowledged(5).await;
    assert_eq!(recorder.events(), ["stream_start", "spool_gap"]);
    recorder.stop().await;
}

#[tokio::test]
async fn the_newest_connection_of_a_spool_wins() {
    let recorder = Recorder::start();
    let (mut older, _) = recorder.connect(SPOOL).await;
    older.send(1).await;
    older.acknowledged(1).await;
    let (mut newer, welcome) = recorder.connect(SPOOL).await;
    assert_eq!(welcome.last_frame, 1);
    assert_eq!(older.reject().await.code(), RejectCode::Stream);
    newer.send(2).await;
    newer.acknowledged(2).await;
    assert_eq!(recorder.watcher.connections().len(), 1);
    let (other, _) = recorder.connect(SpoolId(8)).await;
    newer.send(3).await;
    newer.acknowledged(3).await;
    drop(other);
    recorder.stop().await;
}

#[tokio::test]
async fn a_second_forwarder_by_the_name_of_a_connected_one_is_refused() {
    let recorder = Recorder::start();
    let (mut first, _) = recorder.connect(SPOOL).await;
    let second = Hello { boot: "aaaaaaaa".into(), ..hello(SpoolId(8)) };
    let mut client = recorder.dial().await;
    client.say(&second).await;
    let reject = client.reject().await;
    assert_eq!(reject.code(), RejectCode::NodeTaken);
    assert_eq!(
        reject.text,
        "node edge-1 is connected already, as boot k3f9x2ab with spool 0000000000000007; give one \
         of the two another `node` in its forwarder.toml"
    );
    first.send(1).await;
    first.acknowledged(1).await;
    // The same run with another spool id: its spool was forked.
    let (mut forked, _) = recorder.connect(SpoolId(9)).await;
    forked.send(1).await;
    forked.acknowledged(1).await;
    drop((first, forked));
    let begun = Instant::now();
    loop {
        let mut client = recorder.dial().await;
        client.say(&second).await;
        if client.next().await.kind == FrameKind::Welcome {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "the name is not free again");
    }
    recorder.stop().await;
}

#[tokio::test]
async fn a_copy_that_takes_a_connected_boot_for_dead_is_not_believed() {
    let recorder = Recorder::start();
    let (mut original, _) = recorder.connect(SPOOL).await;
    original.send(1).await;
    original.acknowledged(1).await;
    let end = BootEnd { node: "edge-1".into(), boot: BOOT.into(), ..BootEnd::default() };
    for (spool, boot) in [(8, "aaaaaaaa"), (9, "bbbbbbbb")] {
        let mut copy = recorder.dial().await;
        let node = format!("edge-{spool}");
        copy.say(&Hello { node, boot: boot.into(), ..hello(SpoolId(spool)) }).await;
        copy.welcome().await;
        copy.frame(&Frame::message(FrameKind::BootEnd, 1, &end)).await;
        copy.acknowledged(1).await;
        // A moment ago is as good as now: a lost connection is made again.
        original.framed.get_mut().shutdown().await.unwrap();
    }
    assert_eq!(recorder.events().iter().filter(|kind| *kind == "boot_end_doubted").count(), 2);
    let received = recorder.scan().into_iter().filter(|frame| frame.kind == FrameKind::Received);
    let mistaken = received.map(|frame| Received::decode(&frame.payload[..]).unwrap().mistaken);
    assert_eq!(mistaken.collect::<Vec<_>>(), [false, true, true]);
    recorder.stop().await;
}

#[tokio::test]
async fn a_spool_that_comes_from_another_recorder_begins_where_that_one_ended() {
    let recorder = Recorder::start();
    let moved = Hello { first_frame: 1, first_unacked: 5, acked_by: 99, ..hello(SPOOL) };
    let mut client = recorder.dial().await;
    client.say(&moved).await;
    let welcome = client.welcome().await;
    assert_eq!(welcome.last_frame, 0);
    assert_eq!(moved.next_frame(welcome.recorder_id, 0), 5);
    client.send(5).await;
    client.acknowledged(5).await;
    drop(client);
    // It was away again, and another recorder took frames 6 to 8.
    let mut client = recorder.dial().await;
    client.say(&Hello { first_unacked: 9, ..moved.clone() }).await;
    client.welcome().await;
    client.send(9).await;
    client.acknowledged(9).await;
    drop(client);
    // What this recorder itself acknowledged is not asked for, and a loss is still a loss.
    let mut client = recorder.dial().await;
    let own = Hello { first_frame: 12, acked_by: welcome.recorder_id, first_unacked: 12, ..moved };
    client.say(&own).await;
    client.welcome().await;
    client.send(12).await;
    client.acknowledged(12).await;
    assert_eq!(recorder.events(), ["stream_start", "stream_start", "spool_gap"]);
    let received = recorder.scan().into_iter().filter(|frame| frame.kind == FrameKind::Received);
    let begins = received.map(|frame| Received::decode(&frame.payload[..]).unwrap().begins);
    assert_eq!(begins.collect::<Vec<_>>(), [true, true, false]);
    recorder.stop().await;
}

#[tokio::test]
async fn a_frame_with_a_wrong_checksum_is_refused_and_nothing_before_it_is_lost() {
    let recorder = Recorder::start();
    let (mut client, _) = recorder.connect(SPOOL).await;
    client.send(1).await;
    let mut bytes = encoded(&frame(2));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    client.raw(&bytes).await;
    let reject = client.reject().await;
    assert_eq!(reject.code(), RejectCode::Stream);
    assert!(reject.text.starts_with("frame 2 is damaged: checksum"), "{}", reject.text);
    recorder.take_up_after(1).await;
}

#[tokio::test]
async fn a_frame_of_a_wrong_version_is_refused() {
    let recorder = Recorder::start();
    let (mut client, _) = recorder.connect(SPOOL).await;
    let mut bytes = encoded(&frame(1));
    bytes[2] = 9;
    client.raw(&bytes).await;
    let reject = client.reject().await;
    assert_eq!(reject.text, "frame version 9 is not supported, this binary speaks version 1");
    recorder.take_up_after(0).await;
}

#[tokio::test]
async fn a_frame_beyond_the_limit_is_refused_by_its_header() {
    let recorder = Recorder::start();
    let (mut client, _) = recorder.connect(SPOOL).await;
    let mut bytes = encoded(&frame(1));
    bytes.truncate(HEADER_LEN);
    let beyond = u32::try_from(MAX_ACCOUNTING_PAYLOAD + 1).unwrap();
    bytes[8..12].copy_from_slice(&beyond.to_le_bytes());
    client.raw(&bytes).await;
    let reject = client.reject().await;
    assert_eq!(reject.text, "frame of 1048577 bytes exceeds the limit of 1048576 bytes");
    recorder.take_up_after(0).await;
}

#[tokio::test]
async fn a_row_whose_names_are_none_is_refused_before_it_is_logged() {
    let recorder = Recorder::start();
    let (mut client, _) = recorder.connect(SPOOL).await;
    let session = Session { service: "../web".to_owned(), ..Session::default() };
    let rows = Rows {
        node: "edge-1".to_owned(),
        boot: "k3f9x2ab".to_owned(),
        sessions: vec![session],
        ..Rows::default()
    };
    client.raw(&encoded(&Frame::message(FrameKind::Rows, 1, &rows))).await;
    let reject = client.reject().await;
    assert_eq!(reject.code, RejectCode::Malformed as i32);
    assert!(reject.text.contains("\"../web\" is not a name"), "{}", reject.text);
    recorder.take_up_after(0).await;
}

#[tokio::test]
async fn what_is_not_a_hello_is_refused() {
    let recorder = Recorder::start();
    let good = hello(SPOOL);
    let cases = [
        (Hello { protocol: 99, ..good.clone() }, RejectCode::Protocol, "protocol 99"),
        (Hello { node: "../etc".into(), ..good.clone() }, RejectCode::Malformed, "its node"),
        (Hello { boot: "BOOT".into(), ..good.clone() }, RejectCode::Malformed, "its boot"),
        (Hello { lane: 9, ..good.clone() }, RejectCode::Malformed, "lane 9"),
    ];
    for (hello, code, text) in cases {
        let mut client = recorder.dial().await;
        client.say(&hello).await;
        let reject = client.reject().await;
        assert_eq!(reject.code(), code);
        assert!(reject.text.contains(text), "{}", reject.text);
    }
    let mut client = recorder.dial().await;
    client.raw(b"GET / HTTP/1.1\r\nHost: recorder\r\n\r\n").await;
    assert_eq!(client.reject().await.text, "not a frame: it begins with 0x4547 instead of 0x5246");
    let mut client = recorder.dial().await;
    client.send(1).await;
    assert!(client.reject().await.text.contains("instead of Hello"));
    recorder.take_up_after(0).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_let_go() {
    let settings = Settings {
        hello_within: Duration::from_millis(300),
        silence: Duration::from_millis(300),
        ..Settings::new(Vec::new())
    };
    let recorder = Recorder::start_in(tempfile::tempdir().unwrap(), settings);
    let mut client = recorder.dial().await;
    assert_eq!(client.reject().await.text, "no Hello within 300ms");
    let (mut client, _) = recorder.connect(SPOOL).await;
    assert!(timeout(DEADLINE, client.framed.next()).await.unwrap().is_none());
    recorder.stop().await;
}

#[tokio::test]
async fn a_ping_is_answered() {
    let recorder = Recorder::start();
    let (mut client, _) = recorder.connect(SPOOL).await;
    client.frame(&Frame::empty(FrameKind::Ping)).await;
    assert_eq!(client.next().await.kind, FrameKind::Pong);
    recorder.stop().await;
}

#[tokio::test]
async fn a_node_that_is_not_allowed_is_refused() {
    let allow = vec![Allow { node: "edge-2".parse().unwrap(), uid: None }];
    let recorder = Recorder::start_in(tempfile::tempdir().unwrap(), Settings::new(allow));
    let mut client = recorder.dial().await;
    client.say(&hello(SPOOL)).await;
    let reject = client.reject().await;
    assert_eq!(reject.code(), RejectCode::NotAllowed);
    assert_eq!(reject.text, "node edge-1 is not in `allow` of recorder.toml");
    let mut client = recorder.dial().await;
    client.say(&Hello { node: "edge-2".into(), ..hello(SPOOL) }).await;
    client.welcome().await;
    client.send(1).await;
    let reject = client.reject().await;
    assert_eq!(reject.code(), RejectCode::NotAllowed, "rows of edge-1 come from edge-2");
    assert_eq!(recorder.held(), []);
    recorder.stop().await;
}

#[tokio::test]
async fn a_peer_of_another_uid_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can take on another uid");
        return;
    }
    let recorder = Recorder::start();
    // Everybody may reach the socket, so that the credentials alone decide.
    for path in [recorder.data.path(), &recorder.socket] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let hello = encoded(&Frame::message(FrameKind::Hello, 0, &hello(SPOOL)));
    let script = "import socket,sys\n\
        s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1])\n\
        s.sendall(bytes.fromhex(sys.argv[2]))\n\
        sys.stdout.write(s.recv(4096).hex())";
    let hex: String = hello.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut stranger = std::process::Command::new("python3");
    stranger.args(["-c", script]).arg(&recorder.socket).arg(hex).uid(65534);
    let output = tokio::task::spawn_blocking(move || try_output(&mut stranger)).await.unwrap();
    let Ok(output) = output else {
        println!("skipped: no python3 to be the stranger");
        return;
    };
    let hex = String::from_utf8(output.stdout).unwrap();
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let (answer, _) = Frame::decode(&mut BytesMut::from(&bytes[..]), 4096).unwrap().unwrap();
    let reject = Reject::decode(&answer.payload[..]).unwrap();
    assert_eq!(reject.code(), RejectCode::NotAllowed);
    assert!(reject.text.starts_with("uid 65534 may not be node edge-1"), "{}", reject.text);
    recorder.take_up_after(0).await;
}

#[tokio::test]
async fn sealed_segments_are_listed_until_they_are_removed() {
    let recorder = Recorder::start();
    let log = recorder.handle.clone();
    assert_eq!(log.seal().await.unwrap(), []);
    let (mut client, _) = recorder.connect(SPOOL).await;
    client.send(1).await;
    client.acknowledged(1).await;
    let first = log.seal().await.unwrap();
    assert_eq!((first.len(), first[0].first_frame, first[0].last_frame), (1, 1, 2));
    client.send(2).await;
    client.acknowledged(2).await;
    assert_eq!(log.seal().await.unwrap().len(), 2);
    log.remove_through(2).await.unwrap();
    let left = log.seal().await.unwrap();
    assert_eq!((left.len(), left[0].first_frame), (1, 3));
    assert_eq!(log.spool_mark(SPOOL).await.unwrap().unwrap().frame, 2);
    recorder.stop().await;
}

struct Recorder {
    data: tempfile::TempDir,
    socket: PathBuf,
    log: Log,
    handle: LogHandle,
    capture: CaptureWriter,
    ingest: Ingest,
    watcher: Watcher,
}

impl Recorder {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Settings::new(Vec::new()))
    }

    fn start_in(data: tempfile::TempDir, settings: Settings) -> Self {
        let socket = data.path().join("recorder.sock");
        let (log, _) = Log::start(data.path(), &[]).unwrap();
        let handle = log.handle();
        let listeners = vec![bind(&socket).unwrap()];
        let capture_settings = CaptureSettings {
            data: data.path().to_owned(),
            rotate: Config::default().rotate,
            readers: Group::nobody(),
        };
        let capture =
            CaptureWriter::start(capture_settings, Recovered::default(), log.handle()).unwrap();
        let ingest = Ingest::start(listeners, settings, log.handle(), capture.handle());
        let watcher = ingest.watcher();
        Self { data, socket, log, handle, capture, ingest, watcher }
    }

    /// Stops in the order of the real thing and gives back the data directory.
    async fn stop(self) -> tempfile::TempDir {
        self.ingest.stop().await;
        let (capture, log) = (self.capture, self.log);
        tokio::task::spawn_blocking(move || capture.stop()).await.unwrap();
        tokio::task::spawn_blocking(move || log.stop()).await.unwrap();
        self.data
    }

    async fn dial(&self) -> Client {
        let socket = UnixStream::connect(&self.socket).await.unwrap();
        Client { framed: Framed::new(socket, FrameCodec::new(MAX_ACCOUNTING_PAYLOAD)) }
    }

    async fn connect(&self, spool: SpoolId) -> (Client, Welcome) {
        let mut client = self.dial().await;
        client.say(&hello(spool)).await;
        let welcome = client.welcome().await;
        (client, welcome)
    }

    /// Shows that the recorder holds the spool's frames through `held` and takes the next.
    async fn take_up_after(self, held: u64) {
        let (mut client, welcome) = self.connect(SPOOL).await;
        assert_eq!(welcome.last_frame, held);
        client.send(held + 1).await;
        client.acknowledged(held + 1).await;
        self.stop().await;
    }

    fn scan(&self) -> Vec<Frame> {
        let log = self.data.path().join("log");
        let entries = journal::scan(&log).unwrap().map(Result::unwrap);
        entries
            .filter_map(|entry| match entry {
                Entry::Frame(frame, _) => Some(frame),
                Entry::Segment(_) => None,
            })
            .collect()
    }

    /// Spool and number of every frame that was received.
    fn held(&self) -> Vec<(u64, u64)> {
        let received = self.scan().into_iter().filter(|frame| frame.kind == FrameKind::Received);
        received
            .map(|frame| {
                let received = Received::decode(&frame.payload[..]).unwrap();
                let mut bytes = BytesMut::from(&received.frame[..]);
                let (inner, _) = Frame::decode(&mut bytes, 1 << 20).unwrap().unwrap();
                (received.spool_id, inner.number)
            })
            .collect()
    }

    /// Kinds of the recorder's own events.
    fn events(&self) -> Vec<String> {
        let own = self.scan().into_iter().filter(|frame| frame.kind == FrameKind::Rows);
        own.flat_map(|frame| Rows::decode(&frame.payload[..]).unwrap().events)
            .map(|event| event.kind)
            .collect()
    }
}

struct Client {
    framed: Framed<UnixStream, FrameCodec>,
}

impl Client {
    async fn frame(&mut self, frame: &Frame) {
        timeout(DEADLINE, self.framed.send(frame)).await.unwrap().unwrap();
    }

    async fn say(&mut self, hello: &Hello) {
        self.frame(&Frame::message(FrameKind::Hello, 0, hello)).await;
    }

    async fn send(&mut self, number: u64) {
        self.frame(&frame(number)).await;
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.framed.get_mut().write_all(bytes).await.unwrap();
    }

    async fn next(&mut self) -> Frame {
        timeout(DEADLINE, self.framed.next()).await.unwrap().unwrap().unwrap()
    }

    async fn welcome(&mut self) -> Welcome {
        let frame = self.next().await;
        assert_eq!(frame.kind, FrameKind::Welcome, "{frame:?}");
        Welcome::decode(&frame.payload[..]).unwrap()
    }

    /// Reads acknowledgements until `number` is reached.
    async fn acknowledged(&mut self, number: u64) {
        loop {
            let frame = self.next().await;
            assert_eq!(frame.kind, FrameKind::Ack, "{frame:?}");
            let ack = Ack::decode(&frame.payload[..]).unwrap();
            assert!(ack.frame <= number);
            if ack.frame == number {
                return;
            }
        }
    }

    /// Reads on until the refusal, and shows that the connection is closed behind it.
    async fn reject(&mut self) -> Reject {
        let reject = loop {
            let frame = self.next().await;
            if frame.kind == FrameKind::Reject {
                break Reject::decode(&frame.payload[..]).unwrap();
            }
            assert_eq!(frame.kind, FrameKind::Ack, "{frame:?}");
        };
        let mut rest = Vec::new();
        // What we sent and the recorder did not read turns the close into a reset.
        drop(timeout(DEADLINE, self.framed.get_mut().read_to_end(&mut rest)).await.unwrap());
        assert!(rest.is_empty());
        reject
    }
}

fn hello(spool: SpoolId) -> Hello {
    Hello {
        protocol: PROTOCOL,
        node: "edge-1".into(),
        boot: BOOT.into(),
        lane: Lane::Accounting.into(),
        spool_id: spool.0,
        ..Hello::default()
    }
}

fn frame(number: u64) -> Frame {
    let seq = i64::try_from(number).unwrap();
    let session = Session {
        seq: Some(seq),
        session_no: seq,
        service: "web".to_owned(),
        rule: "all".to_owned(),
        ..Session::default()
    };
    let rows = Rows {
        node: "edge-1".into(),
        boot: BOOT.into(),
        sessions: vec![session],
        ..Rows::default()
    };
    Frame::message(FrameKind::Rows, number, &rows)
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    bytes.to_vec()
}
