//! `analyze targets`

use std::path::Path;

use super::grouping::Grouping;
use super::sessions::{self, Listed};
use super::{ALL, Question, Verdict, answer, period};
use crate::cli::{Common, Key, ReportFormat};
use crate::coverage;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;

/// What a table shows beside the keys.
const IN_A_TABLE: &str = "sessions, failed_percent, refused, timeouts, connect_p50_us, connect_p95_us, \
    connect_p99_us, rtt_p50_us, retrans_percent, share_percent";

pub(super) fn run(args: &Common, data: &Path) -> Result<Verdict, Failure> {
    let period = period(args)?;
    let dataset = Dataset::open(data)?;
    let grouping = Grouping::new(
        &args.by,
        &[Key::Target],
        &[Key::Reason, Key::Limit],
        ("sessions", "ts_end"),
        &dataset,
        &period,
    )?;
    let listed = Listed::new(args, &dataset, &period)?;
    let statement = include_str!("../query/targets.sql")
        .replace("{keys}", &grouping.keys)
        .replace("{names}", &grouping.names)
        .replace("{sessions}", &listed.statement(args.open));
    let reach = coverage::reach(&period);
    let database = Database::open(&dataset, &sessions::wanted(args.open, &period, &reach))?;
    let in_a_table = format!("{}, {IN_A_TABLE}", grouping.names);
    let shown = match args.output.format {
        ReportFormat::Table | ReportFormat::Markdown => in_a_table.as_str(),
        ReportFormat::Csv | ReportFormat::Json | ReportFormat::Ndjson | ReportFormat::Parquet => {
            ALL
        }
    };
    let order = match args.top {
        Some(_) => format!("bytes_up + bytes_down DESC, {}", grouping.names),
        None => grouping.names.clone(),
    };
    let question = Question { what: "look at targets", statement, shown, order };
    answer((&dataset, &database), &question, args, &period)?;
    Ok(Verdict::Fine)
}
