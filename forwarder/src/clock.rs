//! The one clock: monotonic time decides, wall time labels.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use schemas::vocab::Timestamp;

/// Wall time as an offset to monotonic time, so that a moment is read once and labelled later. The
/// offset follows the system's wall clock when the journal thread says so, and for all copies at
/// once.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    anchor: Instant,
    /// Nanoseconds since 1970 UTC at the anchor.
    offset_ns: &'static AtomicI64,
}

impl Clock {
    /// A clock that shows the system's time. It lives as long as the process.
    pub fn start() -> Self {
        let offset_ns = Box::leak(Box::new(AtomicI64::new(0)));
        let clock = Self { anchor: Instant::now(), offset_ns };
        clock.follow_wall();
        clock
    }

    /// Monotonic now.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Takes over the system's wall clock as it is now.
    pub fn follow_wall(&self) {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall_ns = i64::try_from(wall.as_nanos()).unwrap_or(i64::MAX);
        self.offset_ns.store(wall_ns - self.since_anchor_ns(Instant::now()), Ordering::Relaxed);
    }

    /// The wall time of a monotonic moment.
    pub fn wall(&self, at: Instant) -> Timestamp {
        Timestamp(self.wall_ns(at) / 1000)
    }

    /// The wall time of a monotonic moment in nanoseconds since 1970 UTC.
    pub fn wall_ns(&self, at: Instant) -> i64 {
        self.offset_ns.load(Ordering::Relaxed) + self.since_anchor_ns(at)
    }

    fn since_anchor_ns(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.anchor).as_nanos()).unwrap_or(i64::MAX)
    }
}

/// Microseconds of a duration, for the tables.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
