//! What time it is for retention.
//!
//! The wall clock counts only as far as the data bear it out: it is never later than one day after
//! the newest slot. A step of that time ahead of what has passed since it was last believed, by more
//! than a day, is not believed: retention pauses until the time is back, or has gone on for a day
//! from where it stepped to. A time that is behind does no harm, and is followed at once.

use std::sync::OnceLock;
use std::time::Instant;

use serde::{Deserialize, Serialize};

const DAY_US: i64 = 86_400_000_000;
/// How far a time may be from where it should be and still have gone on.
const LEEWAY_US: i64 = DAY_US / 2;

/// A time that no clock step changes: how long this kernel has run, suspended or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// The kernel's run.
    pub kernel_boot: String,
    /// Microseconds since its start.
    pub us: i64,
}

impl Uptime {
    /// The uptime now. Where the kernel does not tell, it is the process that has run.
    pub fn now() -> Self {
        Self::of_kernel().unwrap_or_else(|| {
            static START: OnceLock<Instant> = OnceLock::new();
            let us = START.get_or_init(Instant::now).elapsed().as_micros();
            let kernel_boot = format!("unknown, process {}", std::process::id());
            Self { kernel_boot, us: i64::try_from(us).unwrap_or(i64::MAX) }
        })
    }

    fn of_kernel() -> Option<Self> {
        let kernel_boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let (seconds, hundredths) = uptime.split_whitespace().next()?.split_once('.')?;
        let seconds: i64 = seconds.parse().ok()?;
        let hundredths: i64 = hundredths.parse().ok()?;
        let us = seconds.checked_mul(1_000_000)?.checked_add(hundredths * 10_000)?;
        Some(Self { kernel_boot: kernel_boot.trim().to_owned(), us })
    }

    /// Microseconds since `earlier`; none when that was in another run of the kernel.
    pub fn since(&self, earlier: &Self) -> Option<i64> {
        let same = self.kernel_boot == earlier.kernel_boot && self.us >= earlier.us;
        same.then(|| self.us - earlier.us)
    }
}

/// A time of the wall clock, and when it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    now_us: i64,
    at: Uptime,
}

impl Told {
    /// What the time should be by now. While another kernel ran, nobody knows how long, no time
    /// counts as passed.
    fn expected_us(&self, at: &Uptime) -> i64 {
        self.now_us.saturating_add(at.since(&self.at).unwrap_or(0))
    }
}

/// Retention's clock, as it is kept over restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The last time that was believed.
    #[serde(default)]
    believed: Option<Told>,
    /// A time that was not, and may come to be.
    #[serde(default)]
    doubted: Option<Told>,
    /// Whether the doubt is such that retention pauses.
    #[serde(default)]
    paused: bool,
}

/// What a look at the clock comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is this time for retention, in microseconds since 1970 UTC.
    Go(i64),
    /// There is no slot yet to hold the wall clock against.
    NoSlots,
    /// Retention pauses.
    Paused {
        /// What the time should be.
        expected_us: i64,
        /// What it is said to be.
        told_us: i64,
        /// The pause begins with this look.
        begins: bool,
    },
}

impl Clock {
    /// Looks at the wall clock, beside the newest slot that the tables have.
    pub fn look(&mut self, wall_us: i64, newest_slot_us: Option<i64>, at: &Uptime) -> Verdict {
        let Some(newest_slot_us) = newest_slot_us else { return Verdict::NoSlots };
        let told_us = wall_us.min(newest_slot_us.saturating_add(DAY_US));
        let Some(believed) = &self.believed else { return self.believe(told_us, told_us, at) };
        let expected_us = believed.expected_us(at);
        if (told_us.saturating_sub(DAY_US)..=told_us.saturating_add(DAY_US)).contains(&expected_us)
        {
            // The time that has passed counts, not what is told of it: many small steps would be a
            // large one, and a time that waits for slots would hold the next one back.
            let same_kernel = at.since(&believed.at).is_some();
            return self.believe(if same_kernel { expected_us } else { told_us }, told_us, at);
        }
        if self.has_gone_on(told_us, at) {
            return self.believe(told_us, told_us, at);
        }
        if told_us < expected_us {
            self.paused = false;
            return Verdict::Go(told_us);
        }
        let begins = !std::mem::replace(&mut self.paused, true);
        Verdict::Paused { expected_us, told_us, begins }
    }

    fn believe(&mut self, believed_us: i64, told_us: i64, at: &Uptime) -> Verdict {
        self.believed = Some(Told { now_us: believed_us, at: at.clone() });
        self.doubted = None;
        self.paused = false;
        Verdict::Go(told_us)
    }

    /// Whether a doubted time has gone on for a day as times do.
    fn has_gone_on(&mut self, told_us: i64, at: &Uptime) -> bool {
        let doubted = self.doubted.take().filter(|doubted| {
            let off = told_us.saturating_sub(doubted.expected_us(at));
            at.since(&doubted.at).is_some() && (-LEEWAY_US..=LEEWAY_US).contains(&off)
        });
        let doubted = doubted.unwrap_or_else(|| Told { now_us: told_us, at: at.clone() });
        let passed_us = at.since(&doubted.at).unwrap_or(0);
        self.doubted = Some(doubted);
        passed_us >= DAY_US
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = DAY_US / 24;
    /// 2026-10-31T12:00:00Z.
    const NOON: i64 = 1_793_448_000_000_000;
    /// 2099-01-01T00:00:00Z.
    const FAR: i64 = 4_070_908_800_000_000;

    fn at(hours: i64) -> Uptime {
        Uptime { kernel_boot: "a".into(), us: hours * HOUR }
    }

    fn is_paused(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Paused { .. })
    }

    #[test]
    fn the_uptime_of_this_kernel_goes_on() {
        let earlier = Uptime::now();
        assert!(Uptime::now().since(&earlier).is_some_and(|us| us >= 0));
        assert_eq!(earlier.since(&Uptime { kernel_boot: "another".into(), us: 0 }), None);
    }

    #[test]
    fn it_is_what_the_wall_clock_says_while_slots_come() {
        let mut clock = Clock::default();
        assert_eq!(clock.look(NOON, None, &at(0)), Verdict::NoSlots);
        for hour in 0..100 {
            let now = NOON + hour * HOUR;
            assert_eq!(clock.look(now, Some(now - 300), &at(hour)), Verdict::Go(now));
        }
    }

    #[test]
    fn it_is_never_later_than_a_day_after_the_newest_slot() {
        let mut clock = Clock::default();
        assert_eq!(clock.look(FAR, Some(NOON), &at(0)), Verdict::Go(NOON + DAY_US));
        for hour in 1..100 {
            assert_eq!(clock.look(FAR, Some(NOON), &at(hour)), Verdict::Go(NOON + DAY_US));
        }
        let later = NOON + 100 * HOUR;
        assert_eq!(clock.look(later, Some(later), &at(100)), Verdict::Go(later));
    }

    #[test]
    fn a_clock_in_the_past_makes_nothing_older_and_is_back_at_once() {
        let mut clock = Clock::default();
        clock.look(NOON, Some(NOON), &at(0));
        assert_eq!(clock.look(5, Some(NOON), &at(1)), Verdict::Go(5));
        let now = NOON + 2 * HOUR;
        assert_eq!(clock.look(now, Some(now), &at(2)), Verdict::Go(now));
    }

    #[test]
    fn a_step_of_clock_and_data_pauses_until_they_are_back() {
        let mut clock = Clock::default();
        clock.look(NOON, Some(NOON), &at(0));
        let paused = clock.look(FAR, Some(FAR), &at(1));
        let expected_us = NOON + HOUR;
        assert_eq!(paused, Verdict::Paused { expected_us, told_us: FAR, begins: true });
        let paused = clock.look(FAR + HOUR, Some(FAR), &at(2));
        let expected_us = NOON + 2 * HOUR;
        assert_eq!(paused, Verdict::Paused { expected_us, told_us: FAR + HOUR, begins: false });
        // A slot of that time remains among the data; the wall clock alone is right again.
        let now = NOON + 3 * HOUR;
        assert_eq!(clock.look(now, Some(FAR), &at(3)), Verdict::Go(now));
    }

    #[test]
    fn a_step_that_lasts_a_day_is_believed() {
        let mut clock = Clock::default();
        clock.look(NOON, Some(NOON), &at(0));
        let later = |hours| NOON + 10 * DAY_US + hours * HOUR;
        for hour in 1..25 {
            assert!(is_paused(clock.look(later(hour), Some(later(hour)), &at(hour))), "{hour}");
        }
        assert_eq!(clock.look(later(25), Some(later(25)), &at(25)), Verdict::Go(later(25)));
    }

    #[test]
    fn a_machine_that_was_off_for_days_waits_for_one() {
        let mut clock = Clock::default();
        clock.look(NOON, Some(NOON), &at(500));
        let boot = |hours: i64| Uptime { kernel_boot: "b".into(), us: hours * HOUR };
        let later = |hours| NOON + 5 * DAY_US + hours * HOUR;
        assert!(is_paused(clock.look(later(0), Some(later(0)), &boot(0))));
        assert!(is_paused(clock.look(later(23), Some(later(23)), &boot(23))));
        assert_eq!(clock.look(later(24), Some(later(24)), &boot(24)), Verdict::Go(later(24)));
    }

    #[test]
    fn many_small_steps_are_a_large_one() {
        let mut clock = Clock::default();
        clock.look(NOON, Some(NOON), &at(0));
        let verdicts: Vec<_> = (1..10)
            .map(|n| clock.look(NOON + n * 20 * HOUR, Some(NOON + n * 20 * HOUR), &at(0)))
            .collect();
        assert!(!is_paused(verdicts[0]));
        assert!(verdicts[1..].iter().all(|verdict| is_paused(*verdict)), "{verdicts:?}");
    }

    #[test]
    fn a_clock_outlives_its_process() {
        let mut clock = Clock::default();
        clock.look(NOON, Some(NOON), &at(0));
        clock.look(FAR, Some(FAR), &at(1));
        let kept = serde_json::to_string(&clock).unwrap();
        let mut found: Clock = serde_json::from_str(&kept).unwrap();
        assert_eq!(found, clock);
        let paused = found.look(FAR, Some(FAR), &at(2));
        assert!(matches!(paused, Verdict::Paused { begins: false, .. }), "{paused:?}");
    }

    proptest! {
        /// Whatever the wall clock does, retention's time is at most a day ahead of the data; and
        /// where the data step with it, at most a day ahead of the time that really passed, until
        /// the step has lasted for a day.
        #[test]
        fn no_clock_runs_ahead(
            looks in vec((0_i64..3 * HOUR, prop_oneof![
                Just(0), Just(FAR), Just(i64::MAX), Just(i64::MIN), NOON - 9 * DAY_US..NOON + 900 * DAY_US,
            ], any::<bool>()), 1..200),
        ) {
            let mut clock = Clock::default();
            clock.look(NOON, Some(NOON), &at(0));
            let mut passed = 0;
            for (time, wall, forwarder_too) in looks {
                passed += time;
                if passed >= DAY_US {
                    break;
                }
                let newest = if forwarder_too { wall } else { NOON + passed };
                let uptime = Uptime { kernel_boot: "a".into(), us: passed };
                if let Verdict::Go(now) = clock.look(wall, Some(newest), &uptime) {
                    prop_assert!(now <= newest.saturating_add(DAY_US));
                    prop_assert!(now <= NOON + passed + DAY_US);
                }
            }
        }
    }
}
