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
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use Transport::Tcp;

    const SECOND: Duration = Duration::from_secs(1);

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
    }

    struct Scene {
        pool: Pool<usize>,
        health: Vec<Arc<TargetHealth>>,
        start: Instant,
    }

    impl Scene {
        fn new(balance: Balance, targets: usize) -> Self {
            let numbers: Vec<_> = (0..targets).collect();
            Self::with(balance, &numbers)
        }

        /// A pool of those of many targets that have these numbers.
        fn with(balance: Balance, numbers: &[usize]) -> Self {
            let start = Instant::now();
            let new = |_: &usize| Arc::new(TargetHealth::new(start));
            let health: Vec<_> = numbers.iter().map(new).collect();
            let names: Vec<_> = numbers.iter().map(|number| format!("10.0.0.{number}")).collect();
            let members = names.iter().zip(&health).zip(numbers);
            let pool = Pool::new(
                balance,
                members
                    .map(|((name, health), number)| (&name[..], 80, Arc::clone(health), *number)),
            );
            Self { pool, health, start }
        }

        /// All that a session would try, in order, if each dial failed without being counted.
        fn order(&self, from: u32, now: Instant) -> Vec<usize> {
            let mut walk = self.pool.walk(Tcp, client(from));
            std::iter::from_fn(|| self.pool.next(&mut walk, now).map(|next| *next.target)).collect()
        }

        fn first(&self, from: u32) -> usize {
            self.order(from, self.start)[0]
        }

        fn fail(&self, index: usize, now: Instant) {
            for _ in 0..3 {
                Place::take(&self.health[index], Tcp, false).failed(now);
            }
        }
    }

    #[test]
    fn round_robin_gives_each_target_its_turn_also_while_one_rests() {
        let scene = Scene::new(Balance::RoundRobin, 3);
        let turns: Vec<_> = (0..6).map(|_| scene.first(1)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        scene.fail(1, scene.start);
        let firsts: Vec<_> = (0..60).map(|_| scene.first(1)).collect();
        let count = |index| firsts.iter().filter(|first| **first == index).count();
        assert_eq!([count(0), count(1), count(2)], [30, 0, 30]);
    }

    #[test]
    fn least_sessions_evens_out_and_equals_take_turns() {
        let scene = Scene::new(Balance::LeastSessions, 3);
        let mut places = Vec::new();
        for _ in 0..30 {
            let mut walk = scene.pool.walk(Tcp, client(1));
            places.push(scene.pool.next(&mut walk, scene.start).unwrap());
        }
        let sessions = || scene.health.iter().map(|health| health.sessions()).collect::<Vec<_>>();
        assert_eq!(sessions(), [10, 10, 10]);
        places.retain(|next| *next.target != 2);
        let mut walk = scene.pool.walk(Tcp, client(1));
        assert_eq!(*scene.pool.next(&mut walk, scene.start).unwrap().target, 2);
        drop(places);
        let turns: Vec<_> = (0..6).map(|_| scene.first(1)).collect();
        assert_eq!((0..3).filter(|index| turns.contains(index)).count(), 3, "{turns:?}");
    }

    #[test]
    fn first_available_keeps_to_the_order_of_the_file() {
        let scene = Scene::new(Balance::FirstAvailable, 3);
        assert_eq!(scene.order(1, scene.start), [0, 1, 2]);
        scene.fail(0, scene.start);
        assert_eq!(scene.order(1, scene.start), [1, 2, 0], "what rests is the last resort");
        assert_eq!(scene.order(1, scene.start + SECOND)[0], 0, "and is tried again in time");
    }

    #[test]
    fn a_lost_target_moves_only_its_own_clients() {
        let all = Scene::new(Balance::SourceHash, 5);
        let fewer = Scene::with(Balance::SourceHash, &[0, 1, 3, 4]);
        let before: HashMap<_, _> = (0..10_000).map(|from| (from, all.first(from))).collect();
        for index in 0..5 {
            let share = before.values().filter(|first| **first == index).count();
            assert!((1800..2200).contains(&share), "{share} of 10,000 prefer target {index}");
        }
        all.fail(2, all.start);
        for (from, target) in before {
            let (resting, gone) = (all.first(from), fewer.first(from));
            assert_eq!(resting, gone, "whether it rests or is gone, others inherit the same");
            assert!(resting == target || target == 2, "client {from} moved from {target}");
        }
    }

    #[test]
    fn only_one_session_at_a_time_tries_a_target_that_has_rested() {
        let scene = Scene::new(Balance::FirstAvailable, 2);
        scene.fail(0, scene.start);
        let mut now = scene.start + SECOND;
        let mut tried = Vec::new();
        // A thousand sessions a second for two minutes; the target stays dead.
        for _ in 0..120_000 {
            let mut walk = scene.pool.walk(Tcp, client(1));
            let next = scene.pool.next(&mut walk, now).unwrap();
            if *next.target == 0 {
                tried.push(now);
                next.place.failed(now);
            }
            now += Duration::from_millis(1);
        }
        let at: Vec<_> = tried.iter().map(|at| at.duration_since(scene.start).as_secs()).collect();
        assert_eq!(at, [1, 3, 7, 15, 31, 61, 91]);
    }

    #[test]
    fn when_all_have_failed_the_least_bad_is_tried_first_and_none_is_left_out() {
        let scene = Scene::new(Balance::RoundRobin, 3);
        for (index, later) in [(0, 200), (1, 0), (2, 100)] {
            scene.fail(index, scene.start + Duration::from_millis(later));
        }
        let now = scene.start + Duration::from_millis(300);
        assert_eq!(scene.order(1, now), [1, 2, 0]);
    }

    #[test]
    fn a_lone_target_is_tried_however_often_it_has_failed() {
        let scene = Scene::new(Balance::RoundRobin, 1);
        for round in 0..100 {
            scene.fail(0, scene.start);
            assert_eq!(scene.order(round, scene.start), [0]);
        }
    }

    #[test]
    fn what_checks_say_is_down_is_not_tried_even_if_nothing_else_is_left() {
        let scene = Scene::new(Balance::RoundRobin, 2);
        scene.health[0].set_checked(Some(false));
        assert_eq!(scene.order(1, scene.start), [1]);
        scene.health[1].set_checked(Some(false));
        assert_eq!(scene.order(1, scene.start), [0_usize; 0]);
        scene.health[0].set_checked(Some(true));
        assert_eq!(scene.order(1, scene.start), [0]);
    }

    fn any_balance() -> impl Strategy<Value = Balance> {
        prop_oneof![
            Just(Balance::RoundRobin),
            Just(Balance::LeastSessions),
            Just(Balance::SourceHash),
            Just(Balance::FirstAvailable),
        ]
    }

    /// What a target has been through.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Past {
        Good,
        Failed,
        CheckedDown,
    }

    proptest! {
        #[test]
        fn every_target_that_is_not_down_is_tried_once_the_fit_ones_first(
            balance in any_balance(),
            pasts in prop::collection::vec(
                prop_oneof![Just(Past::Good), Just(Past::Failed), Just(Past::CheckedDown)],
                0..=MAX_TARGETS,
            ),
            from: u32,
            turns in 0_usize..10,
        ) {
            let scene = Scene::new(balance, pasts.len());
            for (index, past) in pasts.iter().enumerate() {
                match past {
                    Past::Good => {}
                    Past::Failed => scene.fail(index, scene.start),
                    Past::CheckedDown => scene.health[index].set_checked(Some(false)),
                }
            }
            for _ in 0..turns {
                scene.pool.walk(Tcp, client(0));
            }
            let order = scene.order(from & 0xffff, scene.start);
            let past: Vec<_> = order.iter().map(|index| pasts[*index]).collect();
            prop_assert!(past.is_sorted(), "{:?}", past);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            let expected = pasts.iter().enumerate().filter(|(_, past)| **past != Past::CheckedDown);
            prop_assert_eq!(sorted, expected.map(|(index, _)| index).collect::<Vec<_>>());
            prop_assert!(scene.health.iter().all(|health| health.sessions() == 0));
        }

        #[test]
        fn a_client_keeps_its_target_while_others_come_and_go(
            numbers in prop::collection::btree_set(0_usize..200, 2..20),
            lost: prop::sample::Index,
            from in 0_u32..1_000_000,
        ) {
            let numbers: Vec<_> = numbers.into_iter().collect();
            let lost = *lost.get(&numbers);
            let rest: Vec<_> = numbers.iter().copied().filter(|one| *one != lost).collect();
            let before = Scene::with(Balance::SourceHash, &numbers).first(from);
            let after = Scene::with(Balance::SourceHash, &rest).first(from);
            let reversed: Vec<_> = numbers.iter().rev().copied().collect();
            prop_assert_eq!(Scene::with(Balance::SourceHash, &reversed).first(from), before);
            prop_assert!(before == lost || after == before);
        }
    }
}
