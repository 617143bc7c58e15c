//! Publications, replacements, checkpoints and starts on a disk that fails or crashes at each of
//! its operations in turn.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::{Bytes, BytesMut};
use journal::fs::{After, Fault, FileSystem, SimulatedDisk};
use journal::{Journal, Settings};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use schemas::manifest::{Checkpoint, REPLACED, UNCOMMITTED};
use schemas::table::{Event, Usage};
use schemas::vocab::SpoolId;
use schemas::wire::{Frame, FrameKind, Received, Rows};

use super::*;
use crate::data_dir::ACCOUNTING;

const DATA: &str = "/data";
const MERGED: &str = "accounting/usage/date=2026-10-31/merged.parquet";
/// 2026-10-31T12:00:00Z.
const NOON: i64 = 1_793_448_000_000_000;
/// So that checkpoints come, and go, within a short history.
const CHECKPOINTS_EVERY: u64 = 2;
const SEGMENTS: usize = 3;

/// A log of sealed segments, on the machine's disk: it is not what fails here.
struct Log {
    _directory: tempfile::TempDir,
    segments: Vec<SealedSegment>,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path(), Settings::new(SpoolId(1))).unwrap();
        for (number, seq) in (1..).zip([1, 3, 5]) {
            let usage = |seq| Usage { seq: Some(seq), slot_start: NOON, ..Usage::default() };
            let event = Event { seq: Some(seq + 1), ts: NOON, ..Event::default() };
            let rows = Rows {
                node: "edge-1".into(),
                boot: "aaaaaaaa".into(),
                usage: vec![usage(seq)],
                events: vec![event],
                ..Rows::default()
            };
            let mut frame = BytesMut::new();
            Frame::message(FrameKind::Rows, number, &rows).encode(&mut frame);
            let received = Received {
                node: "edge-1".into(),
                spool_id: 0xabc,
                frame: frame.freeze(),
                ..Received::default()
            };
            let payload = Bytes::from(received.encode_to_vec());
            journal.append(FrameKind::Received, payload).unwrap();
            journal.seal().unwrap();
        }
        let mut segments: Vec<_> = journal
            .segments()
            .map(|s| SealedSegment {
                path: s.path,
                first_frame: s.first_frame,
                last_frame: s.last_frame,
            })
            .collect();
        segments.pop();
        assert_eq!(segments.len(), SEGMENTS);
        Self { _directory: directory, segments }
    }
}

fn files(disk: &SimulatedDisk) -> Files {
    Files::on(Arc::new(disk.clone()), Path::new(DATA), Group::nobody())
}

/// A data directory as it is made before anything is published.
fn empty_disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    for directory in [DATA, "/data/manifest", "/data/accounting"] {
        disk.create_directory(Path::new(directory), 0o700).unwrap();
        disk.sync_directory(Path::new(directory).parent().unwrap()).unwrap();
    }
    disk.survivors(After::PowerLoss { seed: 0 })
}

fn open(disk: &SimulatedDisk) -> Result<Publisher, PublishError> {
    let mut publisher = Publisher::open_on(files(disk))?;
    publisher.manifest.set_checkpoints_every(CHECKPOINTS_EVERY);
    Ok(publisher)
}

/// Publishes the segments behind the first `done`, which the log no longer has, and puts the usage of
/// the first two into one part as soon as they are there.
fn work(publisher: &mut Publisher, log: &Log, done: &mut usize) -> Result<(), PublishError> {
    while *done < SEGMENTS {
        publisher.publish(&log.segments[*done])?;
        *done += 1;
        if *done == 2 {
            merge(publisher)?;
        }
    }
    for directory in publisher.part_directories()? {
        publisher.collect_orphans(&directory)?;
    }
    // As the next start has it.
    merge(publisher)
}

fn merge(publisher: &mut Publisher) -> Result<(), PublishError> {
    let usage: Vec<Part> =
        publisher.manifest().parts().filter(|part| part.table == "usage").cloned().collect();
    if publisher.manifest().part(MERGED).is_some() {
        return Ok(());
    }
    let old: Vec<Part> = usage.into_iter().take(2).collect();
    let mut batches = Vec::new();
    for part in &old {
        let place = publisher.files().at(&part.path);
        let bytes =
            publisher.files().fs().read(&place).map_err(PublishError::io("read", &place))?;
        batches.extend(read_batches(bytes));
    }
    let place = publisher.files().at(format!("{MERGED}{UNCOMMITTED}"));
    let write = |batches: &[RecordBatch]| -> Result<(), ParquetError> {
        let mut sink = publisher.files().create(&place)?;
        let mut writer = ArrowWriter::try_new(&mut sink, batches[0].schema(), None)?;
        for batch in batches {
            writer.write(batch)?;
        }
        writer.close()?;
        publisher.files().finish(&place, &*sink.into_inner())?;
        Ok(())
    };
    write(&batches).map_err(|source| PublishError::Parquet { path: place.clone(), source })?;
    let merged = Part { path: MERGED.into(), rows: 2, ..old[0].clone() };
    let remove = old.into_iter().map(|part| part.path).collect();
    publisher.replace(Replacement { add: vec![merged], remove, retired: Vec::new() })
}

fn read_batches(bytes: Vec<u8>) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

/// The sequence numbers in a part; every row of this history has its own.
fn seqs(bytes: Vec<u8>) -> Vec<i64> {
    let batches = read_batches(bytes);
    let of = |batch: &RecordBatch| {
        batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>().values().to_vec()
    };
    batches.iter().flat_map(of).collect()
}

/// What a reader finds who takes the list from the manifest: how far the log is in the tables, and
/// the rows.
fn as_read(disk: &SimulatedDisk) -> (u64, Vec<i64>) {
    let manifest = Manifest::open(&files(&disk.survivors(After::Kill))).unwrap();
    let mut found = Vec::new();
    for part in manifest.parts() {
        let at = |path: String| disk.content(&Path::new(DATA).join(path));
        let bytes = at(part.path.clone())
            .or_else(|| at(format!("{}{UNCOMMITTED}", part.path)))
            .or_else(|| at(format!("{REPLACED}/{}", part.path)))
            .unwrap_or_else(|| panic!("{} is nowhere", part.path));
        found.extend(seqs(bytes));
    }
    found.sort_unstable();
    (manifest.marks().log_through(), found)
}

/// What a stranger's glob finds.
fn as_globbed(disk: &SimulatedDisk) -> Vec<i64> {
    let parts = disk.files().into_iter().filter(|path| {
        path.starts_with(Path::new(DATA).join(ACCOUNTING))
            && path.extension().is_some_and(|extension| extension == "parquet")
    });
    let mut found: Vec<i64> = parts.flat_map(|path| seqs(disk.content(&path).unwrap())).collect();
    found.sort_unstable();
    found
}

fn rows_through(log_through: u64) -> Vec<i64> {
    (1..=i64::try_from(log_through).unwrap() * 2).collect()
}

fn assert_whole(disk: &SimulatedDisk, context: &str) {
    let all = rows_through(SEGMENTS as u64);
    assert_eq!(as_read(disk), (SEGMENTS as u64, all.clone()), "{context}");
    assert_eq!(as_globbed(disk), all, "{context}");
    let strays = disk.files().into_iter().filter(|path| {
        let name = path.to_string_lossy().into_owned();
        name.ends_with(UNCOMMITTED) || name.ends_with(".tmp") || name.contains("orphans")
    });
    assert_eq!(strays.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "{context}");
}

fn operations_of_a_run_without_trouble(log: &Log) -> usize {
    let disk = empty_disk();
    work(&mut open(&disk).unwrap(), log, &mut 0).unwrap();
    assert_whole(&disk, "without trouble");
    let names: BTreeMap<_, _> = disk.files().into_iter().map(|path| (path, ())).collect();
    let checkpoints = names.keys().filter(|path| path.to_string_lossy().contains("checkpoint"));
    assert_eq!(checkpoints.count(), 2, "the history is to have checkpoints come and go");
    disk.operations().len()
}

#[test]
fn a_crash_at_any_operation_loses_no_row_and_doubles_none() {
    let log = Log::new();
    let operations = operations_of_a_run_without_trouble(&log);
    assert!(operations > 100, "only {operations} operations");
    for nth in 1..=operations {
        for (turn, fault) in [(0, Fault::Crash), (1, Fault::CrashWithin)] {
            let disk = empty_disk();
            disk.plan(nth, fault);
            let mut done = 0;
            drop(open(&disk).and_then(|mut publisher| work(&mut publisher, &log, &mut done)));
            assert!(disk.has_crashed());
            // All that was not durable is kept, or lost, or by chance the one or the other.
            let seeds = [0, nth as u64 + 2];
            let ends = [After::Kill].into_iter().chain(seeds.map(|seed| After::PowerLoss { seed }));
            for (number, after) in ends.enumerate() {
                let context = format!("operation {nth}, {fault:?}, {after:?}");
                let left = disk.survivors(after);
                let (log_through, rows) = as_read(&left);
                assert!(log_through >= done as u64, "{context}: acknowledged and gone");
                assert_eq!(rows, rows_through(log_through), "{context}");
                // One of them in turn: what comes after takes the most time.
                if number == (nth + turn) % 3 {
                    crash_again(&left, &log, done, nth, &context);
                }
            }
        }
    }
}

/// The next process dies too, at an operation of its own, and the one after that comes to the end.
fn crash_again(left: &SimulatedDisk, log: &Log, mut done: usize, nth: usize, context: &str) {
    left.plan(nth * 31 % 40 + 1, Fault::CrashWithin);
    drop(open(left).and_then(|mut publisher| work(&mut publisher, log, &mut done)));
    let left = left.survivors(After::PowerLoss { seed: nth as u64 % 7 });
    let mut publisher = open(&left).unwrap_or_else(|error| panic!("{context}: {error}"));
    work(&mut publisher, log, &mut done).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_whole(&left, context);
    assert_whole(&left.survivors(After::PowerLoss { seed: 0 }), context);
}

#[test]
fn a_version_whose_link_was_made_and_told_as_failed_counts() {
    let log = Log::new();
    let operations = operations_of_a_run_without_trouble(&log);
    let mut links = 0;
    for nth in 1..=operations {
        let disk = empty_disk();
        disk.plan(nth, Fault::Unsaid);
        let mut done = 0;
        let Ok(mut publisher) = open(&disk) else { continue };
        let worked = work(&mut publisher, &log, &mut done);
        if disk.operations()[nth - 1].action == "link" {
            links += 1;
            worked.unwrap_or_else(|error| panic!("operation {nth}: {error}"));
            assert_whole(&disk, &format!("operation {nth}"));
        }
    }
    assert!(links > 0);
}

#[test]
fn a_failure_at_any_operation_is_told_and_made_good_by_the_next_round() {
    let log = Log::new();
    let operations = operations_of_a_run_without_trouble(&log);
    for nth in 1..=operations {
        // The others differ from EIO at one kind of operation each.
        for fault in [Fault::SURVIVABLE[nth % Fault::SURVIVABLE.len()], Fault::Io] {
            let context = format!("operation {nth}, {fault:?}");
            let disk = empty_disk();
            disk.plan(nth, fault);
            let mut done = 0;
            let mut publisher = match open(&disk) {
                Ok(publisher) => publisher,
                Err(error) => {
                    assert_told(&error, fault, &context);
                    open(&disk).unwrap()
                }
            };
            if let Err(error) = work(&mut publisher, &log, &mut done) {
                assert_told(&error, fault, &context);
                work(&mut publisher, &log, &mut done)
                    .unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            drop(publisher);
            let left = disk.survivors(After::PowerLoss { seed: 0 });
            assert_eq!(
                as_read(&left),
                (SEGMENTS as u64, rows_through(SEGMENTS as u64)),
                "{context}"
            );
            work(&mut open(&left).unwrap(), &log, &mut done).unwrap();
            assert_whole(&left, &context);
        }
    }
}

fn assert_told(error: &PublishError, fault: Fault, context: &str) {
    let told = error.to_string();
    assert!(told.starts_with("cannot ") && told.contains(DATA), "{context}: {told}");
    // A sync has no other error to tell.
    let is_io = told.contains("Input/output");
    assert!(fault != Fault::Full || error.is_full() || is_io, "{context}: {told}");
}

#[test]
fn a_full_disk_is_told_and_publishing_goes_on_when_there_is_room() {
    let log = Log::new();
    let disk = empty_disk();
    let mut publisher = open(&disk).unwrap();
    let mut done = 0;
    disk.set_capacity(Some(20_000));
    let full = work(&mut publisher, &log, &mut done).unwrap_err();
    assert!(full.is_full(), "{full}");
    let (log_through, rows) = as_read(&disk);
    assert_eq!(rows, rows_through(log_through));
    disk.set_capacity(None);
    work(&mut publisher, &log, &mut done).unwrap();
    assert_whole(&disk, "with room again");
}

#[test]
fn a_start_looks_at_no_part_but_those_of_the_newest_version() {
    let operations_with = |parts: u64| {
        let disk = empty_disk();
        let part = |number| Part {
            table: "usage".into(),
            path: format!("accounting/usage/date=2026-10-31/log-{number}.parquet"),
            rows: 1,
            bytes: 1,
            min_time_us: 0,
            max_time_us: 0,
            sha256: String::new(),
        };
        let parts = (0..parts).map(part).collect();
        let checkpoint = Checkpoint { version: 1, parts, ..Checkpoint::default() };
        Manifest::begin_with(&files(&disk), &checkpoint).unwrap();
        let mut manifest = Manifest::open(&files(&disk)).unwrap();
        manifest.commit(Delta::default()).unwrap();
        let before = disk.operations().len();
        open(&disk).unwrap();
        disk.operations().len() - before
    };
    assert_eq!(operations_with(1000), operations_with(1));
}
