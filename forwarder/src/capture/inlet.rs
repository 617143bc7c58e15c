//! A data thread's end of the lane.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::SegQueue;
use forwarder_core::config::{CaptureMode, WhenBehind};
use schemas::wire::CaptureOpen;

use super::CONTROL_RESERVE;
use super::lane::{Captured, Entry, Shared};
use super::level::Level;
use super::pipe::CapturePipe;
use super::session::SessionCapture;

/// One data thread's queue and pipe. Sessions of that thread alone may begin here.
#[derive(Debug, Clone)]
pub struct Inlet {
    pub(super) shared: Arc<Shared>,
    pub(super) fifo: Arc<Fifo>,
}

/// What one data thread shares with the mover.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    entries: SegQueue<Entry>,
    /// Entries that are not payload.
    controls: AtomicUsize,
    pub(super) level: Level,
    /// Made when it is first needed.
    pub(super) pipe: OnceLock<CapturePipe>,
    /// That there is no pipe was said.
    is_refusal_said: AtomicBool,
}

impl Fifo {
    /// The oldest entry.
    pub(super) fn pop(&self) -> Option<Entry> {
        let entry = self.entries.pop()?;
        if !matches!(entry, Entry::Data(_)) {
            let before = self.controls.fetch_sub(1, SeqCst);
            if before == CONTROL_RESERVE {
                self.level.room.notify_waiters();
            }
        }
        Some(entry)
    }
}

impl Inlet {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let fifo = Arc::default();
        shared.joining.push(Arc::clone(&fifo));
        Self { shared: Arc::clone(shared), fifo }
    }

    /// Announces a session. Never blocks. `open.mode` is filled in from `mode`.
    pub fn begin(
        &self,
        open: CaptureOpen,
        mode: CaptureMode,
        when_behind: WhenBehind,
    ) -> SessionCapture {
        let open = CaptureOpen { mode: mode_text(mode), ..open };
        let session = Captured {
            open,
            slow: when_behind == WhenBehind::Slow,
            handed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            end: OnceLock::new(),
        };
        SessionCapture::new(self.clone(), session, mode)
    }

    pub(super) fn push(&self, entry: Entry) {
        self.fifo.entries.push(entry);
        self.shared.bell.notify_one();
    }

    /// Queues an entry that is not payload; false: not even the reserve has a place.
    pub(super) fn push_control(&self, entry: Entry) -> bool {
        // No other thread adds to it.
        let has_place = self.fifo.controls.load(SeqCst) < CONTROL_RESERVE;
        if has_place {
            self.fifo.controls.fetch_add(1, SeqCst);
            self.push(entry);
        }
        has_place
    }

    /// The thread's pipe, made now if need be. `None`: the kernel gives none.
    pub(super) fn pipe(&self) -> Option<&CapturePipe> {
        let pipe = &self.fifo.pipe;
        if pipe.get().is_none() {
            match CapturePipe::new(self.shared.pipe_bytes) {
                Ok(made) => pipe.set(made).expect("no other thread makes it"),
                Err(error) => self.refused(&error),
            }
        }
        pipe.get()
    }

    fn refused(&self, error: &io::Error) {
        self.shared.pipes_refused.fetch_add(1, Relaxed);
        if !self.fifo.is_refusal_said.swap(true, Relaxed) {
            tracing::warn!(
                "cannot make a pipe for captures: {error}; captured payload is copied, which costs \
                 more; see the limits on descriptors and pipe pages in pipe(7)"
            );
        }
    }
}

fn mode_text(mode: CaptureMode) -> String {
    match mode {
        CaptureMode::Off => String::new(),
        CaptureMode::Headers => "headers".to_owned(),
        CaptureMode::Prefix(bytes) => format!("prefix {bytes}"),
        CaptureMode::Full => "full".to_owned(),
    }
}
