//! After a failed fdatasync, and after a segment that could not be begun.

use std::path::{Path, PathBuf};

use journal::fs::{After, Fault, SimulatedDisk};
use journal::{Journal, JournalError, Reader};
use schemas::wire::FrameKind;

use crate::model::{DIR, frames, open, shared};

fn append(journal: &mut Journal, text: &str) -> u64 {
    journal.append(FrameKind::Rows, text.to_owned().into()).unwrap()
}

#[test]
fn a_failed_fdatasync_is_final_until_the_journal_has_retreated() {
    let disk = SimulatedDisk::new();
    let mut journal = open(&disk).unwrap().0;
    append(&mut journal, "one");
    journal.sync().unwrap();
    append(&mut journal, "two");
    disk.plan(1, Fault::Io);
    let failed = journal.sync().unwrap_err();
    assert!(matches!(failed, JournalError::Io { action: "fdatasync", .. }), "{failed}");
    assert!(journal.is_poisoned());
    for refused in [journal.sync(), journal.append(FrameKind::Rows, "three".into())] {
        assert!(matches!(refused, Err(JournalError::Poisoned { .. })), "{refused:?}");
    }
    assert_eq!((journal.durable_frame(), journal.unsynced().len()), (1, 1));

    let taken_back = journal.retreat().unwrap();
    assert_eq!(taken_back[0].payload, "two");
    assert_eq!(append(&mut journal, "2.0"), 2);
    assert_eq!(journal.sync().unwrap(), 2);
    let left = disk.survivors(After::PowerLoss { seed: 0 });
    assert_eq!(open(&left).unwrap().1.last_frame, 2);
    assert_eq!(frames(&left).unwrap()[&2], "2.0");
    let is_suspect = |path: &PathBuf| path.extension().is_some_and(|e| e == "suspect");
    let suspect = disk.files().into_iter().find(is_suspect).unwrap();
    let suspect = disk.content(&suspect).unwrap();
    assert!(suspect.ends_with(b"two"), "what was not believed is kept");
}

#[test]
fn a_reader_goes_on_in_the_segment_that_took_the_place_of_a_suspect_one() {
    let disk = SimulatedDisk::new();
    let mut journal = open(&disk).unwrap().0;
    append(&mut journal, "one");
    append(&mut journal, "two");
    journal.sync().unwrap();
    let mut reader = Reader::open_on(shared(&disk), Path::new(DIR), 1).unwrap();
    assert_eq!(reader.next(2).unwrap().unwrap().0.payload, "one");
    append(&mut journal, "three");
    disk.plan(1, Fault::Io);
    journal.sync().unwrap_err();
    journal.retreat().unwrap();
    append(&mut journal, "3.0");
    let durable = journal.sync().unwrap();
    let payloads: Vec<_> = std::iter::from_fn(|| reader.next(durable).unwrap())
        .map(|(frame, _)| frame.payload)
        .collect();
    assert_eq!(payloads, ["two", "3.0"]);
}

#[test]
fn a_segment_that_could_not_be_begun_does_not_come_back() {
    // The create, write, fsync and rename of the new segment, and the fsync of the directory.
    for failing in 1..12 {
        for also in [None, Some(failing + 1), Some(failing + 2)] {
            for seed in 0..40 {
                let disk = SimulatedDisk::new();
                let mut journal = open(&disk).unwrap().0;
                append(&mut journal, "one");
                journal.sync().unwrap();
                disk.plan(failing, Fault::Io);
                also.into_iter().for_each(|nth| disk.plan(nth, Fault::Io));
                drop(journal.seal());
                disk.forget_plans();
                if journal.is_poisoned() {
                    journal.retreat().unwrap();
                }
                append(&mut journal, "two");
                journal.sync().unwrap();
                let left = disk.survivors(After::PowerLoss { seed });
                let case = format!("{failing}, {also:?}, {seed}");
                assert_eq!(open(&left).unwrap().1.last_frame, 2, "{case}");
                let found = frames(&left).unwrap();
                assert_eq!(found.values().collect::<Vec<_>>(), ["one", "two"], "{case}");
            }
        }
    }
}
