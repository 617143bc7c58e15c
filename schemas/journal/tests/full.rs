//! No room: a child process whose files may not grow beyond a limit.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;

use bytes::Bytes;
use e2e_tests::process::output;
use journal::{Entry, Journal, Settings, scan};
use schemas::vocab::SpoolId;
use schemas::wire::FrameKind;

/// Tells the child which directory to fill.
const CHILD_DIR: &str = "JOURNAL_TEST_FULL_DIR";

#[test]
fn a_write_that_does_not_fit_is_cut_back_and_its_number_is_not_used() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        return fill(dir.as_ref());
    }
    let dir = tempfile::tempdir().unwrap();
    // A write beyond the limit raises SIGXFSZ, which kills unless ignored; then it fails. Where
    // the limit falls within a frame the kernel writes up to it, which is the short write.
    let script = r#"trap "" XFSZ; ulimit -f 8; exec "$0" --exact "$1""#;
    let name = "a_write_that_does_not_fit_is_cut_back_and_its_number_is_not_used";
    let child = output(
        Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(CHILD_DIR, dir.path()),
    );
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));

    let frames = scan(dir.path()).unwrap().map(Result::unwrap);
    let numbers: Vec<_> = frames
        .filter_map(|entry| match entry {
            Entry::Frame(frame, _) => Some(frame.number),
            Entry::Segment(_) => None,
        })
        .collect();
    assert!(numbers.len() > 3);
    assert!(numbers.iter().zip(1..).all(|(number, expected)| *number == expected));
}

fn fill(dir: &std::path::Path) {
    let (mut journal, _) = Journal::open(dir, Settings::new(SpoolId(1))).unwrap();
    let payload = || Bytes::from(vec![b'x'; 700]);
    let full = loop {
        if let Err(error) = journal.append(FrameKind::Rows, payload()) {
            break error;
        }
    };
    assert!(full.is_full(), "{full}");
    let last = journal.last_frame();
    let bytes = journal.bytes();
    let on_disk = journal.segments().last().unwrap().path.metadata().unwrap().len();
    assert_eq!(on_disk, bytes, "the short write is cut back");
    // Room is found: here, by a new segment.
    journal.seal().unwrap();
    assert_eq!(journal.append(FrameKind::Rows, payload()).unwrap(), last + 1);
    assert_eq!(journal.sync().unwrap(), last + 1);
}
