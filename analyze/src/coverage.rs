//! How much of a period the account covers: the line under every report.
//!
//! A slot with status OK or NODATA was measured. No row for a slot means that nobody knows.

use jiff::Timestamp;

use crate::cell::Cell;
use crate::database::{Answer, Database};
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;

/// The coverage in words, as in `coverage 98.6 % of the period's slots, 1.4 % down`. `nodes` are
/// the forwarders asked for, none means all.
///
/// # Errors
/// As [`Database::query`].
pub fn describe(
    database: &Database,
    period: &Period,
    nodes: &[String],
    now: Timestamp,
) -> Result<String, Failure> {
    let edge = |us: Option<i64>| us.map_or_else(|| "NULL::TIMESTAMP".to_owned(), sql::time);
    // The future is not expected to have slots.
    let until = period.until.filter(|us| *us <= now.as_microsecond());
    let statement = include_str!("query/coverage.sql")
        .replace("{where}", &sql::all(&Vec::from_iter(sql::any_of("node", nodes))))
        .replace("{since}", &edge(period.since))
        .replace("{until}", &edge(until));
    let answer = database.query("compute the coverage", &statement)?;
    let [expected, measured, shed, down] = std::array::from_fn(|column| number(&answer, column));
    if expected <= 0 {
        return Ok("coverage unknown: no slots in the period".to_owned());
    }
    let share = |us| percent(us, expected);
    let mut text = format!("coverage {} % of the period's slots", share(measured));
    for (us, word) in
        [(shed, "partly shed"), (down, "down"), (expected - measured - shed - down, "unknown")]
    {
        if us > 0 {
            text.push_str(&format!(", {} % {word}", share(us)));
        }
    }
    Ok(text)
}

/// Per cent with one decimal, cut, so that only all is `100`.
fn percent(part: i128, whole: i128) -> String {
    let tenths = part * 1000 / whole;
    if tenths >= 1000 { "100".to_owned() } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

fn number(answer: &Answer, column: usize) -> i128 {
    let first = answer.batches.first().filter(|batch| batch.num_rows() > 0);
    match first.map(|batch| Cell::at(batch.column(column).as_ref(), 0)) {
        Some(Cell::Int(value)) => value,
        _ => 0,
    }
}
