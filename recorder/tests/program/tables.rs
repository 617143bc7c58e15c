//! The tables, read as any reader does: the list from the manifest, the rows from the files.

use std::fs::{self, File};
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemas::manifest::Delta;

/// The `seq` and `bytes_up` of every row of `usage`, in the order of `seq`.
pub(crate) fn usage(data: &Path) -> Vec<(i64, i64)> {
    let mut rows = Vec::new();
    for batch in batches(data, "usage") {
        let column = |name| {
            batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec()
        };
        rows.extend(column("seq").into_iter().zip(column("bytes_up")));
    }
    rows.sort_unstable();
    rows
}

/// How many rows a table has.
pub(crate) fn count(data: &Path, table: &str) -> usize {
    batches(data, table).iter().map(RecordBatch::num_rows).sum()
}

fn batches(data: &Path, table: &str) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    for part in deltas(data).into_iter().flat_map(|delta| delta.add) {
        if part.table == table {
            let file = File::open(data.join(&part.path)).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            batches.extend(reader.map(Result::unwrap));
        }
    }
    batches
}

fn deltas(data: &Path) -> Vec<Delta> {
    let entries = fs::read_dir(data.join("manifest")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}
