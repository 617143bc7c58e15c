//! Sessions beyond the table's size: they share a slot, and with it a session number, with all others
//! of the same service, rule and customer.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use schemas::vocab::DenyReason;

use super::layout::{Words, state};
use super::session::{OpenSession, Opening, Refused};
use super::slot::SlotView;

/// The slots at the end of a table that sessions share once the others are taken. One that was
/// taken stays for as long as its boot lives.
#[derive(Debug)]
pub(super) struct Overflow {
    slots: Range<usize>,
    /// How many of them are taken, from the first.
    taken: AtomicUsize,
    /// Held while a slot is taken, so that no two are taken for the same sessions.
    taking: Mutex<()>,
}

impl Overflow {
    /// The last `count` slots of a table; without any, a full table refuses.
    pub(super) fn last(count: usize, table_slots: usize) -> Self {
        let slots = table_slots - count..table_slots;
        Self { slots, taken: AtomicUsize::new(0), taking: Mutex::new(()) }
    }

    /// The first slot, below which every session has one of its own.
    pub(super) fn begins_at(&self) -> usize {
        self.slots.start
    }

    /// The slots that are taken.
    pub(super) fn used(&self) -> Range<usize> {
        // Acquire: whoever sees the slot sees it filled.
        self.slots.start..self.slots.start + self.taken.load(Ordering::Acquire)
    }

    /// Gives a session its part of a slot.
    pub(super) fn open(
        &self,
        table: Words<'static>,
        opening: &Opening,
    ) -> Result<OpenSession, Refused> {
        if let Some(index) = self.slot_of(table, opening) {
            return OpenSession::join(table, index);
        }
        let _one_at_a_time = self.taking.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Another thread may have been faster.
        if let Some(index) = self.slot_of(table, opening) {
            return OpenSession::join(table, index);
        }
        let index = self.used().end;
        if index == self.slots.end {
            return Err(Refused { reason: DenyReason::TableFull });
        }
        let session = OpenSession::begin_shared(table, index, opening);
        self.taken.fetch_add(1, Ordering::Release);
        Ok(session)
    }

    fn slot_of(&self, table: Words<'static>, opening: &Opening) -> Option<usize> {
        self.used().find(|index| SlotView::new(table, *index).is_shared_by(opening))
    }

    /// Ends the account of every slot that no session is left in. To be called when none begins any
    /// more.
    pub(super) fn close(&self, table: Words<'static>) {
        for index in self.used() {
            let is_open = table.state(index).load(Ordering::Acquire) == state::OPEN;
            if is_open && SlotView::new(table, index).shut() {
                table.state(index).store(state::CLOSED, Ordering::Release);
            }
        }
    }
}
