//! A journal after its writer died, at any byte.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use journal::{Entry, Heading, Journal, JournalError, Settings, scan};
use schemas::vocab::SpoolId;
use schemas::wire::FrameKind;

#[test]
fn a_tail_cut_at_any_byte_loses_only_the_torn_frame() {
    let original = tempfile::tempdir().unwrap();
    let ends = write(original.path(), 11);
    let newest = newest(original.path());
    let len = fs::metadata(&newest).unwrap().len();
    for cut in 0..len {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        let file = dir.path().join(newest.file_name().unwrap());
        OpenOptions::new().write(true).open(&file).unwrap().set_len(cut).unwrap();

        let survivors = ends.iter().filter(|end| **end <= cut).count();
        let (mut journal, recovery) = Journal::open(dir.path(), settings()).unwrap();
        let expected = first_frame(&newest) - 1 + survivors as u64;
        assert_eq!(recovery.last_frame, expected, "cut at {cut}");
        let whole = ends.iter().rev().find(|end| **end <= cut).copied();
        let header_end = ends[0] - (ends[1] - ends[0]);
        let kept = whole.unwrap_or(if cut >= header_end { header_end } else { 0 });
        assert_eq!(recovery.cut_bytes, cut - kept, "cut at {cut}");

        assert_eq!(append(&mut journal, "after").unwrap(), expected + 1);
        journal.sync().unwrap();
        assert_dense(dir.path(), expected + 1);
    }
}

#[test]
fn a_flipped_bit_in_the_last_frame_loses_that_frame_alone() {
    let original = tempfile::tempdir().unwrap();
    let ends = write(original.path(), 3);
    let newest = newest(original.path());
    let bytes = fs::read(&newest).unwrap();
    let last = usize::try_from(ends[ends.len() - 2]).unwrap();
    for at in last..bytes.len() {
        for bit in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            copy(original.path(), dir.path());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            fs::write(dir.path().join(newest.file_name().unwrap()), flipped).unwrap();
            let (mut journal, recovery) = Journal::open(dir.path(), settings()).unwrap();
            assert_eq!(recovery.last_frame, 2, "bit {bit} of byte {at}");
            assert_eq!(append(&mut journal, "after").unwrap(), 3);
        }
    }
}

#[test]
fn damage_before_the_newest_segment_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), settings()).unwrap();
    append(&mut journal, "one").unwrap();
    append(&mut journal, "two").unwrap();
    journal.seal().unwrap();
    append(&mut journal, "three").unwrap();
    journal.sync().unwrap();
    drop(journal);
    let sealed = dir.path().join("00000000000000000001.seg");
    let mut bytes = fs::read(&sealed).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&sealed, &bytes).unwrap();

    let (_journal, recovery) = Journal::open(dir.path(), settings()).unwrap();
    assert_eq!((recovery.last_frame, recovery.cut_bytes), (3, 0));
    let found: Vec<_> = scan(dir.path()).unwrap().collect();
    let error = found.last().unwrap().as_ref().unwrap_err();
    assert!(
        matches!(error, JournalError::Damaged { path, offset, .. }
            if *path == sealed && *offset == bytes.len() as u64 - 27),
        "{error}"
    );
    assert_eq!(found.len(), 3, "a header and a frame are found before the damage");
    assert_eq!(fs::read(&sealed).unwrap(), bytes);
}

#[test]
fn whole_frames_cut_off_behind_a_torn_one_are_told_and_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), settings()).unwrap();
    for text in ["one", "two", "three"] {
        append(&mut journal, text).unwrap();
    }
    journal.sync().unwrap();
    drop(journal);
    let newest = dir.path().join("00000000000000000001.seg");
    let mut bytes = fs::read(&newest).unwrap();
    let third = bytes.len() - 24 - "three".len();
    bytes[third - 1] ^= 1;
    fs::write(&newest, &bytes).unwrap();

    let (mut journal, recovery) = Journal::open(dir.path(), settings()).unwrap();
    assert_eq!((recovery.last_frame, recovery.cut_frames, recovery.damaged), (1, true, false));
    let second = third - 24 - "two".len();
    let aside = dir.path().join(format!("00000000000000000001.seg.{second:010}.suspect"));
    assert_eq!(fs::read(aside).unwrap(), bytes);
    assert_eq!(append(&mut journal, "again").unwrap(), 2);
    drop(journal);
    let (_, recovery) = Journal::open(dir.path(), settings()).unwrap();
    assert_eq!((recovery.last_frame, recovery.cut_frames), (2, false));
}

#[test]
fn a_half_made_segment_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 2);
    let half_made = dir.path().join("00000000000000000003.seg.new");
    fs::write(&half_made, b"half").unwrap();
    let (mut journal, _) = Journal::open(dir.path(), settings()).unwrap();
    assert!(!half_made.exists());
    assert_eq!(append(&mut journal, "three").unwrap(), 3);
}

#[test]
fn a_second_opening_is_refused_while_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = Journal::open(dir.path(), settings()).unwrap();
    let refused = Journal::open(dir.path(), settings()).unwrap_err();
    assert!(matches!(refused, JournalError::Locked { .. }), "{refused}");
    drop(first);
    Journal::open(dir.path(), settings()).unwrap();
}

#[test]
fn the_id_and_the_numbers_outlive_every_deleted_segment() {
    let dir = tempfile::tempdir().unwrap();
    let heading = Heading { boot: "k3f9x2ab".to_owned(), next_seq: 42, boot_ended: true };
    {
        let (mut journal, _) = Journal::open(dir.path(), settings()).unwrap();
        for text in ["one", "two"] {
            append(&mut journal, text).unwrap();
        }
        journal.set_heading(heading.clone());
        journal.seal().unwrap();
        journal.remove_through(2).unwrap();
    }
    fs::remove_file(dir.path().join("id")).unwrap();
    let other = Settings { new_id: SpoolId(99), ..settings() };
    let (journal, recovery) = Journal::open(dir.path(), other).unwrap();
    assert_eq!((recovery.first_frame, recovery.last_frame), (3, 2));
    assert_eq!(journal.id(), settings().new_id);
    assert_ne!(journal.last_crc(), 0);
    let Some(Ok(Entry::Segment(header))) = scan(dir.path()).unwrap().next() else { panic!() };
    let kept =
        Heading { boot: header.boot, next_seq: header.next_seq, boot_ended: header.boot_ended };
    assert_eq!(kept, heading);
}

#[test]
fn a_segment_of_another_spool_is_refused() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(ours.path(), 1);
    let other = Settings { new_id: SpoolId(99), ..settings() };
    drop(Journal::open(theirs.path(), other).unwrap());
    fs::copy(newest(ours.path()), newest(theirs.path())).unwrap();
    let refused = Journal::open(theirs.path(), settings()).unwrap_err();
    assert!(matches!(refused, JournalError::Damaged { .. }), "{refused}");
}

fn settings() -> Settings {
    Settings { segment_bytes: 300, ..Settings::new(SpoolId(7)) }
}

fn append(journal: &mut Journal, text: &str) -> Result<u64, JournalError> {
    journal.append(FrameKind::Rows, Bytes::copy_from_slice(text.as_bytes()))
}

/// Writes `count` frames and returns where each frame of the newest segment ends.
fn write(dir: &Path, count: u32) -> Vec<u64> {
    let (mut journal, _) = Journal::open(dir, settings()).unwrap();
    let mut ends = Vec::new();
    let mut segments = 1;
    for number in 0..count {
        append(&mut journal, &format!("frame {number:03}")).unwrap();
        if journal.segments().len() > segments {
            segments = journal.segments().len();
            ends.clear();
        }
        ends.push(journal.segments().last().unwrap().bytes);
    }
    journal.sync().unwrap();
    ends
}

fn newest(dir: &Path) -> PathBuf {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "seg")).max().unwrap()
}

fn first_frame(path: &Path) -> u64 {
    path.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn assert_dense(dir: &Path, last: u64) {
    let mut next = 1;
    for entry in scan(dir).unwrap() {
        if let Entry::Frame(frame, _) = entry.unwrap() {
            assert_eq!(frame.number, next);
            next += 1;
        }
    }
    assert_eq!(next, last + 1);
}
