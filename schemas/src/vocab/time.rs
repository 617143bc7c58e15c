//! Wall-clock time as the tables hold it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01T00:00:00Z. It labels; durations are measured by a monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time in microseconds; a time before 1970 is 0.
    pub fn from_system(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// This time and `after` more.
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The start of the slot of `slot_len_s` seconds that holds this time, aligned to UTC.
    ///
    /// `slot_len_s` must be positive.
    pub const fn slot_start(self, slot_len_s: i32) -> Self {
        let len = slot_len_s as i64 * 1_000_000;
        Self(self.0 - self.0.rem_euclid(len))
    }
}
