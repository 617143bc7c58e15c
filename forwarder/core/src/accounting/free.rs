//! The slots that nobody uses.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The free slots of a table, the last one given back on top: few sessions at once use few slots,
/// which stay in the processor's caches, and the journal thread need look at no others.
///
/// A stack of indices without a lock (Treiber, 1986). Taking and giving back are one exchange each.
#[derive(Debug)]
pub(super) struct FreeSlots {
    /// The slot on top plus one, 0: there is none; and in the upper half a count of the changes,
    /// without which a slot that was taken and given back meanwhile would pass for untouched.
    top: AtomicU64,
    /// Below each slot that is in the stack: the next one plus one, 0: it is the last.
    below: Box<[AtomicU32]>,
    /// One above the highest slot that was ever taken.
    touched: AtomicUsize,
}

impl FreeSlots {
    /// All of `slots` slots, the first one on top. More than 2³² - 1 cannot be told apart and are
    /// left out.
    pub(super) fn all(slots: usize) -> Self {
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let below =
            (1..=slots).map(|next| AtomicU32::new(if next == slots { 0 } else { next + 1 }));
        let top = AtomicU64::new(u64::from(slots.min(1)));
        Self { top, below: below.collect(), touched: AtomicUsize::new(0) }
    }

    /// Takes the slot on top.
    pub(super) fn take(&self) -> Option<usize> {
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let (slot, changes) = parts(top);
            let slot = slot.checked_sub(1)? as usize;
            // What lies below is of use only if the exchange finds the top unchanged.
            let below = self.below[slot].load(Ordering::Relaxed);
            match self.exchange(top, whole(below, changes.wrapping_add(1))) {
                Ok(()) => {
                    if slot >= self.touched.load(Ordering::Relaxed) {
                        self.touched.fetch_max(slot + 1, Ordering::Release);
                    }
                    return Some(slot);
                }
                Err(now) => top = now,
            }
        }
    }

    /// Gives a slot back.
    pub(super) fn give_back(&self, slot: usize) {
        let number = u32::try_from(slot + 1).expect("only slots that were taken are given back");
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            let (below, changes) = parts(top);
            self.below[slot].store(below, Ordering::Relaxed);
            match self.exchange(top, whole(number, changes.wrapping_add(1))) {
                Ok(()) => return,
                Err(now) => top = now,
            }
        }
    }

    fn exchange(&self, old: u64, new: u64) -> Result<(), u64> {
        self.top.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire).map(|_old| ())
    }

    /// How many slots, counted from the first, hold all that were ever taken.
    pub(super) fn touched(&self) -> usize {
        self.touched.load(Ordering::Acquire)
    }
}

const fn whole(slot: u32, changes: u32) -> u64 {
    slot as u64 | (changes as u64) << 32
}

const fn parts(top: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = top.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn the_slot_given_back_last_is_taken_first() {
        let free = FreeSlots::all(3);
        assert_eq!(
            [free.take(), free.take(), free.take(), free.take()],
            [Some(0), Some(1), Some(2), None]
        );
        free.give_back(0);
        free.give_back(2);
        assert_eq!([free.take(), free.take(), free.take()], [Some(2), Some(0), None]);
        assert_eq!(free.touched(), 3);
        assert_eq!(FreeSlots::all(0).take(), None);
    }

    #[test]
    fn few_sessions_at_once_touch_few_slots() {
        let free = FreeSlots::all(65_536);
        for _ in 0..1000 {
            let taken: Vec<_> = (0..10).map(|_| free.take().unwrap()).collect();
            taken.into_iter().for_each(|slot| free.give_back(slot));
        }
        assert_eq!(free.touched(), 10);
    }

    #[test]
    fn no_slot_is_taken_twice_by_threads_that_take_and_give_back() {
        const SLOTS: usize = 8;
        let free = FreeSlots::all(SLOTS);
        let taken: Vec<_> = (0..SLOTS).map(|_| AtomicBool::new(false)).collect();
        std::thread::scope(|scope| {
            for hold in 1..=4 {
                let (free, taken) = (&free, &taken);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let mine: Vec<_> = (0..hold).filter_map(|_| free.take()).collect();
                        for slot in &mine {
                            assert!(!taken[*slot].swap(true, Ordering::AcqRel), "slot {slot}");
                        }
                        for slot in mine {
                            taken[slot].store(false, Ordering::Release);
                            free.give_back(slot);
                        }
                    }
                });
            }
        });
        let mut left: Vec<_> = std::iter::from_fn(|| free.take()).collect();
        left.sort_unstable();
        assert_eq!(left, (0..SLOTS).collect::<Vec<_>>());
    }
}
