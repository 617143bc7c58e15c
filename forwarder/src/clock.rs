//! The one clock: monotonic time decides, wall time labels.

use std::time::{Duration, Instant, SystemTime};

use schemas::vocab::Timestamp;

/// Wall time that never steps within a run: an anchor taken once plus elapsed monotonic time.
/// Copies agree with each other.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: SystemTime,
    monotonic: Instant,
}

impl Clock {
    /// A clock anchored at this moment.
    pub fn start() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }

    /// Monotonic now.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// The wall time of a monotonic moment.
    pub fn wall(&self, at: Instant) -> Timestamp {
        Timestamp::from_system(self.wall + at.saturating_duration_since(self.monotonic))
    }

    /// The wall time of a monotonic moment in nanoseconds since 1970 UTC.
    pub fn wall_ns(&self, at: Instant) -> i64 {
        let time = self.wall + at.saturating_duration_since(self.monotonic);
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    /// How far the system's wall clock has moved against this one, in microseconds.
    pub fn offset_us(&self) -> i64 {
        let ours = self.wall(self.now()).0;
        Timestamp::from_system(SystemTime::now()).0.saturating_sub(ours)
    }
}

/// Microseconds of a duration, for the tables.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
