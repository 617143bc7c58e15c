//! Sessions that wait rather than lose payload.

use std::sync::atomic::Ordering::Relaxed;

use forwarder_core::config::CaptureMode;
use schemas::vocab::Direction::{Down, Up};

use crate::support::{
    PLENTY, Pipe, Scene, begin, begin_slow, end, is_held_up, pattern, room, until,
};

#[tokio::test]
async fn a_recorder_that_stalls_costs_time_and_no_payload() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut recorder = scene.accept(400_000).await;
    let inlet = sender.lane().inlet();
    let (mut piped, mut copied) = (begin_slow(&inlet, 1), begin_slow(&inlet, 2));
    let payload = pattern(7_000_000);
    let total = u64::try_from(payload.len()).unwrap();
    let piping = async {
        let mut pipe = Pipe::new();
        for fill in payload.chunks(130_000) {
            pipe.carry(&mut piped, Down, fill).await;
        }
        end(piped, 0, total);
    };
    let copying = async {
        let mut most = 0;
        for read in payload.chunks(60_000) {
            room(&mut copied, Up).await;
            copied.data(Up, read, 0);
            most = most.max(sender.lane().counts().queued_bytes);
        }
        end(copied, total, 0);
        assert!(most < 3 << 20, "{most} bytes waited");
    };
    let listening = async {
        let mut heard = recorder.heard_reluctantly(1, 200_000).await;
        if !heard.pieces.iter().any(|(data, _)| data.session_no == 2 && data.offset > 6_990_000) {
            let rest = recorder.heard_reluctantly(2, 200_000).await;
            heard.pieces.extend(rest.pieces);
        }
        heard
    };
    let ((), (), heard) = tokio::join!(piping, copying, listening);
    assert!(heard.stream(1, Down) == (payload.clone(), 0));
    assert!(heard.stream(2, Up) == (payload, 0));
    assert_eq!(scene.dropped.load(Relaxed), 0);
}

#[tokio::test]
async fn a_recorder_that_is_away_is_waited_for() {
    let scene = Scene::new();
    let sender = scene.start();
    let inlet = sender.lane().inlet();
    let mut patient = begin_slow(&inlet, 1);
    let mut ending = begin_slow(&inlet, 2);
    let mut hasty = begin(&inlet, 3, CaptureMode::Full);
    let mut pipe = Pipe::new();
    let payload = pattern(300_000);
    pipe.carry(&mut patient, Up, &payload[..100_000]).await;
    patient.data(Up, &payload[100_000..150_000], 0);
    ending.data(Up, b"last words", 0);
    until(|| is_held_up(&mut patient, Up)).await;
    assert!(!is_held_up(&mut hasty, Up), "who does not wait goes on");
    pipe.carry(&mut hasty, Up, b"lost").await;
    assert_eq!(hasty.handed_and_dropped(), (0, 4));
    end(ending, 10, 0);

    let waiting = async {
        pipe.carry(&mut patient, Up, &payload[150_000..]).await;
        assert_eq!(patient.handed_and_dropped(), (300_000, 0));
        end(patient, 300_000, 0);
    };
    let listening = async {
        let mut recorder = scene.accept(PLENTY).await;
        recorder.heard_of(1).await
    };
    let ((), heard) = tokio::join!(waiting, listening);
    assert!(heard.stream(1, Up) == (payload, 0));
    assert_eq!(heard.stream(2, Up), (b"last words".to_vec(), 0));
    assert_eq!(scene.dropped.load(Relaxed), 4);
}

#[tokio::test]
async fn nobody_waits_for_a_lane_that_has_ended() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut session = begin_slow(&sender.lane().inlet(), 1);
    until(|| is_held_up(&mut session, Down)).await;
    let waiting = room(&mut session, Down);
    drop(sender);
    waiting.await;
    let mut pipe = Pipe::new();
    pipe.carry(&mut session, Down, b"nowhere").await;
    session.data(Down, b"either", 0);
    assert_eq!(session.handed_and_dropped(), (0, 13));
}

#[tokio::test]
async fn what_a_slow_session_handed_over_is_lost_only_by_a_stop_without_a_recorder() {
    let scene = Scene::new();
    let sender = scene.start();
    let mut session = begin_slow(&sender.lane().inlet(), 1);
    Pipe::new().carry(&mut session, Up, b"piped").await;
    session.data(Up, b"copied", 0);
    until(|| is_held_up(&mut session, Up)).await;
    assert_eq!(session.handed_and_dropped(), (11, 0));
    assert!(!sender.stop().await, "payload was lost");
    assert_eq!(session.handed_and_dropped(), (0, 11));
    assert_eq!(scene.dropped.load(Relaxed), 11);
}
