//! When to look a configured name up again, and what is known of it meanwhile. No I/O; the clock is
//! an argument.
//!
//! A name is looked up again when its TTL ends, within [`AGAIN`]; sooner when nobody could be dialled
//! at its addresses. When nobody answers, the addresses that were known last are used for [`HELD`]
//! from the first failure on, while it is asked again and again with growing rests; then it is
//! unknown. An answer that there is nothing counts at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{Answer, Timed};

/// Shortest and longest time until a name is looked up again.
pub(crate) const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// How long addresses are used after the first lookup that failed.
pub(crate) const HELD: Duration = Duration::from_secs(600);

/// Longest rest between lookups that fail; the first is [`AGAIN`]'s shortest.
const REST: Duration = Duration::from_secs(60);

/// What is known of every followed name: its addresses, IPv4 first. Absent: unknown.
pub(crate) type Known = BTreeMap<Arc<str>, Arc<[IpAddr]>>;

/// The names of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    hosts: BTreeMap<Arc<str>, Host>,
}

#[derive(Debug)]
struct Host {
    v4: Family,
    v6: Family,
    /// When it is to be looked up next. `None`: it is being looked up.
    due: Option<Instant>,
    /// When it was looked up last.
    asked: Option<Instant>,
    /// Lookups in a row that failed.
    failures: u32,
}

/// What is known of one address family.
#[derive(Debug, Default)]
enum Family {
    /// Nobody has answered yet, or for too long.
    #[default]
    Unknown,
    /// These addresses, perhaps none; since when lookups fail, if they do.
    Known(Arc<[IpAddr]>, Option<Instant>),
}

impl Family {
    fn answered(&mut self, timed: &Timed, now: Instant) {
        match (&timed.answer, &mut *self) {
            (Answer::Addresses(addresses), _) => *self = Self::Known(Arc::clone(addresses), None),
            (Answer::Nothing, _) => *self = Self::Known(Arc::new([]), None),
            (Answer::Failed | Answer::Names(_), Self::Known(_, Some(since))) => {
                if now.saturating_duration_since(*since) >= HELD {
                    *self = Self::Unknown;
                }
            }
            (Answer::Failed | Answer::Names(_), Self::Known(_, since)) => *since = Some(now),
            (Answer::Failed | Answer::Names(_), Self::Unknown) => {}
        }
    }

    fn addresses(&self) -> Option<&Arc<[IpAddr]>> {
        match self {
            Self::Unknown => None,
            Self::Known(addresses, _) => Some(addresses),
        }
    }
}

impl Host {
    fn new(now: Instant) -> Self {
        let (v4, v6) = Default::default();
        Self { v4, v6, due: Some(now), asked: None, failures: 0 }
    }

    fn addresses(&self) -> Option<Arc<[IpAddr]>> {
        match (self.v4.addresses(), self.v6.addresses()) {
            (None, None) => None,
            (Some(only), None) | (None, Some(only)) => Some(Arc::clone(only)),
            (Some(v4), Some(v6)) => Some(v4.iter().chain(v6.iter()).copied().collect()),
        }
    }
}

impl Followed {
    /// Follows these names and no others from now on; those that it follows already keep what is
    /// known of them.
    pub(crate) fn follow(&mut self, names: &BTreeSet<Arc<str>>, now: Instant) {
        self.hosts.retain(|name, _| names.contains(name));
        for name in names {
            self.hosts.entry(Arc::clone(name)).or_insert_with(|| Host::new(now));
        }
    }

    /// Looks every name up again as soon as possible.
    pub(crate) fn ask_all(&mut self, now: Instant) {
        for host in self.hosts.values_mut() {
            host.due = host.due.map(|_| now);
        }
    }

    /// The names to look up now; each will be answered once.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        for (name, host) in &mut self.hosts {
            if host.due.is_some_and(|at| at <= now) {
                host.due = None;
                host.asked = Some(now);
                due.push(Arc::clone(name));
            }
        }
        due
    }

    /// When the next name is due. `None`: until something is answered, never.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.hosts.values().filter_map(|host| host.due).min()
    }

    /// Nobody could be dialled at a name's addresses: it may have moved. A name is not asked for more
    /// often than it could be by its TTL.
    pub(crate) fn hurry(&mut self, name: &str, now: Instant) {
        if let Some(host) = self.hosts.get_mut(name) {
            let soonest = host.asked.map_or(now, |asked| now.max(asked + AGAIN.0));
            host.due = host.due.map(|due| due.min(soonest));
        }
    }

    /// What was found out about a name. Gives whether people should be told: something else is known
    /// now than before, or nothing as it turns out.
    pub(crate) fn answered(&mut self, name: &str, v4: &Timed, v6: &Timed, now: Instant) -> bool {
        let Some(host) = self.hosts.get_mut(name) else { return false };
        let before = host.addresses();
        host.v4.answered(v4, now);
        host.v6.answered(v6, now);
        let failed = [v4, v6].iter().any(|timed| timed.answer == Answer::Failed);
        let wait = if failed {
            host.failures += 1;
            (AGAIN.0 * 2u32.saturating_pow((host.failures - 1).min(16))).min(REST)
        } else {
            host.failures = 0;
            // What is not there is no reason to ask sooner for what is.
            let ends = [v4, v6].into_iter().filter(|timed| timed.answer != Answer::Nothing);
            let end = ends.map(|timed| timed.until).min().unwrap_or(v4.until.min(v6.until));
            end.saturating_duration_since(now).clamp(AGAIN.0, AGAIN.1)
        };
        host.due = Some(now + wait);
        let after = host.addresses();
        before != after || after.is_none() && host.failures == 1
    }

    /// Whether a name is followed, and has been answered or given up once.
    pub(crate) fn is_settled(&self, name: &str) -> bool {
        self.hosts.get(name).is_none_or(|host| host.asked.is_some() && host.due.is_some())
    }

    /// Whether every name has been answered or given up once.
    pub(crate) fn all_settled(&self) -> bool {
        self.hosts.keys().all(|name| self.is_settled(name))
    }

    /// What is known of a name. `None`: nothing.
    pub(crate) fn addresses(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        self.hosts.get(name)?.addresses()
    }

    /// The names that were looked up in vain.
    pub(crate) fn unknown(&self) -> BTreeSet<Arc<str>> {
        let unknown = |(name, host): (&Arc<str>, &Host)| {
            (host.failures > 0 && host.addresses().is_none()).then(|| Arc::clone(name))
        };
        self.hosts.iter().filter_map(unknown).collect()
    }

    /// Everything that is known.
    pub(crate) fn known(&self) -> Known {
        let known = |(name, host): (&Arc<str>, &Host)| Some((Arc::clone(name), host.addresses()?));
        self.hosts.iter().filter_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "web.internal";

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn found(ip: &str, ttl: u64, now: Instant) -> Timed {
        let answer = Answer::Addresses(Arc::new([ip.parse().unwrap()]));
        Timed::new(answer, Some(second(ttl)), now)
    }

    fn nothing(now: Instant) -> Timed {
        Timed::new(Answer::Nothing, Some(second(2)), now)
    }

    fn failed(now: Instant) -> Timed {
        Timed::new(Answer::Failed, None, now)
    }

    fn following(names: &[&str], now: Instant) -> Followed {
        let mut followed = Followed::default();
        followed.follow(&names.iter().map(|name| (*name).into()).collect(), now);
        followed
    }

    fn show(followed: &Followed) -> Option<Vec<String>> {
        let addresses = followed.addresses(WEB)?;
        Some(addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_name_is_looked_up_again_when_its_ttl_ends() {
        let start = Instant::now();
        let mut followed = following(&[WEB], start);
        assert!(!followed.all_settled());
        assert_eq!(followed.due(start), [WEB.into()]);
        assert!(followed.due(start).is_empty(), "it is under way");
        assert!(followed.answered(WEB, &found("10.0.0.1", 60, start), &nothing(start), start));
        assert!(followed.all_settled());
        assert_eq!(followed.next(), Some(start + second(60)), "whatever the missing family says");
        assert!(followed.due(start + second(59)).is_empty());

        let now = start + second(60);
        followed.due(now);
        assert!(!followed.answered(WEB, &found("10.0.0.1", 0, now), &nothing(now), now));
        assert_eq!(followed.next(), Some(now + AGAIN.0), "not more often than each second");
        let now = now + second(1);
        followed.due(now);
        assert!(followed.answered(WEB, &found("10.0.0.2", 86_400, now), &nothing(now), now));
        assert_eq!(followed.next(), Some(now + AGAIN.1));
        assert_eq!(show(&followed).unwrap(), ["10.0.0.2"]);
    }

    #[test]
    fn the_last_addresses_are_held_for_a_while_and_then_unknown() {
        let start = Instant::now();
        let mut followed = following(&[WEB], start);
        followed.due(start);
        followed.answered(WEB, &found("10.0.0.1", 60, start), &nothing(start), start);
        let mut now = start + second(60);
        let (first, mut rests) = (now, Vec::new());
        while now < first + HELD {
            assert_eq!(followed.due(now).len(), 1);
            assert!(!followed.answered(WEB, &failed(now), &failed(now), now));
            assert_eq!(show(&followed).unwrap(), ["10.0.0.1"]);
            let next = followed.next().unwrap();
            rests.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(rests[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        followed.due(now);
        assert!(followed.answered(WEB, &failed(now), &failed(now), now));
        assert_eq!(show(&followed), None);
        now += second(60);
        followed.due(now);
        assert!(followed.answered(WEB, &found("10.0.0.3", 60, now), &failed(now), now));
        assert_eq!(show(&followed).unwrap(), ["10.0.0.3"]);
    }

    #[test]
    fn a_family_that_fails_keeps_its_addresses_beside_the_others_new_ones() {
        let now = Instant::now();
        let mut followed = following(&[WEB], now);
        followed.due(now);
        followed.answered(WEB, &found("10.0.0.1", 60, now), &found("fd00::1", 60, now), now);
        followed.ask_all(now);
        followed.due(now);
        assert!(followed.answered(WEB, &found("10.0.0.2", 60, now), &failed(now), now));
        assert_eq!(show(&followed).unwrap(), ["10.0.0.2", "fd00::1"]);
    }

    #[test]
    fn a_name_that_is_gone_has_no_addresses_at_once() {
        let now = Instant::now();
        let mut followed = following(&[WEB], now);
        followed.due(now);
        followed.answered(WEB, &found("10.0.0.1", 60, now), &nothing(now), now);
        followed.ask_all(now);
        followed.due(now);
        assert!(followed.answered(WEB, &nothing(now), &nothing(now), now));
        assert_eq!(show(&followed).unwrap().len(), 0);
        assert_eq!(followed.next(), Some(now + second(2)), "it may come back");
    }

    #[test]
    fn a_failed_dial_hurries_and_a_flood_of_them_does_not() {
        let start = Instant::now();
        let mut followed = following(&[WEB], start);
        followed.due(start);
        followed.hurry(WEB, start);
        followed.answered(WEB, &found("10.0.0.1", 300, start), &nothing(start), start);
        let now = start + second(10);
        followed.hurry(WEB, now);
        assert_eq!(followed.due(now).len(), 1);
        followed.answered(WEB, &found("10.0.0.1", 300, now), &nothing(now), now);
        followed.hurry(WEB, now);
        assert!(followed.due(now).is_empty());
        assert_eq!(followed.next(), Some(now + AGAIN.0));
        followed.hurry("other", now);
    }

    #[test]
    fn names_that_stay_keep_what_is_known_of_them() {
        let now = Instant::now();
        let mut followed = following(&[WEB, "old"], now);
        followed.due(now);
        followed.answered(WEB, &found("10.0.0.1", 300, now), &nothing(now), now);
        followed.follow(&[WEB.into(), "new".into()].into(), now);
        assert_eq!(followed.due(now), ["new".into()]);
        assert_eq!(show(&followed).unwrap(), ["10.0.0.1"]);
        assert!(!followed.answered("old", &found("10.0.0.9", 1, now), &nothing(now), now));
        assert_eq!(followed.known().len(), 1);
        assert!(followed.unknown().is_empty(), "the new one is being looked up");
        assert!(followed.answered("new", &failed(now), &failed(now), now), "now it is unknown");
        assert_eq!(followed.unknown(), ["new".into()].into());
        followed.hurry("new", now);
        followed.due(now + AGAIN.0);
        assert!(!followed.answered("new", &failed(now), &failed(now), now), "it still is");
    }
}
