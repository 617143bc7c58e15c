//! What is handed over by tee(2): it arrives as it was received, and what does not is counted.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use forwarder::capture::PIPE_BYTES;
use forwarder_core::config::CaptureMode;
use schemas::vocab::Direction::{Down, Up};
use schemas::wire::{Credit, Frame, FrameKind};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use tokio::time::timeout;

use crate::support::{MOMENT, PLENTY, Pipe, Scene, begin, begin_slow, end, pattern, room, until};

fn len(bytes: &[u8]) -> u64 {
    bytes.len().try_into().unwrap()
}

#[tokio::test]
async fn piped_and_copied_payload_arrives_as_it_was_received() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut recorder = scene.accept(1 << 20).await;
    let mut session = begin_slow(&sender.lane().inlet(), 1);
    let (up, down) = (pattern(6_000_000), pattern(9_000_000));
    let moving = async {
        let (mut pipe, mut rest_up, mut rest_down) = (Pipe::new(), &up[..], &down[..]);
        for turn in 0.. {
            let (now, later) = rest_down.split_at(rest_down.len().min(1 + turn * 7_919 % 250_000));
            pipe.carry(&mut session, Down, now).await;
            rest_down = later;
            let (now, later) = rest_up.split_at(rest_up.len().min(1 + turn * 3_571 % 65_536));
            room(&mut session, Up).await;
            session.data(Up, now, 0);
            rest_up = later;
            if rest_up.is_empty() && rest_down.is_empty() {
                break;
            }
        }
        assert_eq!(session.handed_and_dropped(), (len(&up) + len(&down), 0));
        end(session, len(&up), len(&down));
    };
    let ((), heard) = tokio::join!(moving, recorder.heard_reluctantly(1, 300_000));
    assert!(heard.stream(1, Up) == (up, 0));
    assert!(heard.stream(1, Down) == (down, 0));
    assert!(heard.pongs > 10 && heard.pongs <= heard.pings, "asked between frames, not in them");
    assert_eq!(scene.dropped.load(Relaxed), 0);
}

#[tokio::test]
async fn what_does_not_fit_the_pipe_is_dropped_and_counted_to_the_byte() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut recorder = scene.accept(0).await;
    let mut session = begin(&sender.lane().inlet(), 1, CaptureMode::Full);
    let payload = pattern(6_000_000);
    let mut pipe = Pipe::new();
    for fill in payload.chunks(200_000) {
        pipe.carry(&mut session, Down, fill).await;
    }
    let (handed, dropped) = session.handed_and_dropped();
    assert_eq!(handed + dropped, len(&payload));
    assert!((1..=2 * PIPE_BYTES).contains(&usize::try_from(handed).unwrap()), "{handed}");
    assert_eq!(scene.dropped.load(Relaxed), dropped);
    recorder.send(&Frame::message(FrameKind::Credit, 0, &Credit { bytes: PLENTY })).await;
    let going_on = async {
        // Where there is room again, payload is kept again.
        let kept = async {
            while session.handed_and_dropped().0 == handed {
                pipe.carry(&mut session, Down, b".").await;
                tokio::task::yield_now().await;
            }
        };
        timeout(MOMENT, kept).await.expect("room in time");
        let (handed, dropped) = session.handed_and_dropped();
        end(session, 0, handed + dropped);
        dropped
    };
    let (dropped, heard) = tokio::join!(going_on, recorder.heard_of(1));
    let (stream, missing) = heard.stream(1, Down);
    assert_eq!((missing, heard.end.dropped), (dropped, dropped));
    assert!(stream[..100_000] == payload[..100_000]);
    let kept = heard.pieces.iter().all(|(data, bytes)| {
        let offset = usize::try_from(data.offset).unwrap();
        offset >= payload.len() || payload[offset..offset + bytes.len()] == bytes[..]
    });
    assert!(kept, "what is kept stands where it was");
}

#[tokio::test]
async fn without_credit_nothing_leaves_the_pipe() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut recorder = scene.accept(1_000).await;
    let mut session = begin(&sender.lane().inlet(), 1, CaptureMode::Full);
    let mut pipe = Pipe::new();
    for _ in 0..3 {
        pipe.carry(&mut session, Up, &[1; 600]).await;
    }
    recorder.open().await;
    assert_eq!(recorder.data().await.1.len(), 600);
    // A ping is answered in the order of the connection: nothing else is on its way.
    recorder.send(&Frame::empty(FrameKind::Ping)).await;
    assert_eq!(recorder.frame().await.kind, FrameKind::Pong);
    recorder.send(&Frame::message(FrameKind::Credit, 0, &Credit { bytes: 800 })).await;
    assert_eq!(recorder.data().await.0.offset, 600);
    assert_eq!(recorder.data().await.0.offset, 1_200);
}

#[tokio::test]
async fn a_pipe_of_one_page_loses_nothing_of_a_slow_session() {
    let scene = Scene::new();
    let sender = scene.start_with_pipes(4_096);
    let mut recorder = scene.accept(PLENTY).await;
    let mut session = begin_slow(&sender.lane().inlet(), 1);
    let payload = pattern(3_000_000);
    let moving = async {
        let (mut pipe, mut rest) = (Pipe::new(), &payload[..]);
        for turn in 0.. {
            let (now, later) = rest.split_at(rest.len().min(1 + turn * 997 % 9_000));
            pipe.carry(&mut session, Up, now).await;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        end(session, len(&payload), 0);
    };
    let ((), heard) = tokio::join!(moving, recorder.heard_of(1));
    assert!(heard.stream(1, Up) == (payload.clone(), 0));
    assert_eq!(heard.end.dropped, 0);
}

#[tokio::test]
async fn without_a_pipe_payload_has_to_be_copied() {
    let scene = Scene::new();
    let sender = scene.start_with_pipes(0);
    let mut recorder = scene.accept(PLENTY).await;
    let inlet = sender.lane().inlet();
    let mut session = begin_slow(&inlet, 1);
    assert!(!session.may_splice());
    assert!(begin(&inlet, 2, CaptureMode::Headers).may_splice(), "there is nothing to keep");
    session.data(Up, b"copied", 0);
    Pipe::new().carry(&mut session, Up, b"asked for and lost").await;
    assert_eq!(session.handed_and_dropped(), (6, 18));
    assert!(sender.lane().counts().pipes_refused > 0);
    end(session, 24, 0);
    assert_eq!(recorder.heard_of(1).await.stream(1, Up), (b"copied".to_vec(), 0));
}

#[tokio::test]
async fn a_filter_of_system_calls_is_noticed_before_payload_depends_on_them() {
    let scene = Scene::new();
    let sender = scene.start();
    let inlet = sender.lane().inlet();
    let begun = std::thread::spawn(move || {
        // A filter is for the thread that sets it.
        let rules = BTreeMap::from([(libc::SYS_tee, vec![])]);
        let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).unwrap();
        apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
        begin(&inlet, 1, CaptureMode::Full).may_splice()
    });
    assert!(!begun.join().unwrap());
    assert_eq!(sender.lane().counts().pipes_refused, 1);
}

#[tokio::test]
async fn only_the_prefix_is_duplicated_and_lengths_stay_true() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut recorder = scene.accept(PLENTY).await;
    let inlet = sender.lane().inlet();
    let mut prefix = begin(&inlet, 1, CaptureMode::Prefix(300_000));
    let mut headers = begin(&inlet, 2, CaptureMode::Headers);
    let payload = pattern(600_000);
    let mut pipe = Pipe::new();
    for fill in payload.chunks(200_000) {
        pipe.carry(&mut prefix, Down, fill).await;
        pipe.carry(&mut headers, Down, fill).await;
    }
    assert_eq!(prefix.handed_and_dropped(), (300_000, 0));
    assert_eq!(headers.handed_and_dropped(), (0, 0));
    end(prefix, 0, 600_000);
    end(headers, 0, 600_000);
    let heard = recorder.heard_of(2).await;
    assert!(heard.stream(1, Down).0[..300_000] == payload[..300_000]);
    for number in [1, 2] {
        let pieces = heard.pieces.iter().filter(|(data, _)| data.session_no == number);
        assert_eq!(pieces.map(|(data, _)| data.original_len).sum::<u32>(), 600_000);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_a_frame_costs_what_it_had_swallowed() {
    let scene = Scene::new();
    let sender = scene.start();
    let recorder = scene.accept(PLENTY).await;
    let lane = sender.lane();
    let mut session = begin_slow(&lane.inlet(), 1);
    let payload = pattern(8_000_000);
    let moving = async {
        let mut pipe = Pipe::new();
        for fill in payload.chunks(250_000) {
            pipe.carry(&mut session, Down, fill).await;
        }
        let (handed, dropped) = session.handed_and_dropped();
        assert_eq!(handed + dropped, len(&payload));
        end(session, 0, len(&payload));
    };
    let listening = async {
        recorder.vanish_after(700_001).await;
        until(|| !lane.counts().connected).await;
        scene.accept(PLENTY).await.heard_of(1).await
    };
    let ((), heard) = tokio::join!(moving, listening);
    let from = heard.opens[0].offset_down;
    assert!(heard.opens[0].resumed && from > 250_000, "it goes on where it was");
    let (stream, missing) = heard.stream(1, Down);
    assert_eq!(missing, from, "nothing is missing after the break");
    let from = usize::try_from(from).unwrap();
    assert!(stream[from..] == payload[from..]);
    assert!(heard.end.dropped < 256 << 10, "at most a frame: {}", heard.end.dropped);
}

#[tokio::test]
async fn threads_take_turns() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut recorder = scene.accept(0).await;
    let (busy, quiet) = (sender.lane().inlet(), sender.lane().inlet());
    let mut pipe = Pipe::new();
    let mut much = begin(&busy, 1, CaptureMode::Full);
    for fill in pattern(1_000_000).chunks(250_000) {
        pipe.carry(&mut much, Up, fill).await;
    }
    let mut little = begin(&quiet, 2, CaptureMode::Full);
    pipe.carry(&mut little, Up, b"in time").await;
    recorder.send(&Frame::message(FrameKind::Credit, 0, &Credit { bytes: PLENTY })).await;
    end(little, 7, 0);
    let heard = recorder.heard_of(2).await;
    let before = heard.pieces.iter().position(|(data, _)| data.session_no == 2).unwrap();
    assert!(before <= 2, "{before} frames of the busy thread came before");
}
