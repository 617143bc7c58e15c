//! How long `analyze` takes for an answer over tens of millions of rows, beside DuckDB, which is
//! asked the same over the same files, and nfdump, which has as many records.

#![forbid(unsafe_code)]

mod account;
mod flows;
mod question;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use e2e_tests::figures::{self, Goal, Results};

use account::Account;
use question::Test;
use run::Took;

/// What an answer may take, of what DuckDB takes for the same.
const TO_DUCKDB: Goal = Goal::AtMost(1.2);
/// What an answer may take, of what nfdump takes.
const TO_NFDUMP: Goal = Goal::AtMost(1.0);
const MEMORY_MIB: Goal = Goal::AtMost(4096.0);

const SAID: &str = "# How long analyze takes

Medians of the rounds with their spread (lowest..highest), from the start of a program to its end, with the files in \
    the page cache. In each round analyze and the other one answer in turn. DuckDB is asked what an able person would \
    type for the same columns over the same Parquet files; nfdump has a flow record for each row of usage, with the \
    same address and bytes. The answers are held against each other.";

/// Measures `analyze` over a made-up account, beside DuckDB and nfdump.
///
/// The account is made once and kept. Prints a table of medians with their spread and writes it as
/// bench-analyze.md and bench-analyze.json. Whatever the times, it ends with 0; an answer that is
/// another one is an error.
#[derive(Debug, Parser)]
#[command(name = "bench-analyze", version)]
struct Options {
    /// These tests alone.
    #[arg(long, value_name = "TEST", value_delimiter = ',')]
    only: Vec<Test>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Sessions of the account; of usage there is a tenth more.
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    sessions: u64,
    /// Customers of the account.
    #[arg(long, value_name = "C", default_value_t = 1000)]
    customers: u16,
    /// Where accounts are kept: 2.5 GB for 20 million sessions [default: bench/ in the build
    /// directory].
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Where the results go [default: bench/ in the build directory].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-analyze: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    let keep = options.keep.clone().map_or_else(figures::beside_the_build, Ok)?;
    let account = Account::of(&keep, options.sessions, options.customers)?;
    let tests = match &options.only[..] {
        [] => Test::value_variants(),
        chosen => chosen,
    };
    let mut results = Results::default();
    for test in tests {
        eprintln!("bench-analyze: {}", test.name());
        let scratch = tempfile::Builder::new().prefix("weir-").tempdir()?;
        let Some(mut question) = test.question(&account, scratch.path())? else { continue };
        // The first time the files are read from the disk.
        question.ask()?;
        for _ in 0..options.rounds {
            let [ours, theirs] = question.ask()?;
            add(*test, &ours, &theirs, &mut results);
        }
    }
    results.publish("bench-analyze", SAID, options.out.as_deref())
}

fn add(test: Test, ours: &Took, theirs: &Took, results: &mut Results) {
    let (theirs_in, ratio, goal) = match test {
        Test::Top => ("nfdump, s", "times of nfdump's time", TO_NFDUMP),
        _ => ("DuckDB, s", "times of DuckDB's time", TO_DUCKDB),
    };
    let mut add = |figure, value, goal| results.add(test.name(), figure, value, goal);
    add("analyze, s", ours.wall_s, None);
    add(theirs_in, theirs.wall_s, None);
    add(ratio, ours.wall_s / theirs.wall_s, Some(goal));
    add("times of its processor time", ours.processor_s / theirs.processor_s.max(0.01), None);
    add("analyze's memory at most, MiB", ours.peak_mib, Some(MEMORY_MIB));
    add("the other's memory at most, MiB", theirs.peak_mib, None);
}
