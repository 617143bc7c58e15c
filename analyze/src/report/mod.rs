//! Answers in the output formats, to standard output or to a file.

mod csv;
pub mod escape;
mod json;
mod markdown;
mod parquet;
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

pub(crate) use markdown::escaped as markdown_text;
pub use sink::Sink;
pub(crate) use table::show;

/// How a report is shown, apart from its rows.
#[derive(Debug)]
pub struct Style<'a> {
    /// Format and destination.
    pub output: &'a OutputArgs,
    /// Zone of times in tables.
    pub zone: &'a TimeZone,
    /// What the rows cover and rest on; a statement of the reader's own says that itself.
    pub basis: Option<&'a Basis>,
}

/// What the figures of a report rest on: the lines of its footer, in their order.
#[derive(Debug, Clone)]
pub struct Basis {
    /// The period with its zone.
    pub period: String,
    /// The filters, if there are any.
    pub filter: Option<String>,
    /// How much of the period was measured.
    pub coverage: String,
    /// The period that rows are compared with, and how much of it was measured.
    pub before: Option<String>,
    /// Which data was read.
    pub data: String,
}

impl Style<'_> {
    /// The footer below so many rows.
    fn footer(&self, rows: usize) -> Vec<String> {
        let rows = format!("rows {}", unit::thousands(i128::try_from(rows).unwrap_or_default()));
        let Some(basis) = self.basis else { return vec![rows] };
        let filter = basis.filter.as_ref().map(|filter| format!("filter {filter}"));
        let units = "units decimal: 1 kB is 1,000 bytes of payload".to_owned();
        [basis.period.clone()]
            .into_iter()
            .chain(filter)
            .chain([units, rows, basis.coverage.clone()])
            .chain(basis.before.clone())
            .chain([basis.data.clone()])
            .collect()
    }
}

/// Writes an answer. In table and markdown the footer stands below the rows; the other formats are
/// data alone and the footer goes to stderr.
///
/// # Errors
/// 74 or 77 when the destination cannot be written; a reader that has gone is no fault.
pub fn write(mut rows: Rows<'_>, style: &Style<'_>) -> Result<(), Failure> {
    let mut sink = Sink::open(style.output.output.as_deref())?;
    let mut count = 0;
    let format = style.output.format;
    if format == ReportFormat::Parquet && sink.is_terminal() {
        return Err(Failure::Usage(
            "parquet is nothing for a terminal; name a file with -o".to_owned(),
        ));
    }
    let mut writer = Writer::new(format, &rows)?;
    let name = sink.name();
    let failed = |error: io::Error| Failure::writing(&name, &error);
    // Until the first rows are there nothing is written, and the question may be asked again.
    let first = rows.next().transpose()?;
    writer.begin(&mut sink).map_err(failed)?;
    for batch in first.map(Ok).into_iter().chain(rows) {
        let batch = batch.map_err(Failure::after_output)?;
        count += batch.num_rows();
        writer.rows(batch, style, &mut sink).map_err(failed)?;
    }
    writer.end(style, count, &mut sink).map_err(failed)?;
    sink.complete()?;
    if !matches!(format, ReportFormat::Table | ReportFormat::Markdown) {
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
    Markdown(markdown::Writer),
    Parquet(Box<parquet::Writer>),
}

impl Writer {
    fn new(format: ReportFormat, rows: &Rows<'_>) -> Result<Self, Failure> {
        let schema = &rows.schema;
        Ok(match format {
            // The width of a column is known when its last row is.
            ReportFormat::Table => {
                Self::Table(Answer { schema: SchemaRef::clone(schema), batches: Vec::new() })
            }
            ReportFormat::Csv => Self::Csv(csv::Writer::new(schema)),
            ReportFormat::Json => Self::Json(json::Writer::new(schema, json::Layout::Array)),
            ReportFormat::Ndjson => Self::Json(json::Writer::new(schema, json::Layout::Lines)),
            ReportFormat::Markdown => Self::Markdown(markdown::Writer::new(schema)),
            ReportFormat::Parquet => Self::Parquet(Box::new(parquet::Writer::new(schema)?)),
        })
    }

    fn begin(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        match self {
            Self::Table(_) | Self::Parquet(_) => Ok(()),
            Self::Csv(csv) => csv.begin(out),
            Self::Json(json) => json.begin(out),
            Self::Markdown(markdown) => markdown.begin(out),
        }
    }

    fn rows(
        &mut self,
        batch: RecordBatch,
        style: &Style<'_>,
        out: &mut impl io::Write,
    ) -> io::Result<()> {
        match self {
            Self::Table(answer) => {
                answer.batches.push(batch);
                Ok(())
            }
            Self::Csv(csv) => csv.rows(&batch, out),
            Self::Json(json) => json.rows(&batch, out),
            Self::Markdown(markdown) => markdown.rows(&batch, style.zone, out),
            Self::Parquet(parquet) => parquet.rows(&batch, out),
        }
    }

    fn end(self, style: &Style<'_>, count: usize, out: &mut impl io::Write) -> io::Result<()> {
        match self {
            Self::Table(answer) => table::write(&answer, style, count, out),
            Self::Csv(_) => Ok(()),
            Self::Json(json) => json.end(out),
            Self::Markdown(_) => markdown::end(&style.footer(count), out),
            Self::Parquet(parquet) => parquet.end(&style.footer(count), out),
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
