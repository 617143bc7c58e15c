//! Limits that many sessions share, whatever thread they are on.
//!
//! ```text
//! rule, kind of sharer --Group--> client, network, service or customer --Entry--> door, buckets, cells
//! ```
//!
//! A session that is let in gets a `Grant`, which holds its place and through which its payload
//! goes; it gives the place back when it is dropped. What is counted belongs to the rule's name: a
//! reload changes how much is allowed, and nothing of what was counted.
//!
//! What decides is in `forwarder_core::limit`. Locks are held for a look and a change, never over
//! a wait; payload meets none.

mod grant;
mod group;
mod keeper;
mod quotas;
mod show;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use forwarder_core::config::{Config, Limit, Per, Rule};
use forwarder_core::limit::{Kind, Terms};
use jiff::tz::TimeZone;
use schemas::vocab::{DenyReason, RuleName};

use crate::clock::Clock;

pub(crate) use grant::{Grant, Passage, UsedUp};
pub use show::LimitUse;

use group::{Entry, Full, Group};
use keeper::Keeper;
use quotas::Quotas;

/// Every limit of every rule. One for each forwarder.
#[derive(Debug)]
pub struct Limits {
    inside: Arc<Inside>,
    keeper: Mutex<Option<Keeper>>,
}

/// What the keeper's thread shares.
#[derive(Debug)]
struct Inside {
    clock: Clock,
    epoch: Instant,
    groups: Mutex<BTreeMap<(RuleName, Per), Arc<Group>>>,
    quotas: Quotas,
    counters: Counters,
}

/// What limits count since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Clients refused by a limit.
    pub refused: AtomicU64,
    /// Clients refused because too many sharers of a limit, or of all quotas, are remembered.
    pub refused_unknown: AtomicU64,
    /// Datagrams dropped because they were over a bandwidth or a quota.
    pub datagrams_dropped: AtomicU64,
    /// Times a session of a stream was held back by a bandwidth.
    pub held_back: AtomicU64,
    /// How long sessions of streams were held back by bandwidths, together, in microseconds.
    pub held_back_us: AtomicU64,
    /// Sharers forgotten because nothing of them was left to remember.
    pub forgotten: AtomicU64,
    /// Times the quotas could not be saved.
    pub save_failures: AtomicU64,
}

/// The limits of one rule, for the data threads to ask.
#[derive(Debug, Default)]
pub(crate) struct RuleLimits {
    groups: Box<[RuleLimit]>,
}

/// The limits that one kind of sharer of a rule has.
#[derive(Debug)]
struct RuleLimit {
    group: Arc<Group>,
    /// What it is called in refusals, with the name's id in the account, by kind.
    names: [(u32, Arc<str>); Kind::ALL.len()],
}

/// Who comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys<'a> {
    /// To which service.
    pub(crate) service: &'a str,
    /// Who is billed; empty: nobody.
    pub(crate) customer: &'a str,
    /// The effective client.
    pub(crate) client: IpAddr,
}

/// A limit that refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Why.
    pub(crate) reason: DenyReason,
    /// The id of the limit's name in the account.
    pub(crate) id: u32,
    /// The limit's name, as in `client/24 sessions`.
    pub(crate) limit: Arc<str>,
}

impl Limits {
    /// Limits that go on with the quotas that were saved beside the spool in `spool`, and with what
    /// was used since, if this machine knows.
    pub fn open(spool: &Path, clock: Clock) -> Self {
        let inside = Arc::new(Inside {
            clock,
            epoch: clock.now(),
            groups: Mutex::default(),
            quotas: Quotas::of(spool),
            counters: Counters::default(),
        });
        let keeper = Keeper::start(&inside);
        Self { inside, keeper: Mutex::new(keeper) }
    }

    /// Whether anybody has a quota.
    pub(crate) fn has_quotas(&self) -> bool {
        self.inside.quotas.is_open()
    }

    /// What limits count.
    pub fn counters(&self) -> &Counters {
        &self.inside.counters
    }

    /// The limits of a rule. `name_id` registers a name with the account. They are in force with
    /// [`Limits::put_in_force`].
    ///
    /// # Errors
    /// What `name_id` gives.
    pub(crate) fn of_rule<E>(
        &self,
        rule: &Rule,
        mut name_id: impl FnMut(&str) -> Result<u32, E>,
    ) -> Result<RuleLimits, E> {
        let mut limits = Vec::new();
        for terms in terms(&rule.limits) {
            let mut names = Kind::ALL.map(|kind| (0, Arc::from(name(terms.per, kind))));
            for (id, name) in &mut names {
                *id = name_id(name)?;
            }
            limits.push(RuleLimit { group: self.group(&rule.name, terms.per), names });
        }
        Ok(RuleLimits { groups: limits.into() })
    }

    /// Has every rule that there is, and every session that runs, keep to these limits from now on.
    /// Rules that are gone limit nothing any more.
    pub(crate) fn put_in_force(&self, config: &Config) {
        let limited = || config.rules.iter().filter(|rule| !rule.limits.is_empty());
        if limited().any(|rule| rule.limits.iter().any(|limit| limit.quota.is_some())) {
            self.inside.quotas.open();
        }
        let now = self.inside.clock.now();
        let wall = self.inside.clock.wall(now);
        let mut left = self.groups();
        for rule in limited() {
            for terms in terms(&rule.limits) {
                let key = (rule.name.clone(), terms.per);
                left.remove(&key);
                let group = self.group(&key.0, key.1);
                group.put_in_force(terms, &self.inside.quotas, wall, now);
                if key.1 == Per::Rule {
                    // Known from the start, so that it shows also while nobody has come.
                    let nobody = Keys { service: "", customer: "", client: [0; 4].into() };
                    drop(group.entry(&nobody, &self.inside.quotas, wall, now));
                }
            }
        }
        for ((_, per), group) in left {
            group.put_in_force(Terms::none(per), &self.inside.quotas, wall, now);
        }
    }

    fn groups(&self) -> BTreeMap<(RuleName, Per), Arc<Group>> {
        self.inside.groups()
    }

    fn group(&self, rule: &RuleName, per: Per) -> Arc<Group> {
        let mut groups = self.inside.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Group::new(rule.clone(), per, self.inside.epoch));
        Arc::clone(groups.entry((rule.clone(), per)).or_insert_with(new))
    }

    /// Lets a session in, or says what limit it hits. All limits of the rule are asked before any
    /// counts it. `None`: the rule limits nothing.
    ///
    /// # Errors
    /// The limit that refuses.
    pub(crate) fn admit(
        &self,
        limits: &RuleLimits,
        keys: &Keys<'_>,
        now: Instant,
    ) -> Result<Option<Rc<Grant>>, Hit> {
        if limits.groups.is_empty() {
            return Ok(None);
        }
        let inside = &self.inside;
        let entries = self.entries(limits, keys, now)?;
        // From here on nobody else comes in between.
        let mut doors: Vec<_> = entries.iter().map(|entry| entry.door()).collect();
        let terms: Vec<_> = limits.groups.iter().map(|limit| limit.group.terms()).collect();
        let refusal =
            doors.iter_mut().zip(&terms).enumerate().find_map(|(index, (door, terms))| {
                door.ask(terms, now).err().map(|kind| (index, kind))
            });
        let used_up = || {
            let wall = inside.clock.wall(now);
            let mut each = entries.iter().zip(&terms);
            let index = each.position(|(entry, terms)| entry.is_used_up(terms, wall));
            index.map(|index| (index, Kind::Quota))
        };
        if let Some((index, kind)) = refusal.or_else(used_up) {
            return Err(self.refuse(&limits.groups[index], &entries[index], kind));
        }
        for (door, terms) in doors.iter_mut().zip(&terms) {
            door.enter(terms, now);
        }
        drop(doors);
        let places = limits.groups.iter().zip(entries);
        let places = places.map(|(limit, entry)| (Arc::clone(&limit.group), entry));
        Ok(Some(Rc::new(Grant::new(places, Arc::clone(inside), now))))
    }

    fn refuse(&self, limit: &RuleLimit, entry: &Entry, kind: Kind) -> Hit {
        entry.refused(kind);
        self.inside.counters.refused.fetch_add(1, Ordering::Relaxed);
        limit.hit(kind)
    }

    /// What is counted of each sharer. Whom a limit of many refuses leaves no trace among the
    /// sharers of the others: a flood of clients must not take their room.
    fn entries(
        &self,
        limits: &RuleLimits,
        keys: &Keys<'_>,
        now: Instant,
    ) -> Result<Vec<Arc<Entry>>, Hit> {
        let inside = &self.inside;
        let entry = |limit: &RuleLimit| {
            let entry = limit.group.entry(keys, &inside.quotas, inside.clock.wall(now), now);
            let entry = entry.map_err(|Full| {
                inside.counters.refused_unknown.fetch_add(1, Ordering::Relaxed);
                // Every limit counts sessions, and this one has no room to.
                Hit { reason: DenyReason::TableFull, ..limit.hit(Kind::Sessions) }
            })?;
            let asked = entry.door().ask(&limit.group.terms(), now);
            asked.map_err(|kind| self.refuse(limit, &entry, kind))?;
            Ok(entry)
        };
        limits.groups.iter().map(entry).collect()
    }

    /// Saves the quotas a last time, to the disk alone: what the next start finds is the file.
    pub fn close(&self) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            keeper.end();
        }
        self.inside.save_last();
    }
}

impl Inside {
    fn groups(&self) -> BTreeMap<(RuleName, Per), Arc<Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RuleLimit {
    fn hit(&self, kind: Kind) -> Hit {
        let index = Kind::ALL.iter().position(|one| *one == kind).unwrap_or(0);
        let (id, limit) = self.names[index].clone();
        Hit { reason: kind.deny_reason(), id, limit }
    }
}

/// A limit's name, as in `client/24 sessions`.
fn name(per: Per, kind: Kind) -> String {
    format!("{per} {kind}")
}

fn terms(limits: &[Limit]) -> Vec<Terms> {
    // The configuration has been checked: its zones are known.
    Terms::of(limits, |name| TimeZone::get(name).unwrap_or(TimeZone::UTC))
}
