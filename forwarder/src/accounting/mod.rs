//! The account's shell: the counter table on tmpfs, the spool on disk, and the journal thread
//! between them. What a row is and when it is made is decided in `forwarder_core::accounting`.

mod alarm;
mod history;
mod spool;
mod start;
mod tables;
mod thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use forwarder_core::accounting::{
    CounterTable, Denial, LiveSession, OpenSession, Opening, Refused,
};
use forwarder_core::config::WhenFull;
use schemas::table::{Event, Session};
use schemas::vocab::{BootId, DenyReason};

pub use start::{StartError, start};
pub use thread::{JournalThread, SpoolState};

/// Refusals on their way to the journal thread; what exceeds it within 20 ms is counted, not kept.
const DENIAL_QUEUE: usize = 8192;
/// Events on their way to the journal thread.
const EVENT_QUEUE: usize = 256;

/// What data threads and control code use of the account. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Account {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    boot: BootId,
    table: &'static CounterTable,
    when_full: WhenFull,
    /// The spool takes no more frames.
    spool_full: AtomicBool,
    denials: ArrayQueue<Denial>,
    denials_lost: AtomicU64,
    events: ArrayQueue<Event>,
    events_lost: AtomicU64,
    /// Both since the start; the two above begin anew with every event that tells of them.
    reports_lost: AtomicU64,
    /// Rows that were made.
    rows: AtomicU64,
    opened: AtomicU64,
    denied: AtomicU64,
    capture_dropped: AtomicU64,
    datagrams_dropped: AtomicU64,
}

impl Account {
    fn new(boot: BootId, table: &'static CounterTable, when_full: WhenFull) -> Self {
        let shared = Shared {
            boot,
            table,
            when_full,
            spool_full: AtomicBool::new(false),
            denials: ArrayQueue::new(DENIAL_QUEUE),
            denials_lost: AtomicU64::new(0),
            events: ArrayQueue::new(EVENT_QUEUE),
            events_lost: AtomicU64::new(0),
            reports_lost: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            capture_dropped: AtomicU64::new(0),
            datagrams_dropped: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// This run.
    pub fn boot(&self) -> BootId {
        self.shared.boot
    }

    /// The id of a name in the counter table's name area; registers it if it is new. Called when a
    /// configuration is put in force, never per session. `None`: the name area is full.
    pub fn name_id(&self, name: &str) -> Option<u32> {
        self.shared.table.name_id(name)
    }

    /// Gives a session its number and its slot; with a full table, unless `refuse-new` is
    /// configured, a part of a slot that it shares.
    ///
    /// # Errors
    /// No account can be kept: refuse the client and report a [`Denial`] with the reason given.
    pub fn open(&self, opening: &Opening) -> Result<OpenSession, Refused> {
        let refuse_new = self.shared.when_full == WhenFull::RefuseNew;
        if refuse_new && self.shared.spool_full.load(Ordering::Relaxed) {
            return Err(Refused { reason: DenyReason::SpoolFull });
        }
        let session = self.shared.table.open(opening)?;
        self.shared.opened.fetch_add(1, Ordering::Relaxed);
        Ok(session)
    }

    /// Reports a refused attempt. Never blocks; beyond the bound of 8,192 in 20 ms refusals are
    /// counted, not kept, and an event tells how many.
    pub fn deny(&self, denial: Denial) {
        self.shared.denied.fetch_add(1, Ordering::Relaxed);
        if self.shared.denials.push(denial).is_err() {
            self.shared.denials_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reports an event (`node`, `boot` and `seq` are filled in). Never blocks; beyond the bound of
    /// 256 in 20 ms events are counted, not kept.
    pub fn event(&self, event: Event) {
        if self.shared.events.push(event).is_err() {
            self.shared.events_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reports payload that was dropped from a capture, in bytes.
    pub fn capture_dropped(&self, bytes: u64) {
        self.shared.capture_dropped.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Reports datagrams that the kernel dropped from a receive queue of ours.
    pub fn datagrams_dropped(&self, datagrams: u64) {
        self.shared.datagrams_dropped.fetch_add(datagrams, Ordering::Relaxed);
    }

    /// The sessions that run now.
    pub fn live(&self) -> impl Iterator<Item = LiveSession> {
        self.shared.table.live()
    }

    /// The row of a running session as it is now. `None`: no such session runs.
    pub fn running(&self, number: u64) -> Option<Session> {
        self.shared.table.running(number)
    }

    /// Sessions opened and attempts refused since the start.
    pub fn opened_and_denied(&self) -> (u64, u64) {
        (self.shared.opened.load(Ordering::Relaxed), self.shared.denied.load(Ordering::Relaxed))
    }

    /// Rows made since the start.
    pub fn rows(&self) -> u64 {
        self.shared.rows.load(Ordering::Relaxed)
    }

    /// Refused attempts and events since the start that came too fast and have no row.
    pub fn reports_lost(&self) -> u64 {
        self.shared.reports_lost.load(Ordering::Relaxed)
    }

    /// Datagrams since the start that the kernel dropped from a receive queue of ours.
    pub fn datagrams_lost(&self) -> u64 {
        self.shared.datagrams_dropped.load(Ordering::Relaxed)
    }

    /// Slots of the counter table that are in use, and how many there are.
    pub fn table_use(&self) -> (usize, usize) {
        (self.shared.table.used(), self.shared.table.capacity())
    }
}
