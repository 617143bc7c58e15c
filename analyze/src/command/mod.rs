//! The commands, one module each.

mod captured;
mod denied;
mod grouping;
mod pcap;
mod session;
mod sessions;
mod sql;
mod top;
mod usage;
mod verify;
mod wireshark;

use std::path::Path;

use jiff::Timestamp;

use crate::cli::{Command, Common};
use crate::coverage;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
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
        Command::Denied(args) => denied::run(args, data),
        Command::Pcap(args) => pcap::run(args, data),
        Command::Wireshark(args) => wireshark::run(args, data),
        Command::Sql(args) => sql::run(args, data),
        Command::Verify(args) => verify::run(args, data),
    }
}

/// The period of the options, counted from this moment.
fn period(common: &Common) -> Result<Period, Failure> {
    Period::new(&common.period, Timestamp::now())
}

/// The conditions of the filters that every table with a client knows.
fn filters(common: &Common) -> Result<Vec<String>, Failure> {
    let filter = &common.filter;
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
    .collect())
}

/// The condition of `--target`, for tables that know targets.
fn target_filter(common: &Common) -> Result<Option<String>, Failure> {
    clause::in_networks("--target", "target_ip", &common.filter.target)
}

/// The rows that `--top` leaves.
fn limit(common: &Common) -> String {
    common.top.map_or_else(String::new, |rows| format!(" LIMIT {rows}"))
}

/// Asks the question of a report and writes the rows, with what they rest on beneath.
fn answer(
    (dataset, database): (&Dataset, &Database),
    question: &str,
    statement: &str,
    common: &Common,
    period: &Period,
) -> Result<(), Failure> {
    let progress = Progress::start(question);
    let coverage =
        coverage::describe((dataset, database), period, &common.filter.node, Timestamp::now())?;
    let rows = database.stream(question, statement)?;
    drop(progress);
    let basis = Basis {
        period: period.describe(),
        filter: common.filter.describe(),
        coverage,
        data: database.describe(dataset),
    };
    let style = Style { output: &common.output, zone: &period.zone, basis: Some(&basis) };
    report::write(rows, &style)
}
