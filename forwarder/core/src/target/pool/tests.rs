//! What is expected of `pool`.

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
            members.map(|((name, health), number)| (&name[..], 80, Arc::clone(health), *number)),
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
