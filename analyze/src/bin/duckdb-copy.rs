//! What DuckDB takes to write rows of the account as Parquet, for `bench-account`: on one thread,
//! from its own memory, and from the text that another program would hand it. Reading the parts in
//! beforehand does not count.
//!
//! Prints one object: rows, and for each way seconds of processor time.

#![forbid(unsafe_code)]

use std::path::Path;
use std::{env, fs, process};

use analyze::sql::text;
use duckdb::Connection;

/// As the recorder compresses.
const PARQUET: &str = "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)";

fn main() -> duckdb::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [parts, scratch] = &arguments[..] else {
        eprintln!("usage: duckdb-copy 'PARTS/**/*.parquet' DIRECTORY");
        process::exit(64);
    };
    let at = |name: &str| text(&Path::new(scratch).join(name).to_string_lossy());
    let duckdb = Connection::open_in_memory()?;
    let parts = text(parts);
    duckdb.execute_batch(&format!(
        "SET threads = 1; CREATE TABLE account AS FROM read_parquet({parts}, hive_partitioning = false);
         COPY account TO {}",
        at("account.csv")
    ))?;
    let rows: i64 = one(&duckdb, "SELECT count(*) FROM account")?;
    let columns: String = one(
        &duckdb,
        "SELECT string_agg('''' || column_name || ''': ''' || data_type || '''', ', ')
         FROM duckdb_columns() WHERE table_name = 'account'",
    )?;
    let csv = format!("(FROM read_csv({}, columns = {{{columns}}}))", at("account.csv"));
    let from_memory = copy(&duckdb, "account", &at("memory.parquet"))?;
    let from_csv = copy(&duckdb, &csv, &at("csv.parquet"))?;
    println!("{{\"rows\":{rows},\"memory_s\":{from_memory},\"csv_s\":{from_csv}}}");
    Ok(())
}

/// Seconds of processor time of one COPY.
fn copy(duckdb: &Connection, from: &str, to: &str) -> duckdb::Result<f64> {
    let before = processor_time();
    duckdb.execute_batch(&format!("COPY {from} TO {to} {PARQUET}"))?;
    Ok(processor_time() - before)
}

/// Seconds that this process has used, in user and kernel mode, in steps of 10 ms: fields 14 and 15
/// of proc_pid_stat(5). 0 where there is no such file.
fn processor_time() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    fields.take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn one<T: duckdb::types::FromSql>(duckdb: &Connection, question: &str) -> duckdb::Result<T> {
    duckdb.query_row(question, [], |row| row.get(0))
}
