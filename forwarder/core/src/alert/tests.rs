use proptest::prelude::*;

use super::window::LATE;
use super::*;

const EVERY: Duration = Duration::from_secs(10);

fn alert(name: &str, watch: Watch) -> Alert {
    Alert {
        name: name.parse().unwrap(),
        services: Vec::new(),
        rules: Vec::new(),
        targets: Vec::new(),
        every: EVERY,
        watch,
    }
}

/// One alert, asked once a second of simulated time.
struct Simulated {
    alerts: Alerts,
    start: Instant,
    now: Instant,
    counters: Sample,
}

impl Simulated {
    fn new(watch: Watch) -> Self {
        let start = Instant::now();
        let mut alerts = Alerts::default();
        assert!(alerts.reload(&[alert("a", watch)], start).is_empty());
        let mut simulated = Self { alerts, start, now: start, counters: Sample::default() };
        assert!(simulated.ask().is_empty());
        simulated
    }

    fn ask(&mut self) -> Vec<Change> {
        self.alerts.sample(0, self.now, self.counters)
    }

    /// Goes on for so many seconds, each with `what` happening; gives the second of every change,
    /// and what it is.
    fn run(&mut self, seconds: u64, what: impl Fn(&mut Sample)) -> Vec<(u64, Change)> {
        let mut seen = Vec::new();
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            what(&mut self.counters);
            let second = (self.now - self.start).as_secs();
            seen.extend(self.ask().into_iter().map(|change| (second, change)));
        }
        seen
    }
}

/// The second, whether it begins, and the figure of each change.
fn told(changes: &[(u64, Change)]) -> Vec<(u64, bool, u64)> {
    changes.iter().map(|(at, c)| (*at, c.lasted.is_none(), c.value)).collect()
}

#[test]
fn an_interval_of_one_second_strikes_though_every_look_is_a_little_late() {
    let (start, mut alerts) = (Instant::now(), Alerts::default());
    let watch = Watch::Traffic { below: None, above: Some(100) };
    alerts.reload(&[Alert { every: Duration::from_secs(1), ..alert("a", watch) }], start);
    let look = |nth: u32| start + Duration::from_millis(1001) * nth;
    let sample = |nth: u32| Sample { bytes: 200 * u64::from(nth), ..Sample::default() };
    let changes = (0..10).flat_map(|nth| alerts.sample(0, look(nth), sample(nth)));
    assert_eq!(
        changes.map(|change| (change.finding, change.value)).collect::<Vec<_>>(),
        [(Finding::TooMuch, 200)]
    );
}

#[test]
fn silence_is_too_little_after_one_whole_interval_and_told_once() {
    let mut simulated = Simulated::new(Watch::Traffic { below: Some(1000), above: None });
    let changes = simulated.run(30, |_| ());
    assert_eq!(told(&changes), [(10, true, 0)]);
    assert_eq!((changes[0].1.finding, changes[0].1.threshold), (Finding::TooLittle, 1000));
    // 100 a second: the interval holds 1000 after ten of them.
    let changes = simulated.run(30, |counters| counters.bytes += 100);
    assert_eq!(told(&changes), [(40, false, 1000)]);
    assert_eq!(changes[0].1.lasted, Some(Duration::from_secs(30)));
    let changes = simulated.run(30, |counters| counters.bytes += 99);
    assert_eq!(told(&changes), [(61, true, 999)], "the limit itself is enough, less is not");
}

#[test]
fn too_much_is_told_as_soon_as_it_has_moved() {
    let mut simulated = Simulated::new(Watch::Traffic { below: None, above: Some(1000) });
    let changes = simulated.run(10, |counters| counters.bytes += 100);
    assert_eq!(told(&changes), [], "the limit itself is not too much");
    let changes = simulated.run(1, |counters| counters.bytes += 1001);
    assert_eq!(told(&changes), [(11, true, 1901)]);
    assert_eq!(changes[0].1.finding, Finding::TooMuch);
    let changes = simulated.run(20, |_| ());
    // The burst has left the interval ten seconds later; the steady stream before it, too.
    assert_eq!(told(&changes), [(21, false, 0)]);
}

#[test]
fn too_little_and_too_much_follow_each_other_without_a_gap() {
    let watch = Watch::Traffic { below: Some(10), above: Some(1000) };
    let mut simulated = Simulated::new(watch);
    assert_eq!(told(&simulated.run(10, |_| ())), [(10, true, 0)]);
    let changes = simulated.run(1, |counters| counters.bytes += 5000);
    assert_eq!(told(&changes), [(11, false, 5000), (11, true, 5000)]);
    assert_eq!(changes[0].1.finding, Finding::TooLittle);
    assert_eq!(changes[1].1.finding, Finding::TooMuch);
}

#[test]
fn shares_of_ends_are_exact_and_not_whole_multiples() {
    // Three of ten: integer division would make the share nothing, and its limit ignored.
    for (share_permille, fires) in [(300, true), (301, false), (1000, false)] {
        let watch = Watch::Ends { by: EndedBy::Target, above: 2, share_permille };
        let mut simulated = Simulated::new(watch);
        let changes = simulated.run(1, |counters| {
            counters.begun += 10;
            counters.over += 3;
            counters.by_target += 3;
        });
        assert_eq!(!changes.is_empty(), fires, "{share_permille}");
    }
}

#[test]
fn only_the_ends_of_one_side_within_the_interval_count() {
    let watch = Watch::Ends { by: EndedBy::Client, above: 3, share_permille: 0 };
    let mut simulated = Simulated::new(watch);
    let by_target = simulated.run(5, |counters| {
        counters.begun += 1;
        counters.over += 1;
        counters.by_target += 1;
    });
    assert_eq!(told(&by_target), []);
    let slowly = simulated.run(30, |counters| {
        counters.begun += 3;
        counters.over += 3;
    });
    assert_eq!(told(&slowly), []);
    let by_client = simulated.run(4, |counters| counters.by_client += 1);
    assert_eq!(told(&by_client), [(39, true, 4)]);
    assert_eq!(told(&simulated.run(20, |_| ())), [(46, false, 3)]);
}

#[test]
fn sessions_that_were_there_before_the_interval_count_for_the_share() {
    let watch = Watch::Ends { by: EndedBy::Target, above: 0, share_permille: 500 };
    let mut simulated = Simulated::new(watch);
    simulated.run(1, |counters| counters.begun += 100);
    simulated.run(20, |_| ());
    let few = simulated.run(1, |counters| {
        counters.over += 49;
        counters.by_target += 49;
    });
    assert_eq!(told(&few), [], "49 of 100");
    let more = simulated.run(1, |counters| {
        counters.over += 1;
        counters.by_target += 1;
    });
    assert_eq!(told(&more), [(23, true, 50)]);
}

#[test]
fn a_reload_leaves_what_is_unchanged_alone_and_says_what_is_gone() {
    let below = |bytes| Watch::Traffic { below: Some(bytes), above: None };
    let (kept, changed, gone) =
        (alert("kept", below(1)), alert("changed", below(1)), alert("gone", below(1)));
    let start = Instant::now();
    let mut alerts = Alerts::default();
    alerts.reload(&[kept.clone(), changed.clone(), gone.clone()], start);
    let mut now = start;
    let mut ask = |alerts: &mut Alerts, seconds: u64| {
        let mut changes = 0;
        for _ in 0..seconds {
            now += Duration::from_secs(1);
            let all = alerts.list().count();
            changes += (0..all)
                .map(|index| alerts.sample(index, now, Sample::default()).len())
                .sum::<usize>();
        }
        (now, changes)
    };
    let (now, changes) = ask(&mut alerts, 12);
    assert_eq!(changes, 3);
    let other = alert("changed", below(2));
    let cleared = alerts.reload(&[other.clone(), kept.clone()], now);
    let names: Vec<_> = cleared.iter().map(|one| one.alert.name.to_string()).collect();
    assert_eq!(names, ["changed", "gone"]);
    assert!(cleared.iter().all(|one| one.lasted == Some(Duration::from_secs(1))), "{cleared:?}");
    let state: Vec<_> = alerts.list().map(|(alert, on)| (alert.name.to_string(), on)).collect();
    assert_eq!(state, [("changed".to_owned(), false), ("kept".to_owned(), true)]);
    let (_, changes) = ask(&mut alerts, 10);
    assert_eq!(changes, 0, "a new definition begins a new interval");
    assert_eq!(ask(&mut alerts, 1).1, 1);
}

#[test]
fn who_ended_first_is_who_sent_its_fin_first_or_failed() {
    use EndReason::{ClientAbort, ClientReset, Done, IdleTimeout, Killed, TargetRefused};
    assert_eq!(ended_by(FirstFin::Target, Done), Some(EndedBy::Target));
    assert_eq!(ended_by(FirstFin::Target, ClientReset), Some(EndedBy::Target));
    assert_eq!(ended_by(FirstFin::Client, Done), Some(EndedBy::Client));
    assert_eq!(ended_by(FirstFin::None, ClientAbort), Some(EndedBy::Client));
    assert_eq!(ended_by(FirstFin::None, TargetRefused), Some(EndedBy::Target));
    for ours in [IdleTimeout, Killed] {
        assert_eq!(ended_by(FirstFin::None, ours), None);
    }
}

proptest! {
    /// Whatever the ticks: too little is never claimed of an interval that had enough, and too much
    /// never of one that had not more than allowed, a late look included.
    #[test]
    fn nothing_is_claimed_that_was_not_so(
        steps in prop::collection::vec((1u64..4000, 0u64..500), 1..200),
        below in 1u64..2000,
        above in 1u64..5000,
    ) {
        let watch = Watch::Traffic { below: Some(below), above: Some(above.max(below)) };
        let mut simulated = Simulated::new(watch);
        let mut moved = vec![(simulated.now, 0)];
        for (ms, bytes) in steps {
            simulated.now += Duration::from_millis(ms);
            simulated.counters.bytes += bytes;
            moved.push((simulated.now, bytes));
            let within = |span: Duration| -> u64 {
                let recent = moved.iter().filter(|(at, _)| simulated.now - *at < span);
                recent.map(|(_, bytes)| bytes).sum()
            };
            let (inside, now) = (within(EVERY), simulated.now);
            let at_most = within(EVERY + LATE);
            for change in simulated.ask() {
                if change.lasted.is_none() {
                    match change.finding {
                        Finding::TooLittle => {
                            prop_assert!(inside < below);
                            prop_assert!(now - simulated.start >= EVERY);
                        }
                        Finding::TooMuch => prop_assert!(at_most > change.threshold),
                        Finding::TooManyEnds => prop_assert!(false),
                    }
                }
            }
        }
    }
}

#[test]
fn too_much_is_over_with_a_figure_that_is_not_too_much() {
    let watch = Watch::Traffic { below: None, above: Some(1000) };
    let mut simulated = Simulated::new(watch);
    simulated.run(20, |_| {});
    let seen = simulated.run(1, |sample| sample.bytes += 5000);
    assert_eq!(told(&seen), [(21, true, 5000)]);
    let seen = simulated.run(30, |sample| sample.bytes += 10);
    let over = told(&seen);
    assert_eq!(over.len(), 1, "{over:?}");
    assert!(!over[0].1 && over[0].2 <= 1000, "{over:?}");
}
