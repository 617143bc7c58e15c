//! How many sessions of one sharer may be, and come.

use std::time::Instant;

use super::rate::RateLog;
use super::terms::{Kind, Terms};
use crate::config::Per;

/// The sessions of one sharer.
#[derive(Debug, Default)]
pub struct Door {
    sessions: u64,
    /// In the order of the rates.
    logs: Vec<RateLog>,
}

impl Door {
    /// Whether another session may come. Nothing is counted.
    ///
    /// Who shares a limit with strangers is told first that too many come, and who has it for
    /// itself that it has too many: the same order in which Barefoot's limits are asked.
    ///
    /// # Errors
    /// The kind of the limit that refuses.
    pub fn ask(&mut self, terms: &Terms, now: Instant) -> Result<(), Kind> {
        let full = terms.sessions.is_some_and(|most| self.sessions >= most);
        let fast = !self.is_slow(terms, now);
        let order = match terms.per {
            Per::Client { .. } => [(full, Kind::Sessions), (fast, Kind::NewSessions)],
            Per::Rule | Per::Service | Per::Customer => {
                [(fast, Kind::NewSessions), (full, Kind::Sessions)]
            }
        };
        order.into_iter().find(|(refuses, _)| *refuses).map_or(Ok(()), |(_, kind)| Err(kind))
    }

    fn is_slow(&mut self, terms: &Terms, now: Instant) -> bool {
        self.logs.resize_with(terms.new_sessions.len(), RateLog::default);
        let mut rates = terms.new_sessions.iter().zip(&mut self.logs);
        rates.all(|(&rate, log)| log.has_room(rate, now))
    }

    /// A session comes.
    pub fn enter(&mut self, terms: &Terms, now: Instant) {
        self.sessions += 1;
        self.logs.resize_with(terms.new_sessions.len(), RateLog::default);
        for (&rate, log) in terms.new_sessions.iter().zip(&mut self.logs) {
            log.enter(rate, now);
        }
    }

    /// A session that came has ended.
    pub fn leave(&mut self) {
        self.sessions = self.sessions.saturating_sub(1);
    }

    /// Sessions at the moment.
    pub fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Sessions that came in the window of each rate that ends now.
    pub fn came(&mut self, terms: &Terms, now: Instant) -> Vec<u64> {
        self.logs.resize_with(terms.new_sessions.len(), RateLog::default);
        let rates = terms.new_sessions.iter().zip(&mut self.logs);
        rates.map(|(&rate, log)| log.in_window(rate, now)).collect()
    }

    /// Whether nothing is remembered, so that a new door would do as well.
    pub fn is_unused(&mut self, terms: &Terms, now: Instant) -> bool {
        self.sessions == 0 && self.came(terms, now).iter().all(|&came| came == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Rate;

    fn terms(per: Per, sessions: u64, count: u64) -> Terms {
        let rate = Rate { count, per: Duration::from_secs(10) };
        Terms { sessions: Some(sessions), new_sessions: vec![rate], ..Terms::none(per) }
    }

    #[test]
    fn a_session_that_ends_makes_room_and_the_rate_remembers_it() {
        let (now, mut door) = (Instant::now(), Door::default());
        let terms = terms(Per::CLIENT, 1, 2);
        assert_eq!(door.ask(&terms, now), Ok(()));
        door.enter(&terms, now);
        assert_eq!(door.ask(&terms, now), Err(Kind::Sessions));
        door.leave();
        assert_eq!(door.ask(&terms, now), Ok(()));
        door.enter(&terms, now);
        door.leave();
        assert_eq!(door.ask(&terms, now), Err(Kind::NewSessions), "coming again does not help");
        assert!(!door.is_unused(&terms, now));
        let later = now + Duration::from_secs(10);
        assert!(door.ask(&terms, later).is_ok() && door.is_unused(&terms, later));
    }

    #[test]
    fn the_first_reason_is_the_rate_for_all_and_the_number_for_one() {
        let now = Instant::now();
        for (per, kind) in [(Per::Rule, Kind::NewSessions), (Per::CLIENT, Kind::Sessions)] {
            let (terms, mut door) = (terms(per, 1, 1), Door::default());
            door.enter(&terms, now);
            assert_eq!(door.ask(&terms, now), Err(kind));
        }
    }

    #[test]
    fn changed_terms_apply_to_who_is_there() {
        let (now, mut door) = (Instant::now(), Door::default());
        (0..3).for_each(|_| door.enter(&terms(Per::Rule, 10, 10), now));
        assert_eq!(door.ask(&terms(Per::Rule, 3, 10), now), Err(Kind::Sessions));
        assert_eq!(door.ask(&terms(Per::Rule, 4, 3), now), Err(Kind::NewSessions));
        assert_eq!(door.ask(&terms(Per::Rule, 4, 4), now), Ok(()));
        assert_eq!(door.ask(&Terms::none(Per::Rule), now), Ok(()));
    }
}
