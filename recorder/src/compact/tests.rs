//! Merges of real Parquet files, and what is left of them when something is wrong.

use std::fs::{self, File};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use proptest::collection::vec;
use proptest::prelude::*;
use schemas::manifest::Part;
use schemas::table::{Event, Usage};
use sha2::{Digest, Sha256};

use super::*;
use crate::data_dir::Group;
use crate::files::Files;
use crate::publish::format;
use crate::recover::PartMarks;

const DIRECTORY: &str = "accounting/usage/date=2026-10-31";
/// 2026-10-31T00:00:00Z.
const DAY: i64 = 1_793_404_800_000_000;

/// A data directory with parts in it.
struct Store {
    data: tempfile::TempDir,
    parts: Vec<Part>,
}

impl Store {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir_all(data.path().join(DIRECTORY)).unwrap();
        Self { data, parts: Vec::new() }
    }

    /// Adds a part with these rows, sorted as parts are.
    fn add(&mut self, mut rows: Vec<Usage>) {
        rows.sort_by(|a, b| key(a).cmp(&key(b)));
        let times = rows.iter().map(|row| row.slot_start);
        let times = (times.clone().min().unwrap(), times.max().unwrap());
        self.add_batch(&Usage::to_batch(&rows).unwrap(), times);
    }

    fn add_batch(&mut self, batch: &RecordBatch, (min_time_us, max_time_us): (i64, i64)) {
        let frame = self.parts.len() + 1;
        let path = format!("{DIRECTORY}/log-{frame:020}.parquet");
        let segment = KeyValue::new(format::SEGMENT.to_owned(), format!("{frame}-{frame}"));
        let marks = format!(
            r#"{{"spools":[],"boots":[{{"node":"edge","boot":"k3f9x2ab","last_seq":{frame}}}]}}"#
        );
        let marks = KeyValue::new(format::MARKS.to_owned(), marks);
        let file = File::create(self.data.path().join(&path)).unwrap();
        let properties = format::properties(Usage::TABLE, vec![segment, marks]);
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        let bytes = fs::read(self.data.path().join(&path)).unwrap();
        self.parts.push(Part {
            table: "usage".into(),
            path,
            rows: batch.num_rows().try_into().unwrap(),
            bytes: bytes.len().try_into().unwrap(),
            min_time_us,
            max_time_us,
            sha256: Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        });
    }

    /// All parts as one step.
    fn step(&self) -> Step {
        let steps = plan(self.parts.iter(), 42, Rhythm::Hourly, i64::MAX);
        assert_eq!(steps.len(), 1);
        steps.into_iter().next().unwrap()
    }

    fn files(&self) -> Files {
        Files::new(self.data.path(), Group::nobody())
    }

    fn merge(&self, step: &Step) -> Result<Merged, StepError> {
        merge(&self.files(), step, &|| false)
    }

    fn uncommitted(&self) -> Vec<String> {
        let names = fs::read_dir(self.data.path().join(DIRECTORY)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".new")).collect()
    }

    fn read(&self, part: &Part) -> RecordBatch {
        let path = self.data.path().join(format!("{}.new", part.path));
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        concat_batches(&Usage::schema(), &batches).unwrap()
    }
}

fn key(row: &Usage) -> (i64, &str, &str, i64, i32) {
    (row.slot_start, &row.node, &row.boot, row.session_no, row.interval_seq)
}

fn row(time: i64, node: &str, session_no: i64) -> Usage {
    Usage {
        node: node.into(),
        boot: format!("boot-{node}"),
        session_no,
        seq: (session_no % 3 > 0).then_some(session_no),
        slot_start: DAY + time,
        customer: (session_no % 2 > 0).then(|| format!("customer-{session_no}")),
        client_ip: format!("192.0.2.{session_no}"),
        bytes_up: 1000 + session_no,
        ..Usage::default()
    }
}

fn three_parts() -> Store {
    let mut store = Store::new();
    store.add((0..300).map(|n| row(n * 1000, "a", n)).collect());
    store.add((0..300).map(|n| row(n * 1000, "b", n)).collect());
    store.add((0..300).map(|n| row(250_000 + n * 1000, "a", 1000 + n)).collect());
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However rows are spread over parts, their merge is all of them in the one order.
    #[test]
    fn a_merge_is_all_rows_in_their_order(
        rows in vec((0_i64..20, "[ab]", 0_i64..50, 0_usize..6), 2..400),
    ) {
        let mut store = Store::new();
        let mut all = Vec::new();
        for part in 0..6 {
            let of_part: Vec<_> = rows
                .iter()
                .filter(|row| row.3 == part)
                .map(|(time, node, session_no, _)| row(*time, node, *session_no))
                .collect();
            if !of_part.is_empty() {
                store.add(of_part.clone());
                all.extend(of_part);
            }
        }
        prop_assume!(store.parts.len() > 1);
        let merged = store.merge(&store.step()).unwrap();
        prop_assert_eq!(merged.parts.len(), 1);
        all.sort_by(|a, b| key(a).cmp(&key(b)));
        // Rows of equal keys are equal here, so there is one right answer.
        prop_assert_eq!(store.read(&merged.parts[0]), as_read(&Usage::to_batch(&all).unwrap()));
    }
}

/// Dictionaries compare by what they stand for when they are made alike.
fn as_read(batch: &RecordBatch) -> RecordBatch {
    let mut store = Store::new();
    store.add_batch(batch, (0, 0));
    let path = store.data.path().join(&store.parts[0].path);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&Usage::schema(), &batches).unwrap()
}

#[test]
fn the_manifest_is_told_what_the_merged_part_is() {
    let store = three_parts();
    let merged = store.merge(&store.step()).unwrap();
    let [part] = &merged.parts[..] else { panic!("{merged:?}") };
    assert_eq!((merged.rows, part.rows), (900, 900));
    assert_eq!((part.min_time_us, part.max_time_us), (DAY, DAY + 549_000));
    let bytes = fs::read(store.data.path().join(format!("{}.new", part.path))).unwrap();
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((part.bytes, &part.sha256), (u64::try_from(bytes.len()).unwrap(), &hash));
}

#[test]
fn the_footer_names_order_frames_marks_and_what_is_replaced() {
    let store = three_parts();
    let merged = store.merge(&store.step()).unwrap();
    let path = store.data.path().join(format!("{}.new", merged.parts[0].path));
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let footer = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let value = |key: &str| {
        let pair = footer.iter().find(|pair| pair.key == key);
        pair.and_then(|pair| pair.value.clone()).unwrap_or_default()
    };
    assert_eq!((value("weir.schema").as_str(), value("weir.segment").as_str()), ("1.0", "1-3"));
    assert_eq!(value("weir.replaces").split(' ').count(), 3);
    let marks: PartMarks = serde_json::from_str(&value("weir.marks")).unwrap();
    let boots: Vec<_> = marks.boots.iter().map(|mark| (&*mark.boot, mark.last_seq)).collect();
    assert_eq!(boots, [("k3f9x2ab", 3)], "as far as the furthest of the three");
    assert!(value("weir.replaces").starts_with("log-00000000000000000001.parquet "));
    let sorted = reader.metadata().row_group(0).sorting_columns().unwrap();
    let names: Vec<_> = sorted
        .iter()
        .map(|c| Usage::TABLE.columns[usize::try_from(c.column_idx).unwrap()].name)
        .collect();
    assert_eq!(names, ["slot_start", "node", "boot", "session_no", "interval_seq"]);
}

#[test]
fn a_step_done_again_makes_the_same_bytes() {
    let store = three_parts();
    let once = store.merge(&store.step()).unwrap();
    assert_eq!(store.merge(&store.step()).unwrap(), once);
    assert_eq!(three_parts().merge(&store.step()).unwrap(), once);
}

#[test]
fn a_part_that_would_be_too_large_becomes_several_of_times_one_after_the_other() {
    let mut store = Store::new();
    for part in 0..4 {
        let noise = |n: i64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()) >> 20).abs();
        let wild = |n: i64| Usage { bytes_up: noise(n), bytes_down: noise(!n), ..row(n, "a", n) };
        store.add((0..40_000).map(|n| wild(n * 4 + part)).collect());
    }
    let max_part_bytes = 512 << 10;
    let step = Step { max_part_bytes, ..store.step() };
    let merged = store.merge(&step).unwrap();
    assert!(merged.parts.len() > 2, "{}", merged.parts.len());
    assert_eq!(merged.parts.iter().map(|part| part.rows).sum::<u64>(), 160_000);
    for pair in merged.parts.windows(2) {
        assert!(pair[0].max_time_us < pair[1].min_time_us);
        assert!((max_part_bytes / 4..=max_part_bytes).contains(&pair[0].bytes), "{pair:?}");
    }
    assert_eq!(store.uncommitted().len(), merged.parts.len());
}

#[test]
fn a_damaged_part_is_named_and_nothing_is_left_behind() {
    let store = three_parts();
    let step = store.step();
    let whole = fs::read(store.data.path().join(&step.inputs[1].path)).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        fs::write(store.data.path().join(&step.inputs[1].path), flipped).unwrap();
        let failed = store.merge(&step).unwrap_err();
        assert!(failed.to_string().contains("damaged: its SHA-256"), "{failed}");
        assert_eq!(failed.hopeless(&step, &store.files()), [step.inputs[1].path.clone()]);
        assert!(store.uncommitted().is_empty());
    }
    fs::remove_file(store.data.path().join(&step.inputs[1].path)).unwrap();
    let failed = store.merge(&step).unwrap_err();
    assert!(failed.to_string().contains("it is missing"), "{failed}");
    assert_eq!(failed.hopeless(&step, &store.files()), [step.inputs[1].path.clone()]);
}

#[test]
fn a_part_that_is_not_what_the_manifest_says_is_left_alone() {
    let mut store = three_parts();
    store.parts[0].rows += 1;
    let failed = store.merge(&store.step()).unwrap_err();
    assert!(failed.to_string().contains("300 rows instead of 301"), "{failed}");
    assert_eq!(failed.hopeless(&store.step(), &store.files()), [store.parts[0].path.clone()]);
}

#[test]
fn a_part_under_its_uncommitted_name_is_found() {
    let store = three_parts();
    let path = store.data.path().join(&store.parts[0].path);
    fs::rename(&path, path.with_extension("parquet.new")).unwrap();
    assert_eq!(store.merge(&store.step()).unwrap().rows, 900);
}

/// The first columns of the table's, and then others.
fn with_columns(count: usize, more: Option<(Field, ArrayRef)>) -> RecordBatch {
    let batch = Usage::to_batch(&[row(0, "a", 1)]).unwrap();
    let mut fields: Vec<_> = batch.schema().fields()[..count].to_vec();
    let mut columns = batch.columns()[..count].to_vec();
    if let Some((field, column)) = more {
        fields.push(Arc::new(field));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn a_part_of_a_newer_version_is_left_alone() {
    let mut store = three_parts();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let all = Usage::TABLE.columns.len();
    let newer = with_columns(all, Some((Field::new("dscp", DataType::Int64, true), column)));
    store.add_batch(&newer, (DAY, DAY));
    let failed = store.merge(&store.step()).unwrap_err();
    assert!(failed.to_string().contains("does not know: column dscp"), "{failed}");
    assert_eq!(failed.hopeless(&store.step(), &store.files()), [store.parts[3].path.clone()]);
}

#[test]
fn a_column_that_an_older_version_did_not_write_is_null_or_the_part_is_left_alone() {
    let schema = Event::schema();
    let rows = [Event { message: "old".into(), ..Event::default() }];
    let whole = Event::to_batch(&rows).unwrap();
    let old = whole.project(&(0..schema.fields().len() - 1).collect::<Vec<_>>()).unwrap();
    let found = input::conform(&old, &schema).unwrap();
    assert!(found.column_by_name("attributes").unwrap().is_null(0));
    // A column that may not be NULL cannot be made up.
    input::conform(&with_columns(5, None), &Usage::schema()).unwrap_err();
}

#[test]
fn a_step_that_is_to_stop_leaves_nothing() {
    let store = three_parts();
    for asked in 0_usize..5 {
        let left: std::cell::Cell<usize> = std::cell::Cell::new(asked);
        let stop = || left.replace(left.get().saturating_sub(1)) == 0;
        let stopped = merge(&store.files(), &store.step(), &stop);
        assert!(matches!(stopped, Err(StepError::Stopped)) || asked == 4, "{stopped:?}");
        assert!(stopped.is_ok() || store.uncommitted().is_empty());
    }
}
