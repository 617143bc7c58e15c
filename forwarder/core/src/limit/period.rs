//! Calendar days and months of a zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use schemas::vocab;

use crate::config::Every;

/// A day or a month, as the people of a zone count it: it begins with the first moment of its first
/// day, which is not always midnight, and is as long as their clocks make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The first day, as 20261101: the same in every zone, and larger for a later one.
    pub label: u32,
    begins_us: i64,
    ends_us: i64,
}

impl Period {
    /// The one that `at` is in.
    pub fn of(every: Every, zone: &TimeZone, at: vocab::Timestamp) -> Self {
        let at = Timestamp::from_microsecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH);
        let day = at.to_zoned(zone.clone()).date();
        let first = match every {
            Every::Day => day,
            Every::Month => day.first_of_month(),
        };
        let next = match every {
            Every::Day => first.checked_add(1.day()),
            Every::Month => first.checked_add(1.month()),
        };
        // Beyond the year 9999 there is no next one.
        let next = next.unwrap_or(Date::MAX);
        Self { label: label(first), begins_us: begins(first, zone), ends_us: begins(next, zone) }
    }

    /// Whether a moment is in it.
    pub fn contains(&self, at: vocab::Timestamp) -> bool {
        (self.begins_us..self.ends_us).contains(&at.0)
    }

    /// The first moment after it.
    pub fn ends(&self) -> vocab::Timestamp {
        vocab::Timestamp(self.ends_us)
    }
}

fn begins(day: Date, zone: &TimeZone) -> i64 {
    // Where midnight is skipped this is the first moment after it.
    let midnight = zone.to_ambiguous_zoned(day.at(0, 0, 0, 0)).compatible();
    midnight.map_or(i64::MAX, |midnight| midnight.timestamp().as_microsecond())
}

fn label(day: Date) -> u32 {
    let part = |part: i16| u32::try_from(part).unwrap_or(0);
    part(day.year()) * 10_000 + part(day.month().into()) * 100 + part(day.day().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> vocab::Timestamp {
        vocab::Timestamp(text.parse::<Timestamp>().unwrap().as_microsecond())
    }

    /// Label and borders of the period that a moment is in.
    fn period(every: Every, zone: &str, moment: &str) -> (u32, String, String) {
        let zone = TimeZone::get(zone).unwrap();
        let period = Period::of(every, &zone, at(moment));
        assert!(period.contains(at(moment)));
        assert!(!period.contains(period.ends()));
        let text = |us| Timestamp::from_microsecond(us).unwrap().to_string();
        (period.label, text(period.begins_us), text(period.ends_us))
    }

    fn is(period: (u32, String, String), label: u32, begins: &str, ends: &str) {
        assert_eq!(period, (label, begins.to_owned(), ends.to_owned()));
    }

    #[test]
    fn a_day_is_as_long_as_the_clocks_of_its_zone_make_it() {
        let day = |moment| period(Every::Day, "Europe/Berlin", moment);
        is(day("2026-03-28T23:00:00Z"), 20_260_329, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        is(day("2026-10-25T22:59:59Z"), 20_261_025, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        is(day("2026-07-01T12:00:00Z"), 20_260_701, "2026-06-30T22:00:00Z", "2026-07-01T22:00:00Z");
    }

    #[test]
    fn a_day_without_a_midnight_begins_with_its_first_moment() {
        let day = period(Every::Day, "America/Havana", "2026-03-08T12:00:00Z");
        is(day, 20_260_308, "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z");
    }

    #[test]
    fn months_have_their_lengths() {
        let month = |moment| period(Every::Month, "UTC", moment);
        is(
            month("2028-02-29T23:59:59Z"),
            20_280_201,
            "2028-02-01T00:00:00Z",
            "2028-03-01T00:00:00Z",
        );
        is(
            month("2026-12-31T00:00:00Z"),
            20_261_201,
            "2026-12-01T00:00:00Z",
            "2027-01-01T00:00:00Z",
        );
        let berlin = period(Every::Month, "Europe/Berlin", "2026-10-31T23:30:00Z");
        is(berlin, 20_261_101, "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z");
    }

    #[test]
    fn a_clock_that_is_out_of_its_mind_is_in_some_period_all_the_same() {
        for moment in [i64::MIN, -1, 0, i64::MAX] {
            let period = Period::of(Every::Month, &TimeZone::UTC, vocab::Timestamp(moment));
            assert!(period.label >= 19_691_201);
        }
    }
}
