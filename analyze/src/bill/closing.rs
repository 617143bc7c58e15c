//! Whether a period may be closed: it has ended, and what was measured in it is all there.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cell::Cell;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::{Period, time_text};
use crate::sql;

/// Slots are not longer, in microseconds: whoever measured up to an instant has a row that begins so
/// long before it or later.
const LONGEST_SLOT_US: i64 = 300_000_000;

/// Fails when what ends at `until_us` may not be closed at `now`; `zone` is that of its contract.
///
/// Rows come in the order in which they were made. So nothing is missing up to an instant when every
/// forwarder that runs has told of a slot that ends there or later; one that has ended has told
/// everything.
///
/// # Errors
/// 66 with what is missing, and as [`Database::query`].
pub fn check(
    dataset: &Dataset,
    until_us: i64,
    zone: (&TimeZone, &str),
    now: Timestamp,
) -> Result<(), Failure> {
    let end = format!("{} ({})", time_text(until_us, zone.0), zone.1);
    if now.as_microsecond() < until_us {
        return Err(Failure::NoData(format!(
            "the period ends on {end} and cannot be closed before; without --close it is billed as far as it is known"
        )));
    }
    let running: Vec<_> = dataset.boots().filter(|mark| mark.end.is_none()).collect();
    if running.is_empty() {
        return Ok(());
    }
    let period = Period {
        since: Some(until_us - LONGEST_SLOT_US),
        until: None,
        zone: TimeZone::UTC,
        zone_name: String::new(),
    };
    let database = Database::open(dataset, &[Wanted::of("slots", &period)])?;
    let statement = format!(
        "SELECT DISTINCT boot FROM slots WHERE slot_start + to_seconds(slot_len_s) >= {}",
        sql::time(until_us)
    );
    let answer = database.query("look for the last slots of the period", &statement)?;
    let told: Vec<String> = answer
        .cells()
        .filter_map(|row| match row.first() {
            Some(Cell::Text(boot)) => Some(boot.clone().into_owned()),
            _ => None,
        })
        .collect();
    match running.iter().find(|mark| !told.contains(&mark.boot)) {
        None => Ok(()),
        Some(mark) => Err(Failure::NoData(format!(
            "the period cannot be closed: forwarder {} (boot {}) has not told of its slots up to {end}; ask again when the recorder has them",
            mark.node, mark.boot
        ))),
    }
}
