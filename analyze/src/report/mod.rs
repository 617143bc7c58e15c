//! Answers in the four output formats, to standard output or to a file.

mod csv;
pub mod escape;
mod json;
mod sink;
mod table;
pub mod unit;

use std::io::{self, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::{OutputArgs, ReportFormat};
use crate::database::Answer;
use crate::failure::Failure;

pub use sink::Sink;
pub(crate) use table::show;

/// How a report is shown, apart from its rows.
#[derive(Debug)]
pub struct Style<'a> {
    /// Format and destination.
    pub output: &'a OutputArgs,
    /// Zone of times in tables.
    pub zone: &'a TimeZone,
    /// What a reader must know about the rows: period, number, coverage.
    pub footer: &'a [String],
}

/// Writes an answer. In a table the footer stands below the rows; the other formats are data alone
/// and the footer goes to stderr.
///
/// # Errors
/// 74 or 77 when the destination cannot be written; a reader that has gone is no fault.
pub fn write(answer: &Answer, style: &Style<'_>) -> Result<(), Failure> {
    let mut sink = Sink::open(style.output.output.as_deref())?;
    let written = match style.output.format {
        ReportFormat::Table => table::write(answer, style, &mut sink),
        ReportFormat::Csv => csv::write(answer, &mut sink),
        ReportFormat::Json => json::write(answer, json::Layout::Array, &mut sink),
        ReportFormat::Ndjson => json::write(answer, json::Layout::Lines, &mut sink),
    };
    written.map_err(|error| Failure::writing(&sink.name(), &error))?;
    sink.complete()?;
    if style.output.format != ReportFormat::Table {
        let mut stderr = io::stderr().lock();
        for line in style.footer {
            // A closed stderr must not spoil a report that is already written.
            if writeln!(stderr, "{line}").is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// The rows as a table for people, without a newline at the end.
pub fn table_text(answer: &Answer, zone: &TimeZone) -> String {
    table::text(answer, zone)
}

/// A time in csv and json: RFC 3339, UTC, always six decimals.
fn time_as_data(us: i64) -> String {
    match Timestamp::from_microsecond(us) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => us.to_string(),
    }
}
