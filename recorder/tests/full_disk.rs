//! The log when its disk takes no more.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::BytesMut;
use e2e_tests::process::output;
use journal::Entry;
use prost::Message;
use recorder::log::{Log, LogError, LogHandle, SpoolOffer, Stream, Taken};
use schemas::table::Event;
use schemas::vocab::SpoolId;
use schemas::wire::{Frame, FrameKind, Received, Rows};
use tokio::time::{Instant, sleep, timeout};

/// Tells the child which directory to fill.
const CHILD_DIR: &str = "RECORDER_TEST_FULL_DIR";
const DEADLINE: Duration = Duration::from_secs(20);
const SPOOL: SpoolId = SpoolId(7);

#[test]
fn a_full_disk_ends_the_stream_and_leaves_no_gap_when_it_is_taken_up_again() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let log = Log::start(dir.as_ref(), &[]).unwrap().0;
        runtime.block_on(fill_and_go_on(&log.handle()));
        return log.stop();
    }
    let dir = tempfile::tempdir().unwrap();
    // A write beyond the limit raises SIGXFSZ, which kills unless ignored; then it fails.
    let script = r#"trap "" XFSZ; ulimit -f 64; exec "$0" --exact "$1" --nocapture"#;
    let name = "a_full_disk_ends_the_stream_and_leaves_no_gap_when_it_is_taken_up_again";
    let child = output(
        Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(CHILD_DIR, dir.path()),
    );
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let numbers = received(&dir.path().join("log"));
    assert!(numbers.len() > 30, "{numbers:?}");
    assert!(numbers.iter().zip(1..).all(|(number, expected)| *number == expected), "{numbers:?}");
}

#[tokio::test]
async fn a_log_that_cannot_go_on_refuses_everything_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::start(dir.path(), &[]).unwrap().0;
    let handle = log.handle();
    let rows = Rows { events: vec![Event::default()], ..Rows::default() };
    handle.append_rows(&rows).await.unwrap();
    // What stands in the way of the next segment can be neither replaced nor removed.
    let in_the_way = dir.path().join("log/00000000000000000002.seg");
    std::fs::create_dir_all(in_the_way.join("full")).unwrap();
    assert!(matches!(handle.seal().await, Err(LogError::Storage(_))));
    assert!(matches!(handle.append_rows(&rows).await, Err(LogError::Storage(_))));
    assert!(matches!(take_up(&handle).await, Err(LogError::Storage(_))));

    std::fs::remove_dir_all(&in_the_way).unwrap();
    let begun = Instant::now();
    while handle.append_rows(&rows).await.is_err() {
        assert!(begun.elapsed() < DEADLINE);
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(handle.seal().await.unwrap().len(), 1);
    drop(handle);
    tokio::task::spawn_blocking(move || log.stop()).await.unwrap();
    let frames = journal::scan(&dir.path().join("log")).unwrap().map(Result::unwrap);
    assert_eq!(frames.filter(|entry| matches!(entry, Entry::Frame(..))).count(), 2);
}

async fn fill_and_go_on(log: &LogHandle) {
    let mut stream = take_up(log).await.unwrap();
    let mut progress = stream.progress();
    let mut number = 0;
    // A forwarder does not wait for each acknowledgement: frames behind the refused one are in the
    // queue, and must not be taken.
    let refusal = loop {
        number += 1;
        assert_eq!(stream.append(&frame(number), false).await.unwrap(), Taken::New);
        if let Err(error) = progress.borrow_and_update().clone() {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(refusal, LogError::Storage(_)), "{refusal}");
    let refused =
        log.append_rows(&Rows { events: vec![Event::default()], ..Rows::default() }).await;
    assert!(matches!(refused, Err(LogError::Storage(_))), "{refused:?}");
    drop(stream);

    // The publisher makes room; here a new segment is enough.
    let begun = Instant::now();
    while log.seal().await.is_err() {
        assert!(begun.elapsed() < DEADLINE);
        sleep(Duration::from_millis(50)).await;
    }
    let mut stream = take_up(log).await.unwrap();
    let held = stream.held().unwrap().frame;
    assert!(held < number);
    for next in held + 1..=held + 10 {
        assert_eq!(stream.append(&frame(next), false).await.unwrap(), Taken::New);
    }
    let mut progress = stream.progress();
    let durable = progress.wait_for(|progress| *progress == Ok(held + 10));
    timeout(DEADLINE, durable).await.unwrap().unwrap();
}

async fn take_up(log: &LogHandle) -> Result<Stream, LogError> {
    let boot = "k3f9x2ab".parse().unwrap();
    let offer = SpoolOffer { id: SPOOL, first_frame: 1, first_unacked: 0, acked_elsewhere: false };
    log.stream("edge-1".parse().unwrap(), boot, offer).await
}

fn frame(number: u64) -> Frame {
    let event = Event { message: "x".repeat(500), ..Event::default() };
    let rows = Rows { events: vec![event], ..Rows::default() };
    Frame::message(FrameKind::Rows, number, &rows)
}

fn received(log: &Path) -> Vec<u64> {
    let frames = journal::scan(log).unwrap().filter_map(|entry| match entry.unwrap() {
        Entry::Frame(frame, _) if frame.kind == FrameKind::Received => Some(frame),
        Entry::Frame(..) | Entry::Segment(_) => None,
    });
    frames
        .map(|frame| {
            let received = Received::decode(&frame.payload[..]).unwrap();
            let mut bytes = BytesMut::from(&received.frame[..]);
            Frame::decode(&mut bytes, 1 << 20).unwrap().unwrap().0.number
        })
        .collect()
}
