//! Readers beside compaction: `analyze`, which goes by the manifest, and a stranger, who goes by the
//! names of files.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use bytes::{Bytes, BytesMut};
use e2e_tests::wait;
use journal::Journal;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use recorder::compact::Rhythm;
use recorder::data_dir::{DataDir, Group};
use recorder::log::SealedSegment;
use recorder::publish::Publisher;
use recorder::retain::{Keep, Uptime};
use recorder::upkeep::{Keeper, Room, Settings, Told};
use schemas::table::Usage;
use schemas::vocab::SpoolId;
use schemas::wire::{Frame, FrameKind, Received, Rows};

const DAY: i64 = 86_400_000_000;
/// 2026-10-31T00:00:00Z.
const FIRST: i64 = 1_793_404_800_000_000;
const DAYS: i64 = 60;
const PARTS_A_DAY: i64 = 3;
const ROWS_A_PART: i64 = 50;
const ROWS: i64 = DAYS * PARTS_A_DAY * ROWS_A_PART;

/// A frame with some rows of a day.
fn frame(number: i64) -> Vec<u8> {
    let seq = number * ROWS_A_PART;
    let day = FIRST + number / PARTS_A_DAY * DAY;
    let row = |n| Usage {
        seq: Some(seq + n + 1),
        slot_start: day + n,
        bytes_up: 1000 + n,
        ..Usage::default()
    };
    let rows = Rows {
        node: "edge-1".into(),
        boot: "aaaaaaaa".into(),
        usage: (0..ROWS_A_PART).map(row).collect(),
        ..Rows::default()
    };
    let mut frame = BytesMut::new();
    let number = u64::try_from(number).unwrap() + 1;
    Frame::message(FrameKind::Rows, number, &rows).encode(&mut frame);
    Received { node: "edge-1".into(), spool_id: 7, frame: frame.freeze(), ..Received::default() }
        .encode_to_vec()
}

fn publish_all(data: &Path) -> Publisher {
    drop(DataDir::claim(data).unwrap());
    let mut publisher = Publisher::open(data, Group::nobody()).unwrap();
    let log = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(log.path(), journal::Settings::new(SpoolId(1))).unwrap();
    for number in 0..DAYS * PARTS_A_DAY {
        journal.append(FrameKind::Received, Bytes::from(frame(number))).unwrap();
        journal.seal().unwrap();
    }
    let mut segments: Vec<_> = journal.segments().collect();
    segments.pop();
    for s in segments {
        let segment =
            SealedSegment { path: s.path, first_frame: s.first_frame, last_frame: s.last_frame };
        publisher.publish(&segment).unwrap();
    }
    publisher
}

fn sum() -> i64 {
    DAYS * PARTS_A_DAY * (0..ROWS_A_PART).map(|n| 1000 + n).sum::<i64>()
}

/// What `analyze` answers, or complains of.
fn ask_analyze(data: &Path) -> String {
    let question = "select count(*)::bigint as rows, sum(bytes_up)::bigint as bytes from usage";
    let asked = Command::new(e2e_tests::binary::path("analyze"))
        .arg("--data")
        .arg(data)
        .args(["sql", question, "--format", "csv"])
        .output()
        .unwrap();
    let said = if asked.status.success() { asked.stdout } else { asked.stderr };
    String::from_utf8_lossy(&said).replace('\r', "")
}

/// What a glob has; none: a file went while it was read.
fn ask_glob(data: &Path) -> Option<(i64, i64)> {
    let mut parts: Vec<PathBuf> = Vec::new();
    for date in std::fs::read_dir(data.join("accounting/usage")).ok()? {
        for file in std::fs::read_dir(date.ok()?.path()).ok()? {
            parts.push(file.ok()?.path());
        }
    }
    parts.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    let (mut rows, mut bytes) = (0, 0);
    for path in parts {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).ok()?).ok()?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["bytes_up"]);
        for batch in builder.with_projection(mask).build().ok()? {
            let batch = batch.ok()?;
            let values = batch.column(0).as_primitive::<Int64Type>().clone();
            rows += i64::try_from(values.len()).ok()?;
            bytes += values.values().iter().sum::<i64>();
        }
    }
    Some((rows, bytes))
}

fn plenty(_: &recorder::files::Files) -> std::io::Result<Room> {
    Ok(Room { free_bytes: u64::MAX, reserve_bytes: 0 })
}

#[test]
fn readers_see_the_same_rows_while_parts_are_merged_under_them() {
    let data = tempfile::tempdir().unwrap();
    let publisher = publish_all(data.path());
    let settings = Settings { compact: Some(Rhythm::Hourly), keep: Keep::default(), room: plenty };
    let stop = Arc::new(AtomicBool::new(false));
    let mut keeper = Keeper::new(Arc::new(Mutex::new(publisher)), settings, Arc::clone(&stop));

    let (asked, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let wrong_answers = Mutex::new(Vec::new());
    let (globbed, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Counted before, so that the merge falls into the question.
                asked.fetch_add(1, Ordering::Relaxed);
                let answer = ask_analyze(data.path());
                if answer != format!("rows,bytes\n{ROWS},{}\n", sum()) {
                    wrong_answers.lock().unwrap().push(answer);
                }
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                globbed.fetch_add(1, Ordering::Relaxed);
                if ask_glob(data.path()) != Some((ROWS, sum())) {
                    wrong.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let merged = merge_day_by_day(&mut keeper, &asked);
        done.store(true, Ordering::Relaxed);
        assert_eq!(merged, Some(u64::try_from(DAYS).unwrap()));
    });
    let wrong_answers = wrong_answers.into_inner().unwrap();
    println!(
        "{} questions to analyze, {} answered wrongly or not; {} globs, {} of them wrong",
        asked.into_inner(),
        wrong_answers.len(),
        globbed.into_inner(),
        wrong.into_inner()
    );
    assert_eq!(wrong_answers, [""; 0]);
    assert_eq!(ask_glob(data.path()), Some((ROWS, sum())));
    assert_eq!(keeper.status().made_parts, u64::try_from(DAYS).unwrap());
}

/// Lets one day more be over with each question to `analyze`, later and later within the question.
/// None: nobody asks any more.
fn merge_day_by_day(keeper: &mut Keeper, asked: &AtomicUsize) -> Option<u64> {
    let (_quiet, nothing) = channel::<()>();
    for day in 1..=DAYS {
        let before = asked.load(Ordering::Relaxed);
        wait::within(wait::DEADLINE, || (asked.load(Ordering::Relaxed) > before).then_some(()))?;
        let within = Duration::from_micros(u64::try_from(day).unwrap() * 1500);
        nothing.recv_timeout(within).unwrap_err();
        let uptime = Uptime { kernel_boot: "a".into(), us: day };
        keeper.round(&Told { wall_us: FIRST + day * DAY + DAY / 2, uptime });
    }
    Some(keeper.status().compactions)
}
