//! The targets of a list, and which of them is next for a session.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use schemas::vocab::Transport;

use super::health::{Fitness, Place, TargetHealth};
use super::rendezvous;
use crate::config::Balance;

/// Most targets of one list.
pub const MAX_TARGETS: usize = 128;

/// The targets of a list. `T` is whatever the caller needs to dial one.
#[derive(Debug)]
pub struct Pool<T> {
    balance: Balance,
    members: Vec<Member<T>>,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Member<T> {
    target: T,
    health: Arc<TargetHealth>,
    rendezvous: u64,
}

/// One session's way through a pool: each target at most once.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    tried: Set,
    turn: usize,
    client: u64,
    transport: Transport,
}

/// The target that is next for a session.
#[derive(Debug)]
pub struct Next<'a, T> {
    /// The target.
    pub target: &'a T,
    /// The session's place there.
    pub place: Place,
    /// Targets that are as good and not tried yet, this one included: the time that is left for
    /// dialling is for all of them.
    pub equals: usize,
}

impl<T> Pool<T> {
    /// A pool of targets, each with its name and port, and with what is known of it; in the order of
    /// the file. Those beyond [`MAX_TARGETS`] are left out.
    pub fn new<N: AsRef<str>>(
        balance: Balance,
        targets: impl IntoIterator<Item = (N, u16, Arc<TargetHealth>, T)>,
    ) -> Self {
        let member = |(name, port, health, target): (N, u16, _, _)| {
            let rendezvous = rendezvous::of_target(name.as_ref(), port);
            Member { target, health, rendezvous }
        };
        let members = targets.into_iter().take(MAX_TARGETS).map(member).collect();
        Self { balance, members, turn: AtomicUsize::new(0) }
    }

    /// The targets in the order of the file.
    pub fn targets(&self) -> impl Iterator<Item = &T> {
        self.members.iter().map(|member| &member.target)
    }

    /// Begins a client's way through the pool. The client is the one that the rules judge.
    pub fn walk(&self, transport: Transport, client: IpAddr) -> Walk {
        let alone = self.members.len() == 1;
        let takes_turns = matches!(self.balance, Balance::RoundRobin | Balance::LeastSessions);
        let turn = match takes_turns && !alone {
            true => self.turn.fetch_add(1, Ordering::Relaxed),
            false => 0,
        };
        let hashes = self.balance == Balance::SourceHash && !alone;
        let client = if hashes { rendezvous::of_client(client) } else { 0 };
        Walk { tried: Set::default(), turn, client, transport }
    }

    /// The next target of a walk: the one that the balance chooses among those that are fit; when
    /// none is left, the one whose rest ends soonest. `None`: all were tried or are down.
    pub fn next(&self, walk: &mut Walk, now: Instant) -> Option<Next<'_, T>> {
        loop {
            let untried = self.untried(walk, now);
            let fit = untried.fit;
            let index = self.choose(walk, fit).or(untried.least_bad)?;
            let member = &self.members[index];
            let equals = if fit.is_empty() { untried.resting } else { fit.len() };
            let of_trial = untried.due.has(index);
            if of_trial && !member.health.claim_trial(walk.transport, now) {
                // Another thread was faster: here the target rests on.
                continue;
            }
            walk.tried = walk.tried.with(index);
            let place = Place::take(&member.health, walk.transport, of_trial);
            return Some(Next { target: &member.target, place, equals });
        }
    }

    fn untried(&self, walk: &Walk, now: Instant) -> Untried {
        let mut untried = Untried::default();
        let mut least = Duration::MAX;
        for (index, member) in self.members.iter().enumerate() {
            if walk.tried.has(index) {
                continue;
            }
            match member.health.fitness(walk.transport, now) {
                Fitness::Fit => untried.fit = untried.fit.with(index),
                Fitness::DueForTrial => {
                    untried.fit = untried.fit.with(index);
                    untried.due = untried.due.with(index);
                }
                Fitness::Resting { left } => {
                    untried.resting += 1;
                    if left < least {
                        (least, untried.least_bad) = (left, Some(index));
                    }
                }
                Fitness::Down => {}
            }
        }
        untried
    }

    /// The choice of the balance.
    fn choose(&self, walk: &Walk, among: Set) -> Option<usize> {
        let count = among.len();
        let mut candidates = among.iter();
        if count <= 1 {
            return candidates.next();
        }
        match self.balance {
            Balance::FirstAvailable => candidates.next(),
            Balance::RoundRobin => candidates.nth(walk.turn % count),
            Balance::LeastSessions => candidates.min_by_key(|index| {
                // Equals take turns.
                let distance = index.wrapping_sub(walk.turn) % self.members.len();
                (self.members[*index].health.sessions(), distance)
            }),
            Balance::SourceHash => candidates.max_by_key(|index| {
                rendezvous::preference(walk.client, self.members[*index].rendezvous)
            }),
        }
    }
}

/// What a walk has not tried yet.
#[derive(Debug, Default)]
struct Untried {
    /// Fit or due for a trial.
    fit: Set,
    /// Due for a trial.
    due: Set,
    /// How many rest.
    resting: usize,
    /// The one whose rest ends soonest.
    least_bad: Option<usize>,
}

/// Some of a pool's targets, by index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Set(u128);

const _: () = assert!(MAX_TARGETS <= u128::BITS as usize);

impl Set {
    fn with(self, index: usize) -> Self {
        Self(self.0 | 1 << index)
    }

    fn has(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let index = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(index)
        })
    }
}

#[cfg(test)]
mod tests;
