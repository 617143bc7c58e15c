//! Reports, lookups and captures from the tables, with embedded DuckDB.
//!
//! Reads a recorder's data directory and never writes to it. The way of an answer: [`cli`] (what
//! was typed), [`dataset`] (which files are the tables), [`database`] (views over them), a module of
//! [`command`] with its question in `query/*.sql`, [`report`] (how the answer is written).

#![forbid(unsafe_code)]

pub mod bill;
pub mod cell;
pub mod cli;
pub mod command;
pub mod coverage;
pub mod database;
pub mod dataset;
pub mod exact;
pub mod expression;
pub mod failure;
pub mod figures;
pub mod manifest;
pub mod network;
pub mod pcap;
pub mod percentile;
pub mod period;
pub mod progress;
pub mod prompt;
pub mod rating;
pub mod report;
pub mod sandbox;
pub mod scratch;
pub mod sql;
pub mod tariff;
pub mod verify;

use std::path::Path;
use std::thread;
use std::time::Duration;

use cli::Command;
use command::Verdict;
use dataset::Dataset;
use failure::Failure;

/// How often a command is asked when the recorder renames parts under it. Usually a second time is
/// enough; a recorder that has days to merge renames some of them several times a second.
const ATTEMPTS: u32 = 20;
/// How much longer than before is waited before each further time: 10 s in all.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs one command. Every question is asked before the first byte is written, so a command may be
/// asked again.
///
/// # Errors
/// Whatever kept it from answering; a damaged part is named.
pub fn run(command: &Command, data: &Path) -> Result<Verdict, Failure> {
    patiently(data, || command::run(command, data))
}

/// Asks until the recorder has not moved a part in the meantime; names a damaged one.
fn patiently<T>(data: &Path, mut ask: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut last = ask();
    for attempt in 1..ATTEMPTS {
        match last {
            Err(Failure::Moved(_)) => {
                thread::sleep(PAUSE * attempt);
                last = ask();
            }
            other => return other.map_err(|failure| name_the_damage(failure, data)),
        }
    }
    last.map_err(|failure| name_the_damage(failure, data))
}

/// DuckDB often does not say which file it stumbled over; the checksums do.
fn name_the_damage(failure: Failure, data: &Path) -> Failure {
    if !matches!(failure, Failure::Internal(_) | Failure::Io(_) | Failure::Moved(_)) {
        return failure;
    }
    let Ok(dataset) = Dataset::open(data) else { return failure };
    let damaged = dataset.parts().iter().find_map(|part| {
        let fault = verify::damage(&dataset, part)?;
        Some(format!("{}: {fault}", dataset.root().join(&part.path).display()))
    });
    match damaged {
        Some(part) => Failure::Io(format!(
            "a part is damaged: {part}; `analyze verify` lists all such parts, restore them from a backup"
        )),
        None => failure,
    }
}
