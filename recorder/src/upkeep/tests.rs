//! Rounds of upkeep on a disk that crashes or fails at each of its operations in turn, and on
//! damaged parts, full disks and wrong clocks.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use journal::fs::{After, Fault, FileSystem, Operation, SimulatedDisk};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemas::manifest::{Part, REPLACED, UNCOMMITTED};
use schemas::table::{Event, Slot, Table, Usage};
use sha2::{Digest, Sha256};

use super::*;
use crate::compact::Rhythm;
use crate::data_dir::Group;
use crate::files::Files;
use crate::publish::{Publisher, Replacement, format};
use crate::retain::{Keep, Uptime};

const DATA: &str = "/data";
const DAY: i64 = 86_400_000_000;
const HOUR: i64 = DAY / 24;
/// 2026-10-31T00:00:00Z.
const TODAY: i64 = 1_793_404_800_000_000;

fn files(disk: &SimulatedDisk) -> Files {
    Files::on(Arc::new(disk.clone()), Path::new(DATA), Group::nobody())
}

fn empty_disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    for directory in [DATA, "/data/manifest", "/data/accounting"] {
        disk.create_directory(Path::new(directory), 0o700).unwrap();
        disk.sync_directory(Path::new(directory).parent().unwrap()).unwrap();
    }
    disk.survivors(After::PowerLoss { seed: 0 })
}

/// Commits one part more.
fn add(publisher: &mut Publisher, table: &'static Table, batch: &RecordBatch, time_us: i64) {
    let path = format!(
        "accounting/{}/date={}/log-{:020}.parquet",
        table.name,
        format::date(time_us),
        publisher.manifest().version() + 1
    );
    let mut content = Vec::new();
    let properties = format::properties(table, Vec::new());
    let mut writer = ArrowWriter::try_new(&mut content, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let files = publisher.files().clone();
    let file = files.at(format!("{path}{UNCOMMITTED}"));
    files.make_directory(file.parent().unwrap()).unwrap();
    let mut sink = files.create(&file).unwrap();
    sink.write_all(&content).unwrap();
    files.finish(&file, &*sink.into_inner()).unwrap();
    let part = Part {
        table: table.name.to_owned(),
        path,
        rows: batch.num_rows().try_into().unwrap(),
        bytes: content.len().try_into().unwrap(),
        min_time_us: time_us,
        max_time_us: time_us,
        sha256: Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    publisher.replace(Replacement { add: vec![part], ..Replacement::default() }).unwrap();
}

fn add_usage(publisher: &mut Publisher, session_no: i64, slot_start: i64) {
    let row = |interval_seq| Usage {
        session_no,
        interval_seq,
        slot_start,
        bytes_up: session_no * 1000,
        ..Usage::default()
    };
    let batch = Usage::to_batch(&[row(0), row(1)]).unwrap();
    add(publisher, Usage::TABLE, &batch, slot_start);
}

/// Two parts of an hour of today, two of an old day, one of a day that is past its age, and a slot
/// that says how late it is.
fn filled_disk() -> SimulatedDisk {
    let disk = empty_disk();
    let mut publisher = Publisher::open_on(files(&disk)).unwrap();
    add_usage(&mut publisher, 1, TODAY);
    add_usage(&mut publisher, 2, TODAY + 1000);
    add_usage(&mut publisher, 3, TODAY - DAY);
    add_usage(&mut publisher, 4, TODAY - DAY + 5);
    add_usage(&mut publisher, 9, TODAY - 500 * DAY);
    let slot = Slot { slot_start: TODAY + HOUR, ..Slot::default() };
    add(&mut publisher, Slot::TABLE, &Slot::to_batch(&[slot]).unwrap(), TODAY + HOUR);
    drop(publisher);
    disk.survivors(After::Kill)
}

fn plenty(_: &Files) -> std::io::Result<Room> {
    Ok(Room { free_bytes: u64::MAX, reserve_bytes: 0 })
}

fn settings() -> Settings {
    Settings { compact: Some(Rhythm::Hourly), keep: Keep::default(), room: plenty }
}

fn keeper_with(publisher: Publisher, settings: Settings) -> Keeper {
    Keeper::new(Arc::new(Mutex::new(publisher)), settings, Arc::new(AtomicBool::new(false)))
}

fn keeper(disk: &SimulatedDisk) -> Keeper {
    keeper_with(Publisher::open_on(files(disk)).unwrap(), settings())
}

/// Four hours into today, after so many hours of the kernel.
fn told(hours: i64) -> Told {
    let uptime = Uptime { kernel_boot: "a".into(), us: 100 * DAY + hours * HOUR };
    Told { wall_us: TODAY + 4 * HOUR + hours * HOUR, uptime }
}

fn read(disk: &SimulatedDisk, path: &Path) -> Vec<RecordBatch> {
    let bytes = Bytes::from(disk.content(path).unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

/// Sessions and bytes of the rows of `usage` in some files: each row once.
fn rows_of(disk: &SimulatedDisk, paths: impl Iterator<Item = PathBuf>) -> Vec<(i64, i64)> {
    let mut rows = Vec::new();
    for batch in paths.flat_map(|path| read(disk, &path)) {
        let column = |name| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        let (sessions, bytes) = (column("session_no"), column("bytes_up"));
        rows.extend(sessions.values().iter().copied().zip(bytes.values().iter().copied()));
    }
    rows.sort_unstable();
    rows
}

/// What a reader of the manifest has of `usage`.
fn rows(disk: &SimulatedDisk, publisher: &Publisher) -> Vec<(i64, i64)> {
    let parts = publisher.manifest().parts().filter(|part| part.table == "usage");
    let parts: Vec<_> = parts.map(|part| Path::new(DATA).join(&part.path)).collect();
    rows_of(disk, parts.into_iter())
}

/// What a stranger's glob over the directory of `usage` has.
fn globbed(disk: &SimulatedDisk) -> Vec<(i64, i64)> {
    let is_part = |path: &PathBuf| {
        path.starts_with("/data/accounting/usage")
            && path.extension().is_some_and(|e| e == "parquet")
    };
    rows_of(disk, disk.files().into_iter().filter(is_part))
}

fn expected(with_old: bool) -> Vec<(i64, i64)> {
    let sessions = [1, 1, 2, 2, 3, 3, 4, 4, 9, 9].into_iter();
    sessions.filter(|n| with_old || *n != 9).map(|n| (n, n * 1000)).collect()
}

/// Held against `expected`, where the old day may be gone or not.
fn assert_whole(found: &[(i64, i64)], context: &str) {
    let with_old = found.contains(&(9, 9000));
    assert_eq!(found, expected(with_old), "{context}");
}

fn messages(events: &[Event]) -> Vec<(&str, &str, &str)> {
    events.iter().map(|e| (&*e.severity, &*e.kind, &*e.message)).collect()
}

#[test]
fn a_round_merges_what_is_over_and_deletes_what_is_too_old() {
    let disk = filled_disk();
    let mut keeper = keeper(&disk);
    let events = keeper.round(&told(0));
    insta::assert_debug_snapshot!(messages(&events));
    assert_eq!((keeper.status().compactions, keeper.status().retired_rows), (2, 2));
    let publisher = Publisher::open_on(files(&disk)).unwrap();
    assert_eq!(rows(&disk, &publisher), expected(false));
    assert_eq!(globbed(&disk), expected(false));
    let paths: Vec<_> = publisher.manifest().parts().map(|part| part.path.as_str()).collect();
    insta::assert_debug_snapshot!(paths);
    assert_eq!(publisher.manifest().retired_before("usage"), Some(TODAY - 500 * DAY + 1));
    assert!(keeper.round(&told(0)).is_empty(), "a second round found more to do");
    assert_eq!(keeper.status().compactions, 2);
}

#[test]
fn what_was_replaced_is_there_for_an_hour_and_then_gone() {
    let disk = filled_disk();
    let replaced = |disk: &SimulatedDisk| {
        let below = Path::new(DATA).join(REPLACED);
        disk.files().into_iter().filter(|path| path.starts_with(&below)).count()
    };
    keeper(&disk).round(&told(0));
    assert_eq!(replaced(&disk), 5);
    // It is first seen by the round after; a restart changes nothing, nor does the wall clock.
    let at = |minutes: i64| {
        let mut told = told(0);
        told.wall_us = TODAY + 900 * DAY;
        told.uptime.us += minutes * HOUR / 60;
        told
    };
    keeper(&disk).round(&at(1));
    keeper(&disk).round(&at(60));
    assert_eq!(replaced(&disk), 5);
    // After a start of the machine nobody knows, and the hour begins again.
    let rebooted = |minutes: i64| {
        let uptime = Uptime { kernel_boot: "b".into(), us: minutes * HOUR / 60 };
        Told { uptime, ..told(0) }
    };
    keeper(&disk).round(&rebooted(59));
    keeper(&disk).round(&rebooted(118));
    assert_eq!(replaced(&disk), 5);
    keeper(&disk).round(&rebooted(119));
    assert_eq!(replaced(&disk), 0);
    let publisher = Publisher::open_on(files(&disk)).unwrap();
    assert_eq!(rows(&disk, &publisher), expected(false));
}

#[test]
fn a_replaced_part_that_cannot_be_deleted_holds_up_no_other() {
    // The operations of the round that deletes, with a fault at one of them, and what is left.
    let delete_with = |fault: Option<usize>| {
        let disk = filled_disk();
        let mut keeper = keeper(&disk);
        keeper.round(&told(0));
        keeper.round(&told(0));
        let before = disk.operations().len();
        fault.into_iter().for_each(|nth| disk.plan(nth, Fault::Io));
        keeper.round(&told(1));
        let left = disk.files().into_iter().filter(|path| path.starts_with("/data/replaced"));
        (disk.operations().split_off(before), left.count())
    };
    let (operations, left) = delete_with(None);
    assert_eq!(left, 0);
    let is_removal = |o: &Operation| o.action == "remove" && o.path.starts_with("/data/replaced");
    let first = operations.iter().position(is_removal).unwrap();
    assert_eq!(delete_with(Some(first + 1)).1, 1);
}

/// Opens what is left of a disk, checks it, and lets upkeep come to its end there.
fn recovers(disk: &SimulatedDisk, context: &str) {
    let mut publisher = Publisher::open_on(files(disk)).unwrap();
    assert_whole(&rows(disk, &publisher), context);
    for directory in publisher.part_directories().unwrap() {
        publisher.collect_orphans(&directory).unwrap();
    }
    assert_whole(&globbed(disk), context);
    let mut keeper = keeper_with(publisher, settings());
    keeper.round(&told(0));
    // What retention did not get to waits for its next turn.
    keeper.round(&told(2));
    let publisher = Publisher::open_on(files(disk)).unwrap();
    assert_eq!(rows(disk, &publisher), expected(false), "{context}");
    assert_eq!(globbed(disk), expected(false), "{context}");
    let uncommitted = |path: &PathBuf| path.to_string_lossy().ends_with(UNCOMMITTED);
    assert!(!disk.files().iter().any(uncommitted), "{context}");
    assert_eq!(publisher.manifest().parts().count(), 3, "{context}");
    assert!(!disk.files().iter().any(|path| path.starts_with("/data/orphans")), "{context}");
}

/// One round with a fault at its `nth` operation; none: there are not so many.
fn round_with(fault: Fault, nth: usize) -> Option<(SimulatedDisk, String)> {
    let disk = filled_disk();
    let mut keeper = keeper(&disk);
    let before = disk.operations().len();
    disk.plan(nth, fault);
    keeper.round(&told(0));
    let operations = disk.operations();
    let operation = operations.get(before + nth - 1)?;
    Some((disk, format!("{fault:?} at operation {nth}, {operation}")))
}

#[test]
fn a_round_cut_off_at_any_operation_leaves_every_row_once() {
    for fault in [Fault::Crash, Fault::CrashWithin] {
        let mut nth = 1;
        while let Some((disk, context)) = round_with(fault, nth) {
            for after in [
                After::Kill,
                After::PowerLoss { seed: 0 },
                After::PowerLoss { seed: 1 },
                After::PowerLoss { seed: 7 + u64::try_from(nth).unwrap() },
            ] {
                recovers(&disk.survivors(after), &format!("{context}, {after:?}"));
            }
            nth += 1;
        }
        assert!(nth > 100, "only {nth} operations");
    }
}

#[test]
fn a_round_that_the_disk_refuses_anything_leaves_every_row_once() {
    let mut nth = 1;
    // The others differ from EIO at one kind of operation each.
    while let Some((disk, context)) = round_with(Fault::Io, nth) {
        recovers(&disk.survivors(After::Kill), &context);
        let other = Fault::SURVIVABLE[nth % Fault::SURVIVABLE.len()];
        if let Some((disk, context)) = round_with(other, nth) {
            recovers(&disk.survivors(After::Kill), &context);
        }
        nth += 1;
    }
    assert!(nth > 100, "only {nth} operations");
}

#[test]
fn a_damaged_part_is_told_once_and_the_rest_is_merged() {
    let disk = filled_disk();
    let mut publisher = Publisher::open_on(files(&disk)).unwrap();
    add_usage(&mut publisher, 5, TODAY + 2000);
    let damaged = publisher.manifest().parts().find(|p| p.min_time_us == TODAY).unwrap().clone();
    disk.tamper(&Path::new(DATA).join(&damaged.path), |content| content[20] ^= 1);
    let mut keeper = keeper_with(publisher, settings());
    let events = keeper.round(&told(0));
    let failed: Vec<_> = events.iter().filter(|e| e.kind == "compaction_failed").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].severity, "error");
    assert!(failed[0].message.contains(&damaged.path), "{}", failed[0].message);
    assert_eq!((keeper.status().compactions, keeper.status().left_alone), (2, 1));
    assert!(keeper.round(&told(0)).is_empty());
    let publisher = Publisher::open_on(files(&disk)).unwrap();
    assert!(publisher.manifest().part(&damaged.path).is_some());
}

#[test]
fn a_disk_without_room_is_told_once_and_waited_for() {
    let disk = filled_disk();
    let little = |_: &Files| Ok(Room { free_bytes: 1_000_000, reserve_bytes: 999_000 });
    let publisher = Publisher::open_on(files(&disk)).unwrap();
    let mut keeper = keeper_with(publisher, Settings { room: little, ..settings() });
    let events = keeper.round(&told(0));
    let failed: Vec<_> = events.iter().filter(|e| e.kind == "compaction_failed").collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].message.contains("make room on the disk"), "{}", failed[0].message);
    assert_eq!(keeper.status().compaction_failures, 1);
    // Not tried again at once, and then not told again.
    keeper.round(&told(0));
    assert_eq!(keeper.status().compaction_failures, 1);
    assert!(keeper.round(&told(1)).is_empty());
    assert_eq!((keeper.status().compaction_failures, keeper.status().compactions), (2, 0));
    assert!(keeper.status().compaction_error.is_some());
}

#[test]
fn one_day_of_a_table_goes_in_an_hour() {
    let disk = filled_disk();
    let mut publisher = Publisher::open_on(files(&disk)).unwrap();
    add_usage(&mut publisher, 7, TODAY - 600 * DAY);
    add_usage(&mut publisher, 8, TODAY - 550 * DAY);
    let mut keeper = keeper_with(publisher, settings());
    for (hours, rows) in [(0, 2), (0, 2), (1, 4), (2, 6), (3, 6)] {
        keeper.round(&told(hours));
        assert_eq!(keeper.status().retired_rows, rows, "after {hours} h");
    }
}

#[test]
fn a_clock_in_2099_pauses_retention_and_is_told_once() {
    let disk = filled_disk();
    let mut keeper = keeper(&disk);
    keeper.round(&told(0));
    let far = 4_070_908_800_000_000;
    {
        let mut publisher = Publisher::open_on(files(&disk)).unwrap();
        let slot = Slot { slot_start: far, ..Slot::default() };
        add(&mut publisher, Slot::TABLE, &Slot::to_batch(&[slot]).unwrap(), far);
    }
    let mut keeper = keeper_with(Publisher::open_on(files(&disk)).unwrap(), settings());
    let wrong = |hours| Told { wall_us: far + hours * HOUR, ..told(hours) };
    let events = keeper.round(&wrong(2));
    let paused: Vec<_> = events.iter().filter(|e| e.message.contains("pauses")).collect();
    assert_eq!(paused.len(), 1);
    assert!(keeper.status().retention_paused);
    assert!(keeper.round(&wrong(3)).iter().all(|event| event.kind != "retention"));
    keeper.round(&told(4));
    assert!(!keeper.status().retention_paused);
    let publisher = Publisher::open_on(files(&disk)).unwrap();
    assert_eq!(rows(&disk, &publisher), expected(false));
}

#[test]
fn what_is_kept_for_ever_stays() {
    let disk = filled_disk();
    let keep = Keep { usage: Keep::FOREVER, ..Keep::default() };
    let publisher = Publisher::open_on(files(&disk)).unwrap();
    let mut keeper = keeper_with(publisher, Settings { compact: None, keep, ..settings() });
    keeper.round(&told(0));
    let publisher = Publisher::open_on(files(&disk)).unwrap();
    assert_eq!(rows(&disk, &publisher), expected(true));
    assert_eq!(publisher.manifest().parts().count(), 6);
}

#[test]
fn a_damaged_state_is_written_anew() {
    let disk = filled_disk();
    keeper(&disk).round(&told(0));
    disk.tamper(Path::new("/data/upkeep.json"), |content| content.truncate(7));
    keeper(&disk).round(&told(1));
    let publisher = Publisher::open_on(files(&disk)).unwrap();
    assert_eq!(rows(&disk, &publisher), expected(false));
    let state: serde_json::Value =
        serde_json::from_slice(&disk.content(Path::new("/data/upkeep.json")).unwrap()).unwrap();
    assert!(state["replaced"].as_object().is_some_and(|replaced| replaced.len() == 5));
}
