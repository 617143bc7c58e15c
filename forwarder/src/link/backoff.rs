//! When to try again.

use std::time::Duration;

/// Shortest bound of a wait.
const FIRST: Duration = Duration::from_millis(100);
/// Bound of the waits in the first part of an outage, so that a recorder that is being restarted is
/// found at once.
const EARLY: Duration = Duration::from_millis(500);
/// How many waits are early ones: about 5 s.
const EARLY_ATTEMPTS: u32 = 20;
/// Longest bound of a wait. Asking costs next to nothing, and a recorder that is back has an hour to
/// catch up with.
const LAST: Duration = Duration::from_secs(2);

/// Full-jitter waits: each is drawn evenly from zero to a bound that doubles from 100 ms, stays at
/// 500 ms for the first 20 attempts, and then doubles on to 2 s.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The wait before the next attempt. `random` is drawn evenly from all numbers.
    pub fn next(&mut self, random: u32) -> Duration {
        let bound = self.bound();
        self.attempts = self.attempts.saturating_add(1);
        bound.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// The last attempt was good.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    fn bound(&self) -> Duration {
        let doubled = |from: Duration, times: u32| from.saturating_mul(1 << times.min(16));
        if self.attempts < EARLY_ATTEMPTS {
            doubled(FIRST, self.attempts).min(EARLY)
        } else {
            doubled(EARLY, self.attempts - EARLY_ATTEMPTS + 1).min(LAST)
        }
    }
}

/// A random number for [`Backoff::next`]; without a source of randomness the longest wait.
pub(crate) fn random() -> u32 {
    let mut bytes = [0xff; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(4) => u32::from_le_bytes(bytes),
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_grows_late_and_stays_at_two_seconds() {
        let mut backoff = Backoff::default();
        let bounds: Vec<_> = (0..24).map(|_| backoff.next(u32::MAX).as_millis()).collect();
        assert_eq!(bounds[..5], [100, 200, 400, 500, 500]);
        assert_eq!(bounds[19..], [500, 1000, 2000, 2000, 2000]);
        assert_eq!(backoff.next(0), Duration::ZERO);
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX), FIRST);
    }
}
