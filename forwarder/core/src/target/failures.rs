//! What sessions learn about a target by dialling it.
//!
//! [`BEFORE_BACKING_OFF`] dials in a row that failed, and the target is left alone for
//! [`FIRST_REST`]. Then one session tries it: if that fails too the rest is twice as long, up to
//! [`LONGEST_REST`]; if it succeeds all is forgotten. Whoever tries and never tells how it went
//! (its client left) holds others up for no longer than another rest.

use std::time::Duration;

/// Dials in a row that fail before a target is left alone: one or two are an accident.
pub const BEFORE_BACKING_OFF: u64 = 3;

/// How long a target is left alone at first.
pub const FIRST_REST: Duration = Duration::from_secs(1);

/// How long at most, however often it has failed.
pub const LONGEST_REST: Duration = Duration::from_secs(30);

/// The failures of one target in a row, small enough to be swapped as one word:
/// 8 bits count, 1 bit says whether a trial is under way, 55 bits are the end of the rest in
/// milliseconds, which is enough for a million years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Failures {
    count: u64,
    on_trial: bool,
    until_ms: u64,
}

/// Where a target stands with those who dial it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing speaks against it.
    Trusted,
    /// It is left alone.
    Resting {
        /// Until when, in milliseconds.
        until_ms: u64,
    },
    /// Its rest is over: one session may try it.
    Due,
}

/// What it means that a trial gave neither success nor failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing: who tried left before there was an answer.
    SaysNothing,
    /// A success: a datagram that is not wanted would have been answered by ICMP.
    IsSuccess,
}

const COUNT_MAX: u64 = 0xff;
const UNTIL_BITS: u32 = 55;
const UNTIL_MAX: u64 = (1 << UNTIL_BITS) - 1;

impl Failures {
    pub(super) fn from_word(word: u64) -> Self {
        Self {
            count: word >> (UNTIL_BITS + 1),
            on_trial: word >> UNTIL_BITS & 1 == 1,
            until_ms: word & UNTIL_MAX,
        }
    }

    pub(super) fn word(self) -> u64 {
        self.count << (UNTIL_BITS + 1) | u64::from(self.on_trial) << UNTIL_BITS | self.until_ms
    }

    pub(super) fn count(self) -> u64 {
        self.count
    }

    pub(super) fn stage(self, now_ms: u64, silence: Silence) -> Stage {
        if self.count < BEFORE_BACKING_OFF {
            Stage::Trusted
        } else if now_ms < self.until_ms {
            Stage::Resting { until_ms: self.until_ms }
        } else if self.on_trial && silence == Silence::IsSuccess {
            Stage::Trusted
        } else {
            Stage::Due
        }
    }

    /// With one session trying the target, for which others leave it alone.
    pub(super) fn on_trial(self, now_ms: u64) -> Self {
        Self { on_trial: true, until_ms: self.rest_until(now_ms), ..self }
    }

    /// With one more dial that failed. A target that rests already has failed before: dials that
    /// were under way then say nothing new, only its trial does.
    pub(super) fn after_failure(self, now_ms: u64, of_trial: bool, silence: Silence) -> Self {
        let count = match self.stage(now_ms, silence) {
            Stage::Trusted if self.on_trial => BEFORE_BACKING_OFF,
            Stage::Trusted => self.count + 1,
            Stage::Resting { .. } | Stage::Due if of_trial => (self.count + 1).min(COUNT_MAX),
            Stage::Resting { .. } | Stage::Due => return self,
        };
        let failed = Self { count, on_trial: false, until_ms: 0 };
        Self { until_ms: failed.rest_until(now_ms), ..failed }
    }

    /// When a rest that begins now ends, in milliseconds.
    fn rest_until(self, now_ms: u64) -> u64 {
        let Some(before) = self.count.checked_sub(BEFORE_BACKING_OFF) else { return 0 };
        let doubled = 1_u32.checked_shl(u32::try_from(before).unwrap_or(u32::MAX));
        let rest = FIRST_REST.saturating_mul(doubled.unwrap_or(u32::MAX)).min(LONGEST_REST);
        let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_add(rest_ms).min(UNTIL_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Silence::{IsSuccess, SaysNothing};

    fn failing(count: u64) -> Failures {
        (0..count)
            .fold(Failures::default(), |failures, _| failures.after_failure(0, false, SaysNothing))
    }

    #[test]
    fn one_or_two_failures_are_an_accident() {
        assert_eq!(failing(2).stage(0, SaysNothing), Stage::Trusted);
        assert_eq!(failing(3).stage(0, SaysNothing), Stage::Resting { until_ms: 1000 });
        assert_eq!(failing(3).stage(1000, SaysNothing), Stage::Due);
    }

    #[test]
    fn each_failed_trial_doubles_the_rest_up_to_a_bound() {
        let mut failures = failing(3);
        let mut rests = Vec::new();
        let mut now_ms = 1000;
        for _ in 0..300 {
            assert_eq!(failures.stage(now_ms, SaysNothing), Stage::Due);
            failures = failures.on_trial(now_ms).after_failure(now_ms, true, SaysNothing);
            rests.push(failures.until_ms - now_ms);
            now_ms = failures.until_ms;
        }
        assert_eq!(rests[..6], [2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert!(rests[6..].iter().all(|rest| *rest == 30_000));
    }

    #[test]
    fn dials_that_were_under_way_do_not_lengthen_the_rest() {
        let rested = failing(3);
        assert_eq!(failing(300), rested);
        let on_trial = rested.on_trial(1000);
        assert_eq!(on_trial.after_failure(1001, false, SaysNothing), on_trial);
    }

    #[test]
    fn a_trial_without_an_answer_is_followed_by_another() {
        let on_trial = failing(3).on_trial(1000);
        assert_eq!(on_trial.stage(1999, SaysNothing), Stage::Resting { until_ms: 2000 });
        assert_eq!(on_trial.stage(2000, SaysNothing), Stage::Due);
    }

    #[test]
    fn where_silence_is_a_success_a_trial_without_an_answer_ends_the_rest() {
        let on_trial = failing(3).on_trial(1000);
        assert_eq!(on_trial.stage(2000, IsSuccess), Stage::Trusted);
        let again = on_trial.after_failure(5000, false, IsSuccess);
        assert_eq!(again.stage(5000, IsSuccess), Stage::Resting { until_ms: 6000 });
    }

    proptest! {
        #[test]
        fn a_word_holds_all(count in 0..=COUNT_MAX, on_trial: bool, until_ms in 0..=UNTIL_MAX) {
            let failures = Failures { count, on_trial, until_ms };
            prop_assert_eq!(Failures::from_word(failures.word()), failures);
        }

        #[test]
        fn no_rest_is_longer_than_the_bound(
            steps in prop::collection::vec((0_u64..40_000, 0_u8..3), 0..200),
            silence in prop_oneof![Just(SaysNothing), Just(IsSuccess)],
        ) {
            let mut failures = Failures::default();
            let mut now_ms = 0;
            for (later, step) in steps {
                now_ms += later;
                failures = match (step, failures.stage(now_ms, silence)) {
                    (0, Stage::Due) => failures.on_trial(now_ms),
                    (1, _) => failures.after_failure(now_ms, true, silence),
                    _ => failures.after_failure(now_ms, false, silence),
                };
                if let Stage::Resting { until_ms } = failures.stage(now_ms, silence) {
                    prop_assert!(until_ms - now_ms <= 30_000);
                }
            }
        }
    }
}
