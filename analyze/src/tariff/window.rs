//! Times of day that have prices of their own, by the wall clock of the tariff's zone.
//!
//! Windows begin and end on five minutes. So do slots, and so do the offsets of today's zones:
//! every slot is in one window, by its start. An hour that the clocks repeat is in its window
//! twice, and one that they skip is in none.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::days::Span;
use crate::exact::Exact;

/// Minutes that windows begin and end on.
pub const STEP_MINUTES: u16 = 5;
/// Steps in a day.
pub(super) const DAY_STEPS: usize = 24 * 60 / STEP_MINUTES as usize;
/// Steps in a week, which begins on Monday.
pub const WEEK_STEPS: usize = 7 * DAY_STEPS;
/// Microseconds in a step.
const STEP_US: i64 = STEP_MINUTES as i64 * 60_000_000;

/// A window and its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// What the invoice calls it; once in an item.
    pub name: String,
    /// Of a unit.
    pub price: Exact,
}

/// Windows that cover the week once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    list: Vec<Window>,
    /// For every step of the week, which window it is in.
    week: Vec<u8>,
}

impl Windows {
    /// The windows `list`, of which `week` says for every step of the week the index. `None` when
    /// it does not name one for each.
    pub fn new(list: Vec<Window>, week: Vec<u8>) -> Option<Self> {
        let good = week.len() == WEEK_STEPS && week.iter().all(|at| usize::from(*at) < list.len());
        good.then_some(Self { list, week })
    }

    /// The windows, in the order of the file.
    pub fn list(&self) -> &[Window] {
        &self.list
    }

    /// The parts of `span` that are in each window, ascending.
    pub fn spans(&self, span: Span, zone: &TimeZone) -> Vec<Vec<Span>> {
        let mut spans = vec![Vec::<Span>::new(); self.list.len()];
        for (segment, offset_us) in segments(span, zone) {
            let mut since_us = segment.since_us;
            while since_us < segment.until_us {
                let local = (since_us + offset_us).div_euclid(STEP_US);
                let until_us = ((local + 1) * STEP_US - offset_us).min(segment.until_us);
                let of_window = &mut spans[usize::from(self.week[week_step(local)])];
                match of_window.last_mut() {
                    Some(last) if last.until_us == since_us => last.until_us = until_us,
                    _ => of_window.push(Span { since_us, until_us }),
                }
                since_us = until_us;
            }
        }
        spans
    }
}

/// The step of the week that a local step since 1970, a Thursday, is.
fn week_step(local: i64) -> usize {
    const DAY: i64 = 24 * 60 / STEP_MINUTES as i64;
    usize::try_from((local + 3 * DAY).rem_euclid(7 * DAY)).unwrap_or(0)
}

/// The span cut where the zone's offset changes, with the offset in microseconds.
fn segments(span: Span, zone: &TimeZone) -> Vec<(Span, i64)> {
    let mut segments = Vec::new();
    let mut since_us = span.since_us;
    while let Ok(since) = Timestamp::from_microsecond(since_us)
        && since_us < span.until_us
    {
        let next = zone.following(since).next().map(|change| change.timestamp().as_microsecond());
        let until_us = next.map_or(span.until_us, |next| next.min(span.until_us));
        let offset_us = i64::from(zone.to_offset(since).seconds()) * 1_000_000;
        segments.push((Span { since_us, until_us }, offset_us));
        since_us = until_us;
    }
    segments
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::super::days::billing_period;
    use super::*;
    use crate::exact;

    /// From 8 to 20 on every day, and the rest.
    fn peak() -> Windows {
        let window = |name: &str| Window { name: name.to_owned(), price: exact::whole(1) };
        let hour = 60 / usize::from(STEP_MINUTES);
        let is_off_peak = |step| !(8 * hour..20 * hour).contains(&(step % DAY_STEPS));
        let week = (0..WEEK_STEPS).map(|step| u8::from(is_off_peak(step))).collect();
        Windows::new(vec![window("peak"), window("off-peak")], week).unwrap()
    }

    fn hours(spans: &[Span]) -> i64 {
        spans.iter().map(|span| span.until_us - span.since_us).sum::<i64>() / 3_600_000_000
    }

    #[test]
    fn a_repeated_hour_counts_twice_and_a_skipped_one_not() {
        for (zone, month, peak_hours, rest) in [
            ("Europe/Berlin", date(2025, 3, 1), 31 * 12, 31 * 12 - 1),
            ("Europe/Berlin", date(2025, 10, 1), 31 * 12, 31 * 12 + 1),
            ("Asia/Kolkata", date(2025, 10, 1), 31 * 12, 31 * 12),
            ("UTC", date(2025, 10, 1), 31 * 12, 31 * 12),
        ] {
            let zone = TimeZone::get(zone).unwrap();
            let span = billing_period(month, 1).unwrap().span(&zone).unwrap();
            let spans = peak().spans(span, &zone);
            assert_eq!(hours(&spans[0]), peak_hours, "{zone:?}");
            assert_eq!(hours(&spans[1]), rest, "{zone:?}");
            assert_eq!(spans[0].len(), 31);
        }
    }

    #[test]
    fn a_slot_is_in_the_window_that_its_start_is_in() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_microsecond();
        let span =
            Span { since_us: at("2026-01-05T18:55:00Z"), until_us: at("2026-01-05T19:10:00Z") };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let edge = at("2026-01-05T19:00:00Z");
        let spans = peak().spans(span, &zone);
        assert_eq!(spans[0], [Span { until_us: edge, ..span }]);
        assert_eq!(spans[1], [Span { since_us: edge, ..span }]);
    }

    #[test]
    fn the_week_begins_on_monday() {
        let monday = "2026-01-05T00:00:00Z".parse::<Timestamp>().unwrap().as_microsecond();
        assert_eq!(week_step(monday.div_euclid(STEP_US)), 0);
        assert_eq!(week_step(monday.div_euclid(STEP_US) - 1), WEEK_STEPS - 1);
    }
}
