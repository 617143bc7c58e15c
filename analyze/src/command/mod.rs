//! The commands, one module each.

mod bill;
mod captured;
mod captures;
mod compare;
mod denied;
mod ends;
mod forecast;
mod grouping;
mod margin;
mod moved;
mod newest;
mod pcap;
mod percentile;
mod quality;
mod reconcile;
mod session;
mod sessions;
mod sizes;
mod sql;
mod targets;
mod top;
mod traffic;
mod usage;
mod verify;
mod wireshark;

use std::path::Path;

use jiff::Timestamp;
use schemas::table::TABLES;

use crate::cli::{Command, Common};
use crate::coverage;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::expression::{self, Type};
use crate::failure::Failure;
use crate::period::{Period, zone};
use crate::progress::Progress;
use crate::report::{self, Basis, Style};
use crate::sql as clause;

/// What a command that ran to its end says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The answer was given, or is yes.
    Fine,
    /// The answer is no: `verify` found a fault.
    Fault,
}

/// Runs one command over the data directory.
///
/// # Errors
/// Whatever kept it from answering.
pub fn run(command: &Command, data: &Path) -> Result<Verdict, Failure> {
    match command {
        Command::Usage(args) => usage::run(args, data),
        Command::Top(args) => top::run(args, data),
        Command::Sessions(args) => sessions::run(args, data),
        Command::Session(args) => session::run(args, data),
        Command::Traffic(args) => traffic::run(args, data),
        Command::Sizes(args) => sizes::run(args, data),
        Command::Ends(args) => ends::run(args, data),
        Command::Targets(args) => targets::run(args, data),
        Command::Denied(args) => denied::run(args, data),
        Command::Percentile(args) => percentile::run(args, data),
        Command::Forecast(args) => forecast::run(args, data),
        Command::Margin(args) => margin::run(args, data),
        Command::Compare(args) => compare::run(args, data),
        Command::Reconcile(args) => reconcile::run(args, data),
        Command::Quality(args) => quality::run(args, data),
        Command::Captures(args) => captures::run(args, data),
        Command::Pcap(args) => pcap::run(args, data),
        Command::Wireshark(args) => wireshark::run(args, data),
        Command::Sql(args) => sql::run(args, data),
        Command::Bill(args) => bill::run(args, data),
        Command::Verify(args) => verify::run(args, data),
    }
}

/// The period of the options, counted from this moment.
fn period(common: &Common) -> Result<Period, Failure> {
    Period::new(&common.period, Timestamp::now())
}

/// The conditions of the filters that every table with a client knows, and of `--where`.
fn filters(common: &Common, table: &str) -> Result<Vec<String>, Failure> {
    let filter = &common.filter;
    let (columns, zone) = (columns_of(table), zone(&common.period.tz)?);
    let written = filter
        .r#where
        .iter()
        .map(|text| expression::to_sql("--where", text, &columns, &zone))
        .collect::<Result<Vec<_>, _>>()?;
    let client = clause::in_networks("--client", "client_ip", &filter.client)?;
    Ok([
        clause::any_of("service", &filter.service),
        clause::any_of("customer", &filter.customer),
        clause::any_of("rule", &filter.rule),
        clause::any_of("node", &filter.node),
        client,
    ]
    .into_iter()
    .flatten()
    .chain(written)
    .collect())
}

/// The columns of the view of a table.
fn columns_of(table: &str) -> Vec<(&'static str, Type)> {
    let columns =
        TABLES.iter().find(|known| known.name == table).map_or(&[][..], |table| table.columns);
    let of_session = columns.iter().find(|column| column.name == "session_no");
    let session = of_session.map(|_| ("session", Type::Text));
    let stored = columns.iter().map(|column| (column.name, Type::from(column.kind)));
    session.into_iter().chain(stored).collect()
}

/// The condition of `--target`, for tables that know targets.
fn target_filter(common: &Common) -> Result<Option<String>, Failure> {
    clause::in_networks("--target", "target_ip", &common.filter.target)
}

/// A question whose answer is a report.
#[derive(Debug)]
struct Question<'a> {
    /// What is done, in words: `add up usage`.
    what: &'a str,
    /// The statement, without order and limit.
    statement: String,
    /// The columns shown; more may be there to order and to filter by.
    shown: &'a str,
    /// The order of the rows, over the columns of the statement.
    order: String,
}

/// Every column of the statement.
const ALL: &str = "*";

/// Asks the question of a report and writes the rows, with what they rest on beneath.
fn answer(
    (dataset, database): (&Dataset, &Database),
    question: &Question<'_>,
    common: &Common,
    period: &Period,
) -> Result<(), Failure> {
    answer_beside((dataset, database), question, common, period, None)
}

/// As [`answer`], of rows that are compared with those of an earlier period.
fn answer_beside(
    (dataset, database): (&Dataset, &Database),
    question: &Question<'_>,
    common: &Common,
    period: &Period,
    before: Option<&Period>,
) -> Result<(), Failure> {
    let progress = Progress::start(&format!("{}, {}", question.what, database.parts()));
    let having = having(database, question, common, period)?;
    let covered = |period: &Period| {
        coverage::describe((dataset, database), period, &common.filter.node, Timestamp::now())
    };
    let coverage = covered(period)?;
    let before = before.map(|before| Ok(format!("{}, {}", before.describe(), covered(before)?)));
    let before = before.transpose()?.map(|words: String| format!("compared with {words}"));
    let limit = common.top.map_or_else(String::new, |rows| format!(" LIMIT {rows}"));
    let statement = format!(
        "SELECT {} FROM ({}) WHERE {having} ORDER BY {}{limit}",
        question.shown, question.statement, question.order
    );
    let rows = database.stream(question.what, &statement)?;
    drop(progress);
    let basis = Basis {
        period: period.describe(),
        filter: common.filter.describe(common.having.as_deref()),
        coverage,
        before,
        data: database.describe(dataset),
    };
    let style = Style { output: &common.output, zone: &period.zone, basis: Some(&basis) };
    report::write(rows, &style)
}

/// The condition of `--having` over the columns of a report.
fn having(
    database: &Database,
    question: &Question<'_>,
    common: &Common,
    period: &Period,
) -> Result<String, Failure> {
    let Some(text) = &common.having else { return Ok("true".to_owned()) };
    let nothing = format!("SELECT * FROM ({}) LIMIT 0", question.statement);
    let schema = database.stream(question.what, &nothing)?.schema;
    let columns = schema.fields().iter();
    let columns: Vec<_> =
        columns.map(|field| (field.name().as_str(), Type::from(field.data_type()))).collect();
    expression::to_sql("--having", text, &columns, &period.zone)
}
