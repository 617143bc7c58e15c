//! When things happen: slots from the first of October 2026 on, more by day than by night and less at
//! weekends, and who runs when.

use std::ops::Range;

/// Length of a slot.
pub(crate) const SLOT_S: i32 = 300;
pub(crate) const SLOT_US: i64 = 300_000_000;
/// Slots of a day.
pub(crate) const DAY: usize = 288;
/// Slots of an hour.
const HOUR: usize = 12;
/// The month that everything happens in.
pub(crate) const MONTH: &str = "2026-10";
/// 2026-10-01T00:00:00Z, a Thursday.
const BEGIN_US: i64 = 1_790_812_800_000_000;
/// Sessions begin as often as this in each hour of a day, in UTC.
const CURVE: [u64; 24] = [
    30, 24, 20, 18, 18, 22, 34, 52, 72, 86, 94, 98, 92, 96, 100, 98, 94, 90, 88, 92, 90, 78, 58, 42,
];
/// On Saturdays and Sundays, of a hundred on other days.
const WEEKEND: u64 = 60;

/// One run of a forwarder.
#[derive(Debug, Clone)]
pub(crate) struct Shift {
    pub(crate) node: &'static str,
    pub(crate) slots: Range<usize>,
    /// Slots before it in which nothing ran, of which it knows.
    pub(crate) down: usize,
    /// Slots in which it had to leave out what running sessions moved.
    pub(crate) skipped: Range<usize>,
    /// Whether it ends within the time that is told of.
    pub(crate) ends: bool,
}

/// All slots.
#[derive(Debug)]
pub(crate) struct Calendar {
    /// Weights of all slots before each.
    before: Vec<u64>,
}

impl Calendar {
    pub(crate) fn new(days: usize) -> Self {
        let mut before = vec![0];
        let mut sum = 0;
        for slot in 0..days * DAY {
            sum += weight(slot);
            before.push(sum);
        }
        Self { before }
    }

    pub(crate) fn slots(&self) -> usize {
        self.before.len() - 1
    }

    /// How many of all sessions begin in a slot.
    pub(crate) fn sessions(&self, slot: usize, all: u64) -> u64 {
        let sum = u128::from(self.before[self.slots()]);
        let until = |slot: usize| u128::from(all) * u128::from(self.before[slot]) / sum;
        u64::try_from(until(slot + 1) - until(slot)).unwrap_or_default()
    }

    /// The runs of both forwarders. One stops for maintenance and says so when it is back; the other
    /// is moved and knows nothing of the time in between.
    pub(crate) fn shifts(&self) -> [Vec<Shift>; 2] {
        let all = self.slots();
        let (maintained, moved, skipped) = (all / 3, all * 2 / 3, all / 2);
        let shift = |node, slots, down, ends| Shift { node, slots, down, skipped: 0..0, ends };
        let before = shift("edge-2", 0..moved, 0, true);
        [
            vec![
                shift("edge-1", 0..maintained, 0, true),
                shift("edge-1", maintained + 2..all, 2, false),
            ],
            vec![
                Shift { skipped: skipped..skipped + 2, ..before },
                shift("edge-2", moved + 2..all, 0, false),
            ],
        ]
    }
}

/// The start of a slot in microseconds since 1970 UTC.
pub(crate) fn start(slot: usize) -> i64 {
    BEGIN_US + i64::try_from(slot).unwrap_or_default() * SLOT_US
}

/// Whether a slot begins between 8 and 20 o'clock UTC on a working day.
pub(crate) fn is_peak(slot: usize) -> bool {
    (8..20).contains(&(slot % DAY / HOUR)) && !is_weekend(slot)
}

fn is_weekend(slot: usize) -> bool {
    // Thursday is the first day, 3 days after a Monday.
    (slot / DAY + 3) % 7 >= 5
}

fn weight(slot: usize) -> u64 {
    let (hour, within) = (slot % DAY / HOUR, (slot % HOUR) as u64);
    let twelve = HOUR as u64;
    let curve = CURVE[hour] * (twelve - within) + CURVE[(hour + 1) % 24] * within;
    curve * if is_weekend(slot) { WEEKEND } else { 100 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_begins_in_some_slot_and_most_do_by_day() {
        let calendar = Calendar::new(3);
        let each: Vec<u64> = (0..3 * DAY).map(|slot| calendar.sessions(slot, 100_000)).collect();
        assert_eq!(each.iter().sum::<u64>(), 100_000);
        // Noon and four in the morning; Friday and Saturday.
        assert!(each[12 * HOUR] > 4 * each[4 * HOUR], "{each:?}");
        assert!(each[DAY + 12 * HOUR] > each[2 * DAY + 12 * HOUR], "{each:?}");
    }
}
