//! What all threads know of one target.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use schemas::vocab::Transport;

use super::failures::{BEFORE_BACKING_OFF, Failures, Silence, Stage};

/// Whether sessions should go to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fitness {
    /// Yes.
    Fit,
    /// It failed and has rested: one session may try it.
    DueForTrial,
    /// It failed, and is left alone while there is another one.
    Resting {
        /// For how long from now.
        left: Duration,
    },
    /// Active checks say that it is down.
    Down,
}

/// What is known of one target, shared by all threads without locks. It lives for as long as a
/// configuration in force or a session knows the target.
#[derive(Debug)]
pub struct TargetHealth {
    /// What times are counted from.
    origin: Instant,
    sessions: AtomicU64,
    failed_dials: AtomicU64,
    /// [`Failures`] of TCP and of UDP: a port may be open to one and not to the other.
    failures: [AtomicU64; 2],
    /// 0 unless active checks are made: then [`UP`] or [`DOWN`].
    checked: AtomicU8,
}

const UP: u8 = 1;
const DOWN: u8 = 2;

impl TargetHealth {
    /// Nothing is known yet. `origin`: no later than any time that is told.
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            sessions: AtomicU64::new(0),
            failed_dials: AtomicU64::new(0),
            failures: [AtomicU64::new(0), AtomicU64::new(0)],
            checked: AtomicU8::new(0),
        }
    }

    /// Sessions that are there now, those that still dial included.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Sessions that could not reach it, or not in time, since it is known.
    pub fn failed_dials(&self) -> u64 {
        self.failed_dials.load(Ordering::Relaxed)
    }

    /// Dials in a row that failed, 255 at most; those of a rest do not count.
    pub fn failures(&self, transport: Transport) -> u64 {
        Failures::from_word(self.word(transport).load(Ordering::Relaxed)).count()
    }

    /// Whether sessions of a transport should go there.
    pub fn fitness(&self, transport: Transport, now: Instant) -> Fitness {
        if self.checked.load(Ordering::Relaxed) == DOWN {
            return Fitness::Down;
        }
        let failures = Failures::from_word(self.word(transport).load(Ordering::Relaxed));
        if failures.count() < BEFORE_BACKING_OFF {
            return Fitness::Fit;
        }
        let now_ms = self.ms(now);
        match failures.stage(now_ms, silence(transport)) {
            Stage::Trusted => Fitness::Fit,
            Stage::Due => Fitness::DueForTrial,
            Stage::Resting { until_ms } => {
                Fitness::Resting { left: Duration::from_millis(until_ms - now_ms) }
            }
        }
    }

    /// What active checks say; `None`: none are made, or there was none yet.
    pub fn checked(&self) -> Option<bool> {
        match self.checked.load(Ordering::Relaxed) {
            UP => Some(true),
            DOWN => Some(false),
            _ => None,
        }
    }

    /// Sets what active checks say. A good check is a dial that succeeded.
    pub fn set_checked(&self, up: Option<bool>) {
        let word = up.map_or(0, |up| if up { UP } else { DOWN });
        self.checked.store(word, Ordering::Relaxed);
    }

    /// A dial succeeded.
    pub fn succeeded(&self, transport: Transport) {
        let word = self.word(transport);
        // Nearly always there is nothing to forget, and a load leaves the line to all threads.
        if word.load(Ordering::Relaxed) != 0 {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// A dial failed.
    fn failed(&self, transport: Transport, of_trial: bool, now: Instant) {
        self.failed_dials.fetch_add(1, Ordering::Relaxed);
        let silence = silence(transport);
        self.change(transport, now, |failures, now_ms| {
            Some(failures.after_failure(now_ms, of_trial, silence))
        });
    }

    /// Whether the caller is the one that may try the target.
    pub(super) fn claim_trial(&self, transport: Transport, now: Instant) -> bool {
        let silence = silence(transport);
        self.change(transport, now, |failures, now_ms| {
            let due = failures.stage(now_ms, silence) == Stage::Due;
            due.then(|| failures.on_trial(now_ms))
        })
    }

    fn change(
        &self,
        transport: Transport,
        now: Instant,
        change: impl Fn(Failures, u64) -> Option<Failures>,
    ) -> bool {
        let now_ms = self.ms(now);
        let changed = |word| change(Failures::from_word(word), now_ms).map(Failures::word);
        self.word(transport).fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed).is_ok()
    }

    fn word(&self, transport: Transport) -> &AtomicU64 {
        match transport {
            Transport::Tcp => &self.failures[0],
            Transport::Udp => &self.failures[1],
        }
    }

    fn ms(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

fn silence(transport: Transport) -> Silence {
    match transport {
        Transport::Tcp => Silence::SaysNothing,
        Transport::Udp => Silence::IsSuccess,
    }
}

/// A session's place at a target, from before it is dialled to the session's end: the target's
/// sessions are its places. Dropped, it is free.
#[derive(Debug)]
pub struct Place {
    health: Arc<TargetHealth>,
    transport: Transport,
    of_trial: bool,
    told: Cell<Told>,
}

/// What a session has told of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Failure,
    Success,
}

impl Place {
    pub(super) fn take(health: &Arc<TargetHealth>, transport: Transport, of_trial: bool) -> Self {
        health.sessions.fetch_add(1, Ordering::Relaxed);
        Self { health: Arc::clone(health), transport, of_trial, told: Cell::new(Told::Nothing) }
    }

    /// The target answered, also if it seemed not to.
    pub fn succeeded(&self) {
        if self.told.replace(Told::Success) != Told::Success {
            self.health.succeeded(self.transport);
        }
    }

    /// The target does not answer. A session tells so once, and no more after it had an answer.
    pub fn failed(&self, now: Instant) {
        if self.told.get() == Told::Nothing {
            self.told.set(Told::Failure);
            self.health.failed(self.transport, self.of_trial, now);
        }
    }

    /// Whether sessions should go to this target.
    pub fn fitness(&self, now: Instant) -> Fitness {
        self.health.fitness(self.transport, now)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.health.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Transport::{Tcp, Udp};

    const SECOND: Duration = Duration::from_secs(1);

    fn fail_three_times(health: &Arc<TargetHealth>, transport: Transport, now: Instant) {
        for _ in 0..3 {
            Place::take(health, transport, false).failed(now);
        }
    }

    #[test]
    fn a_target_that_fails_rests_is_tried_once_and_comes_back() {
        let start = Instant::now();
        let health = Arc::new(TargetHealth::new(start));
        fail_three_times(&health, Tcp, start);
        assert_eq!(health.fitness(Tcp, start), Fitness::Resting { left: SECOND });
        assert!(!health.claim_trial(Tcp, start), "not yet");
        let due = start + SECOND;
        assert_eq!(health.fitness(Tcp, due), Fitness::DueForTrial);
        assert!(health.claim_trial(Tcp, due) && !health.claim_trial(Tcp, due), "only one");
        Place::take(&health, Tcp, true).failed(due);
        assert_eq!(health.fitness(Tcp, due), Fitness::Resting { left: 2 * SECOND });
        Place::take(&health, Tcp, false).succeeded();
        assert_eq!(health.fitness(Tcp, due), Fitness::Fit);
        assert_eq!(health.failures(Tcp), 0);
    }

    #[test]
    fn a_port_that_is_closed_to_one_transport_may_be_open_to_the_other() {
        let start = Instant::now();
        let health = Arc::new(TargetHealth::new(start));
        fail_three_times(&health, Udp, start);
        assert_ne!(health.fitness(Udp, start), Fitness::Fit);
        assert_eq!(health.fitness(Tcp, start), Fitness::Fit);
    }

    #[test]
    fn a_udp_target_that_gives_no_sign_of_absence_is_trusted_again() {
        let start = Instant::now();
        let health = Arc::new(TargetHealth::new(start));
        fail_three_times(&health, Udp, start);
        assert!(health.claim_trial(Udp, start + SECOND));
        assert_eq!(health.fitness(Udp, start + 2 * SECOND), Fitness::Fit);
    }

    #[test]
    fn what_checks_say_counts_more_than_dials() {
        let start = Instant::now();
        let health = Arc::new(TargetHealth::new(start));
        health.set_checked(Some(false));
        Place::take(&health, Tcp, false).succeeded();
        assert_eq!(health.fitness(Tcp, start), Fitness::Down);
        health.set_checked(None);
        assert_eq!(health.fitness(Tcp, start), Fitness::Fit);
    }

    #[test]
    fn a_session_fails_a_target_once_and_not_after_it_had_an_answer() {
        let start = Instant::now();
        let health = Arc::new(TargetHealth::new(start));
        let place = Place::take(&health, Udp, false);
        for _ in 0..5 {
            place.failed(start);
        }
        assert_eq!(health.failures(Udp), 1);
        place.succeeded();
        place.failed(start);
        assert_eq!(health.failures(Udp), 0);
    }

    #[test]
    fn a_place_is_counted_until_it_is_dropped() {
        let health = Arc::new(TargetHealth::new(Instant::now()));
        let places: Vec<_> = (0..3).map(|_| Place::take(&health, Tcp, false)).collect();
        assert_eq!(health.sessions(), 3);
        drop(places);
        assert_eq!(health.sessions(), 0);
    }
}
