//! New sessions in a time: a true rate, over any window and not only over those of a calendar.
//!
//! The log remembers when sessions were let in. Another one may come if fewer than `count` were let
//! in during the `per` that ends now, so no window of that length, wherever it begins, ever sees more
//! than `count`: not the 2N of windows that begin anew, nor the 2N - 1 of a leaky bucket (GCRA) that
//! is full when the window begins. Who is refused is not remembered: trying does not make the wait
//! longer.
//!
//! Memory is bounded by counting sessions that came close together as if all had come with the last
//! of them: up to [`EXACT`] a window each is remembered by itself, and beyond that a place may stay
//! taken for 1/64 of the window longer than it had to, never shorter.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::Rate;

/// Sessions in a window that are remembered one by one.
const EXACT: u64 = 64;

/// When sessions were let in.
#[derive(Debug, Clone, Default)]
pub struct RateLog {
    marks: VecDeque<Mark>,
    total: u64,
}

/// Sessions that came so close together that they are forgotten together.
#[derive(Debug, Clone, Copy)]
struct Mark {
    first: Instant,
    last: Instant,
    count: u64,
}

impl RateLog {
    /// Sessions of the window that ends now.
    pub fn in_window(&mut self, rate: Rate, now: Instant) -> u64 {
        while let Some(mark) = self.marks.front()
            && now.saturating_duration_since(mark.last) >= rate.per
        {
            self.total -= mark.count;
            self.marks.pop_front();
        }
        self.total
    }

    /// Whether another session may come now.
    pub fn has_room(&mut self, rate: Rate, now: Instant) -> bool {
        self.in_window(rate, now) < rate.count
    }

    /// A session is let in.
    pub fn enter(&mut self, rate: Rate, now: Instant) {
        let together = if rate.count > EXACT { rate.per / 64 } else { Duration::ZERO };
        self.total += 1;
        match self.marks.back_mut() {
            Some(mark) if now.saturating_duration_since(mark.first) < together => {
                mark.last = mark.last.max(now);
                mark.count += 1;
            }
            Some(_) | None => self.marks.push_back(Mark { first: now, last: now, count: 1 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(count: u64, per: Duration) -> Rate {
        Rate { count, per }
    }

    /// Tries at each of `at`, in milliseconds, and gives those that were let in.
    fn admitted(rate: Rate, at: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let (start, mut log) = (Instant::now(), RateLog::default());
        let mut admitted = Vec::new();
        for at in at {
            let now = start + Duration::from_millis(at);
            if log.has_room(rate, now) {
                log.enter(rate, now);
                admitted.push(at);
            }
        }
        admitted
    }

    #[test]
    fn no_border_lets_twice_as_many_through() {
        let rate = rate(4, Duration::from_secs(1));
        let at = [0, 990, 991, 992, 993, 1000, 1001, 1500, 1990, 1991, 1992, 1993];
        assert_eq!(admitted(rate, at), [0, 990, 991, 992, 1000, 1990, 1991, 1992]);
    }

    #[test]
    fn refused_tries_do_not_make_the_wait_longer() {
        let rate = rate(1, Duration::from_secs(1));
        assert_eq!(admitted(rate, 0..=3000), [0, 1000, 2000, 3000]);
    }

    #[test]
    fn a_steady_stream_gets_the_whole_rate_however_large() {
        for count in [1, 10, 64, 65, 1000, 100_000] {
            let per = Duration::from_secs(10);
            let (start, mut log, mut let_in) = (Instant::now(), RateLog::default(), 0);
            // Twice as many as may come, over three windows.
            for nth in 0..count * 6 {
                let now = start + per.mul_f64(nth as f64 / (count * 2) as f64);
                if log.has_room(rate(count, per), now) {
                    log.enter(rate(count, per), now);
                    let_in += 1;
                }
                assert!(log.marks.len() <= 66, "{} marks for {count}", log.marks.len());
            }
            assert!(let_in <= count * 3 && let_in * 100 >= count * 3 * 95, "{let_in} of {count}");
        }
    }

    #[test]
    fn a_changed_rate_applies_to_what_was_counted() {
        let (start, mut log) = (Instant::now(), RateLog::default());
        let per = Duration::from_secs(10);
        (0..3).for_each(|_| log.enter(rate(3, per), start));
        assert!(!log.has_room(rate(3, per), start) && log.has_room(rate(4, per), start));
        let later = start + Duration::from_secs(2);
        assert!(!log.has_room(rate(3, per), later));
        assert!(log.has_room(rate(3, Duration::from_secs(2)), later), "a shorter window is over");
    }

    proptest! {
        #[test]
        fn no_window_ever_sees_more(
            gaps in proptest::collection::vec(0_u64..40, 1..600),
            count in 1_u64..200,
        ) {
            let per = 500;
            let at = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) });
            let admitted = admitted(rate(count, Duration::from_millis(per)), at);
            for (index, &first) in admitted.iter().enumerate() {
                let in_window = admitted[index..].iter().take_while(|&&at| at < first + per);
                prop_assert!(in_window.count() as u64 <= count);
            }
        }
    }
}
