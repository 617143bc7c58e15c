//! Payload in a time, for all sessions that share it, on whatever threads they are.
//!
//! The bucket is one number: when it will be full. What is taken makes that later, and what may be
//! taken is what leaves it no further away than the burst takes to gather. So an idle bucket gives
//! the burst and no more, however long it was idle, and a new one is full: it begins with the burst.
//!
//! A session of a stream that finds nothing left does not come again and again to look: it books its
//! turn ([`Pace::turn_bytes`]) behind the turns booked before it, is told when it comes, and waits
//! until then. Turns are of one size and a session has one at a time, so those that wait share
//! alike without knowing of each other, and what one does not use it gives back. Datagrams cannot
//! wait: see [`Bucket::take`] and [`Shares`](super::Shares).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pace::{Pace, TICK};

/// Parts of a nanosecond in which the bucket reckons: at 100 Gbit/s a byte takes less than one.
const PARTS_PER_NS: u64 = 16;

/// Bits in a byte times parts in a second.
const PARTS_PER_SECOND_AND_BYTE: u64 = 8 * PARTS_PER_NS * 1_000_000_000;

/// What is left of a bandwidth.
#[derive(Debug)]
pub struct Bucket {
    epoch: Instant,
    /// When it will be full, in parts since the epoch.
    full_at: AtomicU64,
    /// What the turns take that are booked and not yet used, in parts.
    booked: AtomicU64,
    /// Sessions with a booked turn.
    waiting: AtomicU64,
}

/// A turn that a session has booked. It must be ended by [`Bucket::settle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    parts: u64,
    pace: Pace,
    /// When it comes.
    pub at: Instant,
}

impl Bucket {
    /// A full bucket. `epoch`: any moment of the past.
    pub fn new(epoch: Instant) -> Self {
        let zero = || AtomicU64::new(0);
        Self { epoch, full_at: zero(), booked: zero(), waiting: zero() }
    }

    /// Sessions that have booked a turn.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// What one of the `sharers` that books now gets for its turn, in bytes, at least 1.
    pub fn turn_bytes(&self, pace: Pace, sharers: u64) -> u64 {
        pace.turn_bytes(self.waiting() + 1, sharers)
    }

    /// Books a turn of so many `bytes`, and says when it comes, which may be at once. Where the
    /// bucket has several `sharers` the first to come must not take the burst from the others: each
    /// goes only so far ahead of the rate as its part of the burst is, or a tick.
    pub fn book(&self, pace: Pace, bytes: u64, sharers: u64, now: Instant) -> Turn {
        let burst = pace.burst_bytes() / sharers.max(1);
        let burst =
            burst.max(pace.worth(TICK)).clamp(bytes.min(pace.burst_bytes()), pace.burst_bytes());
        let (parts, now_parts) = (parts_of(pace, bytes), self.parts(now));
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.booked.fetch_add(parts, Ordering::Relaxed);
        let before = self.update(|full_at| Some(full_at.max(now_parts).saturating_add(parts)));
        let full_at = before.unwrap_or(now_parts).max(now_parts).saturating_add(parts);
        let comes = full_at.saturating_sub(parts_of(pace, burst));
        Turn { parts, pace, at: self.instant(comes).max(now) }
    }

    /// Ends a turn of which so many bytes were used; the rest is given back.
    pub fn settle(&self, turn: Turn, used: u64) {
        let rest = turn.parts.saturating_sub(parts_of(turn.pace, used));
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.booked.fetch_sub(turn.parts, Ordering::Relaxed);
        if rest > 0 {
            self.update(|full_at| Some(full_at.saturating_sub(rest)));
        }
    }

    /// Takes a datagram of so many bytes at once, or not at all. One that is larger than the burst
    /// may go when the bucket is full, and what follows waits the longer for it. `may_overtake`:
    /// also before the turns that are booked, for a session that got less than its share.
    pub fn take(&self, pace: Pace, bytes: u64, may_overtake: bool, now: Instant) -> bool {
        let now = self.parts(now);
        let (parts, burst) = (parts_of(pace, bytes), parts_of(pace, pace.burst_bytes()));
        let ahead = if may_overtake { self.booked.load(Ordering::Relaxed) } else { 0 };
        let most = now.saturating_add(burst).saturating_add(ahead);
        self.update(|full_at| {
            let from = full_at.max(now);
            let fits = from.saturating_add(parts.min(burst)) <= most;
            fits.then(|| from.saturating_add(parts))
        })
        .is_some()
    }

    /// Gives back what [`Bucket::take`] took.
    pub fn give_back(&self, pace: Pace, bytes: u64) {
        let parts = parts_of(pace, bytes);
        self.update(|full_at| Some(full_at.saturating_sub(parts)));
    }

    /// Goes over to another pace: what is missing stays missing, as far as the new burst goes, and
    /// fills up at the new rate.
    pub fn change_pace(&self, old: Pace, new: Pace, now: Instant) {
        let now = self.parts(now);
        let burst = parts_of(new, new.burst_bytes());
        self.update(|full_at| {
            let missing = u128::from(full_at.saturating_sub(now));
            let missing = missing * u128::from(old.bps()) / u128::from(new.bps());
            let missing = u64::try_from(missing).unwrap_or(u64::MAX).min(burst);
            Some(now.saturating_add(missing))
        });
    }

    /// Whether more than half of the burst is left.
    pub fn is_relaxed(&self, pace: Pace, now: Instant) -> bool {
        let left = self.full_at.load(Ordering::Relaxed).saturating_sub(self.parts(now));
        left < parts_of(pace, pace.burst_bytes()) / 2
    }

    /// Whether nothing is missing, so that a new bucket would do as well.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.load(Ordering::Relaxed) <= self.parts(now)
    }

    /// The value before, if `change` gave one after.
    fn update(&self, change: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).ok()
    }

    fn parts(&self, at: Instant) -> u64 {
        let ns = at.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(ns * u128::from(PARTS_PER_NS)).unwrap_or(u64::MAX)
    }

    fn instant(&self, parts: u64) -> Instant {
        self.epoch + Duration::from_nanos(parts.div_ceil(PARTS_PER_NS))
    }
}

/// How long so many bytes take, in parts, rounded up.
fn parts_of(pace: Pace, bytes: u64) -> u64 {
    match bytes.checked_mul(PARTS_PER_SECOND_AND_BYTE) {
        Some(product) => product.div_ceil(pace.bps()),
        None => {
            let product = u128::from(bytes) * u128::from(PARTS_PER_SECOND_AND_BYTE);
            // Half of what a u64 holds, so that sums of two do not run over.
            let most = u64::MAX / 2;
            u64::try_from(product.div_ceil(pace.bps().into())).map_or(most, |parts| parts.min(most))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// 1000 bytes a second with a burst of 500.
    fn pace() -> Pace {
        Pace::new(8000, Some(500))
    }

    #[test]
    fn a_new_bucket_gives_its_burst_and_an_idle_one_no_more() {
        let start = Instant::now();
        let bucket = Bucket::new(start);
        let now = start + 60 * SECOND;
        assert!(bucket.is_full(now) && bucket.is_relaxed(pace(), now));
        assert!(bucket.take(pace(), 300, false, now) && bucket.take(pace(), 200, false, now));
        assert!(!bucket.take(pace(), 1, false, now));
        assert!(!bucket.is_relaxed(pace(), now) && !bucket.is_full(now));
        let later = now + SECOND / 10;
        assert!(!bucket.take(pace(), 101, false, later) && bucket.take(pace(), 100, false, later));
        let late = now + 3600 * SECOND;
        let taken = (0..10_000).filter(|_| bucket.take(pace(), 1, false, late)).count();
        assert_eq!(taken, 500);
    }

    #[test]
    fn turns_come_in_the_order_in_which_they_were_booked() {
        let start = Instant::now();
        let bucket = Bucket::new(start);
        let turns: Vec<_> = (0..4).map(|_| bucket.book(pace(), 250, 1, start)).collect();
        let comes: Vec<_> = turns.iter().map(|turn| (turn.at - start).as_millis()).collect();
        assert_eq!(comes, [0, 0, 250, 500]);
        assert_eq!(bucket.waiting(), 4);
        turns.into_iter().for_each(|turn| bucket.settle(turn, 250));
        assert_eq!(bucket.waiting(), 0);
        assert!(!bucket.is_full(start + SECOND - SECOND / 100) && bucket.is_full(start + SECOND));
    }

    #[test]
    fn what_a_turn_does_not_use_is_there_for_the_next() {
        let start = Instant::now();
        let bucket = Bucket::new(start);
        let turn = bucket.book(pace(), 500, 1, start);
        bucket.settle(turn, 100);
        assert_eq!(bucket.book(pace(), 400, 1, start).at, start);
        assert_eq!(bucket.book(pace(), 100, 1, start).at, start + SECOND / 10);
    }

    #[test]
    fn a_datagram_larger_than_the_burst_goes_when_the_bucket_is_full_and_is_paid_for() {
        let start = Instant::now();
        let bucket = Bucket::new(start);
        assert!(bucket.take(pace(), 2000, false, start));
        assert!(!bucket.take(pace(), 2000, false, start + 2 * SECOND - SECOND / 100));
        assert!(bucket.take(pace(), 2000, false, start + 2 * SECOND));
    }

    #[test]
    fn a_datagram_may_overtake_booked_turns_but_not_what_is_used_up() {
        let start = Instant::now();
        let bucket = Bucket::new(start);
        let used = bucket.book(pace(), 500, 1, start);
        bucket.settle(used, 500);
        let waits = bucket.book(pace(), 100, 1, start);
        assert!(!bucket.take(pace(), 100, false, start));
        let soon = start + SECOND / 10;
        assert!(!bucket.take(pace(), 100, false, soon) && bucket.take(pace(), 100, true, soon));
        assert!(!bucket.take(pace(), 100, true, soon), "there is only so much");
        bucket.settle(waits, 0);
    }

    #[test]
    fn a_change_of_pace_neither_forgives_what_was_taken_nor_makes_it_wait_at_the_old_rate() {
        let start = Instant::now();
        let (slow, fast) = (Pace::new(8, Some(10_000)), Pace::new(8_000_000, Some(20_000)));
        let bucket = Bucket::new(start);
        assert!(bucket.take(slow, 10_000, false, start));
        bucket.change_pace(slow, fast, start);
        assert!(bucket.take(fast, 10_000, false, start) && !bucket.take(fast, 1, false, start));
        assert!(bucket.take(fast, 20_000, false, start + SECOND / 50));
        bucket.change_pace(fast, slow, start + SECOND / 50);
        let later = start + SECOND / 50 + 100 * SECOND;
        assert!(!bucket.take(slow, 101, false, later) && bucket.take(slow, 100, false, later));
    }

    #[test]
    fn extreme_rates_are_reckoned_without_running_over() {
        let start = Instant::now();
        for (bps, bytes, takes) in [
            (10, 1250, 1000.0),
            (100_000_000_000, 125_000_000_000, 10.0),
            (1, 1_000_000, 8_000_000.0),
            (u64::MAX, 1 << 40, 0.000_000_5),
        ] {
            let (pace, bucket) = (Pace::new(bps, Some(0)), Bucket::new(start));
            let turn = bucket.book(pace, bytes, 1, start);
            let waits = (turn.at - start).as_secs_f64();
            assert!((waits - takes).abs() <= takes * 0.003 + 1.0e-6, "{bps}: {waits} not {takes}");
            bucket.settle(turn, bytes);
        }
        let (pace, bucket) = (Pace::new(1, None), Bucket::new(start));
        assert!(bucket.take(pace, u64::MAX, false, start));
        assert!(!bucket.take(pace, u64::MAX, false, start + 1_000_000 * SECOND));
        assert!(bucket.book(pace, u64::MAX, 1, start).at > start);
    }

    #[test]
    fn threads_together_take_what_one_would() {
        let start = Instant::now();
        let (bucket, pace) = (Bucket::new(start), Pace::new(8_000_000, Some(100_000)));
        // Each look at the clock moves it, so that nobody is ahead of the others.
        let clock = AtomicU64::new(0);
        let end = start + SECOND;
        let now = || start + Duration::from_micros(clock.fetch_add(7, Ordering::Relaxed));
        let stream = || {
            let mut taken = 0;
            while now() < end {
                let bytes = bucket.turn_bytes(pace, 4);
                let turn = bucket.book(pace, bytes, 4, now());
                let comes = std::iter::repeat_with(now).find(|&at| at >= turn.at || at >= end);
                let used = if comes < Some(end) { bytes - bytes % 3 } else { 0 };
                bucket.settle(turn, used);
                taken += used;
            }
            taken
        };
        let datagrams = || {
            let times = std::iter::repeat_with(now).take_while(|&now| now < end);
            700 * times.filter(|&now| bucket.take(pace, 700, false, now)).count() as u64
        };
        let taken: u64 = std::thread::scope(|scope| {
            let streams: Vec<_> = (0..4).map(|_| scope.spawn(stream)).collect();
            let datagrams: Vec<_> = (0..4).map(|_| scope.spawn(datagrams)).collect();
            streams.into_iter().chain(datagrams).map(|thread| thread.join().unwrap()).sum()
        });
        assert!((950_000..=1_101_000).contains(&taken), "{taken}");
        assert_eq!((bucket.waiting(), bucket.booked.load(Ordering::Relaxed)), (0, 0));
    }
}
