//! What was looked up before, for as long as it may be used. Bounded; the clock is an argument.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Answers that are kept at once. Of a full cache the one that would end first makes room.
pub(crate) const ENTRIES: usize = 65_536;

/// Shortest and longest time that an answer is used, whatever its TTL says.
pub(crate) const POSITIVE_TTL: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(3600));

/// The same for an answer that there is nothing, whatever the zone says.
pub(crate) const NEGATIVE_TTL: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(300));

/// How long a failure to get any answer is remembered: each client that needs the same name would
/// wait for a dead name server again.
pub(crate) const FAILURE_TTL: Duration = Duration::from_secs(5);

/// What is asked of the name service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Question {
    /// The IPv4 addresses of a host, in lower case and without a dot at its end.
    V4(Arc<str>),
    /// Its IPv6 addresses.
    V6(Arc<str>),
    /// The names that the reverse zone has for an address.
    Names(IpAddr),
}

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Addresses of a host, one at least.
    Addresses(Arc<[IpAddr]>),
    /// Names of an address, one at least, as [`Question`] writes them.
    Names(Arc<[Arc<str>]>),
    /// There is nothing, says whoever is responsible.
    Nothing,
    /// Nobody answered, or not in a way that could be used.
    Failed,
}

/// An answer and how long it may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timed {
    /// What is known.
    pub(crate) answer: Answer,
    /// Until when.
    pub(crate) until: Instant,
}

impl Timed {
    /// An answer that came at `now` with this TTL, if it came with one.
    pub(crate) fn new(answer: Answer, ttl: Option<Duration>, now: Instant) -> Self {
        let (least, most) = match answer {
            Answer::Addresses(_) | Answer::Names(_) => POSITIVE_TTL,
            Answer::Nothing => NEGATIVE_TTL,
            Answer::Failed => (FAILURE_TTL, FAILURE_TTL),
        };
        Self { answer, until: now + ttl.unwrap_or(least).clamp(least, most) }
    }
}

/// The answers.
#[derive(Debug)]
pub(crate) struct Cache {
    most: usize,
    answers: HashMap<Question, Timed>,
    ends: BTreeSet<(Instant, Question)>,
}

impl Cache {
    /// An empty cache of at most so many answers.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, answers: HashMap::new(), ends: BTreeSet::new() }
    }

    /// What is known at `now`.
    pub(crate) fn get(&self, question: &Question, now: Instant) -> Option<&Timed> {
        self.answers.get(question).filter(|timed| now < timed.until)
    }

    /// Keeps an answer.
    pub(crate) fn put(&mut self, question: Question, timed: Timed) {
        self.forget(&question);
        while self.answers.len() >= self.most {
            let Some((_, first)) = self.ends.pop_first() else { return };
            self.answers.remove(&first);
        }
        self.ends.insert((timed.until, question.clone()));
        self.answers.insert(question, timed);
    }

    /// Drops an answer: it has to be asked for again.
    pub(crate) fn forget(&mut self, question: &Question) {
        if let Some(old) = self.answers.remove(question) {
            self.ends.remove(&(old.until, question.clone()));
        }
    }

    /// Drops every answer.
    pub(crate) fn clear(&mut self) {
        self.answers.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Question {
        Question::V4(format!("h{number}.example.com").into())
    }

    fn found(ttl: u64, now: Instant) -> Timed {
        let answer = Answer::Addresses(Arc::new(["192.0.2.1".parse().unwrap()]));
        Timed::new(answer, Some(Duration::from_secs(ttl)), now)
    }

    #[test]
    fn an_answer_lasts_as_long_as_its_ttl_within_bounds() {
        let now = Instant::now();
        let lasts = |timed: Timed| (timed.until - now).as_secs();
        assert_eq!(lasts(found(0, now)), 1);
        assert_eq!(lasts(found(60, now)), 60);
        assert_eq!(lasts(found(u64::from(u32::MAX), now)), 3600);
        let nothing = |ttl| lasts(Timed::new(Answer::Nothing, ttl, now));
        assert_eq!(nothing(None), 1);
        assert_eq!(nothing(Some(Duration::from_secs(86_400))), 300);
        assert_eq!(lasts(Timed::new(Answer::Failed, None, now)), 5);
    }

    #[test]
    fn what_has_ended_is_not_given() {
        let (now, mut cache) = (Instant::now(), Cache::new(10));
        cache.put(name(1), found(60, now));
        assert!(cache.get(&name(1), now + Duration::from_secs(59)).is_some());
        assert!(cache.get(&name(1), now + Duration::from_secs(60)).is_none());
        assert!(cache.get(&name(2), now).is_none());
        cache.put(name(1), found(120, now));
        assert!(cache.get(&name(1), now + Duration::from_secs(60)).is_some());
        cache.forget(&name(1));
        assert!(cache.get(&name(1), now).is_none());
    }

    #[test]
    fn a_full_cache_gives_up_what_would_end_first() {
        let (now, mut cache) = (Instant::now(), Cache::new(100));
        for number in 0..1000 {
            cache.put(name(number), found(1 + number as u64 % 500, now));
            assert!(cache.answers.len() <= 100 && cache.ends.len() == cache.answers.len());
        }
        assert!(cache.get(&name(499), now).is_some(), "the longest lasting one");
        assert!(cache.get(&name(0), now).is_none());
        cache.clear();
        assert_eq!((cache.answers.len(), cache.ends.len()), (0, 0));
    }
}
