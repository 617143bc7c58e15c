//! `analyze compare`

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use jiff::{Span, Unit};

use super::grouping::{Grouping, refuse_times};
use super::newest;
use super::{ALL, Question, Verdict, answer, filters, target_filter};
use crate::cli::{CompareArgs, Key};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;

pub(super) fn run(args: &CompareArgs, data: &Path) -> Result<Verdict, Failure> {
    let common = &args.common;
    let period = super::period(common)?;
    refuse_times("compare", &common.by)?;
    let mut conditions = filters(common, "usage")?;
    conditions.extend(target_filter(common)?);
    let dataset = Dataset::open(data)?;
    let edges = edges(&period, &dataset, args.earlier)?;
    let (until, since) = (edges[0], edges[1]);
    let oldest = edges[edges.len() - 1];
    let period = Period { since: Some(since), until: Some(until), ..period };
    let read = Period { since: Some(oldest), ..period.clone() };
    conditions.extend(sql::in_period("slot_start", &read));
    let grouping = Grouping::new(
        &common.by,
        &[Key::Customer],
        &[Key::Reason, Key::Limit],
        ("usage", "slot_start"),
        &dataset,
        &period,
    )?;
    // Of time before the first slot nothing is known: a mean over it would be too low.
    let first = dataset.time_range("slots").map_or(i64::MAX, |(min, _)| min);
    let earlier = edges[2..].iter().filter(|since| **since >= first).count();
    let steps: Vec<String> = edges[1..]
        .iter()
        .enumerate()
        .map(|(step, since)| format!("WHEN slot_start >= {} THEN {step}", sql::time(*since)))
        .collect();
    let statement = include_str!("../query/compare.sql")
        .replace("{keys}", &grouping.keys)
        .replace("{names}", &grouping.names)
        .replace("{steps}", &steps.join(" "))
        .replace("{measure}", args.direction.bytes())
        .replace("{earlier}", &earlier.to_string())
        .replace("{divisor}", &earlier.max(1).to_string())
        .replace("{where}", &sql::all(&conditions));
    let database = Database::open(
        &dataset,
        &[Wanted::of("usage", &read), Wanted::of("slots", &coverage::reach(&period))],
    )?;
    let order = format!("abs(change_bytes) DESC, {}", grouping.names);
    let question = Question { what: "compare periods", statement, shown: ALL, order };
    answer((&dataset, &database), &question, common, &period)?;
    Ok(Verdict::Fine)
}

/// The end of the period, its beginning, and the beginnings of the ones before it, the latest
/// first; microseconds since 1970 UTC.
fn edges(period: &Period, dataset: &Dataset, earlier: u8) -> Result<Vec<i64>, Failure> {
    let Some(since) = period.since else {
        return Err(Failure::Usage(
            "compare needs the beginning of a period: --period 2026-10, --since -7d".to_owned(),
        ));
    };
    let until = match period.until {
        Some(until) => Some(until),
        None => newest::slot_end(dataset)?.filter(|end| *end > since),
    };
    let Some(until) = until else {
        return Err(Failure::Usage(
            "there is no slot since the beginning of the period: name its end with --until"
                .to_owned(),
        ));
    };
    let back = length(since, until, &period.zone);
    let mut edges = vec![until, since];
    for step in 1..=i64::from(earlier) {
        edges.push(back.before(since, step, &period.zone).ok_or_else(|| {
            Failure::Usage(
                "the earlier periods begin before time does; name fewer with --earlier".to_owned(),
            )
        })?);
    }
    Ok(edges)
}

/// How long a period is, in what people count it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Months(i64),
    Days(i64),
    Micros(i64),
}

/// From midnight to midnight it is days or months, whatever hours they have.
fn length(since: i64, until: i64, zone: &TimeZone) -> Length {
    let local = |us| Timestamp::from_microsecond(us).ok().map(|time| time.to_zoned(zone.clone()));
    let whole = || {
        let (since, until) = (local(since)?.datetime(), local(until)?.datetime());
        let midnight = jiff::civil::Time::midnight();
        if since.time() != midnight || until.time() != midnight {
            return None;
        }
        let (first, end) = (since.date(), until.date());
        if (first.day(), end.day()) == (1, 1) {
            let months = first.until((Unit::Month, end)).ok()?.get_months();
            return Some(Length::Months(months.into()));
        }
        Some(Length::Days(first.until((Unit::Day, end)).ok()?.get_days().into()))
    };
    whole().unwrap_or(Length::Micros(until - since))
}

impl Length {
    /// The instant so many lengths before `since`.
    fn before(self, since: i64, steps: i64, zone: &TimeZone) -> Option<i64> {
        let span = match self {
            Self::Months(months) => Span::new().try_months(months.checked_mul(steps)?),
            Self::Days(days) => Span::new().try_days(days.checked_mul(steps)?),
            Self::Micros(us) => return since.checked_sub(us.checked_mul(steps)?),
        };
        let local = Timestamp::from_microsecond(since).ok()?.to_zoned(zone.clone());
        Some(local.checked_sub(span.ok()?).ok()?.timestamp().as_microsecond())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(time: &str) -> i64 {
        time.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn the_period_before_is_one_of_the_calendar() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for (since, until, before) in [
            // October has an hour more, September a day less.
            ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z", "2026-08-31T22:00:00Z"),
            // The week with the change of the clocks, and the one before it.
            ("2026-10-19T22:00:00Z", "2026-10-26T23:00:00Z", "2026-10-12T22:00:00Z"),
            ("2026-10-26T12:00:00Z", "2026-10-26T13:30:00Z", "2026-10-26T10:30:00Z"),
        ] {
            let length = length(us(since), us(until), &berlin);
            assert_eq!(length.before(us(since), 1, &berlin), Some(us(before)), "{since}");
        }
        let year = length(us("2025-12-31T23:00:00Z"), us("2026-12-31T23:00:00Z"), &berlin);
        assert_eq!(year, Length::Months(12));
    }
}
