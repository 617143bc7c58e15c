//! The journal thread: every 20 ms it makes the rows that are due, makes them durable, says so to
//! the link, and deletes what the recorder has acknowledged.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use forwarder_core::accounting::{CounterTable, Ledger, Moment, Spool as _, SpoolLevel};
use schemas::table::Event;
use schemas::vocab::{Severity, SpoolId, Timestamp};
use tokio::sync::watch;

use super::Account;
use super::alarm::Alarm;
use super::spool::{BoundedSpool, SpoolError};
use super::start::{StartError, random};
use crate::clock::Clock;

/// How often counters are looked at. After a quiet moment a session's rows are durable at most this
/// long, and one fdatasync, after its end.
const POLL: Duration = Duration::from_millis(20);
/// Shortest time between two fdatasyncs: what a busy forwarder appends meanwhile shares one, which
/// otherwise costs more than making the rows does. Only a power loss tells the difference, and it
/// takes the counter table along anyway.
const SYNC_EVERY: Duration = Duration::from_millis(100);
/// Freed memory that is kept for the frames that come next. With less, what a busy forwarder appends
/// between two fdatasyncs went back to the kernel each time, and page faults were a quarter of this
/// thread's work.
const KEPT_BYTES: usize = 4 << 20;
/// How long a full or failing spool is left alone before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// This boot's table file; it goes when the boot has ended in order.
#[derive(Debug)]
pub(super) struct OwnTable {
    pub(super) path: PathBuf,
    /// Held for as long as the process lives: an unlocked table is a dead boot's.
    pub(super) _lock: File,
}

/// What the spool holds; for the link and for people.
#[derive(Debug)]
pub struct SpoolState {
    /// The spool's id; another one after a fork.
    pub id: watch::Receiver<SpoolId>,
    /// Its directory.
    pub dir: PathBuf,
    /// Its bound in bytes.
    pub max_bytes: u64,
    /// The newest durable frame. Only frames up to it may be sent.
    pub durable: watch::Receiver<u64>,
    /// The newest frame the recorder has acknowledged; stored by the link.
    pub acknowledged: AtomicU64,
    bytes: AtomicU64,
    oldest_frame: AtomicU64,
    level: AtomicU64,
    fork: Mutex<Option<Fork>>,
}

/// The spool is not the only one under its id.
#[derive(Debug)]
struct Fork {
    id: SpoolId,
    reason: String,
}

impl SpoolState {
    /// Reports that the recorder holds other frames under `id` than this spool. The spool gets
    /// another id soon, if that is still its id.
    pub fn report_fork(&self, id: SpoolId, reason: String) {
        *lock(&self.fork) = Some(Fork { id, reason });
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How full it is: 0 it takes every row, 1 it takes no interim rows any more, 2 it takes none.
    pub fn level(&self) -> u64 {
        self.level.load(Ordering::Relaxed)
    }

    /// The oldest frame on disk; one above the newest when there is none.
    pub fn oldest_frame(&self) -> u64 {
        self.oldest_frame.load(Ordering::Relaxed)
    }

    /// Frames that the recorder has not acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        let durable = *self.durable.borrow();
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        // What the spool no longer holds needs no acknowledgement.
        durable.saturating_sub(acknowledged.max(self.oldest_frame().saturating_sub(1)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// Write every end, then the boot's end.
    Finish,
    /// Look at acknowledgements once more, then stop.
    Close,
}

/// The running journal thread.
#[derive(Debug)]
pub struct JournalThread {
    spool: Arc<SpoolState>,
    stage: watch::Sender<Stage>,
    finished: watch::Receiver<bool>,
    thread: thread::JoinHandle<()>,
}

impl JournalThread {
    pub(super) fn spawn(
        account: Account,
        table: &'static CounterTable,
        own_table: Option<OwnTable>,
        mut spool: BoundedSpool,
        clock: Clock,
        nothing_ran_since: Option<Timestamp>,
    ) -> Result<Self, StartError> {
        let spawn_error = |source| StartError::Io { action: "start the journal thread", source };
        let durable = spool.sync()?;
        table.set_durable_frame(durable);
        let (durable_tx, durable_rx) = watch::channel(durable);
        let (id_tx, id_rx) = watch::channel(spool.journal.id());
        let (stage_tx, stage_rx) = watch::channel(Stage::Running);
        let (finished_tx, finished_rx) = watch::channel(false);
        let state = Arc::new(SpoolState {
            id: id_rx,
            dir: spool.journal.dir().to_owned(),
            max_bytes: spool.max_bytes,
            durable: durable_rx,
            acknowledged: AtomicU64::new(0),
            bytes: AtomicU64::new(spool.journal.bytes()),
            oldest_frame: AtomicU64::new(spool.journal.first_frame()),
            level: AtomicU64::new(0),
            fork: Mutex::default(),
        });
        let started = Instant::now();
        let mut journalist = Journalist {
            account,
            own_table,
            spool,
            clock,
            started,
            state: Arc::clone(&state),
            durable: durable_tx,
            id: id_tx,
            alarm: Alarm::default(),
            retry_at: started,
            removed_through: 0,
            synced_at: None,
        };
        let mut ledger = Ledger::begin(table, journalist.moment())?;
        ledger.trust_clock_from(built_at());
        nothing_ran_since.into_iter().for_each(|time| ledger.nothing_ran_since(time));
        if cfg!(feature = "no-account") {
            tracing::error!(
                "built with no-account: nothing is accounted. This is for measuring alone"
            );
        }
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || journalist.run(ledger, &stage_rx, &finished_tx))
            .map_err(spawn_error)?;
        Ok(Self { spool: state, stage: stage_tx, finished: finished_rx, thread })
    }

    /// What the spool holds.
    pub fn spool(&self) -> Arc<SpoolState> {
        Arc::clone(&self.spool)
    }

    /// Whether the thread has stopped without being asked to, which only a bug can cause.
    pub fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }

    /// Writes the last rows and the boot's end; every session must have ended. Returns whether they
    /// are durable: with a full spool they stay in the counter table for the next start.
    pub async fn finish(&mut self) -> bool {
        self.stage.send_replace(Stage::Finish);
        self.thread.thread().unpark();
        let finished = self.finished.changed().await.is_ok();
        finished && *self.finished.borrow()
    }

    /// Deletes what was acknowledged and stops the thread.
    pub fn close(self) {
        self.stage.send_replace(Stage::Close);
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the journal thread had panicked");
        }
    }
}

/// The thread's own things.
struct Journalist {
    account: Account,
    own_table: Option<OwnTable>,
    spool: BoundedSpool,
    clock: Clock,
    started: Instant,
    state: Arc<SpoolState>,
    durable: watch::Sender<u64>,
    id: watch::Sender<SpoolId>,
    alarm: Alarm,
    retry_at: Instant,
    removed_through: u64,
    synced_at: Option<Instant>,
}

impl Journalist {
    fn moment(&self) -> Moment {
        self.clock.follow_wall();
        let now = self.clock.now();
        let elapsed = now.saturating_duration_since(self.started);
        let monotonic_us = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        Moment { wall: self.clock.wall(now), monotonic_us }
    }

    fn run(
        &mut self,
        mut ledger: Ledger<'static>,
        stage: &watch::Receiver<Stage>,
        finished: &watch::Sender<bool>,
    ) {
        keep_freed_memory();
        loop {
            let asked = *stage.borrow();
            match asked {
                Stage::Running => self.poll(&mut ledger),
                Stage::Finish if !finished.borrow().to_owned() => {
                    let done = self.finish(&mut ledger);
                    finished.send_replace(done);
                    if !done {
                        return;
                    }
                }
                Stage::Finish | Stage::Close => {}
            }
            self.remove_acknowledged();
            if asked == Stage::Close {
                return;
            }
            thread::park_timeout(POLL);
        }
    }

    fn poll(&mut self, ledger: &mut Ledger<'_>) {
        if cfg!(feature = "no-account") {
            return;
        }
        self.part_ways(ledger);
        self.take_reports(ledger);
        let in_trouble = self.alarm.is_in_trouble();
        if in_trouble && self.clock.now() < self.retry_at {
            return;
        }
        if in_trouble {
            self.make_room();
        }
        ledger.before_clock();
        let moment = self.moment();
        let polled = ledger.poll(moment, &mut self.spool);
        // In trouble everything has to become durable: only then is it sent, and gives room.
        let synced = if polled.is_ok() { self.sync_in_turn() } else { self.sync() };
        self.state.bytes.store(self.spool.journal.bytes(), Ordering::Relaxed);
        self.judge(&polled.and(synced), ledger);
    }

    /// Gives a forked spool another id, first on disk and then in the counter table: recovery knows
    /// a table by any id that the spool has had. What fails is reported again by the link.
    fn part_ways(&mut self, ledger: &mut Ledger<'_>) {
        let Some(Fork { id, reason }) = lock(&self.state.fork).take() else { return };
        let journal = &mut self.spool.journal;
        if journal.id() != id {
            return;
        }
        let renewed = random()
            .map_err(|error| error.to_string())
            .and_then(|new| journal.renew_id(SpoolId(new)).map_err(|error| error.to_string()));
        if let Err(error) = renewed {
            tracing::error!("the spool is forked and cannot be given another id: {error}");
            return;
        }
        let new = journal.id();
        self.account.shared.table.set_spool_id(new);
        let message = format!(
            "{reason}; the spool was copied, or put back to an earlier state. It goes on as {new} \
             and is sent again: the recorder leaves out the rows it has"
        );
        tracing::error!(old = %id, new = %new, "{message}");
        let attributes = format!("{{\"old\":\"{id}\",\"new\":\"{new}\"}}");
        let note = self.note(Severity::Error, "spool_forked", message);
        ledger.event(Event { attributes: Some(attributes), ..note });
        self.id.send_replace(new);
    }

    fn finish(&mut self, ledger: &mut Ledger<'_>) -> bool {
        self.take_reports(ledger);
        if self.alarm.is_in_trouble() {
            self.make_room();
        }
        ledger.close_overflow();
        ledger.before_clock();
        let moment = self.moment();
        let polled = ledger.poll(moment, &mut self.spool);
        let (left, _) = self.account.table_use();
        if polled.is_ok() && left > 0 {
            // The boot's end would say that there are none, and the next start would believe it.
            tracing::error!(
                sessions = left,
                "sessions have not ended; the counter table keeps them for the next start"
            );
            return false;
        }
        let written =
            polled.and_then(|()| ledger.finish(moment, &mut self.spool)).and_then(|()| self.sync());
        if let Err(error) = written {
            tracing::error!(%error, "the last rows are not in the spool; the counter table keeps them for the next start");
            return false;
        }
        if let Some(table) = self.own_table.take() {
            fs::remove_file(&table.path).unwrap_or_else(|error| {
                tracing::warn!(path = %table.path.display(), %error, "cannot remove the counter table");
            });
            if let Some(dir) = table.path.parent() {
                // Fails while another table is in it, which then is not ours to judge.
                drop(fs::remove_dir(dir));
            }
        }
        true
    }

    /// Makes what was appended durable, unless that was done a moment ago.
    fn sync_in_turn(&mut self) -> Result<(), SpoolError> {
        let now = self.clock.now();
        if self.synced_at.is_some_and(|at| now.saturating_duration_since(at) < SYNC_EVERY) {
            return Ok(());
        }
        if self.spool.has_unsynced() {
            self.synced_at = Some(now);
        }
        self.sync()
    }

    /// Makes what was appended durable, and lets the link send it.
    fn sync(&mut self) -> Result<(), SpoolError> {
        let durable = self.spool.sync()?;
        self.account.shared.table.set_durable_frame(durable);
        self.durable.send_if_modified(|known| std::mem::replace(known, durable) != durable);
        Ok(())
    }

    /// Refusals, events and drops, from the data threads' queues into the ledger.
    fn take_reports(&mut self, ledger: &mut Ledger<'_>) {
        let shared = &self.account.shared;
        let ts = self.clock.wall(self.clock.now()).0;
        let shared_slots = self.alarm.overflow(shared.table);
        shared_slots.into_iter().for_each(|event| ledger.event(Event { ts, ..event }));
        for _ in 0..shared.denials.capacity() {
            let Some(denial) = shared.denials.pop() else { break };
            ledger.deny(denial);
        }
        while let Some(event) = shared.events.pop() {
            ledger.event(event);
        }
        ledger.capture_dropped(shared.capture_dropped.load(Ordering::Relaxed));
        ledger.datagrams_dropped(shared.datagrams_dropped.load(Ordering::Relaxed));
        shared.rows.store(ledger.next_seq().saturating_sub(1).cast_unsigned(), Ordering::Relaxed);
        for (lost, what) in
            [(&shared.denials_lost, "refused attempts"), (&shared.events_lost, "events")]
        {
            let lost = lost.swap(0, Ordering::Relaxed);
            shared.reports_lost.fetch_add(lost, Ordering::Relaxed);
            if lost > 0 {
                let message =
                    format!("{lost} {what} came too fast to be told apart and have no row");
                ledger.event(self.note(Severity::Warning, "reports_lost", message));
            }
        }
    }

    /// Tells once when something is wrong with the spool, and once when it is over.
    fn judge(&mut self, outcome: &Result<(), SpoolError>, ledger: &mut Ledger<'_>) {
        let now = self.clock.now();
        let ts = self.clock.wall(now).0;
        let told = [self.alarm.fill(&self.spool), self.alarm.judge(outcome, &self.spool, now)];
        told.into_iter().flatten().for_each(|event| ledger.event(Event { ts, ..event }));
        let in_trouble = self.alarm.is_in_trouble();
        if in_trouble {
            self.retry_at = now + RETRY;
        }
        self.account.shared.spool_full.store(in_trouble, Ordering::Relaxed);
        let level = if in_trouble { SpoolLevel::Full } else { self.spool.level() };
        self.state.level.store(level as u64, Ordering::Relaxed);
    }

    fn note(&self, severity: Severity, kind: &str, message: String) -> Event {
        Event {
            ts: self.clock.wall(self.clock.now()).0,
            severity: severity.as_str().to_owned(),
            kind: kind.to_owned(),
            message,
            ..Event::default()
        }
    }

    fn remove_acknowledged(&mut self) {
        let acknowledged = self.state.acknowledged.load(Ordering::Acquire);
        if acknowledged <= self.removed_through {
            return;
        }
        self.removed_through = acknowledged;
        self.spool.journal.remove_through(acknowledged).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot delete an acknowledged part of the spool");
        });
        self.publish_extent();
    }

    /// The newest segment is not deleted as the others are; with a full spool whose every frame is
    /// acknowledged it holds the only room there is.
    fn make_room(&mut self) {
        let acknowledged = self.state.acknowledged.load(Ordering::Acquire);
        if acknowledged < self.spool.journal.last_frame() {
            return;
        }
        match self.spool.begin_afresh() {
            Ok(()) => self.publish_extent(),
            Err(error) => tracing::debug!(%error, "the full spool cannot begin afresh"),
        }
    }

    fn publish_extent(&self) {
        self.state.bytes.store(self.spool.journal.bytes(), Ordering::Relaxed);
        self.state.oldest_frame.store(self.spool.journal.first_frame(), Ordering::Relaxed);
    }
}

/// Has the allocator keep [`KEPT_BYTES`]: once a block is freed that was large enough for a mapping
/// of its own, glibc takes its size as the new bound, and twice of it as that of what it keeps
/// (M_MMAP_THRESHOLD in mallopt(3)). Elsewhere it does nothing.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT_BYTES / 2)));
}

/// A report is whole or absent, whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When this program was built.
fn built_at() -> Timestamp {
    let seconds: i64 = env!("BUILT_AT").parse().expect("build.rs writes a number");
    Timestamp(seconds.saturating_mul(1_000_000))
}
