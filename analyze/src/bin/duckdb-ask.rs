//! DuckDB alone, as somebody has it who types a question over the parts: for `bench-analyze`.

#![forbid(unsafe_code)]

use std::{env, process};

use duckdb::Connection;

fn main() -> duckdb::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [statements] = &arguments[..] else {
        eprintln!("usage: duckdb-ask \"COPY (SELECT …) TO 'FILE'\"");
        process::exit(64);
    };
    Connection::open_in_memory()?.execute_batch(statements)
}
