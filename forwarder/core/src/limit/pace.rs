//! How fast payload may go: a rate, and a burst after a silence.

use std::time::Duration;

use crate::config::Bandwidth;

/// The time in which each of the sessions that share a rate gets its turn, while there is enough for
/// each.
pub const TICK: Duration = Duration::from_millis(20);

/// The time in which each gets its turn at rates at which a [`TICK`] gives too little for it.
const SLOW_TICK: Duration = Duration::from_millis(200);

/// A turn below this is not worth its system calls where a longer wait gives more: a segment of
/// Ethernet, in bytes.
const WORTHWHILE_BYTES: u64 = 1448;

/// Sharers that are expected to come though they are not in the line.
const EXPECTED: u64 = 64;

/// The time whose worth is the burst where none is configured.
const DEFAULT_BURST: Duration = Duration::from_millis(100);

/// Least burst where none is configured, in bytes: a full packet must fit.
const LEAST_DEFAULT_BURST_BYTES: u64 = 2048;

/// A rate and its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    bps: u64,
    burst_bytes: u64,
}

impl Pace {
    /// A pace of so many bits per second, at least 1. What may go at once after a silence is
    /// `burst_bytes`; if that is not given, what the rate gives in 100 ms, at least 2 KiB; in any
    /// case what it gives in 20 ms, since waits are no shorter than that.
    pub fn new(bps: u64, burst_bytes: Option<u64>) -> Self {
        let bps = bps.max(1);
        let default = worth(bps, DEFAULT_BURST).max(LEAST_DEFAULT_BURST_BYTES);
        let burst_bytes = burst_bytes.unwrap_or(default).max(worth(bps, TICK)).max(1);
        Self { bps, burst_bytes }
    }

    /// The paces of a bandwidth: up, down, and both together.
    pub(super) fn of(bandwidth: &Bandwidth) -> [Option<Self>; 3] {
        let Bandwidth { up_bps, down_bps, both_bps, burst_bytes } = *bandwidth;
        [up_bps, down_bps, both_bps].map(|bps| Some(Self::new(bps?, burst_bytes)))
    }

    /// In bits per second.
    pub fn bps(self) -> u64 {
        self.bps
    }

    /// What may go at once after a silence, in bytes.
    pub fn burst_bytes(self) -> u64 {
        self.burst_bytes
    }

    /// What the rate gives in such a time, in bytes.
    pub fn worth(self, time: Duration) -> u64 {
        worth(self.bps, time)
    }

    /// What a session may take in its turn, in bytes, at least 1: its part of a tick, of which
    /// there are as many as sessions in the `line`, or as `sharers` that may come at any moment;
    /// beyond 64 they are taken to be idle for the most part. Where that is too little, its part of
    /// a longer time.
    pub fn turn_bytes(self, line: u64, sharers: u64) -> u64 {
        let parts = line.max(sharers.min(EXPECTED)).max(1);
        let fast = self.worth(TICK) / parts;
        let slow = || (self.worth(SLOW_TICK) / parts).min(WORTHWHILE_BYTES);
        if fast >= WORTHWHILE_BYTES { fast } else { slow() }.clamp(1, self.burst_bytes)
    }
}

fn worth(bps: u64, time: Duration) -> u64 {
    let bytes = u128::from(bps) * time.as_nanos() / 8_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_what_was_asked_for_and_never_less_than_a_tick() {
        assert_eq!(Pace::new(80_000_000, None).burst_bytes(), 1_000_000, "100 ms");
        assert_eq!(Pace::new(8000, None).burst_bytes(), 2048, "a packet fits");
        assert_eq!(Pace::new(8000, Some(1)).burst_bytes(), 20, "a tick");
        assert_eq!(Pace::new(8000, Some(1 << 20)).burst_bytes(), 1 << 20);
        assert_eq!(Pace::new(10, Some(0)).burst_bytes(), 1);
    }

    #[test]
    fn a_turn_is_a_share_of_a_tick_unless_that_is_too_little() {
        let fast = Pace::new(800_000_000, None);
        assert_eq!((fast.turn_bytes(1, 1), fast.turn_bytes(64, 64)), (2_000_000, 31_250));
        assert_eq!(fast.turn_bytes(1, 10_000), 31_250, "most of so many are idle");
        let slow = Pace::new(800_000, None);
        assert_eq!(slow.turn_bytes(1, 1), 2000);
        assert_eq!(slow.turn_bytes(4, 4), 1448, "of 500 or 5000");
        assert_eq!(slow.turn_bytes(4, 64), 312, "a fifth of a second, in which all may come");
        assert_eq!(Pace::new(10, None).turn_bytes(64, 64), 1);
        assert_eq!(Pace::new(u64::MAX, None).turn_bytes(1, 1), u64::MAX / 400);
    }
}
