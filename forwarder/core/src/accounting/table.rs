//! The counter table of the running boot: where sessions get their number and their slot.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::table::Session;
use schemas::vocab::DenyReason;

use super::free::FreeSlots;
use super::layout::{Geometry, Header, TableError, Words, state};
use super::names;
use super::row::Pages;
use super::session::{OpenSession, Opening, Refused};
use super::slot::{LiveSession, SlotView};

/// The counter table of the running boot. Data threads take slots from it, the journal thread gives
/// them back.
#[derive(Debug)]
pub struct CounterTable {
    words: &'static [AtomicU64],
    geometry: Geometry,
    free: FreeSlots,
    names: Mutex<()>,
}

impl CounterTable {
    /// Makes zeroed memory the table of a boot. The memory lives as long as the process: sessions
    /// on any thread hold a way into it.
    ///
    /// # Errors
    /// The memory is too small for the geometry, or a name is too long for the header.
    pub fn create(
        words: &'static [AtomicU64],
        geometry: Geometry,
        header: &Header,
    ) -> Result<Self, TableError> {
        Words::create(words, geometry, header)?;
        let free = FreeSlots::all(geometry.slots);
        Ok(Self { words, geometry, free, names: Mutex::new(()) })
    }

    pub(super) fn words(&self) -> Words<'static> {
        Words::open(self.words).expect("create made a table of this memory")
    }

    /// Sessions the table can hold at once.
    pub fn capacity(&self) -> usize {
        self.geometry.slots
    }

    /// Slots in use: open sessions, and ended ones whose rows are not written yet.
    pub fn used(&self) -> usize {
        let states = self.words().states()[self.used_slots()].iter();
        states.filter(|state| state.load(Ordering::Acquire) != state::FREE).count()
    }

    /// All slots that were ever taken: the others are free.
    pub(super) fn used_slots(&self) -> Range<usize> {
        0..self.free.touched()
    }

    /// The id of a name, registered if it is new. For configuration, not for sessions: it takes a
    /// lock and reads the whole area. `None`: the area of 256 KiB is full.
    pub fn name_id(&self, name: &str) -> Option<u32> {
        let _one_at_a_time = self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        names::register(self.words(), name)
    }

    /// Gives a session its number and its slot.
    ///
    /// # Errors
    /// No slot is free.
    pub fn open(&'static self, opening: &Opening) -> Result<OpenSession, Refused> {
        let Some(slot) = self.free.take() else {
            return Err(Refused { reason: DenyReason::TableFull });
        };
        Ok(OpenSession::begin(self.words(), slot, opening))
    }

    /// Gives a slot back. The journal thread's last act for a session.
    pub(super) fn release(&self, slot: usize) {
        self.words().state(slot).store(state::FREE, Ordering::Release);
        self.free.give_back(slot);
    }

    /// The sessions that run now, in the order of their slots. Totals are read while they change:
    /// each is right, they need not be of one instant.
    pub fn live(&self) -> impl Iterator<Item = LiveSession> {
        let words = self.words();
        self.used_slots().filter_map(move |slot| {
            let is_open = || words.state(slot).load(Ordering::Acquire) == state::OPEN;
            let session = is_open().then(|| SlotView::new(words, slot).live())?;
            // It may have ended, and another begun, while it was read.
            let number = SlotView::new(words, slot).number();
            (is_open() && number == session.number).then_some(session)
        })
    }

    /// The row that a running session would have if it ended now; what only an end tells is empty.
    /// `None`: no such session runs.
    pub fn running(&self, number: u64) -> Option<Session> {
        let words = self.words();
        let is_it = |slot: &usize| {
            let is_open = words.state(*slot).load(Ordering::Acquire) == state::OPEN;
            is_open && SlotView::new(words, *slot).number() == number
        };
        let slot = self.used_slots().find(is_it)?;
        let mut pages = Pages::default();
        SlotView::new(words, slot).fill_session(&mut pages);
        is_it(&slot).then_some(pages.session)
    }
}
