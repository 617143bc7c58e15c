//! A reader behind a living writer.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::Bytes;
use journal::{Entry, Journal, JournalError, Reader, SegmentReader, Settings, scan};
use schemas::vocab::SpoolId;
use schemas::wire::FrameKind;

#[test]
fn a_reader_sees_durable_frames_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&dir, 1 << 20);
    let mut reader = Reader::open(dir.path(), 1).unwrap();
    append(&mut journal, "one");
    assert_eq!(texts(&mut reader, journal.durable_frame()), Vec::<String>::new());
    assert_eq!(journal.unsynced().len(), 1);
    journal.sync().unwrap();
    assert_eq!(journal.unsynced().len(), 0);
    append(&mut journal, "two");
    assert_eq!(texts(&mut reader, journal.durable_frame()), ["one"]);
    journal.sync().unwrap();
    assert_eq!(texts(&mut reader, journal.durable_frame()), ["two"]);
}

#[test]
fn a_reader_follows_over_segments_while_read_ones_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&dir, 150);
    let mut reader = Reader::open(dir.path(), 1).unwrap();
    let mut seen = Vec::new();
    for number in 1..=20 {
        append(&mut journal, &format!("{number}"));
        let durable = journal.sync().unwrap();
        seen.extend(texts(&mut reader, durable));
        journal.remove_through(durable).unwrap();
    }
    let expected: Vec<_> = (1..=20).map(|number: u32| number.to_string()).collect();
    assert_eq!(seen, expected);
    assert_eq!(journal.segments().len(), 1, "the newest is never deleted");
    assert!(journal.first_frame() > 1);
}

#[test]
fn a_reader_begins_where_it_is_told_or_at_the_oldest_frame() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&dir, 150);
    for number in 1..=9 {
        append(&mut journal, &format!("{number}"));
    }
    let durable = journal.sync().unwrap();
    let mut reader = Reader::open(dir.path(), 5).unwrap();
    assert_eq!(texts(&mut reader, durable), ["5", "6", "7", "8", "9"]);
    journal.remove_through(3).unwrap();
    let first = journal.first_frame();
    let mut reader = Reader::open(dir.path(), 1).unwrap();
    assert_eq!(texts(&mut reader, durable)[0], first.to_string());
}

#[test]
fn a_reader_does_not_believe_what_it_read_ahead_of_durability() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&dir, 1 << 20);
    append(&mut journal, "one");
    append(&mut journal, "two");
    let mut reader = Reader::open(dir.path(), 1).unwrap();
    // Both frames stand in the file and are read at once; only the first is durable so far.
    assert_eq!(reader.next(1).unwrap().unwrap().0.payload, "one");
    // The writer loses the second and writes another in its place.
    let path = journal.segments().last().unwrap().path;
    drop(journal);
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let mut journal = open(&dir, 1 << 20);
    append(&mut journal, "2.0");
    let durable = journal.sync().unwrap();
    assert_eq!(texts(&mut reader, durable), ["2.0"]);
}

#[test]
fn a_reader_whose_segment_was_deleted_unread_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&dir, 1 << 20);
    let mut reader = Reader::open(dir.path(), 1).unwrap();
    for text in ["one", "two", "three"] {
        append(&mut journal, text);
        journal.seal().unwrap();
    }
    assert_eq!(reader.next(1).unwrap().unwrap().0.payload, "one");
    journal.remove_through(2).unwrap();
    let missing = reader.next(3).unwrap_err();
    assert!(matches!(missing, JournalError::Missing { frame: 2, .. }), "{missing}");
}

#[test]
fn sealing_an_empty_segment_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&dir, 1 << 20);
    journal.seal().unwrap();
    append(&mut journal, "one");
    journal.seal().unwrap();
    journal.seal().unwrap();
    let segments: Vec<_> = journal.segments().collect();
    let ranges: Vec<_> = segments.iter().map(|s| (s.first_frame, s.last_frame)).collect();
    assert_eq!(ranges, [(1, 1), (2, 1)]);
    let mut sealed = SegmentReader::open(&segments[0].path).unwrap();
    assert_eq!(sealed.header().first_frame, 1);
    assert_eq!(sealed.next_frame().unwrap().unwrap().0.payload, "one");
    assert!(sealed.next_frame().unwrap().is_none());
}

#[test]
fn a_header_names_the_frame_before_its_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&dir, 1 << 20);
    append(&mut journal, "one");
    let crc = journal.last_crc();
    journal.seal().unwrap();
    let entries: Vec<_> = scan(dir.path()).unwrap().map(Result::unwrap).collect();
    let Entry::Segment(header) = &entries[2] else { panic!("{entries:?}") };
    assert_eq!((header.first_frame, header.previous_crc), (2, crc));
    assert!(matches!(&entries[1], Entry::Frame(frame, c) if frame.number == 1 && *c == crc));
}

#[test]
fn a_payload_beyond_the_limit_is_refused_and_uses_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&dir, 1 << 20);
    let limit = Settings::new(SpoolId(1)).max_payload;
    let refused = journal.append(FrameKind::Rows, vec![0; limit + 1].into()).unwrap_err();
    assert!(matches!(refused, JournalError::TooLong { .. }), "{refused}");
    assert_eq!(journal.append(FrameKind::Rows, vec![0; limit].into()).unwrap(), 1);
}

#[test]
fn unsynced_frames_are_bounded_by_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { group_bytes: 10, ..Settings::new(SpoolId(1)) };
    let (mut journal, _) = Journal::open(dir.path(), settings).unwrap();
    for _ in 0..5 {
        append(&mut journal, "four");
    }
    assert_eq!((journal.durable_frame(), journal.unsynced().len()), (4, 1));
}

#[test]
fn a_retreat_takes_back_what_is_not_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(&dir, 1 << 20);
    append(&mut journal, "one");
    journal.sync().unwrap();
    let crc = journal.last_crc();
    append(&mut journal, "two");
    append(&mut journal, "three");
    let taken_back = journal.retreat().unwrap();
    let payloads: Vec<_> = taken_back.iter().map(|frame| &frame.payload[..]).collect();
    assert_eq!(payloads, [&b"two"[..], b"three"]);
    assert_eq!((journal.last_frame(), journal.last_crc()), (1, crc));
    append(&mut journal, "2.0");
    let durable = journal.sync().unwrap();
    assert_eq!(texts(&mut Reader::open(dir.path(), 1).unwrap(), durable), ["one", "2.0"]);
}

fn open(dir: &tempfile::TempDir, segment_bytes: u64) -> Journal {
    let settings = Settings { segment_bytes, ..Settings::new(SpoolId(1)) };
    Journal::open(dir.path(), settings).unwrap().0
}

fn append(journal: &mut Journal, text: &str) {
    journal.append(FrameKind::Rows, Bytes::copy_from_slice(text.as_bytes())).unwrap();
}

fn texts(reader: &mut Reader, durable: u64) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((frame, _)) = reader.next(durable).unwrap() {
        texts.push(String::from_utf8(frame.payload.to_vec()).unwrap());
    }
    texts
}
