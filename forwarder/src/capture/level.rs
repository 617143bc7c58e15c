//! How full a capture pipe is, and who waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use tokio::sync::Notify;

use super::SLOW_BYTES;

/// What a data thread's slow sessions look at before they read. The data thread fills, the mover
/// drains.
///
/// A pipe is full when it takes less than it is offered, which no count of bytes tells: it holds so
/// many fragments, of any size. It stays full until half of what it held has been drained, so that
/// both sides work in long strokes. No wake-up is missed: who waits registers with `room` first and
/// looks again, and whoever ends a fullness wakes all who registered before.
#[derive(Debug, Default)]
pub(super) struct Level {
    in_pipe: AtomicUsize,
    full: AtomicBool,
    /// The pipe is full until it holds no more than this.
    resume_at: AtomicUsize,
    /// Copied bytes of slow sessions in the queue.
    slow_bytes: AtomicUsize,
    pub(super) room: Arc<Notify>,
}

impl Level {
    /// Whether a slow session may read.
    pub(super) fn has_room(&self) -> bool {
        !self.full.load(SeqCst) && self.slow_bytes.load(SeqCst) < SLOW_BYTES
    }

    /// The pipe took `bytes`; `is_short`: it was offered more.
    pub(super) fn filled(&self, bytes: usize, is_short: bool) {
        let in_pipe = self.in_pipe.fetch_add(bytes, SeqCst) + bytes;
        if is_short {
            self.resume_at.store(in_pipe / 2, SeqCst);
            self.full.store(true, SeqCst);
            // The mover may have drained it all before it could see that this ends a fullness.
            self.reopen_if_drained(self.in_pipe.load(SeqCst));
        }
    }

    /// The mover took `bytes` out of the pipe.
    pub(super) fn drained(&self, bytes: usize) {
        let in_pipe = self.in_pipe.fetch_sub(bytes, SeqCst) - bytes;
        if self.full.load(SeqCst) {
            self.reopen_if_drained(in_pipe);
        }
    }

    fn reopen_if_drained(&self, in_pipe: usize) {
        if in_pipe <= self.resume_at.load(SeqCst) {
            self.full.store(false, SeqCst);
            self.room.notify_waiters();
        }
    }

    /// A slow session queued a chunk.
    pub(super) fn queued(&self, bytes: usize) {
        self.slow_bytes.fetch_add(bytes, SeqCst);
    }

    /// A slow session's chunk left the queue.
    pub(super) fn taken(&self, bytes: usize) {
        let before = self.slow_bytes.fetch_sub(bytes, SeqCst);
        if before > SLOW_BYTES / 2 && before - bytes <= SLOW_BYTES / 2 {
            self.room.notify_waiters();
        }
    }

    /// Copied bytes of slow sessions in the queue.
    pub(super) fn slow_bytes(&self) -> usize {
        self.slow_bytes.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pipe_has_room_again_when_half_of_it_is_drained() {
        let level = Level::default();
        level.filled(600, false);
        assert!(level.has_room());
        level.filled(400, true);
        assert!(!level.has_room());
        level.drained(499);
        assert!(!level.has_room());
        level.drained(1);
        assert!(level.has_room());
    }

    #[test]
    fn a_pipe_that_was_drained_before_it_was_called_full_has_room() {
        let level = Level::default();
        level.filled(600, false);
        level.drained(600);
        level.filled(0, true);
        assert!(level.has_room());
    }

    #[tokio::test]
    async fn whoever_registered_is_woken_by_the_end_of_a_fullness() {
        let level = Level::default();
        level.filled(10, true);
        let waiting = Arc::clone(&level.room).notified_owned();
        level.drained(10);
        waiting.await;
        level.queued(SLOW_BYTES);
        assert!(!level.has_room());
        let waiting = Arc::clone(&level.room).notified_owned();
        level.taken(SLOW_BYTES);
        waiting.await;
        assert!(level.has_room());
    }
}
