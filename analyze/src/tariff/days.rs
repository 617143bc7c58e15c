//! Days of a calendar: how long prices and contracts hold, and the billing periods.

use std::fmt;

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Whole days of a calendar, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Days {
    /// The first day.
    pub first: Date,
    /// The first day after the last one.
    pub end: Date,
}

impl Days {
    /// From `first` to the day before `end`; `None` when there is no day between them.
    pub fn new(first: Date, end: Date) -> Option<Self> {
        (first < end).then_some(Self { first, end })
    }

    /// The last day.
    pub fn last(self) -> Date {
        self.end.yesterday().unwrap_or(self.first)
    }

    /// How many days; at least 1.
    pub fn count(self) -> u32 {
        let days = self.first.until(self.end).map_or(1, |span| span.get_days());
        u32::try_from(days).unwrap_or(1)
    }

    /// The days that are also in `other`.
    pub fn intersect(self, other: Validity) -> Option<Self> {
        let first = other.from.map_or(self.first, |from| from.max(self.first));
        let end = other.end.map_or(self.end, |end| end.min(self.end));
        Self::new(first, end)
    }

    /// From the first midnight in `zone` up to the last.
    pub fn span(self, zone: &TimeZone) -> Option<Span> {
        let midnight =
            |date: Date| Some(date.to_zoned(zone.clone()).ok()?.timestamp().as_microsecond());
        Some(Span { since_us: midnight(self.first)?, until_us: midnight(self.end)? })
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.first, self.last())
    }
}

/// A stretch of time, half open. Microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first microsecond in it.
    pub since_us: i64,
    /// The first microsecond no longer in it.
    pub until_us: i64,
}

/// How long something holds; an edge that is not given is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Validity {
    /// The first day.
    pub from: Option<Date>,
    /// The first day after the last one.
    pub end: Option<Date>,
}

impl Validity {
    /// Whether some day is in both.
    pub fn overlaps(self, other: Self) -> bool {
        let before = |end: Option<Date>, from: Option<Date>| match (end, from) {
            (Some(end), Some(from)) => end <= from,
            _ => false,
        };
        !before(self.end, other.from) && !before(other.end, self.from)
    }

    /// Whether a day is in it.
    pub fn holds(self, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.end.is_none_or(|end| day < end)
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |end: Date| end.yesterday().unwrap_or(end);
        match (self.from, self.end) {
            (None, None) => f.write_str("always"),
            (Some(from), None) => write!(f, "from {from} on"),
            (None, Some(end)) => write!(f, "to {}", last(end)),
            (Some(from), Some(end)) => write!(f, "{from} to {}", last(end)),
        }
    }
}

/// The billing period that begins in the month of `month`: from the anchor day up to the next
/// month's. In a month that has no such day, the last one takes its place. `None` at the end of
/// the calendar.
pub fn billing_period(month: Date, anchor_day: i8) -> Option<Days> {
    let anchor = |month: Date| {
        let day = anchor_day.min(month.days_in_month());
        month.with().day(day).build().ok()
    };
    let next = month.first_of_month().checked_add(1.month()).ok()?;
    Days::new(anchor(month.first_of_month())?, anchor(next)?)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn an_anchor_day_that_a_month_lacks_is_its_last() {
        for (month, anchor, first, end) in [
            (date(2026, 10, 17), 1, date(2026, 10, 1), date(2026, 11, 1)),
            (date(2026, 1, 1), 31, date(2026, 1, 31), date(2026, 2, 28)),
            (date(2024, 2, 1), 30, date(2024, 2, 29), date(2024, 3, 30)),
            (date(2026, 12, 1), 15, date(2026, 12, 15), date(2027, 1, 15)),
        ] {
            assert_eq!(billing_period(month, anchor), Days::new(first, end), "{month} {anchor}");
        }
        assert_eq!(billing_period(Date::MAX, 1), None);
    }

    #[test]
    fn a_period_begins_and_ends_at_local_midnight() {
        let hours = |zone: &str, month: Date| {
            let zone = TimeZone::get(zone).unwrap();
            let span = billing_period(month, 1).unwrap().span(&zone).unwrap();
            (span.until_us - span.since_us) / 3_600_000_000
        };
        assert_eq!(hours("Europe/Berlin", date(2025, 3, 1)), 31 * 24 - 1);
        assert_eq!(hours("Europe/Berlin", date(2025, 10, 1)), 31 * 24 + 1);
        assert_eq!(hours("Asia/Kolkata", date(2025, 10, 1)), 31 * 24);
    }

    #[test]
    fn what_ends_before_the_other_begins_does_not_overlap_it() {
        let of = |from, end| Validity { from, end };
        let (a, b) = (Some(date(2026, 1, 1)), Some(date(2026, 2, 1)));
        assert!(!of(None, b).overlaps(of(b, None)));
        assert!(!of(b, None).overlaps(of(a, b)));
        assert!(of(None, None).overlaps(of(a, b)));
        assert!(of(a, None).overlaps(of(None, b)));
        assert_eq!(of(a, b).to_string(), "2026-01-01 to 2026-01-31");
    }
}
