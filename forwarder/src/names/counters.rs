//! What looking up names counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Process-wide counters since the start.
#[derive(Debug, Default)]
pub struct NameCounters {
    /// Questions sent to the name servers.
    pub lookups: AtomicU64,
    /// Questions answered from what was known already.
    pub hits: AtomicU64,
    /// Questions to which there is nothing, from the servers.
    pub negative: AtomicU64,
    /// Questions that nobody answered in time, or not in a way that could be used.
    pub failures: AtomicU64,
    /// Clients' questions that were not asked because too many were under way; the client's name
    /// counts as unknown.
    pub refused: AtomicU64,
    /// Questions under way at the moment.
    pub in_flight: AtomicU64,
    /// Clients whose names are found out at the moment.
    pub askers: AtomicU64,
}

impl NameCounters {
    /// Every counter by its name in `status`.
    pub fn all(&self) -> [(&'static str, u64); 7] {
        [
            ("name_lookups", &self.lookups),
            ("name_hits", &self.hits),
            ("name_negative", &self.negative),
            ("name_failures", &self.failures),
            ("name_refused", &self.refused),
            ("name_in_flight", &self.in_flight),
            ("name_askers", &self.askers),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}
