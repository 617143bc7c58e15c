//! The counter table of the running boot: where sessions get their number and their slot.

use std::iter::Chain;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::table::Session;
use schemas::vocab::SpoolId;

use super::free::FreeSlots;
use super::layout::{Geometry, Header, TableError, Words, header, state};
use super::names;
use super::overflow::Overflow;
use super::row::Pages;
use super::session::{OpenSession, Opening, Refused};
use super::slot::{LiveSession, SlotView};

/// The part of a table that is kept for slots that sessions share: one slot of so many.
const OVERFLOW_ONE_OF: usize = 16;

/// The counter table of the running boot. Data threads take slots from it, the journal thread gives
/// them back.
#[derive(Debug)]
pub struct CounterTable {
    words: &'static [AtomicU64],
    geometry: Geometry,
    free: FreeSlots,
    overflow: Overflow,
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
        let (free, overflow) = (FreeSlots::all(geometry.slots), Overflow::last(0, geometry.slots));
        Ok(Self { words, geometry, free, overflow, names: Mutex::new(()) })
    }

    /// Keeps a sixteenth of the slots for the time when all others are taken: then sessions of one
    /// service, rule, customer and transport share a slot, and only when the last sixteenth is taken
    /// too are sessions refused.
    #[must_use]
    pub fn with_overflow(self) -> Self {
        let shared = self.geometry.slots / OVERFLOW_ONE_OF;
        self.with_overflow_of(shared)
    }

    /// The same with so many slots kept.
    pub(super) fn with_overflow_of(self, shared: usize) -> Self {
        let overflow = Overflow::last(shared, self.geometry.slots);
        Self { free: FreeSlots::all(overflow.begins_at()), overflow, ..self }
    }

    pub(super) fn words(&self) -> Words<'static> {
        Words::open(self.words).expect("create made a table of this memory")
    }

    /// The spool, whose path is the same, has another id from now on: a table is only recovered
    /// into the spool it names.
    pub fn set_spool_id(&self, id: SpoolId) {
        self.words().set_spool_id(id);
    }

    /// Says how far the spool is durable, so that recovery notices when it was put back to an
    /// earlier state: the recorder may hold rows which that state knows nothing of.
    pub fn set_durable_frame(&self, frame: u64) {
        self.words().set_header(header::DURABLE_FRAME, frame);
    }

    /// Sessions the table can hold at once.
    pub fn capacity(&self) -> usize {
        self.geometry.slots
    }

    /// Slots in use: open sessions, and ended ones whose rows are not written yet.
    pub fn used(&self) -> usize {
        let states = self.used_slots().map(|slot| self.words().state(slot));
        states.filter(|state| state.load(Ordering::Acquire) != state::FREE).count()
    }

    /// All slots that were ever taken: the others are free.
    pub(super) fn used_slots(&self) -> Chain<Range<usize>, Range<usize>> {
        (0..self.free.touched()).chain(self.overflow.used())
    }

    /// The id of a name, registered if it is new. For configuration, not for sessions: it takes a
    /// lock and reads the whole area. `None`: the area of 256 KiB is full.
    pub fn name_id(&self, name: &str) -> Option<u32> {
        let _one_at_a_time = self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        names::register(self.words(), name)
    }

    /// Gives a session its number and its slot. In an overflow slot both are shared.
    ///
    /// # Errors
    /// No slot is free.
    pub fn open(&'static self, opening: &Opening) -> Result<OpenSession, Refused> {
        if cfg!(feature = "no-account") {
            return Ok(OpenSession::unaccounted(self.words()));
        }
        match self.free.take() {
            Some(slot) => Ok(OpenSession::begin(self.words(), slot, opening)),
            None => self.overflow.open(self.words(), opening),
        }
    }

    /// The sessions that stand for many in an overflow slot, in the order in which they began.
    pub fn overflowing(&self) -> impl Iterator<Item = LiveSession> {
        let words = self.words();
        self.overflow.used().map(move |slot| SlotView::new(words, slot).live())
    }

    /// Ends the overflow slots that no session is left in.
    pub(super) fn close_overflow(&self) {
        self.overflow.close(self.words());
    }

    /// Gives a slot back. The journal thread's last act for a session.
    pub(super) fn release(&self, slot: usize) {
        self.words().state(slot).store(state::FREE, Ordering::Release);
        if slot < self.overflow.begins_at() {
            self.free.give_back(slot);
        }
    }

    /// The sessions that run now, in the order of their slots. Totals are read while they change:
    /// each is right, they need not be of one instant. A shared slot that nobody is in is none.
    pub fn live(&self) -> impl Iterator<Item = LiveSession> {
        let words = self.words();
        self.used_slots().filter_map(move |slot| {
            let is_open = || words.state(slot).load(Ordering::Acquire) == state::OPEN;
            let session = is_open().then(|| SlotView::new(words, slot).live())?;
            // It may have ended, and another begun, while it was read.
            let number = SlotView::new(words, slot).number();
            let runs = is_open() && number == session.number && session.sessions > 0;
            runs.then_some(session)
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
