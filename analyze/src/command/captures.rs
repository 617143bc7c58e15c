//! `analyze captures`

use std::path::Path;

use super::{Question, Verdict, answer, filters, period, target_filter};
use crate::cli::{Common, ReportFormat};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::sql;

/// What a table shows: checksums fit on no terminal.
const IN_A_TABLE: &str = "session, service, customer, file, offset_first, offset_last, packets, \
    captured_bytes, dropped_bytes, truncated, ts_first";
const AS_DATA: &str = "session, service, rule, customer, client_ip, extent, file, offset_first, \
    offset_last, packets, captured_bytes, original_bytes, dropped_bytes, direction, truncated, \
    ts_first, ts_last, sha256, key_id";

pub(super) fn run(args: &Common, data: &Path) -> Result<Verdict, Failure> {
    if !args.by.is_empty() || args.open {
        return Err(Failure::Usage(
            "captures gives a row per session and closed file: it takes no --by and no --open"
                .to_owned(),
        ));
    }
    let period = period(args)?;
    let mut conditions = filters(args, "captures")?;
    conditions.extend(target_filter(args)?);
    conditions.extend(sql::in_period("ts_first", &period));
    let dataset = Dataset::open(data)?;
    // Conditions come after the join, where a capture has the service and client of its session.
    let statement = format!(
        "SELECT * FROM ({}) WHERE {}",
        include_str!("../query/captures.sql"),
        sql::all(&conditions)
    );
    let shown = match args.output.format {
        ReportFormat::Table | ReportFormat::Markdown => IN_A_TABLE,
        _ => AS_DATA,
    };
    let order = match args.top {
        Some(_) => "captured_bytes DESC, boot, session_no, extent",
        None => "ts_first, boot, session_no, extent",
    };
    // A session may have told of itself long before the file was begun.
    let reach = coverage::reach(&period);
    let wanted =
        [Wanted::of("captures", &period), Wanted::all("usage"), Wanted::of("slots", &reach)];
    let database = Database::open(&dataset, &wanted)?;
    let question = Question { what: "list captures", statement, shown, order: order.to_owned() };
    answer((&dataset, &database), &question, args, &period)?;
    Ok(Verdict::Fine)
}
