//! SIGKILL at any moment: what was acknowledged is in the tables, once.

use std::time::{Duration, Instant};

use crate::child::Scene;
use crate::sender::{ROWS, Sender};
use crate::tables;

const KILLS: u64 = 12;
const FRAMES: u64 = 3000;

#[test]
fn every_row_is_there_once_whenever_the_recorder_is_killed() {
    let mut scene = Scene::new();
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        scene.start();
        let mut sender = Sender::connect(&scene.socket(), FRAMES).unwrap();
        let held = sender.welcome.last_frame;
        assert!(held >= acknowledged, "frame {acknowledged} was acknowledged, {held} is there");
        // The moment is drawn by the number of frames, and by whatever the machine is at.
        let end = FRAMES.min(held + 50 + kill * 97 % 400);
        for number in held + 1..=end {
            sender.send_rows(number).unwrap();
        }
        let wanted = held + (end - held) * (kill % 4) / 4;
        acknowledged = held;
        while acknowledged < wanted {
            acknowledged = sender.acknowledged().unwrap();
        }
        scene.kill();
    }

    scene.start();
    let mut sender = Sender::connect(&scene.socket(), FRAMES).unwrap();
    for number in sender.welcome.last_frame + 1..=FRAMES {
        sender.send_rows(number).unwrap();
    }
    while acknowledged < FRAMES {
        acknowledged = sender.acknowledged().unwrap();
    }
    let flushed = scene.run("flush");
    assert!(flushed.status.success(), "{flushed:?}");
    let last = i64::try_from(FRAMES).unwrap() * ROWS;
    let expected: Vec<_> = (1..=last).map(|seq| (seq, 10 * seq)).collect();
    assert!(tables::usage(&scene.data()) == expected, "rows are missing, wrong, or there twice");
    assert_eq!(tables::count(&scene.data(), "events"), 1, "one stream_start");
    assert_eq!(scene.terminate(), Some(0));
}

#[test]
fn a_recorder_whose_disk_was_full_goes_on_when_there_is_room() {
    let mut scene = Scene::new();
    scene.start_on_a_full_disk();
    let once = |scene: &Scene| {
        let mut sender = Sender::connect(&scene.socket(), 1)?;
        sender.send_large(1)?;
        sender.acknowledged()
    };
    once(&scene).unwrap_err();
    scene.make_room();
    // Forwarders come back as often as they are told to: once a second.
    let deadline = Instant::now() + Duration::from_secs(10);
    while once(&scene).is_err() {
        assert!(Instant::now() < deadline, "it refuses for ever:\n{}", scene.log());
        std::thread::sleep(Duration::from_millis(1010));
    }
    assert!(scene.run("flush").status.success());
    assert_eq!(tables::count(&scene.data(), "usage"), 1);
    assert_eq!(
        tables::count(&scene.data(), "events"),
        1,
        "one stream_start, however often refused"
    );
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let mut scene = Scene::new();
    let _unread = scene.start_with_a_log_that_nobody_reads();
    let mut sender = Sender::connect(&scene.socket(), 5).unwrap();
    for number in 1..=5 {
        sender.send_rows(number).unwrap();
    }
    while sender.acknowledged().unwrap() < 5 {}
    assert!(scene.run("status").status.success());
    assert_eq!(scene.terminate(), Some(0));
    assert_eq!(tables::count(&scene.data(), "usage"), 15);
}

#[test]
fn a_recorder_that_is_told_to_end_publishes_what_it_has() {
    let mut scene = Scene::new();
    scene.start();
    let mut sender = Sender::connect(&scene.socket(), 5).unwrap();
    for number in 1..=5 {
        sender.send_rows(number).unwrap();
    }
    while sender.acknowledged().unwrap() < 5 {}
    assert_eq!(scene.terminate(), Some(0));
    assert_eq!(tables::count(&scene.data(), "usage"), 15);
    assert!(!scene.socket().exists() && !scene.path("admin.sock").exists());
}
