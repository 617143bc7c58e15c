//! What the capture has done since the recorder was started.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// A number that goes up, or is set.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(super) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    pub(super) fn set(&self, value: usize) {
        self.0.store(u64::try_from(value).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters, shared by the writer and whoever asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    pub(super) sessions_open: Counter,
    pub(super) sessions_refused: Counter,
    pub(super) files: Counter,
    pub(super) undigested_files: Counter,
    pub(super) packets: Counter,
    pub(super) payload_bytes: Counter,
    pub(super) dropped_bytes: Counter,
    pub(super) write_errors: Counter,
    pub(super) refused: Counter,
}

/// What the capture has done since the recorder was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Sessions being captured at the moment.
    pub sessions_open: u64,
    /// Sessions not captured because too many were open.
    pub sessions_refused: u64,
    /// Files closed.
    pub files: u64,
    /// Files indexed without a digest, because there was no quiet moment for it.
    pub undigested_files: u64,
    /// Packets written.
    pub packets: u64,
    /// Payload that arrived, in bytes.
    pub payload_bytes: u64,
    /// Payload that arrived and could not be written, in bytes.
    pub dropped_bytes: u64,
    /// Writes and closes that the disk refused.
    pub write_errors: u64,
    /// Connections refused because of what they sent.
    pub refused: u64,
}

impl Counters {
    pub(super) fn read(&self) -> Counts {
        Counts {
            sessions_open: self.sessions_open.get(),
            sessions_refused: self.sessions_refused.get(),
            files: self.files.get(),
            undigested_files: self.undigested_files.get(),
            packets: self.packets.get(),
            payload_bytes: self.payload_bytes.get(),
            dropped_bytes: self.dropped_bytes.get(),
            write_errors: self.write_errors.get(),
            refused: self.refused.get(),
        }
    }
}
