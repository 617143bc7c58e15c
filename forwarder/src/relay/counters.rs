//! What the data path counts besides sessions: everything that was dropped, delayed or mended.

use std::sync::atomic::{AtomicU64, Ordering};

/// Process-wide counters since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Times a listener stopped accepting for lack of descriptors or memory.
    pub accept_pauses: AtomicU64,
    /// Connections that broke between the kernel's accept and ours.
    pub accept_failures: AtomicU64,
    /// Clients and datagrams refused.
    pub denied: AtomicU64,
    /// Datagrams that the kernel did not take for the receiver: too large for its address family,
    /// no room, or no way.
    pub datagrams_unsent: AtomicU64,
    /// Datagrams dropped while their target was looked up, or after it could not be reached.
    pub datagrams_undeliverable: AtomicU64,
    /// ICMP errors that a UDP target's socket reported.
    pub icmp_errors: AtomicU64,
    /// Sessions that ended as `internal`.
    pub broken_sessions: AtomicU64,
    /// Log lines about sessions that were not written because there were too many.
    pub log_lines_dropped: AtomicU64,
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
