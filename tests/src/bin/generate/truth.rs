//! What is true of the rows, counted as they are made: a few sums of whole numbers.

use std::iter;

use schemas::table::Usage;
use serde_json::{Value, json};

use crate::calendar::{self, Calendar};
use crate::invoice::Quantities;
use crate::world::World;

/// Everything that is counted.
pub(crate) struct Truth {
    names: Vec<String>,
    calendar: Vec<bool>,
    /// Bytes up and down of each customer's slots; the last one is nobody.
    moved: Vec<[u64; 2]>,
    /// Sessions of each customer.
    begun: Vec<u64>,
    usage_rows: u64,
    session_rows: u64,
}

impl Truth {
    pub(crate) fn new(world: &World, calendar: &Calendar) -> Self {
        let customers = world.names().len() + 1;
        Self {
            names: world.names().to_vec(),
            calendar: known(calendar),
            moved: vec![[0; 2]; customers * calendar.slots()],
            begun: vec![0; customers],
            usage_rows: 0,
            session_rows: 0,
        }
    }

    /// Counts a row of usage.
    pub(crate) fn count(&mut self, customer: Option<usize>, slot: usize, row: &Usage) {
        let customer = customer.unwrap_or(self.names.len());
        let moved = &mut self.moved[customer * self.calendar.len() + slot];
        moved[0] += row.bytes_up.unsigned_abs();
        moved[1] += row.bytes_down.unsigned_abs();
        self.begun[customer] += u64::from(row.is_first);
        self.usage_rows += 1;
    }

    /// Counts a row of sessions.
    pub(crate) const fn ended(&mut self) {
        self.session_rows += 1;
    }

    pub(crate) fn json(&self, open: usize) -> Value {
        let names = self.names.iter().map(Some).chain(iter::once(None));
        let customers = names.enumerate().filter(|(number, _)| self.begun[*number] > 0);
        let customers: Vec<Value> =
            customers.map(|(number, name)| self.customer(number, name)).collect();
        let unknown = (0..self.calendar.len()).filter(|slot| !self.calendar[*slot]);
        json!({
            "period": calendar::MONTH,
            "sessions": self.session_rows,
            "usage": self.usage_rows,
            "open": open,
            "slots": self.calendar.len(),
            "unknown": unknown.map(calendar::start).collect::<Vec<_>>(),
            "customers": customers,
        })
    }

    fn customer(&self, number: usize, name: Option<&String>) -> Value {
        let slots = self.calendar.len();
        let moved = &self.moved[number * slots..][..slots];
        let total = |direction: usize| moved.iter().map(|slot| slot[direction]).sum::<u64>();
        let p95 = |of: &dyn Fn(&[u64; 2]) -> u64| {
            let known = moved.iter().zip(&self.calendar).filter(|(_, known)| **known);
            percentile(known.map(|(slot, _)| of(slot)).collect())
        };
        let [up, down] = [p95(&|slot| slot[0]), p95(&|slot| slot[1])];
        let peak = |(slot, moved): (usize, &[u64; 2])| calendar::is_peak(slot).then_some(moved[1]);
        let invoice = name.map(|_| {
            Quantities {
                sum: total(0) + total(1),
                p95: up.max(down),
                peak: moved.iter().enumerate().filter_map(peak).sum(),
                down: total(1),
                sessions: self.begun[number],
            }
            .invoice(number)
        });
        json!({
            "customer": name,
            "sessions": self.begun[number],
            "bytes_up": total(0),
            "bytes_down": total(1),
            "p95": {
                "in": up,
                "out": down,
                "p95_of_sum": p95(&|slot| slot[0] + slot[1]),
                "p95_of_max": p95(&|slot| slot[0].max(slot[1])),
            },
            "invoice": invoice,
        })
    }
}

/// Whether all that was to be measured in a slot was measured then.
fn known(calendar: &Calendar) -> Vec<bool> {
    let shifts = calendar.shifts();
    let known = |slot: usize| {
        shifts.iter().all(|shifts| {
            shifts.iter().any(|shift| {
                let told = shift.slots.start - shift.down..shift.slots.end;
                told.contains(&slot) && !shift.skipped.contains(&slot)
            })
        })
    };
    (0..calendar.slots()).map(known).collect()
}

/// The 95th percentile: of n values that with the rank ⌈0.95·n⌉; 0 when there are none.
fn percentile(mut values: Vec<u64>) -> u64 {
    let rank = (95 * values.len()).div_ceil(100);
    match rank.checked_sub(1) {
        Some(at) => *values.select_nth_unstable(at).1,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_of_the_slots_may_be_higher() {
        assert_eq!(percentile((1..=20).collect()), 19);
        assert_eq!(percentile((1..=100).rev().collect()), 95);
        assert_eq!((percentile(vec![7]), percentile(vec![])), (7, 0));
    }
}
