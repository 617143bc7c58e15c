//! Bandwidth in simulated time: sessions that wake late, come and go, on one bucket.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Turn};
use super::pace::Pace;
use super::share::{Share, Shares};

const MB: u64 = 1_000_000;
const MBIT: u64 = 1_000_000;

/// A session and what it got.
#[derive(Debug)]
struct Session {
    /// While it is there, in milliseconds.
    there: Range<u64>,
    /// What it sends in a second, in bytes.
    sends: u64,
    waits: Option<(Turn, u64)>,
    got: u64,
}

impl Session {
    /// One that always has something to send.
    fn greedy(there: Range<u64>) -> Self {
        Self { there, sends: u64::MAX, waits: None, got: 0 }
    }

    fn modest(sends: u64, there: Range<u64>) -> Self {
        Self { sends, ..Self::greedy(there) }
    }
}

/// Has the sessions send through one bucket until `ms` have passed. They wake up to 3 ms late, as on
/// a busy machine. Gives what moved until each of the milliseconds in `marks`.
fn run(pace: Pace, sessions: &mut [Session], ms: u64, marks: &[u64]) -> Vec<u64> {
    let start = Instant::now();
    let bucket = Bucket::new(start);
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut agenda: BTreeMap<(Instant, usize), ()> = BTreeMap::new();
    for (index, session) in sessions.iter().enumerate() {
        agenda.insert((at(session.there.start), index), ());
    }
    let mut moved: Vec<(Instant, u64)> = Vec::new();
    let mut late = (1..=3_000).cycle().step_by(997).map(Duration::from_micros);
    while let Some(((now, index), ())) = agenda.pop_first() {
        if now >= at(ms) {
            break;
        }
        let there =
            |session: &&Session| (at(session.there.start)..at(session.there.end)).contains(&now);
        let sharers = sessions.iter().filter(there).count() as u64;
        let session = &mut sessions[index];
        let gone = now >= at(session.there.end);
        if let Some((turn, bytes)) = session.waits.take() {
            assert!(turn.at <= now, "woken early");
            let since = now - at(session.there.start);
            let sent =
                session.sends.saturating_mul(u64::try_from(since.as_micros()).unwrap()) / 1_000_000;
            let used = if gone { 0 } else { bytes.min(sent.saturating_sub(session.got)) };
            bucket.settle(turn, used);
            session.got += used;
            moved.push((now, used));
            if used == 0 && !gone {
                agenda.insert((now + Duration::from_millis(1), index), ());
                continue;
            }
        }
        if !gone {
            let bytes = bucket.turn_bytes(pace, sharers);
            let turn = bucket.book(pace, bytes, sharers, now);
            let wakes = if turn.at > now { turn.at + late.next().unwrap() } else { now };
            session.waits = Some((turn, bytes));
            agenda.insert((wakes, index), ());
        }
    }
    assert_bounded(pace, &moved);
    let before = |mark: Instant| moved.iter().take_while(move |(now, _)| *now < mark);
    marks.iter().map(|&mark| before(at(mark)).map(|(_, bytes)| bytes).sum()).collect()
}

/// No window, wherever it begins, has seen more than rate times time and the burst, but for the
/// turns of those that woke late.
fn assert_bounded(pace: Pace, moved: &[(Instant, u64)]) {
    let late = pace.worth(Duration::from_millis(4)) + 64 * pace.turn_bytes(64, 64);
    let step = moved.len().div_ceil(200).max(1);
    for from in (0..moved.len()).step_by(step) {
        let mut sum = 0;
        for (now, bytes) in &moved[from..] {
            sum += bytes;
            let most = pace.worth(*now - moved[from].0) + pace.burst_bytes() + late;
            assert!(sum <= most, "{sum} of at most {most} in {:?}", *now - moved[from].0);
        }
    }
}

fn within(value: u64, percent: u64, expected: u64) {
    let off = value.abs_diff(expected) * 100;
    assert!(off <= expected * percent, "{value} is not within {percent} % of {expected}");
}

#[test]
fn a_bandwidth_holds_within_five_percent_over_ten_seconds_and_is_shared_alike() {
    for bps in [8 * 8192, 800_000, 10 * MBIT, 1000 * MBIT] {
        for count in [1, 4, 16, 64] {
            let mut sessions: Vec<_> = (0..count).map(|_| Session::greedy(0..10_000)).collect();
            let total = run(Pace::new(bps, None), &mut sessions, 10_000, &[10_000])[0];
            within(total, 5, bps / 8 * 10);
            for session in &sessions {
                within(session.got, 20, total / count);
            }
        }
    }
}

#[test]
fn sessions_that_come_and_go_leave_the_rest_its_share() {
    let pace = Pace::new(8 * MBIT, None);
    let mut sessions: Vec<_> = (0..8).map(|_| Session::greedy(0..20_000)).collect();
    sessions.extend((0..24).map(|_| Session::greedy(5_000..10_000)));
    let moved = run(pace, &mut sessions, 20_000, &[5_000, 10_000, 20_000]);
    within(moved[1] - moved[0], 5, 5 * MB);
    within(moved[2] - moved[1], 5, 10 * MB);
    // A quarter of it for 5 s of 20, everything for the rest.
    sessions[..8].iter().for_each(|session| within(session.got, 20, (15 * MB + MB + MB / 4) / 8));
    sessions[8..].iter().for_each(|session| within(session.got, 20, 5 * MB / 32));
}

#[test]
fn what_modest_sessions_leave_is_for_the_others() {
    let mut sessions: Vec<_> = (0..4).map(|_| Session::modest(10_000, 0..10_000)).collect();
    sessions.extend((0..2).map(|_| Session::greedy(0..10_000)));
    let total = run(Pace::new(8 * MBIT, None), &mut sessions, 10_000, &[10_000])[0];
    within(total, 5, 10 * MB);
    sessions[..4].iter().for_each(|session| within(session.got, 20, 100_000));
    sessions[4..].iter().for_each(|session| within(session.got, 20, 48 * MB / 10));
}

#[test]
fn a_minute_of_silence_earns_no_more_than_the_burst() {
    for count in [1, 2, 20] {
        let pace = Pace::new(8 * MBIT, Some(300_000));
        let mut sessions: Vec<_> = (0..count).map(|_| Session::greedy(60_000..65_000)).collect();
        let moved = run(pace, &mut sessions, 65_000, &[60_001, 65_000]);
        assert!(moved[0] <= 300_000, "{} at once", moved[0]);
        within(moved[1], 5, 5 * MB + if count == 1 { 300_000 } else { 0 });
        assert!(moved[1] <= 5 * MB + 300_000);
    }
}

#[test]
fn extreme_rates_hold_too() {
    let slow = Pace::new(10, Some(2));
    let mut sessions = vec![Session::greedy(0..100_000), Session::greedy(0..100_000)];
    let total = run(slow, &mut sessions, 100_000, &[100_000])[0];
    assert!((123..=127).contains(&total), "{total} bytes at 10 bit/s");
    let fast = Pace::new(100_000 * MBIT, None);
    let mut sessions: Vec<_> = (0..4).map(|_| Session::greedy(0..1_000)).collect();
    let total = run(fast, &mut sessions, 1_000, &[1_000])[0];
    assert!(total <= fast.worth(Duration::from_secs(1)) + fast.burst_bytes());
    within(total, 12, 12_500 * MB);
}

/// Datagrams of each sender: one of `size` every `every` microseconds. Gives what each got through
/// in ten seconds.
fn datagrams(pace: Pace, senders: &[(u64, u64)]) -> Vec<u64> {
    let start = Instant::now();
    let (bucket, shares) = (Bucket::new(start), Shares::new(start));
    let mut got = vec![0; senders.len()];
    let mut share = vec![Share::default(); senders.len()];
    let mut agenda: BTreeMap<(u64, usize), ()> =
        (0..senders.len()).map(|index| ((0, index), ())).collect();
    while let Some(((us, index), ())) = agenda.pop_first() {
        if us >= 10_000_000 {
            break;
        }
        let now = start + Duration::from_micros(us);
        let (size, every) = senders[index];
        let free = bucket.is_relaxed(pace, now);
        let owed = shares.has_left(&mut share[index], pace, bucket.waiting(), now);
        if (free || owed) && bucket.take(pace, size, owed, now) {
            share[index].took(if free { 0 } else { size });
            got[index] += size;
        }
        agenda.insert((us + every, index), ());
    }
    got
}

#[test]
fn datagrams_hold_the_bandwidth_and_the_busiest_sender_does_not_get_it_all() {
    let pace = Pace::new(8 * MBIT, None);
    for count in [1, 4, 16, 64] {
        // All send five times as much as there is, the first ten times as much as the others.
        let mut senders = vec![(1000, 200 * count); usize::try_from(count).unwrap()];
        senders[0] = (1000, 20 * count);
        let got = datagrams(pace, &senders);
        let total = got.iter().sum();
        within(total, 5, 10 * MB);
        got.iter().for_each(|&got| within(got, 20, total / count));
    }
    let got = datagrams(pace, &[(500, 50_000), (500, 50_000), (1200, 100)]);
    within(got[0], 5, 100_000);
    within(got[1], 5, 100_000);
    within(got[2], 6, 9_800_000);
}
