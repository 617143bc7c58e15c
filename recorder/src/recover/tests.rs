//! Manifests lost and damaged in real directories, made again.

use std::fs;

use schemas::manifest::{BootEndMark, BootMark, delta_file};
use schemas::wire::FrameKind;

use super::*;
use crate::data_dir::Group;
use crate::publish::tests::{Bench, SPOOL, files_in, rows_of, two_segments};

fn published() -> (Bench, Vec<crate::log::SealedSegment>) {
    let mut bench = Bench::new();
    let segments = two_segments(&mut bench);
    let mut publisher = bench.publisher();
    for segment in &segments {
        publisher.publish(segment).unwrap();
    }
    (bench, segments)
}

fn files(bench: &Bench) -> Files {
    Files::new(bench.data.path(), Group::nobody())
}

#[test]
fn a_lost_manifest_is_made_again_with_the_same_rows_and_marks() {
    let (bench, segments) = published();
    let before = bench.tables();
    let marks = bench.publisher().manifest().marks().clone();
    let directory = bench.data.path().join("manifest");
    fs::remove_dir_all(&directory).unwrap();
    fs::create_dir(&directory).unwrap();

    let told = recover_in(&files(&bench)).unwrap();
    assert!(told.contains("sessions: 6 rows in 4 parts"), "{told}");
    assert_eq!(bench.tables(), before);
    let mut publisher = bench.publisher();
    assert_eq!(publisher.manifest().marks(), &marks);
    // The log still has them: they are dropped, whole.
    for segment in &segments {
        assert_eq!(publisher.publish(segment).unwrap().rows, 0);
    }
}

#[test]
fn what_a_forwarder_sends_again_after_a_recovery_is_dropped() {
    let (mut bench, _) = published();
    fs::remove_file(bench.data.path().join("manifest").join(delta_file(1))).unwrap();
    assert!(crate::publish::Publisher::open(bench.data.path(), Group::nobody()).is_err());
    recover_in(&files(&bench)).unwrap();
    // By another spool, as after a fork.
    bench.receive(0xdef, 1, FrameKind::Rows, &rows_of("aaaaaaaa", 1));
    bench.receive(SPOOL, 1, FrameKind::Rows, &rows_of("aaaaaaaa", 1));
    let again = bench.seal().pop().unwrap();
    let published = bench.publisher().publish(&again).unwrap();
    assert_eq!((published.rows, published.duplicates), (0, 12));
}

#[test]
fn a_damaged_version_is_kept_aside_and_the_next_version_is_above_it() {
    let (bench, _) = published();
    let before = bench.tables();
    let damaged = bench.data.path().join("manifest").join(delta_file(2));
    fs::write(&damaged, "{").unwrap();
    let told = recover_in(&files(&bench)).unwrap();
    assert!(told.contains("could not read") && told.contains("manifest.before-3"), "{told}");
    let aside = bench.data.path().join("manifest.before-3").join(delta_file(2));
    assert_eq!(fs::read_to_string(aside).unwrap(), "{");
    assert_eq!(bench.publisher().manifest().version(), 3);
    assert_eq!(bench.tables(), before);
    // Done again, it finds the same.
    recover_in(&files(&bench)).unwrap();
    assert_eq!(bench.tables(), before);
}

#[test]
fn a_part_that_cannot_be_read_is_left_out_and_told_with_1() {
    let (bench, _) = published();
    let path = "accounting/usage/date=2026-10-31/log-00000000000000000001.parquet";
    let part = bench.data.path().join(path);
    let mut bytes = fs::read(&part).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&part, &bytes).unwrap();
    let refused = recover_in(&files(&bench)).unwrap_err();
    assert_eq!(refused.exit, Exit::No);
    assert!(refused.message.contains(path), "{refused}");
    assert_eq!(fs::read(bench.data.path().join("orphans").join(path)).unwrap(), bytes);
    assert!(bench.publisher().manifest().part(path).is_none());
}

#[test]
fn a_part_whose_commit_was_cut_off_gets_its_name() {
    let (bench, _) = published();
    let before = bench.tables();
    let day = bench.data.path().join("accounting/usage/date=2026-10-31");
    let name = "log-00000000000000000001.parquet";
    fs::rename(day.join(name), day.join(format!("{name}.new"))).unwrap();
    recover_in(&files(&bench)).unwrap();
    assert!(files_in(&day).contains(&name.to_owned()));
    assert_eq!(bench.tables(), before);
}

#[test]
fn the_version_in_a_strangers_name_is_not_believed() {
    let (bench, _) = published();
    let before = bench.tables();
    let day = bench.data.path().join("accounting/usage/date=2026-10-31");
    fs::write(day.join("day-18446744073709551615-00-00.parquet"), "none of ours").unwrap();
    let refused = recover_in(&files(&bench)).unwrap_err();
    assert_eq!(refused.exit, Exit::No);
    assert!(bench.publisher().manifest().version() < 10);
    assert_eq!(bench.tables(), before);
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let bench = Bench::new();
    let config = bench.data.path().join("recorder.toml");
    fs::write(&config, format!("data = {:?}\n", bench.data.path())).unwrap();
    let _held = DataDir::claim(bench.data.path()).unwrap();
    assert_eq!(recover(&config).unwrap_err().exit, Exit::Locked);
}

#[test]
fn a_boot_that_was_taken_for_dead_keeps_the_end_that_it_told_itself() {
    let mark = |last_seq, exact| {
        let end =
            BootEndMark { last_seq, last_session_no: 0, unopened: 0, exact, ended_at: last_seq };
        BootMark { boot: "a".into(), last_seq, end: Some(end), ..BootMark::default() }
    };
    let guesses = [mark(5, false), mark(7, false)];
    let marks = [guesses[0].clone(), guesses[1].clone(), mark(9, true)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut known = Known::default();
        let mut of_parts = PartMarks::default();
        for nth in order {
            let boots = vec![marks[nth].clone()];
            known.take_marks(Vec::new(), boots.clone());
            of_parts.join(PartMarks { spools: Vec::new(), boots });
        }
        assert_eq!(known.boots.into_values().collect::<Vec<_>>(), [mark(9, true)]);
        assert_eq!(of_parts.boots, [mark(9, true)]);
    }
    let mut known = Known::default();
    known.take_marks(Vec::new(), guesses.to_vec());
    assert_eq!(known.boots.into_values().collect::<Vec<_>>(), [mark(7, false)]);
}
