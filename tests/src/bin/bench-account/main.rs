//! What the account costs, and whether it keeps up: the recorder's way from the socket to published
//! Parquet, and an outage of the recorder with everything that follows it.

#![forbid(unsafe_code)]

mod catch_up;
mod ingest;
mod outage;
mod peers;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use e2e_tests::figures::Results;

const SAID: &str = "# What the account costs

Senders, clients and servers share the cores. Medians of the rounds with their spread (lowest..highest). A core is a \
    second of the recorder's processor time, whatever it is spent on: socket, log with fsync, Parquet. Others do less for \
    a record: nfcapd (IPFIX of nine fields over UDP, LZ4) acknowledges and syncs nothing; DuckDB (one thread, ZSTD 3) \
    writes the very same rows as Parquet and nothing else, while the recorder writes a row of usage with each session \
    besides.";

/// Measures the account by itself, on this machine: what the recorder takes in per core, and what
/// becomes of an hour without a recorder.
///
/// Prints a table of medians with their spread and writes it as bench-account.md and
/// bench-account.json. Whatever the times, it ends with 0; only what breaks (a row that is missing, a
/// process that dies) is an error.
#[derive(Debug, Parser)]
#[command(name = "bench-account", version)]
struct Options {
    /// These tests alone.
    #[arg(long, value_name = "TEST", value_delimiter = ',')]
    only: Vec<Test>,
    /// How often ingest is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Sessions, or rows of usage, of a round of ingest.
    #[arg(long, value_name = "N", default_value_t = 400_000)]
    rows: usize,
    /// How long clients come without a recorder, and before that with one.
    #[arg(long, value_name = "S", default_value_t = 30)]
    seconds: u64,
    /// Sessions that wait in the spool of the catch-up; an hour at 1,000 a second by default.
    #[arg(long, value_name = "N", default_value_t = 3_600_000)]
    waiting: usize,
    /// Where the results go [default: bench/ in the build directory].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Test {
    /// Session records, each with a row of usage, from the socket to published Parquet.
    Sessions,
    /// Rows of usage, likewise.
    Usage,
    /// Clients come while the recorder is away.
    Outage,
    /// A spool of an hour is delivered.
    CatchUp,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-account: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let tests = match &options.only[..] {
        [] => Test::value_variants(),
        chosen => chosen,
    };
    let mut results = Results::default();
    for test in tests {
        eprintln!("bench-account: {}", test.to_possible_value().map_or("", |_| test.doing()));
        match test {
            Test::Sessions | Test::Usage => {
                for _ in 0..options.rounds {
                    ingest::run(*test == Test::Usage, options.rows, &mut results)?;
                }
            }
            Test::Outage => outage::run(options.seconds, &mut results)?,
            Test::CatchUp => catch_up::run(options.waiting, &mut results)?,
        }
    }
    results.publish("bench-account", SAID, options.out.as_deref())
}

impl Test {
    const fn doing(self) -> &'static str {
        match self {
            Self::Sessions => "sessions from the socket to published Parquet",
            Self::Usage => "rows of usage from the socket to published Parquet",
            Self::Outage => "clients come while the recorder is away",
            Self::CatchUp => "a spool of an hour is delivered",
        }
    }
}
