//! Answers in the four output formats, to standard output or to a file.

mod csv;
pub mod escape;
mod json;
mod sink;
mod table;
pub mod unit;

use std::io::{self, Write as _};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::{OutputArgs, ReportFormat};
use crate::database::{Answer, Rows};
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
    /// What the rows cover: the period.
    pub covers: Option<&'a str>,
    /// How much of it was measured.
    pub coverage: Option<&'a str>,
}

impl Style<'_> {
    /// The footer below so many rows.
    fn footer(&self, rows: usize) -> impl Iterator<Item = String> {
        let rows = format!("rows {}", unit::thousands(i128::try_from(rows).unwrap_or_default()));
        let covers = self.covers.map(str::to_owned);
        covers.into_iter().chain([rows]).chain(self.coverage.map(str::to_owned))
    }
}

/// Writes an answer. In a table the footer stands below the rows; the other formats are data alone
/// and the footer goes to stderr.
///
/// # Errors
/// 74 or 77 when the destination cannot be written; a reader that has gone is no fault.
pub fn write(mut rows: Rows<'_>, style: &Style<'_>) -> Result<(), Failure> {
    let mut sink = Sink::open(style.output.output.as_deref())?;
    let mut count = 0;
    let mut writer = Writer::new(style.output.format, &rows);
    let name = sink.name();
    let failed = |error: io::Error| Failure::writing(&name, &error);
    // Until the first rows are there nothing is written, and the question may be asked again.
    let first = rows.next().transpose()?;
    writer.begin(&mut sink).map_err(failed)?;
    for batch in first.map(Ok).into_iter().chain(rows) {
        let batch = batch.map_err(Failure::after_output)?;
        count += batch.num_rows();
        writer.rows(batch, &mut sink).map_err(failed)?;
    }
    writer.end(style, count, &mut sink).map_err(failed)?;
    sink.complete()?;
    if style.output.format != ReportFormat::Table {
        let mut stderr = io::stderr().lock();
        for line in style.footer(count) {
            // A closed stderr must not spoil a report that is already written.
            if writeln!(stderr, "{line}").is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// A report being written.
enum Writer {
    Table(Answer),
    Csv(csv::Writer),
    Json(json::Writer),
}

impl Writer {
    fn new(format: ReportFormat, rows: &Rows<'_>) -> Self {
        let schema = &rows.schema;
        match format {
            // The width of a column is known when its last row is.
            ReportFormat::Table => {
                Self::Table(Answer { schema: SchemaRef::clone(schema), batches: Vec::new() })
            }
            ReportFormat::Csv => Self::Csv(csv::Writer::new(schema)),
            ReportFormat::Json => Self::Json(json::Writer::new(schema, json::Layout::Array)),
            ReportFormat::Ndjson => Self::Json(json::Writer::new(schema, json::Layout::Lines)),
        }
    }

    fn begin(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        match self {
            Self::Table(_) => Ok(()),
            Self::Csv(csv) => csv.begin(out),
            Self::Json(json) => json.begin(out),
        }
    }

    fn rows(&mut self, batch: RecordBatch, out: &mut impl io::Write) -> io::Result<()> {
        match self {
            Self::Table(answer) => {
                answer.batches.push(batch);
                Ok(())
            }
            Self::Csv(csv) => csv.rows(&batch, out),
            Self::Json(json) => json.rows(&batch, out),
        }
    }

    fn end(&self, style: &Style<'_>, count: usize, out: &mut impl io::Write) -> io::Result<()> {
        match self {
            Self::Table(answer) => table::write(answer, style, count, out),
            Self::Csv(_) => Ok(()),
            Self::Json(json) => json.end(out),
        }
    }
}

/// The rows as a table for people, without a newline at the end.
pub fn table_text(answer: &Answer, zone: &TimeZone) -> String {
    table::text(answer, zone)
}

/// A time in csv and json: RFC 3339, UTC, always six decimals.
pub(crate) fn time_as_data(us: i64) -> String {
    match Timestamp::from_microsecond(us) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => us.to_string(),
    }
}
