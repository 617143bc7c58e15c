//! Whole publications into temporary directories, read back from the Parquet files.

use std::collections::BTreeMap;

use arrow::util::pretty::pretty_format_batches;
use bytes::{Bytes, BytesMut};
use journal::{Journal, Settings};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use schemas::manifest::{BootMark, UNCOMMITTED, delta_file};
use schemas::table::{Capture, Denied, Event, Session, Slot, Usage};
use schemas::vocab::SpoolId;
use schemas::wire::{BootEnd, Frame, FrameKind, Received, Rows};

use super::*;
use crate::data_dir::DataDir;

/// 2026-10-31T23:59:59Z: one more second is another day.
const LATE: i64 = 1_793_491_199_000_000;
const SECOND: i64 = 1_000_000;
pub(crate) const SPOOL: u64 = 0xabc;

pub(crate) struct Bench {
    pub(crate) data: tempfile::TempDir,
    journal: Journal,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        drop(DataDir::claim(data.path()).unwrap());
        let log = data.path().join(crate::log::DIRECTORY);
        let (journal, _) = Journal::open(&log, Settings::new(SpoolId(1))).unwrap();
        Self { data, journal }
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::open(self.data.path(), Group::nobody()).unwrap()
    }

    /// A frame of a forwarder's spool.
    pub(crate) fn receive(
        &mut self,
        spool_id: u64,
        number: u64,
        kind: FrameKind,
        message: &impl Message,
    ) {
        let mut frame = BytesMut::new();
        Frame::message(kind, number, message).encode(&mut frame);
        let received = Received {
            node: "edge-1".into(),
            spool_id,
            frame: frame.freeze(),
            ..Received::default()
        };
        self.append(FrameKind::Received, received.encode_to_vec());
    }

    fn append(&mut self, kind: FrameKind, payload: Vec<u8>) {
        self.journal.append(kind, Bytes::from(payload)).unwrap();
    }

    pub(crate) fn seal(&mut self) -> Vec<SealedSegment> {
        self.journal.seal().unwrap();
        let mut segments: Vec<_> = self.journal.segments().map(sealed).collect();
        segments.pop();
        segments
    }

    /// Every file below `accounting/`, and its content as text, newest manifest or not.
    pub(crate) fn tables(&self) -> BTreeMap<String, String> {
        let mut tables = BTreeMap::new();
        let manifest = Manifest::open(&Files::new(self.data.path(), Group::nobody())).unwrap();
        for part in manifest.parts() {
            let named = self.data.path().join(&part.path);
            let path = if named.exists() { named } else { named.with_extension("parquet.new") };
            tables.insert(part.path.clone(), read(&path));
        }
        tables
    }

    fn leftovers(&self) -> Vec<String> {
        let publisher = self.publisher();
        let directories = publisher.part_directories().unwrap();
        let files = directories.iter().flat_map(|directory| files_in(directory));
        files.filter(|name| name.ends_with(UNCOMMITTED)).collect()
    }
}

pub(crate) fn files_in(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn sealed(segment: journal::Segment) -> SealedSegment {
    let journal::Segment { path, first_frame, last_frame, bytes: _ } = segment;
    SealedSegment { path, first_frame, last_frame }
}

pub(super) fn read(path: &Path) -> String {
    let file = fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// Rows of all tables that come from a forwarder, numbered from `seq` on, on both sides of midnight.
pub(crate) fn rows_of(boot: &str, seq: i64) -> Rows {
    let session = |session_no, seq, ts_end| Session {
        session_no,
        seq: Some(seq),
        service: "web".into(),
        client_ip: "192.0.2.1".into(),
        target_name: (session_no == 1).then(|| "db.example".into()),
        ts_end,
        bytes_up: 100 + seq,
        ..Session::default()
    };
    Rows {
        node: "edge-1".into(),
        boot: boot.into(),
        sessions: vec![session(2, seq, LATE + SECOND), session(1, seq + 1, LATE)],
        usage: vec![Usage { seq: Some(seq + 2), slot_start: LATE, ..Usage::default() }],
        slots: vec![Slot { seq: Some(seq + 3), slot_start: LATE, ..Slot::default() }],
        denied: vec![Denied { seq: Some(seq + 4), ts_last: LATE, ..Denied::default() }],
        events: vec![Event { seq: Some(seq + 5), ts: LATE, ..Event::default() }],
        captures: Vec::new(),
    }
}

fn boot_end(boot: &str, last_seq: i64) -> BootEnd {
    BootEnd {
        node: "edge-1".into(),
        boot: boot.into(),
        last_seq,
        last_session_no: 2,
        exact: true,
        ended_at: LATE,
        ..BootEnd::default()
    }
}

/// The recorder's own rows: `node` and `boot` stand in each.
fn own_rows() -> Rows {
    let capture = |boot: &str, file: &str| Capture {
        node: "edge-1".into(),
        boot: boot.into(),
        file: Some(file.into()),
        ts_first: LATE,
        ..Capture::default()
    };
    let event = Event {
        node: "edge-1".into(),
        boot: "aaaaaaaa".into(),
        ts: LATE,
        kind: "stream_start".into(),
        ..Event::default()
    };
    Rows {
        captures: vec![capture("bbbbbbbb", "captures/b"), capture("aaaaaaaa", "captures/a")],
        events: vec![event],
        ..Rows::default()
    }
}

/// Two segments with everything in them.
pub(crate) fn two_segments(bench: &mut Bench) -> Vec<SealedSegment> {
    bench.receive(SPOOL, 1, FrameKind::Rows, &rows_of("aaaaaaaa", 1));
    bench.append(FrameKind::Rows, own_rows().encode_to_vec());
    bench.receive(SPOOL, 2, FrameKind::BootEnd, &boot_end("aaaaaaaa", 6));
    bench.journal.seal().unwrap();
    bench.receive(SPOOL, 3, FrameKind::Rows, &rows_of("bbbbbbbb", 1));
    bench.receive(SPOOL, 4, FrameKind::Rows, &rows_of("bbbbbbbb", 7));
    bench.seal()
}

#[test]
fn a_segment_becomes_one_part_per_table_and_day() {
    let mut bench = Bench::new();
    let segments = two_segments(&mut bench);
    let mut publisher = bench.publisher();
    let published = publisher.publish(&segments[0]).unwrap();
    assert_eq!((published.parts, published.rows, published.duplicates), (7, 9, 0));
    let paths: Vec<_> = bench.tables().into_keys().collect();
    insta::assert_debug_snapshot!(paths);
    assert_eq!(bench.leftovers(), Vec::<String>::new());

    let marks = publisher.manifest().marks();
    let boot = marks.boot("edge-1", "aaaaaaaa").unwrap();
    assert_eq!((boot.last_seq, boot.end.as_ref().map(|end| end.last_session_no)), (6, Some(2)));
    let spool = marks.spool(&SpoolId(SPOOL).to_string()).unwrap();
    assert_eq!((spool.node.as_str(), spool.last_frame), ("edge-1", 2));
    assert_eq!(marks.log_through(), 3);
}

#[test]
fn rows_are_sorted_and_carry_their_node_and_boot() {
    let mut bench = Bench::new();
    let segments = two_segments(&mut bench);
    bench.publisher().publish(&segments[0]).unwrap();
    let tables = bench.tables();
    let captures = &tables["accounting/captures/date=2026-10-31/log-00000000000000000001.parquet"];
    insta::assert_snapshot!(captures);
}

#[test]
fn the_manifest_tells_size_hash_and_times_of_a_part() {
    let mut bench = Bench::new();
    let segments = two_segments(&mut bench);
    let mut publisher = bench.publisher();
    publisher.publish(&segments[1]).unwrap();
    let path = "accounting/sessions/date=2026-10-31/log-00000000000000000004.parquet";
    let part = publisher.manifest().part(path).unwrap();
    let bytes = fs::read(bench.data.path().join(path)).unwrap();
    let hash: String =
        <sha2::Sha256 as sha2::Digest>::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!((part.rows, part.bytes), (2, u64::try_from(bytes.len()).unwrap()));
    assert_eq!(part.sha256, hash);
    assert_eq!((part.min_time_us, part.max_time_us), (LATE, LATE));
}

#[test]
fn the_footer_names_schema_and_segment() {
    let mut bench = Bench::new();
    let segments = two_segments(&mut bench);
    bench.publisher().publish(&segments[0]).unwrap();
    let path = "accounting/usage/date=2026-10-31/log-00000000000000000001.parquet";
    let file = fs::File::open(bench.data.path().join(path)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let footer = reader.metadata().file_metadata();
    let pairs: BTreeMap<_, _> = footer
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|pair| (pair.key.as_str(), pair.value.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!((pairs["weir.schema"], pairs["weir.segment"]), ("1.0", "1-3"));
}

/// Two parts of a table become one, which is under its uncommitted name.
fn merged(bench: &Bench, publisher: &Publisher) -> Replacement {
    let old: Vec<Part> =
        publisher.manifest().parts().filter(|part| part.table == "usage").cloned().collect();
    let path = "accounting/usage/date=2026-10-31/hour-00000000000000000002.parquet";
    let place = bench.data.path().join(format!("{path}{UNCOMMITTED}"));
    fs::copy(bench.data.path().join(&old[0].path), place).unwrap();
    let add = vec![Part { path: path.into(), ..old[0].clone() }];
    let remove = old.into_iter().map(|part| part.path).collect();
    Replacement { add, remove, retired: Vec::new() }
}

#[test]
fn a_replacement_puts_parts_in_the_place_of_others_and_keeps_those_for_readers() {
    let mut bench = Bench::new();
    let segments = two_segments(&mut bench);
    let mut publisher = bench.publisher();
    for segment in &segments {
        publisher.publish(segment).unwrap();
    }
    let replacement = merged(&bench, &publisher);
    publisher.replace(replacement.clone()).unwrap();

    let usage = publisher.manifest().parts().filter(|part| part.table == "usage");
    let usage: Vec<_> = usage.map(|part| part.path.as_str()).collect();
    assert_eq!(usage, [replacement.add[0].path.as_str()]);
    assert!(bench.data.path().join(usage[0]).exists());
    for path in &replacement.remove {
        assert!(!bench.data.path().join(path).exists(), "{path}");
        assert!(bench.data.path().join("replaced").join(path).exists(), "{path}");
    }
    assert_eq!(publisher.manifest().marks().log_through(), segments[1].last_frame);
}

#[test]
fn a_replacement_planned_for_other_tables_is_refused_and_changes_nothing() {
    let mut bench = Bench::new();
    let segments = two_segments(&mut bench);
    let mut publisher = bench.publisher();
    for segment in &segments {
        publisher.publish(segment).unwrap();
    }
    let replacement = merged(&bench, &publisher);
    publisher.replace(replacement.clone()).unwrap();
    let refused = publisher.replace(replacement).unwrap_err();
    assert!(matches!(refused, PublishError::Gone { .. }), "{refused}");
    assert_eq!(publisher.manifest().version(), 3);
}

#[test]
fn what_nobody_names_is_removed_if_it_was_never_committed_and_else_moved_away() {
    let mut bench = Bench::new();
    let segments = two_segments(&mut bench);
    let mut publisher = bench.publisher();
    publisher.publish(&segments[0]).unwrap();
    let usage = bench.data.path().join("accounting/usage/date=2026-10-31");
    fs::write(usage.join("hour-1.parquet.new"), "half a part").unwrap();
    fs::write(usage.join("log-9.parquet"), "a part").unwrap();
    fs::write(usage.join("notes.txt"), "not ours").unwrap();
    let mut collected = OrphansFound::default();
    for directory in publisher.part_directories().unwrap() {
        collected = collected + publisher.collect_orphans(&directory).unwrap();
    }
    assert_eq!((collected.removed, collected.moved), (1, 1));
    let mut left = files_in(&usage);
    left.sort();
    assert_eq!(left, ["log-00000000000000000001.parquet", "notes.txt"]);
    let aside = bench.data.path().join("orphans/accounting/usage/date=2026-10-31/log-9.parquet");
    assert_eq!(fs::read_to_string(aside).unwrap(), "a part");
}

#[test]
fn parts_are_the_same_bytes_whenever_they_are_made() {
    let hashes = || {
        let mut bench = Bench::new();
        let segments = two_segments(&mut bench);
        let mut publisher = bench.publisher();
        publisher.publish(&segments[0]).unwrap();
        publisher.manifest().parts().cloned().collect::<Vec<_>>()
    };
    assert_eq!(hashes(), hashes());
}

#[test]
fn rows_that_come_again_by_another_spool_are_left_out() {
    let mut bench = Bench::new();
    bench.receive(SPOOL, 1, FrameKind::Rows, &rows_of("aaaaaaaa", 1));
    bench.journal.seal().unwrap();
    bench.receive(0xdef, 1, FrameKind::Rows, &rows_of("aaaaaaaa", 1));
    bench.receive(0xdef, 2, FrameKind::Rows, &rows_of("aaaaaaaa", 7));
    bench.receive(0xdef, 3, FrameKind::Rows, &rows_of("aaaaaaaa", 7));
    let segments = bench.seal();
    let mut publisher = bench.publisher();
    publisher.publish(&segments[0]).unwrap();
    let second = publisher.publish(&segments[1]).unwrap();
    assert_eq!((second.rows, second.duplicates), (6, 12));
    assert_eq!(publisher.manifest().marks().boot("edge-1", "aaaaaaaa").unwrap().last_seq, 12);
}

#[test]
fn a_frame_that_comes_again_is_left_out_with_its_unnumbered_rows() {
    let mut bench = Bench::new();
    let mut rows = rows_of("aaaaaaaa", 1);
    rows.events[0].seq = None;
    bench.receive(SPOOL, 1, FrameKind::Rows, &rows);
    bench.receive(SPOOL, 1, FrameKind::Rows, &rows);
    let segments = bench.seal();
    let published = bench.publisher().publish(&segments[0]).unwrap();
    assert_eq!((published.rows, published.duplicates), (6, 6));
}

#[test]
fn a_capture_file_indexed_again_after_a_crash_has_its_rows_once() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.append(FrameKind::Rows, own_rows().encode_to_vec());
    }
    let segments = bench.seal();
    let published = bench.publisher().publish(&segments[0]).unwrap();
    let captures = u64::try_from(own_rows().captures.len()).unwrap();
    assert_eq!(published.duplicates, captures);
}

#[test]
fn the_end_of_a_boot_counts_once_and_lasts() {
    let mut bench = Bench::new();
    bench.receive(SPOOL, 1, FrameKind::BootEnd, &boot_end("aaaaaaaa", 6));
    bench.journal.seal().unwrap();
    bench.receive(SPOOL, 2, FrameKind::BootEnd, &boot_end("aaaaaaaa", 99));
    bench.receive(SPOOL, 3, FrameKind::Rows, &rows_of("aaaaaaaa", 1));
    let segments = bench.seal();
    let mut publisher = bench.publisher();
    for segment in &segments {
        publisher.publish(segment).unwrap();
    }
    let mark: BootMark = publisher.manifest().marks().boot("edge-1", "aaaaaaaa").unwrap().clone();
    assert_eq!((mark.last_seq, mark.end.unwrap().last_seq), (6, 6));
}

#[test]
fn a_frame_that_cannot_be_read_is_left_out_and_counted() {
    let mut bench = Bench::new();
    bench.append(FrameKind::Received, vec![0xff; 40]);
    bench.append(FrameKind::Hello, Vec::new());
    bench.receive(SPOOL, 1, FrameKind::Welcome, &boot_end("aaaaaaaa", 6));
    bench.receive(SPOOL, 2, FrameKind::Rows, &rows_of("aaaaaaaa", 1));
    let segments = bench.seal();
    let published = bench.publisher().publish(&segments[0]).unwrap();
    assert_eq!((published.rows, published.undecodable), (6, 3));
}

#[test]
fn a_segment_with_a_frame_that_cannot_be_read_is_kept_beside_the_log() {
    let mut bench = Bench::new();
    bench.receive(SPOOL, 1, FrameKind::Rows, &rows_of("aaaaaaaa", 1));
    bench.journal.seal().unwrap();
    bench.append(FrameKind::Received, vec![0xff; 40]);
    bench.receive(SPOOL, 2, FrameKind::Rows, &rows_of("aaaaaaaa", 7));
    let segments = bench.seal();
    let bytes = fs::read(&segments[1].path).unwrap();
    let mut publisher = bench.publisher();
    // Failed before the commit and done again, it is kept once.
    publisher.publish(&segments[0]).unwrap();
    let in_the_way = bench.data.path().join("manifest").join(delta_file(2));
    fs::create_dir(&in_the_way).unwrap();
    publisher.publish(&segments[1]).unwrap_err();
    fs::remove_dir(&in_the_way).unwrap();
    for segment in &segments {
        publisher.publish(segment).unwrap();
        bench.journal.remove_through(segment.last_frame).unwrap();
    }

    let log = bench.data.path().join(crate::log::DIRECTORY);
    let kept: Vec<_> =
        files_in(&log).into_iter().filter(|n| n.ends_with(SUSPECT)).map(|n| log.join(n)).collect();
    assert_eq!(kept, [log.join("00000000000000000002.seg.suspect")]);
    assert_eq!(fs::read(&kept[0]).unwrap(), bytes);
    let Bench { data, journal } = bench;
    drop(journal);
    let (journal, found) =
        Journal::open(&data.path().join(crate::log::DIRECTORY), Settings::new(SpoolId(1))).unwrap();
    assert_eq!((found.segments, journal.first_frame()), (1, 4));
}

#[test]
fn a_damaged_segment_is_told_and_nothing_is_published() {
    let mut bench = Bench::new();
    bench.receive(SPOOL, 1, FrameKind::Rows, &rows_of("aaaaaaaa", 1));
    let segments = bench.seal();
    let mut bytes = fs::read(&segments[0].path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segments[0].path, bytes).unwrap();
    let refused = bench.publisher().publish(&segments[0]).unwrap_err();
    assert!(refused.to_string().contains("is damaged at byte"), "{refused}");
    assert!(!refused.is_full());
    assert!(bench.tables().is_empty());
}

#[test]
fn a_full_disk_is_recognised_inside_a_parquet_error() {
    let source = ParquetError::External(Box::new(io::Error::from(io::ErrorKind::StorageFull)));
    let full = PublishError::Parquet { path: "x".into(), source };
    assert!(full.is_full());
}
