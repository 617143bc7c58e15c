//! `analyze sessions`

use std::path::Path;

use super::{ALL, Question, Verdict, answer, filters, period, target_filter};
use crate::cli::{Common, ReportFormat};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;

/// What a table shows: all 52 columns fit on no terminal.
const IN_A_TABLE: &str = "session, ts_start, duration_us, service, customer, client_ip, target_ip, \
    bytes_up, bytes_down, end_reason";

pub(super) fn run(args: &Common, data: &Path) -> Result<Verdict, Failure> {
    if !args.by.is_empty() {
        return Err(Failure::Usage(
            "sessions gives one row per session and takes no --by; `usage` and `top` group"
                .to_owned(),
        ));
    }
    let period = period(args)?;
    let mut conditions = filters(args, "sessions")?;
    conditions.extend(target_filter(args)?);
    let dataset = Dataset::open(data)?;
    let mut ended = conditions.clone();
    ended.extend(sql::in_period("ts_end", &period));
    let mut rows = format!("SELECT * FROM sessions WHERE {}", sql::all(&ended));
    if args.open {
        // Conditions come after grouping, where the columns have the names of `sessions`.
        let running = running(&alive(&dataset), &latest(&period));
        rows = format!(
            "{rows} UNION ALL BY NAME SELECT * FROM ({running}) WHERE {}",
            sql::all(&conditions)
        );
    }
    let shown = match args.output.format {
        ReportFormat::Table | ReportFormat::Markdown => IN_A_TABLE,
        ReportFormat::Csv | ReportFormat::Json | ReportFormat::Ndjson | ReportFormat::Parquet => {
            ALL
        }
    };
    let order = match args.top {
        Some(_) => "bytes_up + bytes_down DESC, boot, session_no",
        None => "ts_end NULLS LAST, boot, session_no",
    };

    // A session that ended after the period is not running: with --open all ends are read.
    let reach = coverage::reach(&period);
    let mut wanted = vec![Wanted::of("slots", &reach)];
    if args.open {
        wanted.extend([Wanted::all("sessions"), Wanted::all("usage")]);
    } else {
        wanted.push(Wanted::of("sessions", &period));
    }
    let database = Database::open(&dataset, &wanted)?;
    let question =
        Question { what: "list sessions", statement: rows, shown, order: order.to_owned() };
    answer((&dataset, &database), &question, args, &period)?;
    Ok(Verdict::Fine)
}

/// The statement for sessions without an end, those for which `condition` holds.
pub(super) fn running(condition: &str, latest: &str) -> String {
    include_str!("../query/running.sql").replace("{where}", condition).replace("{latest}", latest)
}

/// The condition that a boot has not ended: an ended one has no running sessions.
fn alive(dataset: &Dataset) -> String {
    let ended = dataset.boots().filter(|mark| mark.end.is_some());
    let ended: Vec<String> = ended.map(|mark| mark.boot.clone()).collect();
    sql::any_of("u.boot", &ended).map_or_else(|| "true".to_owned(), |any| format!("NOT {any}"))
}

/// A running session belongs to the period when its usage reaches into it.
fn latest(period: &Period) -> String {
    let since = period.since.map(|us| format!("max(u.slot_start) >= {}", sql::time(us)));
    let until = period.until.map(|us| format!("min(u.slot_start) < {}", sql::time(us)));
    sql::all(&since.into_iter().chain(until).collect::<Vec<_>>())
}
