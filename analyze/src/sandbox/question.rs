//! Asking: which parts are read, where the report goes.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use schemas::table::TABLES;

use super::message::Request;
use super::process::{End, Process};
use super::{Limits, MAX_STATEMENT};
use crate::cli::OutputArgs;
use crate::database;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::report::Sink;
use crate::scratch::Scratch;

/// How long the thread that waits for signals may take to end us.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// A statement and how its answer is to look.
#[derive(Debug)]
pub struct Question<'a> {
    /// What was typed.
    pub statement: &'a str,
    /// Zone of times in tables.
    pub zone: &'a str,
    /// Format and destination.
    pub output: &'a OutputArgs,
    /// What it may use.
    pub limits: Limits,
}

/// Runs the statement over the tables as they are now. `false`: it was interrupted and the session
/// goes on.
///
/// # Errors
/// 64 when it is not one SELECT or goes beyond a limit, 74 and 77 as every report.
pub fn ask(question: &Question<'_>, dataset: &Dataset) -> Result<bool, Failure> {
    if question.statement.len() > MAX_STATEMENT {
        return Err(Failure::Usage(format!(
            "the statement is longer than {MAX_STATEMENT} bytes; shorten it"
        )));
    }
    let scratch = Scratch::create()?;
    let format = question.output.format;
    let mut request = Request::new(question.statement, question.zone, format, question.limits);
    for table in TABLES {
        let parts = database::locate(dataset, table, None)?;
        let paths = parts.into_iter().map(|(path, _)| path).collect();
        request.tables.push((table.name.to_owned(), paths));
    }
    request.readable = dataset.directories().into();
    scratch.path().clone_into(&mut request.scratch);
    let sink = Sink::open(question.output.output.as_deref())?;
    let out = sink.stdio().map_err(|error| Failure::writing(&sink.name(), &error))?;
    match Process::start(&request, out)?.end(say_whether_confined)? {
        End::Said(result) => result?,
        End::Interrupted => return interrupted(),
    }
    sink.complete()?;
    Ok(true)
}

/// Ctrl-C reaches both processes. Outside the prompt a thread of ours is about to end us.
fn interrupted() -> Result<bool, Failure> {
    if crate::scratch::outlives_interrupts() {
        return Ok(false);
    }
    thread::sleep(LAST_MOMENTS);
    Err(Failure::Internal("the process that ran the statement was ended by a signal".to_owned()))
}

/// Says once that only DuckDB's own settings stand between the statement and the system.
fn say_whether_confined(confined: bool) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !confined && !SAID.swap(true, Ordering::Relaxed) {
        let note = "analyze: note: this kernel has no Landlock, so the statement is held back by DuckDB's own settings alone";
        // Who closed stderr does not want to know.
        drop(writeln!(io::stderr().lock(), "{note}"));
    }
}
