//! The thread that forgets sharers, looks how fast payload goes, and saves the quotas.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Inside;

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(1);

/// Rounds between two saves.
const SAVE_ROUNDS: usize = 5;

/// The running thread.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Dropped, it stops.
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts the thread; without one, sharers are forgotten only when their table is full.
    pub(super) fn start(inside: &Arc<Inside>) -> Option<Self> {
        let (stop, stopped) = mpsc::sync_channel(0);
        let inside = Arc::downgrade(inside);
        let rounds = move || {
            for round in 0.. {
                match stopped.recv_timeout(ROUND) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
                let Some(inside) = Weak::upgrade(&inside) else { return };
                inside.keep(round);
            }
        };
        let thread = std::thread::Builder::new().name("limits".to_owned()).spawn(rounds);
        let thread = thread.map_err(|error| {
            tracing::error!(%error, "no thread for the limits: quotas are saved only at the end");
        });
        Some(Self { stop, thread: thread.ok()? })
    }

    pub(super) fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that keeps the limits panicked");
        }
    }
}

impl Inside {
    fn keep(&self, round: usize) {
        let now = self.clock.now();
        for group in self.groups().values() {
            let forgotten = group.sweep(round, now) as u64;
            self.counters.forgotten.fetch_add(forgotten, Ordering::Relaxed);
            if group.terms().meters() {
                group.entries().iter().for_each(|entry| entry.look(ROUND.as_secs_f64()));
            }
        }
        if round % SAVE_ROUNDS == SAVE_ROUNDS - 1 {
            self.save();
        }
    }

    fn save(&self) -> bool {
        let Err(error) = self.quotas.save() else { return true };
        if self.counters.save_failures.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(%error, "cannot save the quotas beside the spool: make room, or a restart of the machine makes them forget");
        }
        false
    }

    /// Saves the quotas when nothing more will be used.
    pub(super) fn save_last(&self) {
        if self.save() {
            self.quotas.remove_memory();
        }
    }
}
