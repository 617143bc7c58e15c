//! Loss, rotation, crashes and strangers: what the files and the index say then.

use std::path::Path;

use e2e_tests::process::output;
use recorder::config::Rotate;
use schemas::table::Capture;
use schemas::vocab::Direction::{Down, Up};
use schemas::vocab::{EndReason, PerDirection};
use schemas::wire::{CaptureData, CaptureMark, CaptureOpen, Frame, FrameKind, MarkKind};

use crate::speaker::{
    Opening, Recorder, TCP_PORT, files, noise, only_file, rows_in, session, tcp, udp,
};
use crate::tshark;

const CLIENT: &str = "192.0.2.1:50001";
const CLIENT_PORT: u16 = 50_001;

#[tokio::test]
async fn what_was_lost_is_a_gap_in_the_file_and_a_number_in_the_index() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    forwarder.open(tcp(1, CLIENT)).await;
    forwarder.data(1, Up, &noise(1, 10_000)).await;
    forwarder.lose(1, Up, 65_536);
    forwarder.data(1, Up, &noise(2, 10_000)).await;
    forwarder.lose(1, Down, 7);
    forwarder.finish(1).await;
    forwarder.open(udp(2, CLIENT)).await;
    forwarder.data(2, Up, b"one").await;
    forwarder.lose(2, Up, 500);
    forwarder.data(2, Up, b"three").await;
    forwarder.lose(2, Down, 44);
    forwarder.end(2, EndReason::UdpExpired).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    let file = only_file(data.path(), "web");

    tshark::readable(&file).unwrap();
    assert!(tshark::clean(&file).is_err(), "a gap is something to complain about");
    let lost = tshark::tally(&file, "tcp.analysis.lost_segment", &["tcp.len"]).unwrap();
    assert_eq!(lost, [("0".to_owned(), 1), ("10000".to_owned(), 1)], "before data, before a FIN");
    let noted = "frame.comment contains \"lost=65536 gap=65536 up\"";
    let noted = tshark::tally(&file, noted, &["frame.drop_count"]).unwrap();
    assert_eq!(noted, [("2".to_owned(), 1)]);
    let noted = tshark::tally(&file, "udp && frame.drop_count == 1", &["frame.comment"]).unwrap();
    assert!(noted[0].0.starts_with("lost=500 gap=500"), "{noted:?}");
    assert_eq!((rows[0].dropped_bytes, rows[0].captured_bytes), (65_543, 20_000));
    assert_eq!((rows[1].dropped_bytes, rows[1].captured_bytes), (544, 8));
}

/// Every extent of one session, in order.
fn extents(rows: &[Capture], number: i64) -> Vec<&Capture> {
    let mut found: Vec<_> = rows.iter().filter(|row| row.session_no == number).collect();
    found.sort_by_key(|row| row.extent);
    let numbers: Vec<i32> = found.iter().map(|row| row.extent).collect();
    let dense: Vec<i32> = (0..).take(found.len()).collect();
    assert_eq!(numbers, dense, "extents without gap");
    found
}

#[tokio::test]
async fn a_session_goes_on_over_many_files_and_is_whole_when_they_are_merged() {
    let data = tempfile::tempdir().unwrap();
    let rotate = Rotate { size_bytes: 64 << 10, every: std::time::Duration::from_secs(900) };
    let recorder = Recorder::start_with(data.path(), rotate).await;
    let mut forwarder = recorder.connect();
    let (up, down) = (noise(3, 150_000), noise(4, 400_000));
    forwarder.open(tcp(1, CLIENT)).await;
    for (up, down) in up.chunks(15_000).zip(down.chunks(40_000)) {
        forwarder.data(1, Up, up).await;
        forwarder.data(1, Down, down).await;
    }
    forwarder.finish(1).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    let files = files(data.path(), "web");
    let extents = extents(&rows, 1);
    assert!(files.len() > 4, "{files:?}");
    assert_eq!(extents.len(), files.len());
    assert_eq!(extents.iter().map(|row| row.captured_bytes).sum::<i64>(), 550_000);
    assert_eq!(extents.iter().map(|row| row.dropped_bytes).sum::<i64>(), 0);
    tshark::clean(&files[2]).unwrap();
    tshark::checksums(&files[2]).unwrap();

    let merged = data.path().join("merged.pcapng");
    let mut args = vec!["-w", merged.to_str().unwrap()];
    args.extend(files.iter().rev().map(|file| file.to_str().unwrap()));
    tshark::run("mergecap", &args).unwrap();
    tshark::clean(&merged).unwrap();
    assert!(tshark::tcp_payload(&merged, "0", CLIENT_PORT).unwrap() == up);
    assert!(tshark::tcp_payload(&merged, "0", TCP_PORT).unwrap() == down);
    assert_eq!(tshark::completeness(&merged, "0").unwrap(), ["31"]);
}

/// Copies the capture files of `from` to `to`, whose last `cut` bytes are gone, under the names of
/// files that are still open.
fn crash(from: &Path, to: &Path, cut: usize) {
    for file in files(from, "web") {
        let copy = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let name = copy.to_str().unwrap().trim_end_matches(".part").to_owned() + ".part";
        std::fs::write(name, &bytes[..bytes.len() - cut]).unwrap();
    }
}

#[tokio::test]
async fn a_file_that_a_crash_left_is_cut_to_whole_packets_and_indexed() {
    let (data, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    let up = noise(5, 90_000);
    forwarder.open(tcp(1, CLIENT)).await;
    forwarder.data(1, Up, &up).await;
    forwarder.open(tcp(2, "192.0.2.2:50001")).await;
    forwarder.data(2, Up, b"short").await;
    forwarder.finish(2).await;
    forwarder.data(1, Down, &noise(6, 9_000)).await;
    forwarder.flush().await;
    written(&recorder, 17).await;
    crash(data.path(), after.path(), 200);
    let empty = after.path().join("captures/web/empty.pcapng.part");
    std::fs::write(&empty, b"").unwrap();
    forwarder.hang_up().await;
    recorder.stop().await;

    let recorder = Recorder::start(after.path()).await;
    assert!(!empty.exists());
    let file = only_file(after.path(), "web");
    assert!(file.to_str().unwrap().ends_with(".pcapng"));
    tshark::all_is_well(&file, "web", 15).unwrap();
    let mut forwarder = recorder.connect();
    let resumed = Some(PerDirection { up: 90_000, down: 9_000 });
    forwarder.open(Opening { resumed, ..tcp(1, CLIENT) }).await;
    forwarder.data(1, Down, b"behind the crash").await;
    forwarder.finish(1).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    let one = extents(&rows, 1);
    assert_eq!((one[0].captured_bytes, one[0].dropped_bytes), (90_000, 0));
    assert_eq!((one[1].captured_bytes, one[1].dropped_bytes), (16, 9_000));
    assert_eq!(extents(&rows, 2)[0].captured_bytes, 5);
}

/// Copies a data directory as it lies there.
fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let copy = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &copy),
            false => drop(std::fs::copy(entry.path(), copy).unwrap()),
        }
    }
}

#[tokio::test]
async fn extents_are_counted_on_after_two_kills_with_nothing_written_between_them() {
    let [data, once, twice] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    forwarder.open(tcp(1, CLIENT)).await;
    forwarder.data(1, Up, &noise(5, 1_000)).await;
    forwarder.flush().await;
    written(&recorder, 5).await;
    crash(data.path(), once.path(), 0);
    forwarder.hang_up().await;
    recorder.stop().await;

    // What a recorder leaves that is killed as soon as it has taken over.
    let recorder = Recorder::start(once.path()).await;
    copy_all(once.path(), twice.path());
    recorder.stop().await;

    let recorder = Recorder::start(twice.path()).await;
    let mut forwarder = recorder.connect();
    let resumed = Some(PerDirection { up: 1_000, down: 0 });
    forwarder.open(Opening { resumed, ..tcp(1, CLIENT) }).await;
    forwarder.data(1, Down, b"behind the kills").await;
    forwarder.finish(1).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    let numbers: Vec<_> = extents(&rows, 1).iter().map(|row| row.extent).collect();
    assert_eq!(numbers, [0, 1]);
}

#[tokio::test]
async fn a_half_closed_session_goes_on_behind_its_fin_after_a_kill() {
    let (data, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    let down = noise(6, 3_000);
    forwarder.open(tcp(1, CLIENT)).await;
    forwarder.data(1, Up, &noise(5, 1_000)).await;
    forwarder.mark(1, Up, MarkKind::Fin).await;
    forwarder.flush().await;
    written(&recorder, 7).await;
    crash(data.path(), after.path(), 0);
    forwarder.hang_up().await;
    recorder.stop().await;

    let recorder = Recorder::start(after.path()).await;
    let mut forwarder = recorder.connect();
    let resumed = Some(PerDirection { up: 1_000, down: 0 });
    forwarder.open(Opening { resumed, ..tcp(1, CLIENT) }).await;
    forwarder.data(1, Down, &down).await;
    forwarder.mark(1, Down, MarkKind::Fin).await;
    forwarder.end(1, EndReason::Done).await;
    forwarder.hang_up().await;
    recorder.stop().await;
    let file = files(after.path(), "web").pop().unwrap();
    tshark::clean(&file).unwrap();
    assert!(tshark::tcp_payload(&file, "0", TCP_PORT).unwrap() == down);
    let fields = ["-T", "fields", "-e", "tcp.flags.str", "-Y", "tcp.flags.reset == 1"];
    let resets = tshark::run("tshark", &[&["-r", file.to_str().unwrap()], &fields[..]].concat());
    assert_eq!(resets.unwrap(), "", "both sides have finished");
}

/// Waits until so many packets are written.
async fn written(recorder: &Recorder, packets: u64) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while recorder.captures().counts().packets < packets {
        let now = recorder.captures().counts();
        assert!(tokio::time::Instant::now() < deadline, "{now:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_index_can_be_made_again_from_the_files() {
    let (data, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    let prefix = Opening { mode: "prefix 1000", ..tcp(1, "[2001:db8::1]:50001") };
    forwarder.open(prefix).await;
    forwarder.data_cut(1, Up, &noise(7, 3_000), 1_000).await;
    forwarder.open(tcp(2, CLIENT)).await;
    forwarder.lose(2, Down, 1 << 33);
    forwarder.data(2, Down, &noise(8, 3_000)).await;
    forwarder.finish(2).await;
    forwarder.finish(1).await;
    forwarder.open(udp(3, CLIENT)).await;
    forwarder.data(3, Up, b"").await;
    forwarder.lose(3, Down, 9);
    forwarder.data(3, Down, b"answer").await;
    forwarder.end(3, EndReason::UdpExpired).await;
    let resumed = Some(PerDirection { up: 5 << 32, down: 1 });
    forwarder.open(Opening { resumed, ..tcp(4, CLIENT) }).await;
    forwarder.data(4, Up, b"more").await;
    forwarder.finish(4).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    crash(data.path(), again.path(), 0);
    let recorder = Recorder::start(again.path()).await;
    let made_again = recorder.stop().await;
    assert_eq!(rows.len(), 4);
    assert_eq!(made_again, rows);
}

#[tokio::test]
async fn a_recorder_that_is_started_again_counts_what_passed_meanwhile() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    forwarder.open(tcp(1, CLIENT)).await;
    forwarder.data(1, Up, &noise(9, 1_000)).await;
    forwarder.hang_up().await;
    let before = recorder.stop().await;
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    let resumed = Some(PerDirection { up: 1_500, down: 200 });
    forwarder.open(Opening { resumed, ..tcp(1, CLIENT) }).await;
    forwarder.data(1, Up, &noise(10, 100)).await;
    forwarder.finish(1).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    assert_eq!(before.len(), 1);
    let extents = extents(&rows, 1);
    assert_eq!(extents[0], &before[0]);
    assert_eq!((extents[1].captured_bytes, extents[1].dropped_bytes), (100, 700));
}

#[tokio::test]
async fn sessions_of_a_forwarder_that_died_are_closed_as_lost() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    forwarder.open(tcp(1, CLIENT)).await;
    forwarder.data(1, Up, b"last words").await;
    forwarder.hang_up().await;
    recorder.connect_as("zzzzzzzz").hang_up().await;
    let rows = recorder.stop().await;
    let file = only_file(data.path(), "web");
    tshark::all_is_well(&file, "web", usize::try_from(rows[0].packets).unwrap()).unwrap();
    let stream = tshark::stream_of(&file, &session(1), "tcp").unwrap();
    let noted = format!("tcp.stream=={stream} && frame.comment contains \"end=lost\"");
    assert_eq!(tshark::tally(&file, &noted, &["tcp.stream"]).unwrap().len(), 1);
}

#[tokio::test]
async fn a_disk_that_refuses_costs_payload_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("captures"), b"in the way").unwrap();
    let (log, _) = recorder::log::Log::start(data.path(), &[]).unwrap();
    let settings = recorder::capture::Settings {
        data: data.path().to_owned(),
        rotate: recorder::config::Config::default().rotate,
        readers: recorder::data_dir::Group::nobody(),
    };
    let recovered = recorder::capture::Recovered::default();
    let capture =
        recorder::capture::CaptureWriter::start(settings, recovered, log.handle()).unwrap();
    let mut forwarder = crate::speaker::connect(capture.handle(), crate::speaker::BOOT);
    forwarder.open(tcp(1, CLIENT)).await;
    // More than the first credit: it is given back although nothing was written.
    for seed in 0..40 {
        forwarder.data(1, Up, &noise(seed, 300_000)).await;
    }
    forwarder.finish(1).await;
    forwarder.hang_up().await;
    let captures = capture.handle();
    captures.close_files().await.unwrap();
    let counts = captures.counts();
    assert_eq!((counts.dropped_bytes, counts.files), (12_000_000, 0));
    assert!(counts.write_errors > 0);
    let rows = rows_in(&log.handle()).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].file.as_deref(), rows[0].dropped_bytes), (None, 12_000_000));
    assert_eq!((rows[0].packets, rows[0].extent), (0, 0));
    drop(captures);
    tokio::task::spawn_blocking(move || {
        capture.stop();
        log.stop();
    })
    .await
    .unwrap();
}

/// Tells the child which directory to fill.
const CHILD_DIR: &str = "CAPTURE_TEST_FULL_DIR";

#[test]
fn a_write_that_the_disk_cuts_short_leaves_whole_packets_and_the_sum_right() {
    let name = "files::a_write_that_the_disk_cuts_short_leaves_whole_packets_and_the_sum_right";
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(fill(Path::new(&dir)));
    }
    let data = tempfile::tempdir().unwrap();
    // A write beyond the limit raises SIGXFSZ, which kills unless ignored; then it fails.
    let script = r#"trap "" XFSZ; ulimit -f 64; exec "$0" --exact "$1" --nocapture"#;
    let child = output(
        std::process::Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(CHILD_DIR, data.path()),
    );
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let file = only_file(data.path(), "web");
    tshark::readable(&file).unwrap();
    tshark::clean(&file).unwrap();
    let kept = tshark::tcp_payload(&file, "0", CLIENT_PORT).unwrap();
    assert!(kept == noise(1, 100_000)[..kept.len()]);
    assert!((20_000..33_000).contains(&kept.len()), "{}", kept.len());
}

/// Captures more than a file may hold.
async fn fill(data: &Path) {
    let recorder = Recorder::start(data).await;
    let mut forwarder = recorder.connect();
    forwarder.open(tcp(1, CLIENT)).await;
    for chunk in noise(1, 100_000).chunks(1_000) {
        forwarder.data(1, Up, chunk).await;
    }
    forwarder.finish(1).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    let extents = extents(&rows, 1);
    assert_eq!((extents.len(), extents[1].file.as_deref()), (2, None));
    let captured: i64 = extents.iter().map(|row| row.captured_bytes).sum();
    let dropped: i64 = extents.iter().map(|row| row.dropped_bytes).sum();
    assert_eq!(captured + dropped, 100_000);
}

fn open(change: impl FnOnce(&mut CaptureOpen)) -> Frame {
    let mut open = CaptureOpen {
        session_no: 2,
        service: "web".to_owned(),
        rule: "everyone".to_owned(),
        transport: "tcp".to_owned(),
        client: "192.0.2.1:1".to_owned(),
        listen: "192.0.2.2:2".to_owned(),
        mode: "full".to_owned(),
        ..CaptureOpen::default()
    };
    change(&mut open);
    Frame::message(FrameKind::CaptureOpen, 0, &open)
}

#[tokio::test]
async fn what_no_forwarder_says_is_refused_in_words() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let chunk = |number, original_len, offset| {
        let data = CaptureData { session_no: number, original_len, offset, ..Default::default() };
        Frame::message_and_bytes(FrameKind::CaptureData, &data, b"four")
    };
    let mark = CaptureMark { session_no: 9, ..CaptureMark::default() };
    let said = [
        open(|open| open.service = "../../etc".to_owned()),
        open(|open| open.client = "[2001:db8::1]:1".to_owned()),
        open(|open| open.client = "nobody".to_owned()),
        open(|open| open.mode = "everything".to_owned()),
        open(|open| open.transport = "sctp".to_owned()),
        open(|open| open.session_no = 1),
        open(|open| open.offset_up = u64::MAX),
        chunk(7, 4, 0),
        chunk(1, 3, 0),
        chunk(1, u32::MAX, 0),
        chunk(1, 4, u64::MAX),
        Frame::message(FrameKind::CaptureMark, 0, &mark),
        Frame::message(FrameKind::Rows, 0, &mark),
        Frame { payload: (&b"\xff\xff"[..]).into(), ..open(|_| {}) },
    ];
    let mut words = Vec::new();
    let count = u64::try_from(said.len()).unwrap();
    for frame in said {
        let mut forwarder = recorder.connect();
        forwarder.open(tcp(1, CLIENT)).await;
        forwarder.send(&frame).await;
        words.push(forwarder.refusal().await.text);
    }
    let mut forwarder = recorder.connect();
    forwarder.babble(&[0xff; 64]).await;
    words.push(forwarder.refusal().await.text);
    assert_eq!(recorder.captures().counts().refused, count + 1);
    recorder.stop().await;
    insta::assert_snapshot!(words.join("\n"));
}

#[tokio::test]
async fn a_session_that_comes_back_as_another_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let again = [tcp(1, CLIENT), udp(1, "192.0.2.2:50001")];
    let mut forwarder = recorder.connect();
    forwarder.open(udp(1, CLIENT)).await;
    forwarder.hang_up().await;
    for opening in again {
        let mut forwarder = recorder.connect();
        forwarder.open(opening).await;
        let words = forwarder.refusal().await.text;
        assert!(words.contains("another transport or other addresses"), "{words}");
    }
    let mut forwarder = recorder.connect();
    forwarder.open(udp(1, CLIENT)).await;
    forwarder.data(1, Up, b"as before").await;
    forwarder.end(1, EndReason::UdpExpired).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    assert_eq!((rows.len(), rows[0].captured_bytes), (1, 9));
}

#[tokio::test]
async fn marks_that_never_came_are_made_up_for_at_the_end() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    let ends = [
        (EndReason::Done, "31"),
        (EndReason::IdleTimeout, "31"),
        (EndReason::ClientReset, "47"),
        (EndReason::TargetReset, "47"),
        (EndReason::ConnectTimeout, "47"),
    ];
    for (number, (reason, _)) in (1..).zip(ends) {
        forwarder.open(tcp(number, CLIENT)).await;
        forwarder.data(number, Up, b"question").await;
        if reason != EndReason::ConnectTimeout {
            forwarder.data(number, Down, b"answer").await;
        } else {
            forwarder.mark(number, Down, MarkKind::Refused).await;
        }
        forwarder.end(number, reason).await;
    }
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    let file = only_file(data.path(), "web");
    let packets = rows.iter().map(|row| usize::try_from(row.packets).unwrap()).sum();
    tshark::all_is_well(&file, "web", packets).unwrap();
    for (number, (reason, complete)) in (1..).zip(ends) {
        let stream = tshark::stream_of(&file, &session(number), "tcp").unwrap();
        assert_eq!(tshark::completeness(&file, &stream).unwrap(), [complete], "{reason}");
    }
}
