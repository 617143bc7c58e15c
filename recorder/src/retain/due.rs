//! Which parts are past their age.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::manifest::{Part, Retired};

/// How long the rows of each table are kept; `slots` as long as `usage`, `captures` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Of `sessions`.
    pub sessions: Duration,
    /// Of `usage`, and of `slots`, which say what of it was measured.
    pub usage: Duration,
    /// Of `denied`.
    pub denied: Duration,
    /// Of `events`.
    pub events: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self { sessions: days(400), usage: days(400), denied: days(90), events: days(400) }
    }
}

impl Keep {
    /// Longer than there is time.
    pub const FOREVER: Duration = Duration::MAX;

    /// The tables of which rows go, and after how long.
    pub fn tables(&self) -> [(&'static str, Duration); 5] {
        [
            ("sessions", self.sessions),
            ("usage", self.usage),
            ("slots", self.usage),
            ("denied", self.denied),
            ("events", self.events),
        ]
    }
}

/// Parts of one table and day that are past their age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Their paths.
    pub paths: Vec<String>,
    /// Rows in them.
    pub rows: u64,
    /// What readers are to know.
    pub retired: Retired,
}

/// The parts of the oldest day of `table` that has any in which every row is older than `keep` at
/// `now_us`.
pub fn due<'p>(
    parts: impl Iterator<Item = &'p Part>,
    table: &str,
    keep: Duration,
    now_us: i64,
) -> Option<Due> {
    let keep_us = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    let before_us = now_us.saturating_sub(keep_us);
    let mut days: BTreeMap<&str, Vec<&Part>> = BTreeMap::new();
    for part in parts.filter(|part| part.table == table && part.max_time_us < before_us) {
        let directory = part.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        days.entry(directory).or_default().push(part);
    }
    let (_, parts) = days.into_iter().next()?;
    let newest_us = parts.iter().map(|part| part.max_time_us).max()?;
    Some(Due {
        paths: parts.iter().map(|part| part.path.clone()).collect(),
        rows: parts.iter().map(|part| part.rows).sum(),
        retired: Retired { table: table.to_owned(), before_us: newest_us.saturating_add(1) },
    })
}

/// The start of the newest slot that the tables have, in microseconds since 1970 UTC.
pub fn newest_slot<'p>(parts: impl Iterator<Item = &'p Part>) -> Option<i64> {
    parts.filter(|part| part.table == "slots").map(|part| part.max_time_us).max()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::clock::{Clock, Uptime, Verdict};
    use super::*;

    const DAY: i64 = 86_400_000_000;
    /// 2026-10-31T00:00:00Z.
    const TODAY: i64 = 1_793_404_800_000_000;

    fn part(table: &str, day: i64, max_us: i64) -> Part {
        let time = TODAY + day * DAY;
        Part {
            table: table.into(),
            path: format!("accounting/{table}/date={:06}/log-{max_us:020}.parquet", 1000 + day),
            rows: 10,
            bytes: 100,
            min_time_us: time,
            max_time_us: time + max_us,
            sha256: String::new(),
        }
    }

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * 86_400)
    }

    #[test]
    fn the_oldest_day_goes_first_and_alone() {
        let parts = [
            part("usage", -12, 5),
            part("usage", -11, 5),
            part("usage", -12, 7),
            part("denied", -90, 5),
        ];
        let due = due(parts.iter(), "usage", days(10), TODAY).unwrap();
        assert_eq!(due.paths, [parts[0].path.clone(), parts[2].path.clone()]);
        assert_eq!((due.rows, due.retired.before_us), (20, TODAY - 12 * DAY + 8));
    }

    #[test]
    fn a_part_with_one_row_that_is_young_enough_stays() {
        let parts = [part("usage", -10, 0), part("usage", -11, DAY - 1)];
        let now = |us: i64| due(parts.iter(), "usage", days(10), TODAY + us).map(|due| due.paths);
        assert_eq!(now(-1), None);
        assert_eq!(now(0), Some(vec![parts[1].path.clone()]));
        assert_eq!(due(parts[..1].iter(), "usage", days(10), TODAY), None);
        assert!(due(parts[..1].iter(), "usage", days(10), TODAY + 1).is_some());
    }

    #[test]
    fn the_newest_slot_is_never_past_its_age() {
        let parts = [part("slots", 0, 5), part("slots", -3, 5)];
        let newest = newest_slot(parts.iter()).unwrap();
        assert_eq!(newest, TODAY + 5);
        let due = due(parts.iter(), "slots", days(1), newest + DAY).unwrap();
        assert_eq!(due.paths, [parts[1].path.clone()]);
    }

    proptest! {
        /// Whatever the recorder's clock says, no row goes that is younger than `keep` by the data's
        /// own time and the day that it is allowed to be behind.
        #[test]
        fn no_clock_deletes_what_is_young_by_the_datas_own_time(
            parts in vec((-400_i64..1, 0..DAY), 1..60),
            walls in vec(prop_oneof![
                Just(0), Just(i64::MIN), Just(i64::MAX), Just(TODAY + 73 * 365 * DAY),
                TODAY - 30 * DAY..TODAY + 3000 * DAY,
            ], 1..80),
            keep in 1_u64..300,
        ) {
            let mut tables: Vec<_> =
                parts.iter().map(|(day, max)| part("usage", *day, *max)).collect();
            tables.push(part("slots", 0, 0));
            tables.extend(parts.iter().filter(|(day, _)| *day < 0).map(|(d, m)| part("slots", *d, *m)));
            let keep_us = i64::try_from(days(keep).as_micros()).unwrap();
            let mut clock = Clock::default();
            for (hour, wall) in walls.into_iter().enumerate() {
                let us = i64::try_from(hour).unwrap() * DAY / 24;
                let at = Uptime { kernel_boot: "a".into(), us };
                let newest = newest_slot(tables.iter());
                let Verdict::Go(now) = clock.look(wall, newest, &at) else { continue };
                for table in ["usage", "slots"] {
                    let Some(due) = due(tables.iter(), table, days(keep), now) else { continue };
                    for path in due.paths {
                        let index = tables.iter().position(|part| part.path == path).unwrap();
                        let gone = tables.remove(index);
                        prop_assert!(gone.max_time_us < TODAY + DAY - keep_us, "{gone:?}");
                    }
                }
            }
            prop_assert_eq!(newest_slot(tables.iter()), Some(TODAY));
        }
    }
}
