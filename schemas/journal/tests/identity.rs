//! A journal that is given another id, because a copy of it goes its own way.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use journal::{Entry, Journal, JournalError, Settings, scan};
use schemas::vocab::SpoolId;
use schemas::wire::FrameKind;

fn open(dir: &Path) -> Journal {
    let settings = Settings { segment_bytes: 256, ..Settings::new(SpoolId(1)) };
    Journal::open(dir, settings).unwrap().0
}

fn append(journal: &mut Journal, text: &str) {
    journal.append(FrameKind::Rows, Bytes::copy_from_slice(text.as_bytes())).unwrap();
    journal.sync().unwrap();
}

fn frames(dir: &Path) -> Vec<u64> {
    let entries = scan(dir).unwrap().map(Result::unwrap);
    let numbers = entries.filter_map(|entry| match entry {
        Entry::Frame(frame, _) => Some(frame.number),
        Entry::Segment(_) => None,
    });
    numbers.collect()
}

#[test]
fn a_renewed_id_outlives_the_process_and_every_frame_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    (0..5).for_each(|_| append(&mut journal, &"x".repeat(100)));
    journal.renew_id(SpoolId(2)).unwrap();
    assert_eq!(journal.id(), SpoolId(2));
    append(&mut journal, &"y".repeat(200));
    drop(journal);

    let mut journal = open(dir.path());
    assert_eq!(journal.id(), SpoolId(2));
    assert!(journal.has_had_id(SpoolId(1)) && !journal.has_had_id(SpoolId(3)));
    assert_eq!(frames(dir.path()), (1..=6).collect::<Vec<_>>());
    journal.renew_id(SpoolId(3)).unwrap();
    drop(journal);
    assert_eq!(open(dir.path()).id(), SpoolId(3), "its segments bear two former ids");
}

#[test]
fn a_former_id_is_forgotten_with_the_last_segment_that_bears_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    append(&mut journal, "x");
    journal.renew_id(SpoolId(2)).unwrap();
    journal.seal().unwrap();
    append(&mut journal, "y");
    journal.remove_through(1).unwrap();
    journal.renew_id(SpoolId(3)).unwrap();
    assert!(!journal.has_had_id(SpoolId(1)));
    assert!(journal.has_had_id(SpoolId(2)));
}

#[test]
fn a_renewal_cut_off_before_its_name_leaves_the_old_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    append(&mut journal, "x");
    drop(journal);
    // What a crash between the write and the rename leaves.
    fs::write(dir.path().join("id.new"), format!("{}\n{}\n", SpoolId(2), SpoolId(1))).unwrap();
    let journal = open(dir.path());
    assert_eq!(journal.id(), SpoolId(1));
    assert!(!dir.path().join("id.new").exists());
}

#[test]
fn an_id_that_cannot_be_written_leaves_the_journal_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    append(&mut journal, "x");
    let in_the_way = dir.path().join("id.new");
    fs::create_dir(&in_the_way).unwrap();
    assert!(matches!(journal.renew_id(SpoolId(2)), Err(JournalError::Io { .. })));
    assert_eq!(journal.id(), SpoolId(1));
    append(&mut journal, "y");
    drop(journal);
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(open(dir.path()).id(), SpoolId(1));
}
