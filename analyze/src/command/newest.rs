//! The end of the newest slot there is: what the account calls now, so that the same data gives the
//! same answer whenever it is asked.

use crate::cell::Cell;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;

/// Slots are short, but a row of time in which nothing ran is found by its beginning.
const REACH_US: i64 = 86_400_000_000;

/// Microseconds since 1970 UTC; `None`: there is no slot.
///
/// # Errors
/// As [`Database::query`].
pub(super) fn slot_end(dataset: &Dataset) -> Result<Option<i64>, Failure> {
    let Some((_, newest)) = dataset.time_range("slots") else { return Ok(None) };
    let zone = jiff::tz::TimeZone::UTC;
    let since = Some(newest - REACH_US);
    let last = Period { since, until: None, zone, zone_name: "UTC".to_owned() };
    let database = Database::open(dataset, &[Wanted::of("slots", &last)])?;
    let statement = "SELECT max(slot_start + to_seconds(slot_len_s)) FROM slots";
    let answer = database.query("find the newest slot", statement)?;
    let first = answer.cells().next().and_then(|row| row.into_iter().next());
    Ok(if let Some(Cell::Time(us)) = first { Some(us) } else { None })
}
