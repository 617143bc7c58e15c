//! What has the name of a journal's file and is none.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use journal::{Journal, JournalError, Reader, SegmentReader, Settings, scan};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use schemas::vocab::SpoolId;
use schemas::wire::FrameKind;

#[test]
fn a_fifo_with_a_segments_name_is_refused_by_name_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    write_one_frame(dir.path());
    let fifo = dir.path().join("00000000000000000007.seg");
    make_fifo(&fifo);
    refused(&fifo, open(dir.path()).map(drop));
    refused(&fifo, Reader::open(dir.path(), 1).map(drop));
    refused(&fifo, scan(dir.path()).map(drop));
    refused(&fifo, SegmentReader::open(&fifo).map(drop));

    fs::remove_file(&fifo).unwrap();
    assert_eq!(open(dir.path()).unwrap().last_frame(), 1);
}

#[test]
fn a_directory_or_a_link_to_a_fifo_with_a_segments_name_is_refused_too() {
    let dir = tempfile::tempdir().unwrap();
    write_one_frame(dir.path());
    let strange = dir.path().join("00000000000000000007.seg");
    fs::create_dir(&strange).unwrap();
    refused(&strange, open(dir.path()).map(drop));

    fs::remove_dir(&strange).unwrap();
    let fifo = dir.path().join("fifo");
    make_fifo(&fifo);
    std::os::unix::fs::symlink(&fifo, &strange).unwrap();
    refused(&strange, open(dir.path()).map(drop));
}

#[test]
fn a_fifo_in_place_of_the_id_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let id = dir.path().join("id");
    make_fifo(&id);
    refused(&id, open(dir.path()).map(drop));
}

#[test]
fn a_segment_that_was_moved_elsewhere_and_linked_is_read() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_one_frame(dir.path());
    let segment = dir.path().join("00000000000000000001.seg");
    let moved = elsewhere.path().join("moved");
    fs::copy(&segment, &moved).unwrap();
    fs::remove_file(&segment).unwrap();
    std::os::unix::fs::symlink(&moved, &segment).unwrap();
    assert_eq!(open(dir.path()).unwrap().last_frame(), 1);
}

// === helpers ===

fn open(dir: &Path) -> Result<Journal, JournalError> {
    Journal::open(dir, Settings::new(SpoolId(1))).map(|(journal, _)| journal)
}

fn write_one_frame(dir: &Path) {
    let mut journal = open(dir).unwrap();
    journal.append(FrameKind::Rows, Bytes::from_static(b"one")).unwrap();
    journal.sync().unwrap();
}

fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn refused(path: &Path, outcome: Result<(), JournalError>) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, JournalError::NotAFile { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("{} is not a regular file: move it away", path.display())
    );
}
