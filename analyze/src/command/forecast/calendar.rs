//! Weekdays behind and ahead: what a forecast knows of them.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::plan::Plan;
use crate::sql;
use crate::verify::relation;

/// How many days back weekdays are looked at.
const DAYS: i64 = 28;
const DAY_US: i128 = 86_400_000_000;

/// Where the days before `since` begin that may be looked at; a day more for those of 25 hours.
pub(super) fn reach(since: i64) -> i64 {
    since - (DAYS + 2) * 86_400_000_000
}

/// The days before a moment, and the time after it.
#[derive(Debug)]
pub(super) struct Calendar {
    /// The beginning of the first day, in microseconds since 1970 UTC.
    pub(super) since: i64,
    past: Vec<Date>,
    /// Time to come until the end of the period, in microseconds of days of 24 hours; from Monday.
    ahead_us: [i128; 7],
}

impl Calendar {
    /// The whole days before the plan's moment, as far as there are slots since `first`, and the
    /// rest of its period.
    pub(super) fn new(plan: &Plan, first: i64) -> Self {
        let today = local(plan.now, &plan.zone);
        let begun = |day: &Date| midnight(*day, &plan.zone).is_some_and(|start| start >= first);
        let past: Vec<Date> = (1..=DAYS)
            .filter_map(|back| today?.checked_sub(back.days()).ok())
            .filter(begun)
            .collect();
        let since = past.last().and_then(|day| midnight(*day, &plan.zone)).unwrap_or(plan.now);
        let mut ahead_us = [0; 7];
        let mut day = today;
        while let Some(this) = day {
            let next = this.tomorrow().ok();
            let edges = (midnight(this, &plan.zone), next.and_then(|d| midnight(d, &plan.zone)));
            let (Some(start), Some(end)) = edges else { break };
            let rest = end.min(plan.until) - start.max(plan.now);
            if start >= plan.until {
                break;
            }
            // Of a day of 23 hours an hour is more of the day than usual.
            ahead_us[index(this.weekday())] +=
                i128::from(rest.max(0)) * DAY_US / i128::from(end - start);
            day = next;
        }
        Self { since, past, ahead_us }
    }

    /// Whether of every weekday to come there was one.
    pub(super) fn is_enough(&self) -> bool {
        self.counts().iter().zip(self.ahead_us).all(|(days, ahead)| ahead == 0 || *days > 0)
    }

    fn counts(&self) -> [usize; 7] {
        let mut counts = [0; 7];
        for day in &self.past {
            counts[index(day.weekday())] += 1;
        }
        counts
    }

    /// The days behind as a relation: day, weekday.
    pub(super) fn days(&self) -> String {
        let row =
            |day: &Date| format!("({}, {})", sql::text(&day.to_string()), index(day.weekday()));
        relation("day VARCHAR, weekday INTEGER", self.past.iter().map(row))
    }

    /// The weekdays as a relation: weekday, how many were seen, how much is to come.
    pub(super) fn weekdays(&self) -> String {
        let counted = self.counts().into_iter().zip(self.ahead_us).enumerate();
        let seen = counted.filter(|(_, (days, _))| *days > 0);
        relation(
            "weekday INTEGER, days HUGEINT, ahead_us HUGEINT",
            seen.map(|(weekday, (days, ahead))| format!("({weekday}, {days}, {ahead})")),
        )
    }
}

/// The date of an instant on the clock of a zone.
pub(super) fn local(us: i64, zone: &TimeZone) -> Option<Date> {
    let instant = Timestamp::from_microsecond(us).ok()?;
    Some(instant.to_zoned(zone.clone()).date())
}

fn midnight(day: Date, zone: &TimeZone) -> Option<i64> {
    Some(day.to_zoned(zone.clone()).ok()?.timestamp().as_microsecond())
}

fn index(weekday: Weekday) -> usize {
    usize::try_from(weekday.to_monday_zero_offset()).unwrap_or_default()
}
