//! What is handed over by copy: what arrives, what is dropped, and that the two add up.

use bytes::Bytes;
use forwarder::capture::{CaptureLane, MAX_QUEUED_BYTES};
use forwarder_core::config::CaptureMode;
use prost::Message;
use schemas::vocab::Direction::{Down, Up};
use schemas::vocab::{EndReason, PerDirection};
use schemas::wire::{CaptureData, CaptureEnd, CaptureOpen, Credit, Frame, FrameKind, MarkKind};
use std::sync::atomic::Ordering::Relaxed;

use crate::support::{PLENTY, Scene, begin, until};

#[tokio::test]
async fn what_is_handed_over_arrives_in_order_and_complete() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut recorder = scene.accept(PLENTY).await;
    let lane = sender.lane();
    let inlet = lane.inlet();
    let mut session = begin(&inlet, 7, CaptureMode::Full);
    let long = vec![5; 700_000];
    session.data(Up, b"question", 11);
    session.data(Up, b"", 12);
    session.data(Down, &long, 13);
    session.mark(Up, MarkKind::Fin, 14);
    assert_eq!(session.handed_and_dropped(), (700_008, 0));
    let received = PerDirection { up: 8, down: 700_000 };
    session.end(EndReason::Done, received, PerDirection { down: 699_999, ..received }, 15);

    let open = recorder.open().await;
    assert_eq!((open.session_no, open.mode.as_str(), open.resumed), (7, "full", false));
    let (data, bytes) = recorder.data().await;
    assert_eq!((data.offset, data.original_len, data.down, data.time_ns), (0, 8, false, 11));
    assert_eq!(bytes, &b"question"[..]);
    let (data, bytes) = recorder.data().await;
    assert_eq!((data.offset, data.original_len, bytes.len()), (8, 0, 0));
    let mut down = Vec::new();
    while down.len() < long.len() {
        let (data, bytes) = recorder.data().await;
        assert_eq!((data.offset, data.down), (u64::try_from(down.len()).unwrap(), true));
        down.extend_from_slice(&bytes);
    }
    assert!(down == long);
    let mark = recorder.mark().await;
    assert_eq!((mark.kind(), mark.down, mark.offset), (MarkKind::Fin, false, 8));
    let end = recorder.end().await;
    assert_eq!((end.end_reason.as_str(), end.dropped), ("done", 0));
    assert_eq!((end.received_down, end.bytes_down), (700_000, 699_999));
    assert!(recorder.while_stopping(sender).await);
}

#[tokio::test]
async fn nothing_is_sent_without_credit() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut recorder = scene.accept(1_000).await;
    let mut session = begin(&sender.lane().inlet(), 1, CaptureMode::Full);
    for _ in 0..3 {
        session.data(Up, &[1; 600], 0);
    }
    recorder.open().await;
    recorder.data().await;
    // A ping is answered in the order of the connection: nothing else is on its way.
    recorder.send(&Frame::empty(FrameKind::Ping)).await;
    assert_eq!(recorder.frame().await.kind, FrameKind::Pong);
    recorder.send(&Frame::message(FrameKind::Credit, 0, &Credit { bytes: 800 })).await;
    recorder.data().await;
    recorder.data().await;
}

#[tokio::test]
async fn a_full_queue_drops_payload_and_keeps_what_begins_and_ends() {
    let scene = Scene::new();
    let sender = scene.start();
    let lane = sender.lane();
    let inlet = lane.inlet();
    let mut session = begin(&inlet, 1, CaptureMode::Full);
    let chunk = vec![1; 200_000];
    let mut received = 0;
    while received < 90 << 20 {
        session.data(Down, &chunk, 0);
        received += 200_000;
    }
    let (handed, dropped) = session.handed_and_dropped();
    assert_eq!(handed + dropped, received);
    assert!(handed <= u64::try_from(MAX_QUEUED_BYTES).unwrap());
    assert!(handed > u64::try_from(MAX_QUEUED_BYTES).unwrap() * 9 / 10);
    assert_eq!((lane.counts().dropped_bytes, scene.dropped.load(Relaxed)), (dropped, dropped));
    session.mark(Down, MarkKind::Fin, 1);
    let totals = PerDirection { up: 0, down: received };
    session.end(EndReason::Done, totals, totals, 2);

    let mut recorder = scene.accept(PLENTY).await;
    recorder.open().await;
    let mut arrived = 0;
    while arrived < handed {
        arrived += u64::try_from(recorder.data().await.1.len()).unwrap();
    }
    assert_eq!(recorder.mark().await.offset, received);
    assert_eq!(recorder.end().await.dropped, dropped);
    assert_eq!(lane.counts().queued_bytes, 0);
}

#[tokio::test]
async fn modes_leave_payload_out_that_is_neither_handed_nor_dropped() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut recorder = scene.accept(PLENTY).await;
    let lane = sender.lane();
    let inlet = lane.inlet();
    let mut headers = begin(&inlet, 1, CaptureMode::Headers);
    headers.data(Up, b"question", 0);
    assert_eq!(headers.handed_and_dropped(), (0, 0));
    let mut prefix = begin(&inlet, 2, CaptureMode::Prefix(10));
    prefix.data(Up, b"question", 0);
    prefix.data(Down, b"answer", 0);
    prefix.data(Down, b"more", 0);
    assert_eq!(prefix.handed_and_dropped(), (10, 0));
    let mut off = begin(&inlet, 3, CaptureMode::Off);
    off.data(Up, b"question", 0);
    assert_eq!(off.handed_and_dropped(), (0, 0));
    drop(off);

    assert_eq!(recorder.open().await.mode, "headers");
    let (data, bytes) = recorder.data().await;
    assert_eq!((data.original_len, bytes.len()), (8, 0));
    assert_eq!(recorder.open().await.mode, "prefix 10");
    let mut kept = Vec::new();
    for _ in 0..3 {
        let (data, bytes) = recorder.data().await;
        kept.push((data.offset, data.original_len, bytes));
    }
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    assert_eq!(kept, [(0, 8, bytes("question")), (0, 6, bytes("an")), (6, 4, bytes(""))]);
    drop(headers);
    let end = recorder.end().await;
    assert_eq!((end.session_no, end.end_reason.as_str()), (1, "internal"));
}

#[tokio::test]
async fn sessions_are_announced_again_and_ends_are_told_when_the_recorder_is_back() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut recorder = scene.accept(PLENTY).await;
    let lane = sender.lane();
    let inlet = lane.inlet();
    let mut going_on = begin(&inlet, 1, CaptureMode::Full);
    let mut ending = begin(&inlet, 2, CaptureMode::Full);
    going_on.data(Up, b"before", 0);
    ending.data(Down, b"last", 0);
    recorder.open().await;
    recorder.open().await;
    recorder.data().await;
    recorder.data().await;
    drop(recorder);
    until(|| !lane.counts().connected).await;
    ending.end(EndReason::Done, PerDirection::default(), PerDirection::default(), 0);
    going_on.data(Down, b"meanwhile", 0);

    let mut recorder = scene.accept(PLENTY).await;
    let mut heard = Vec::new();
    while heard.len() < 4 {
        let frame = recorder.frame().await;
        heard.push(match frame.kind {
            FrameKind::CaptureOpen => {
                let open = CaptureOpen::decode(frame.message_bytes()).unwrap();
                assert!(open.resumed);
                format!("open {} at {} {}", open.session_no, open.offset_up, open.offset_down)
            }
            FrameKind::CaptureEnd => {
                let end = CaptureEnd::decode(frame.message_bytes()).unwrap();
                format!("end {}", end.session_no)
            }
            FrameKind::CaptureData => {
                let data = CaptureData::decode(frame.message_bytes()).unwrap();
                format!("data {} at {}", data.session_no, data.offset)
            }
            other => format!("{other:?}"),
        });
    }
    assert_eq!(heard, ["open 1 at 6 0", "open 2 at 0 4", "end 2", "data 1 at 0"]);
}

#[tokio::test]
async fn a_recorder_that_stays_away_costs_payload_and_no_memory() {
    let scene = Scene::new();
    let sender = scene.start();
    let lane = sender.lane();
    let inlet = lane.inlet();
    let mut session = begin(&inlet, 1, CaptureMode::Full);
    session.data(Up, b"waits at first", 0);
    assert_eq!(session.handed_and_dropped(), (14, 0));
    until(|| lane.counts().queued_bytes == 0).await;
    session.data(Up, b"is dropped at once", 0);
    assert_eq!(session.handed_and_dropped(), (0, 32));
    assert_eq!(scene.dropped.load(Relaxed), 32);

    let mut recorder = scene.accept(PLENTY).await;
    let open = recorder.open().await;
    assert_eq!((open.resumed, open.offset_up), (true, 14));
    session.data(Up, b"kept again", 0);
    assert_eq!(recorder.data().await.0.offset, 32);
    assert_eq!(session.handed_and_dropped(), (10, 32));
}

#[tokio::test]
async fn a_stop_waits_for_the_recorder_if_there_is_one() {
    let scene = Scene::new();
    let sender = scene.start();
    assert!(sender.stop().await, "nothing was lost");
    let sender = scene.start();
    begin(&sender.lane().inlet(), 1, CaptureMode::Full).data(Up, b"lost", 0);
    assert!(!sender.stop().await, "payload was lost");
    assert_eq!(scene.dropped.load(Relaxed), 4);
}

#[tokio::test]
async fn a_lane_that_leads_nowhere_counts_everything_as_dropped() {
    let mut session = begin(&CaptureLane::default().inlet(), 1, CaptureMode::Full);
    session.data(Up, b"payload", 0);
    session.mark(Up, MarkKind::Fin, 0);
    assert_eq!(session.handed_and_dropped(), (0, 7));
    session.end(EndReason::Done, PerDirection::default(), PerDirection::default(), 0);
}
