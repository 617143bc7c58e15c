//! The tables, read as any reader does: the list from the manifest, the rows from the files.

use std::collections::BTreeSet;
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
    for path in parts(data, table) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(open(data, &path)).unwrap();
        batches.extend(reader.build().unwrap().map(Result::unwrap));
    }
    batches
}

/// The parts that the manifest names: those of hours that are over are merged while we look on.
fn parts(data: &Path, table: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(data.join("manifest")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut parts: BTreeSet<String> = BTreeSet::new();
    for path in paths {
        let delta: Delta = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        parts.retain(|path| !delta.remove.contains(path));
        let of_table = delta.add.into_iter().filter(|part| part.table == table);
        parts.extend(of_table.map(|part| part.path));
    }
    parts
}

/// A part under its name, the one it has until it is committed, or where it is put once replaced.
fn open(data: &Path, path: &str) -> File {
    let names =
        [path.to_owned(), format!("{path}.new"), path.to_owned(), format!("replaced/{path}")];
    names.iter().find_map(|name| File::open(data.join(name)).ok()).expect(path)
}
