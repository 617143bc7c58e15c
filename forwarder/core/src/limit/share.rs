//! Fair shares of a bandwidth for senders that cannot wait.
//!
//! Datagrams over budget are dropped, and without more ado those of the busiest sender would get all
//! that there is. So while the bucket runs low only those may take from it who have not had their
//! share yet: what the rate gives in a slice of time, divided by the sessions that sent something in
//! it or in the one before. Who takes more than its share pays with the following slices. What
//! others leave of theirs gathers in the bucket, and is for everyone once it no longer runs low.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pace::Pace;

/// Length of a slice.
const SLICE: Duration = Duration::from_millis(100);

/// Who sends at the moment.
#[derive(Debug)]
pub struct Shares {
    epoch: Instant,
    /// The running slice (32 bits), the sessions of the one before and its own (16 bits each).
    seen: AtomicU64,
}

/// What one session took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share {
    slice: Option<u32>,
    /// Beyond the shares of the slices that are over.
    bytes: u64,
}

impl Shares {
    /// Nobody sends. `epoch`: any moment of the past.
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, seen: AtomicU64::new(0) }
    }

    /// Whether a session that sends now has not had its share yet. `others`: sessions that share
    /// the rate besides those that send datagrams.
    pub fn has_left(&self, share: &mut Share, pace: Pace, others: u64, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.epoch).as_millis() / SLICE.as_millis();
        // Runs over after thirteen years, and then one slice is shared wrongly.
        let slice = u32::try_from(since % (1 << 32)).unwrap_or(0);
        if share.slice != Some(slice) {
            self.join(slice);
        }
        let share_bytes = pace.worth(SLICE) / (self.active() + others).max(1);
        if let Some(before) = share.slice
            && before != slice
        {
            let passed = u64::from(slice.saturating_sub(before));
            share.bytes = share.bytes.saturating_sub(share_bytes.saturating_mul(passed));
        }
        share.slice = Some(slice);
        share.bytes < share_bytes.max(1)
    }

    fn join(&self, slice: u32) {
        let join = |seen: u64| {
            let (running, own) = ((seen >> 32) as u32, seen & 0xffff);
            let (before, own) = match slice.checked_sub(running) {
                Some(0) => (seen >> 16 & 0xffff, (own + 1).min(0xffff)),
                Some(1) => (own, 1),
                _ => (0, 1),
            };
            Some(u64::from(slice) << 32 | before << 16 | own)
        };
        let joined = self.seen.fetch_update(Ordering::Relaxed, Ordering::Relaxed, join);
        debug_assert!(joined.is_ok(), "joining is always possible");
    }

    fn active(&self) -> u64 {
        let seen = self.seen.load(Ordering::Relaxed);
        (seen & 0xffff).max(seen >> 16 & 0xffff)
    }
}

impl Share {
    /// The session took so many bytes.
    pub fn took(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }
}
