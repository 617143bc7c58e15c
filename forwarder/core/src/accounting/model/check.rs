//! What the spool must tell after a history.

use std::collections::{BTreeMap, BTreeSet};

use schemas::table::{Session, Slot, Usage};

use super::data;
use super::data::Truth;
use super::world::World;

/// The rows of one boot.
#[derive(Default)]
struct BootRows<'a> {
    seqs: Vec<i64>,
    sessions: BTreeMap<i64, Vec<&'a Session>>,
    usage: Vec<&'a Usage>,
    slots: Vec<&'a Slot>,
}

fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap()
}

impl World {
    pub(super) fn check(&self) {
        let mut boots: BTreeMap<&str, BootRows<'_>> = BTreeMap::new();
        for rows in self.spool.rows() {
            let boot = boots.entry(&rows.boot).or_default();
            boot.seqs.extend(rows.seqs());
            boot.usage.extend(&rows.usage);
            boot.slots.extend(&rows.slots);
            for row in &rows.sessions {
                boot.sessions.entry(row.session_no).or_default().push(row);
            }
        }
        for name in self.boots() {
            let nothing = BootRows::default();
            let rows = boots.get(name.as_str()).unwrap_or(&nothing);
            let exact = self.check_end(&name, rows);
            self.check_sessions(&name, rows, exact);
            check_slots(&name, rows, exact);
        }
        self.check_down();
        if let Some(denied) = self.denied {
            let told: i64 = self.spool.rows().flat_map(|f| &f.denied).map(|row| row.count).sum();
            assert_eq!(u64::try_from(told).unwrap(), denied);
        }
    }

    /// Row numbers without gap, and one end that tells the last of them. Gives whether it is exact.
    fn check_end(&self, boot: &str, rows: &BootRows<'_>) -> bool {
        let mut seqs = rows.seqs.clone();
        seqs.sort_unstable();
        let expected: Vec<i64> = (1..).take(seqs.len()).collect();
        assert_eq!(seqs, expected, "row numbers of boot {boot}");
        let is_lost = self.losses.contains(boot);
        let mut ends = self.spool.ends().filter(|end| end.boot == boot);
        let Some(end) = ends.next() else {
            assert!(is_lost && seqs.is_empty(), "boot {boot} has no end");
            return false;
        };
        assert!(ends.all(|again| again == end), "a second end may only repeat the first");
        assert_eq!(end.exact, !is_lost);
        assert_eq!(end.last_seq, int(seqs.len() as u64));
        if end.exact {
            let all: BTreeSet<_> = (1..=end.last_session_no).collect();
            let told: BTreeSet<_> = rows.sessions.keys().copied().collect();
            assert!(told.is_subset(&all), "{told:?} of {}", end.last_session_no);
            let missing = int(all.difference(&told).count() as u64);
            assert!(missing <= end.unopened, "{missing} of {} are missing", end.unopened);
            assert!(end.unopened <= self.unopened.get(boot).copied().unwrap_or_default());
        }
        end.exact
    }

    fn check_sessions(&self, boot: &str, rows: &BootRows<'_>, exact: bool) {
        data(|data| {
            let ours = data.truth.iter().filter(|((of, _), _)| of == boot);
            let mut known = 0;
            for ((_, number), truth) in ours {
                let found = rows.sessions.get(&int(*number)).map_or(&[][..], Vec::as_slice);
                match found {
                    [row] => {
                        check_session(row, truth);
                        check_intervals(row, &rows.usage);
                        known += 1;
                    }
                    [] => assert!(!exact, "session {boot}-{number} is lost: {truth:?}"),
                    more => panic!("session {boot}-{number} is there {} times", more.len()),
                }
            }
            assert_eq!(known, rows.sessions.len(), "no session was invented");
        });
    }

    /// What a boot tells of the time before it overlaps nothing that was measured.
    fn check_down(&self) {
        let mut measured_until = i64::MIN;
        for rows in self.spool.rows() {
            for slot in &rows.slots {
                let end = slot.slot_start + i64::from(slot.slot_len_s) * 1_000_000;
                if slot.status == "DOWN" {
                    assert_eq!((slot.seq, slot.clock_pass), (Some(1), 0));
                    assert!(slot.slot_start >= measured_until, "{slot:?}");
                    let own = self.spool.rows().filter(|other| other.boot == rows.boot);
                    let mut own =
                        own.flat_map(|rows| &rows.slots).filter(|slot| slot.seq != Some(1));
                    assert!(own.all(|own| own.clock_pass > 0 || own.slot_start >= end), "{slot:?}");
                } else {
                    measured_until = measured_until.max(end);
                }
            }
        }
    }
}

fn check_session(row: &Session, truth: &Truth) {
    assert_eq!((row.end_reason == "lost"), !truth.ended, "{row:?}");
    assert_eq!((row.bytes_up, row.bytes_down), (int(truth.bytes.up), int(truth.bytes.down)));
    // The truth of one that was cut off lies between what was counted and what was received.
    assert_eq!(row.received_up, int(truth.bytes.up + truth.uncounted));
    assert_eq!(row.received_down, row.bytes_down);
    assert_eq!((row.unacked_up, row.unacked_down), (None, None));
    assert_eq!(row.rule, truth.rule);
    assert_eq!(row.proxied_client_ip, truth.proxied_client.map(|client| client.ip().to_string()));
    assert_eq!(row.proxied_client_port, truth.proxied_client.map(|client| client.port().into()));
    assert!(row.duration_us >= 0);
    if let Some(died_us) = truth.died_us {
        assert!(row.duration_us <= died_us - truth.began_us, "{row:?} {truth:?}");
    }
    let joined =
        (truth.shared_by > 0).then(|| format!("{{\"overflow_sessions\":{}}}", truth.shared_by));
    assert_eq!(row.attributes, joined);
    match row.quality {
        0 | 2 => assert!(truth.ended && truth.shared_by == 0, "{row:?}"),
        1 => assert!(!truth.ended && truth.shared_by == 0, "{row:?}"),
        _ => assert!(row.quality == 3 && truth.shared_by > 0, "{row:?}"),
    }
}

fn check_intervals(row: &Session, usage: &[&Usage]) {
    let intervals: Vec<_> = usage.iter().filter(|r| r.session_no == row.session_no).collect();
    assert_eq!(intervals.len(), usize::try_from(row.intervals).unwrap(), "{row:?}");
    let (mut up, mut down) = (0, 0);
    for (nth, usage) in intervals.iter().enumerate() {
        up += usage.bytes_up;
        down += usage.bytes_down;
        assert_eq!(usize::try_from(usage.interval_seq).unwrap(), nth);
        assert_eq!((usage.total_up, usage.total_down), (up, down));
        assert_eq!((usage.is_first, usage.is_final), (nth == 0, nth + 1 == intervals.len()));
        assert!((0..=i64::from(usage.slot_len_s) * 1_000_000).contains(&usage.active_us));
        assert_eq!(usage.rule, row.rule);
    }
    assert_eq!((row.bytes_up, row.bytes_down), (up, down));
}

/// What a slot's row says is the sum of its usage rows; and if it calls itself measured, it is what
/// moved while the slot ran.
fn check_slots(boot: &str, rows: &BootRows<'_>, exact: bool) {
    let mut seen = BTreeSet::new();
    for slot in rows.slots.iter().filter(|slot| slot.status != "DOWN") {
        let key = (slot.clock_pass, slot.slot_start);
        assert!(seen.insert(key), "slot {key:?} of boot {boot} is there twice");
        let of_slot = |usage: &&&Usage| (usage.clock_pass, usage.slot_start) == key;
        let usage: Vec<_> = rows.usage.iter().filter(of_slot).collect();
        assert_eq!(slot.usage_rows, int(usage.len() as u64), "{slot:?}");
        assert_eq!(slot.bytes_up, usage.iter().map(|row| row.bytes_up).sum::<i64>());
        assert_eq!(slot.bytes_down, usage.iter().map(|row| row.bytes_down).sum::<i64>());
        let key = (boot.to_owned(), slot.clock_pass, slot.slot_start);
        data(|data| {
            if exact && slot.status != "SKIPDATA" && !data.uncertain.contains(&key) {
                let moved = data.moved.get(&key).copied().unwrap_or_default();
                let told = (slot.bytes_up, slot.bytes_down);
                assert_eq!(told, (int(moved.up), int(moved.down)), "{slot:?}");
                assert!(usage.iter().all(|row| row.quality != 2), "{slot:?}");
            }
        });
    }
    let stray = rows.usage.iter().find(|row| !seen.contains(&(row.clock_pass, row.slot_start)));
    assert!(!exact || stray.is_none(), "usage without a slot: {stray:?}");
}
