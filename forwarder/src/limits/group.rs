//! The sharers of a rule's limits, and what is counted of each.
//!
//! A table is split into shards, so that threads that let different clients in do not wait for each
//! other. It is bounded: a sharer is forgotten when no session of it runs, its rates have nothing to
//! remember and its buckets are full, so that a new one would do as well; used quotas are kept
//! elsewhere. Where no room can be made who comes is refused.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use forwarder_core::config::{Every, Per};
use forwarder_core::limit::{
    Bucket, Door, Identity, Kind, Pace, Period, QuotaTerms, Shares, Terms, left,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemas::vocab::{Direction, PerDirection, RuleName, Timestamp};

use super::Keys;
use super::quotas::{Cell, Quotas};

/// Sharers of one rule's limit that are remembered.
const MAX_ENTRIES: usize = 65_536;

/// Parts of a table, each with a lock of its own.
const SHARDS: usize = 16;

/// Time between two searches for sharers that can be forgotten, in a shard that has no room and where
/// few have come since the last one.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);

/// The limits that one kind of sharer of a rule has, and those who share them.
#[derive(Debug)]
pub(super) struct Group {
    rule: RuleName,
    per: Per,
    epoch: Instant,
    terms: ArcSwap<Terms>,
    /// How often reloads have changed its bandwidths.
    changes: AtomicU64,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<Key, Arc<Entry>>,
    swept: Option<Instant>,
    /// How many came since then.
    new: usize,
}

/// Who shares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Key {
    /// Everyone.
    All,
    /// A service or a customer.
    Name(Box<str>),
    /// Clients of one network.
    Net(IpNet),
}

/// No sharer can be forgotten to make room for another.
#[derive(Debug)]
pub(super) struct Full;

/// What is counted of one sharer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    door: Mutex<Door>,
    /// Sessions, for those who hold no lock.
    sessions: AtomicU64,
    pub(super) up: Lane,
    pub(super) down: Lane,
    pub(super) both: Lane,
    day: OnceLock<Arc<Cell>>,
    month: OnceLock<Arc<Cell>>,
    refused: [AtomicU64; Kind::ALL.len()],
    pub(super) datagrams_dropped: AtomicU64,
}

/// One bandwidth of a sharer.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) bucket: Bucket,
    pub(super) shares: Shares,
    /// Payload that went through, in bytes.
    pub(super) moved: AtomicU64,
    /// As it was when the keeper last looked.
    looked: AtomicU64,
    /// What went through in the second before that, in bits.
    bps: AtomicU64,
}

impl Group {
    pub(super) fn new(rule: RuleName, per: Per, epoch: Instant) -> Self {
        let terms = ArcSwap::from_pointee(Terms::none(per));
        let shards = std::array::from_fn(|_| Mutex::default());
        Self {
            rule,
            per,
            epoch,
            terms,
            changes: AtomicU64::new(0),
            hasher: RandomState::new(),
            shards,
        }
    }

    pub(super) fn rule(&self) -> &RuleName {
        &self.rule
    }

    pub(super) fn per(&self) -> Per {
        self.per
    }

    pub(super) fn terms(&self) -> Guard<Arc<Terms>> {
        self.terms.load()
    }

    /// How often reloads have changed its bandwidths. Asked before [`Group::terms`]: a turn that is
    /// booked under this number is known to be outdated when the number has grown.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Who is known keeps to these terms from now on.
    pub(super) fn put_in_force(
        &self,
        terms: Terms,
        quotas: &Quotas,
        wall: Timestamp,
        now: Instant,
    ) {
        let terms = Arc::new(terms);
        let before = self.terms.swap(Arc::clone(&terms));
        let known = self.entries();
        known.iter().for_each(|entry| entry.change_paces(&before, &terms, now));
        if (before.up, before.down, before.both) != (terms.up, terms.down, terms.both) {
            self.changes.fetch_add(1, Ordering::Release);
        }
        let full = known.iter().filter(|entry| self.give_cells(entry, quotas, wall).is_err());
        let full = full.count();
        if full > 0 {
            tracing::warn!(rule = %self.rule, sharers = full, "too many quotas: running sessions of some go on without");
        }
    }

    /// What is counted of a sharer, who is new if it is not known.
    ///
    /// # Errors
    /// There is no room for a new one.
    pub(super) fn entry(
        &self,
        keys: &Keys<'_>,
        quotas: &Quotas,
        wall: Timestamp,
        now: Instant,
    ) -> Result<Arc<Entry>, Full> {
        let key = Key::of(self.per, keys);
        let shard = usize::try_from(self.hasher.hash_one(&key) % SHARDS as u64).unwrap_or(0);
        let mut shard = lock(&self.shards[shard]);
        if let Some(entry) = shard.entries.get(&key) {
            self.give_cells(entry, quotas, wall)?;
            return Ok(Arc::clone(entry));
        }
        let terms = self.terms();
        if shard.entries.len() >= MAX_ENTRIES / SHARDS {
            shard.make_room(&terms, now)?;
        }
        let entry = Arc::new(Entry::new(key.clone(), self.epoch));
        self.give_cells(&entry, quotas, wall)?;
        shard.entries.insert(key, Arc::clone(&entry));
        shard.new += 1;
        Ok(entry)
    }

    /// Sees to it that a sharer has a cell for each of its quotas.
    fn give_cells(&self, entry: &Entry, quotas: &Quotas, wall: Timestamp) -> Result<(), Full> {
        for quota in &self.terms().quotas {
            let every = quota.every();
            if entry.place(every).get().is_none() {
                let (rule, per) = (self.rule.as_str(), self.per.to_string());
                let identity = Identity::of(rule, &per, every, &entry.key.to_string());
                let cell = quotas.cell(identity, every, wall).ok_or(Full)?;
                entry.place(every).get_or_init(|| cell);
            }
        }
        Ok(())
    }

    /// Every sharer, in no order.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        let shards = self.shards.iter();
        shards.flat_map(|shard| lock(shard).entries.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Forgets whom it can, of one part after the other as `turn` goes on, and says how many.
    pub(super) fn sweep(&self, turn: usize, now: Instant) -> usize {
        lock(&self.shards[turn % SHARDS]).sweep(&self.terms(), now)
    }
}

impl Shard {
    fn make_room(&mut self, terms: &Terms, now: Instant) -> Result<(), Full> {
        // A search takes as long as there are sharers: so many newcomers pay for it.
        let again = self.new >= MAX_ENTRIES / SHARDS / 4
            || self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_AGAIN);
        if again && self.sweep(terms, now) > 0 { Ok(()) } else { Err(Full) }
    }

    fn sweep(&mut self, terms: &Terms, now: Instant) -> usize {
        self.swept = Some(now);
        let before = self.entries.len();
        self.entries.retain(|key, entry| {
            // There are few of the others, and administrators want to see them. Whoever is about to
            // let a session in holds the entry already.
            !matches!(key, Key::Net(_))
                || Arc::strong_count(entry) > 1
                || !entry.is_idle(terms, now)
        });
        self.new = 0;
        before - self.entries.len()
    }
}

impl Key {
    fn of(per: Per, keys: &Keys<'_>) -> Self {
        match (per, keys.client.to_canonical()) {
            (Per::Rule, _) => Self::All,
            (Per::Service, _) => Self::Name(keys.service.into()),
            (Per::Customer, _) => Self::Name(keys.customer.into()),
            (Per::Client { v4, .. }, IpAddr::V4(client)) => {
                Self::Net(IpNet::V4(Ipv4Net::new_assert(client, v4.min(32)).trunc()))
            }
            (Per::Client { v6, .. }, IpAddr::V6(client)) => {
                Self::Net(IpNet::V6(Ipv6Net::new_assert(client, v6.min(128)).trunc()))
            }
        }
    }
}

impl fmt::Display for Key {
    /// A whole address without its prefix length; `-` for those who have no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Name(name) if name.is_empty() => f.write_str("-"),
            Self::Name(name) => f.write_str(name),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
        }
    }
}

impl Entry {
    fn new(key: Key, epoch: Instant) -> Self {
        let lane = || Lane::new(epoch);
        Self {
            key,
            door: Mutex::default(),
            sessions: AtomicU64::new(0),
            up: lane(),
            down: lane(),
            both: lane(),
            day: OnceLock::new(),
            month: OnceLock::new(),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
            datagrams_dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn door(&self) -> MutexGuard<'_, Door> {
        lock(&self.door)
    }

    /// A session has come through the door.
    pub(super) fn entered(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// A session has ended.
    pub(super) fn leave(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        self.door().leave();
    }

    /// Sessions at the moment.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self, kind: Kind) {
        self.counter_of(kind).fetch_add(1, Ordering::Relaxed);
    }

    /// How many were refused for a limit of this kind.
    pub(super) fn refusals(&self, kind: Kind) -> u64 {
        self.counter_of(kind).load(Ordering::Relaxed)
    }

    fn counter_of(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Sessions => &self.refused[0],
            Kind::NewSessions => &self.refused[1],
            Kind::Bandwidth => &self.refused[2],
            Kind::Quota => &self.refused[3],
        }
    }

    /// The bandwidths that payload of a direction takes from.
    pub(super) fn lanes<'a>(
        &'a self,
        terms: &Terms,
        direction: Direction,
    ) -> impl Iterator<Item = (Of, &'a Lane, Pace)> {
        let own = match direction {
            Direction::Up => terms.up,
            Direction::Down => terms.down,
        };
        let pairs = [(Of::Own, own), (Of::Both, terms.both)];
        pairs.into_iter().filter_map(move |(of, pace)| Some((of, self.lane(of, direction), pace?)))
    }

    pub(super) fn lane(&self, of: Of, direction: Direction) -> &Lane {
        match (of, direction) {
            (Of::Both, _) => &self.both,
            (Of::Own, Direction::Up) => &self.up,
            (Of::Own, Direction::Down) => &self.down,
        }
    }

    /// What was used of a quota in its period.
    pub(super) fn used(&self, quota: &QuotaTerms, period: &Period) -> PerDirection<u64> {
        let cell = self.cell(quota.every());
        cell.map_or(PerDirection { up: 0, down: 0 }, |cell| cell.used(period.label))
    }

    pub(super) fn cell(&self, every: Every) -> Option<&Cell> {
        self.place(every).get().map(|cell| &**cell)
    }

    fn place(&self, every: Every) -> &OnceLock<Arc<Cell>> {
        match every {
            Every::Day => &self.day,
            Every::Month => &self.month,
        }
    }

    /// Whether a direction of one of its quotas is used up.
    pub(super) fn is_used_up(&self, terms: &Terms, wall: Timestamp) -> bool {
        terms.quotas.iter().any(|quota| {
            let used = self.used(quota, &Period::of(quota.every(), &quota.zone, wall));
            Direction::BOTH.iter().any(|&direction| left(&quota.quota, used, direction) == 0)
        })
    }

    fn change_paces(&self, before: &Terms, after: &Terms, now: Instant) {
        let lanes = [
            (&self.up, before.up, after.up),
            (&self.down, before.down, after.down),
            (&self.both, before.both, after.both),
        ];
        for (lane, before, after) in lanes {
            if let (Some(before), Some(after)) = (before, after)
                && before != after
            {
                lane.bucket.change_pace(before, after, now);
            }
        }
    }

    fn is_idle(&self, terms: &Terms, now: Instant) -> bool {
        self.sessions() == 0
            && [&self.up, &self.down, &self.both].iter().all(|lane| lane.bucket.is_full(now))
            && self.door().is_unused(terms, now)
    }

    /// Works out how fast payload went since it was last asked, `seconds` ago.
    pub(super) fn look(&self, seconds: f64) {
        [&self.up, &self.down, &self.both].iter().for_each(|lane| lane.look(seconds));
    }
}

/// Which bandwidth of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// The direction's own.
    Own,
    /// That of both directions together.
    Both,
}

impl Lane {
    fn new(epoch: Instant) -> Self {
        let (moved, looked, bps) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { bucket: Bucket::new(epoch), shares: Shares::new(epoch), moved, looked, bps }
    }

    /// What went through lately, in bits per second.
    pub(super) fn bps(&self) -> u64 {
        self.bps.load(Ordering::Relaxed)
    }

    fn look(&self, seconds: f64) {
        let moved = self.moved.load(Ordering::Relaxed);
        let before = self.looked.swap(moved, Ordering::Relaxed);
        let bits = moved.wrapping_sub(before).saturating_mul(8);
        // A figure for people: what it loses in the conversion nobody sees.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a quotient of positive numbers, and casts saturate"
        )]
        self.bps.store((bits as f64 / seconds.max(0.001)) as u64, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
