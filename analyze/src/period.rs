//! The time a report covers, in the zone the reader thinks in.
//!
//! Edges are computed here and handed to SQL as UTC microseconds, because the tables carry no zone
//! and the bundled DuckDB knows none.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _, Unit, Zoned};

use crate::cli::PeriodArgs;
use crate::failure::Failure;

/// From `since` on, up to but not including `until`; a missing edge is open. Microseconds since
/// 1970 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// The first microsecond covered.
    pub since: Option<i64>,
    /// The first microsecond no longer covered.
    pub until: Option<i64>,
    /// The zone of dates and of times in tables.
    pub zone: TimeZone,
    /// The zone as it was named.
    pub zone_name: String,
}

impl Period {
    /// Understands the options; `now` is the instant that `-7d` counts from.
    ///
    /// # Errors
    /// 64 with what to write instead.
    pub fn new(args: &PeriodArgs, now: Timestamp) -> Result<Self, Failure> {
        let zone = zone(&args.tz)?;
        let (since, until) = match &args.period {
            Some(text) => named(text, &zone).ok_or_else(|| {
                Failure::Usage(format!(
                    "--period {text:?} is not a period: write a year, month or day, as in 2026, 2026-10 or 2026-10-26"
                ))
            })?,
            None => (
                edge("--since", args.since.as_deref(), &zone, now)?,
                edge("--until", args.until.as_deref(), &zone, now)?,
            ),
        };
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            return Err(Failure::Usage(
                "the period is empty: --since must be before --until".to_owned(),
            ));
        }
        Ok(Self {
            since: since.map(Timestamp::as_microsecond),
            until: until.map(Timestamp::as_microsecond),
            zone,
            zone_name: args.tz.clone(),
        })
    }

    /// Whether something at `min_us` to `max_us` may lie in the period.
    pub fn touches(&self, min_us: i64, max_us: i64) -> bool {
        self.since.is_none_or(|since| max_us >= since)
            && self.until.is_none_or(|until| min_us < until)
    }

    /// The period before this one and as long: as many months or days by the calendar when it
    /// begins and ends at midnight, else as much time. An open end is `now`; `None`: the period has
    /// no beginning, or has not begun.
    pub fn previous(&self, now: Timestamp) -> Option<Self> {
        let since = self.local(self.since?)?;
        let until = match self.until {
            Some(us) => self.local(us)?,
            None => now.to_zoned(self.zone.clone()),
        };
        if since >= until {
            return None;
        }
        let midnight = |zoned: &Zoned| zoned.start_of_day().is_ok_and(|start| start == *zoned);
        let before = if midnight(&since) && midnight(&until) {
            let months = since.day() == 1 && until.day() == 1;
            let unit = if months { Unit::Month } else { Unit::Day };
            let length = since.date().until((unit, until.date())).ok()?;
            since.date().checked_sub(length).ok()?.to_zoned(self.zone.clone()).ok()?.timestamp()
        } else {
            let length = until.timestamp().duration_since(since.timestamp());
            since.timestamp().checked_sub(length).ok()?
        };
        Some(Self { since: Some(before.as_microsecond()), until: self.since, ..self.clone() })
    }

    /// This period so much earlier by the calendar of its zone; an end that is open or still to
    /// come is `now`.
    #[must_use]
    pub fn earlier(&self, span: Span, now: Timestamp) -> Self {
        let now = now.as_microsecond();
        let back = |us| Some(self.local(us)?.checked_sub(span).ok()?.timestamp().as_microsecond());
        let until = self.until.map_or(now, |until| until.min(now));
        Self { since: self.since.and_then(back), until: back(until), ..self.clone() }
    }

    fn local(&self, us: i64) -> Option<Zoned> {
        Some(Timestamp::from_microsecond(us).ok()?.to_zoned(self.zone.clone()))
    }

    /// The period in words, for the footer.
    pub fn describe(&self) -> String {
        let show = |us| time_text(us, &self.zone);
        match (self.since, self.until) {
            (None, None) => "period everything".to_owned(),
            (Some(since), None) => format!("period from {} ({})", show(since), self.zone_name),
            (None, Some(until)) => format!("period until {} ({})", show(until), self.zone_name),
            (Some(since), Some(until)) => {
                format!("period {} to {} ({})", show(since), show(until), self.zone_name)
            }
        }
    }
}

/// The zone of an IANA name.
///
/// # Errors
/// 64 when there is no such zone.
pub fn zone(name: &str) -> Result<TimeZone, Failure> {
    if name.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| {
        Failure::Usage(format!(
            "--tz {name:?} is not a time zone: write an IANA name, as in UTC or Europe/Berlin"
        ))
    })
}

/// A time of the tables as people read it, to the second.
pub fn time_text(us: i64, zone: &TimeZone) -> String {
    formatted(us, zone, "%Y-%m-%d %H:%M:%S")
}

/// A time of the tables to the millisecond, where the order of events matters.
pub fn instant_text(us: i64, zone: &TimeZone) -> String {
    formatted(us, zone, "%Y-%m-%d %H:%M:%S%.3f")
}

fn formatted(us: i64, zone: &TimeZone, format: &str) -> String {
    match Timestamp::from_microsecond(us) {
        Ok(time) => time.to_zoned(zone.clone()).strftime(format).to_string(),
        Err(_) => format!("{us} us"),
    }
}

/// A year, month or day.
fn named(text: &str, zone: &TimeZone) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
    let (first, length): (Date, Span) = match text.len() {
        4 => (format!("{text}-01-01").parse().ok()?, 1.year()),
        7 => (format!("{text}-01").parse().ok()?, 1.month()),
        10 => (text.parse().ok()?, 1.day()),
        _ => return None,
    };
    let start = |date: Date| date.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp());
    Some((Some(start(first)?), Some(start(first.checked_add(length).ok()?)?)))
}

fn edge(
    option: &str,
    text: Option<&str>,
    zone: &TimeZone,
    now: Timestamp,
) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = text else { return Ok(None) };
    instant(text, zone, now).map(Some).ok_or_else(|| {
        Failure::Usage(format!(
            "{option} {text:?} is not a time: write 2026-10-26T12:00:00Z, 2026-10-26, or so long ago as in -90m, -12h, -7d, -2w"
        ))
    })
}

fn instant(text: &str, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
    if let Some(ago) = text.strip_prefix('-') {
        let digits = ago.len().checked_sub(1)?;
        let count: i64 = ago.get(..digits)?.parse().ok()?;
        let span = match ago.get(digits..)? {
            "s" => Span::new().try_seconds(count),
            "m" => Span::new().try_minutes(count),
            "h" => Span::new().try_hours(count),
            "d" => Span::new().try_days(count),
            "w" => Span::new().try_weeks(count),
            _ => return None,
        };
        return Some(now.to_zoned(zone.clone()).checked_sub(span.ok()?).ok()?.timestamp());
    }
    absolute(text, zone)
}

/// A time that does not depend on now: RFC 3339, or a date or civil time of `zone`. `None`: it is
/// none.
pub fn absolute(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let local = match text.len() {
        10 => text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight()),
        _ => text.parse::<DateTime>().ok()?,
    };
    Some(local.to_zoned(zone.clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use schemas::exit::Exit;

    use super::*;

    fn args(since: &str, until: &str, period: &str, tz: &str) -> PeriodArgs {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        PeriodArgs {
            since: some(since),
            until: some(until),
            period: some(period),
            tz: tz.to_owned(),
        }
    }

    fn period(since: &str, until: &str, named: &str, tz: &str) -> Result<String, Failure> {
        let now = "2026-10-26T12:00:00Z".parse().unwrap();
        let period = Period::new(&args(since, until, named, tz), now)?;
        let show = |us: Option<i64>| {
            us.map_or("open".to_owned(), |us| Timestamp::from_microsecond(us).unwrap().to_string())
        };
        Ok(format!("{} {}", show(period.since), show(period.until)))
    }

    #[test]
    fn edges_are_read_in_the_zone_of_the_reader() {
        let cases = [
            ("", "", "", "UTC", "open open"),
            ("2026-10-26", "", "", "UTC", "2026-10-26T00:00:00Z open"),
            ("2026-10-26", "", "", "Europe/Berlin", "2026-10-25T23:00:00Z open"),
            ("2026-10-26T01:30", "", "", "Asia/Kolkata", "2026-10-25T20:00:00Z open"),
            ("2026-10-26T01:30:00+02:00", "", "", "UTC", "2026-10-25T23:30:00Z open"),
            ("-90m", "-1h", "", "UTC", "2026-10-26T10:30:00Z 2026-10-26T11:00:00Z"),
            ("", "", "2026-10", "UTC", "2026-10-01T00:00:00Z 2026-11-01T00:00:00Z"),
            // The month in which summer time ends is an hour longer.
            ("", "", "2026-10", "Europe/Berlin", "2026-09-30T22:00:00Z 2026-10-31T23:00:00Z"),
            // A day ago is the same time of day before the clocks changed.
            ("-2d", "", "", "Europe/Berlin", "2026-10-24T11:00:00Z open"),
            ("", "", "2026-10-25", "Europe/Berlin", "2026-10-24T22:00:00Z 2026-10-25T23:00:00Z"),
            ("", "", "2026", "UTC", "2026-01-01T00:00:00Z 2027-01-01T00:00:00Z"),
        ];
        for (since, until, named, tz, expected) in cases {
            assert_eq!(
                period(since, until, named, tz).unwrap(),
                expected,
                "{since} {until} {named} {tz}"
            );
        }
    }

    #[test]
    fn the_period_before_is_as_long_by_the_calendar() {
        let cases = [
            ("", "", "2026-10", "UTC", "2026-09-01T00:00:00Z 2026-10-01T00:00:00Z"),
            ("", "", "2026", "UTC", "2025-01-01T00:00:00Z 2026-01-01T00:00:00Z"),
            // The day before the one of 25 hours has 24.
            ("", "", "2026-10-25", "Europe/Berlin", "2026-10-23T22:00:00Z 2026-10-24T22:00:00Z"),
            ("2026-10-20", "2026-10-23", "", "UTC", "2026-10-17T00:00:00Z 2026-10-20T00:00:00Z"),
            ("-2h", "-1h", "", "UTC", "2026-10-26T09:00:00Z 2026-10-26T10:00:00Z"),
            ("2026-10-26T10:00", "", "", "UTC", "2026-10-26T08:00:00Z 2026-10-26T10:00:00Z"),
        ];
        let now = "2026-10-26T12:00:00Z".parse().unwrap();
        let show = |us: Option<i64>| Timestamp::from_microsecond(us.unwrap()).unwrap().to_string();
        for (since, until, named, tz, expected) in cases {
            let period = Period::new(&args(since, until, named, tz), now).unwrap();
            let before = period.previous(now).unwrap();
            let edges = format!("{} {}", show(before.since), show(before.until));
            assert_eq!(edges, expected, "{since} {until} {named} {tz}");
        }
        let open = Period::new(&args("", "2026-10-20", "", "UTC"), now).unwrap();
        assert_eq!(open.previous(now), None);
        let later = Period::new(&args("2026-10-27", "", "", "UTC"), now).unwrap();
        assert_eq!(later.previous(now), None);
    }

    #[test]
    fn what_is_not_a_time_is_a_usage_error() {
        for (since, until, named, tz) in [
            ("yesterday", "", "", "UTC"),
            ("-7y", "", "", "UTC"),
            ("-", "", "", "UTC"),
            ("-ä", "", "", "UTC"),
            ("", "2026-13-01", "", "UTC"),
            ("", "", "2026-1", "UTC"),
            ("", "", "october", "UTC"),
            ("", "", "", "Mars/Olympus"),
            ("2026-10-02", "2026-10-01", "", "UTC"),
        ] {
            let failure = period(since, until, named, tz).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage, "{since} {until} {named} {tz}: {failure}");
        }
    }
}
