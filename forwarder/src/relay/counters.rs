//! What the data path counts besides sessions: everything that was dropped, delayed or mended.

use std::sync::atomic::{AtomicU64, Ordering};

use super::figures::Figures;

/// Process-wide counters since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// By service, rule and target.
    pub(crate) figures: Figures,
    /// Reloads that put a configuration in force.
    pub reloads: AtomicU64,
    /// Reloads that were refused.
    pub reloads_refused: AtomicU64,
    /// Times a listener stopped accepting for lack of descriptors or memory.
    pub accept_pauses: AtomicU64,
    /// Connections that broke between the kernel's accept and ours.
    pub accept_failures: AtomicU64,
    /// Clients and datagrams refused.
    pub denied: AtomicU64,
    /// Clients refused, because too many waited at the door for what was to be known about them.
    pub door_full: AtomicU64,
    /// Datagrams that the kernel did not take for the receiver: too large for its address family,
    /// no room, or no way.
    pub datagrams_unsent: AtomicU64,
    /// Datagrams dropped because too many waited for their target's name, or because it could not
    /// be reached.
    pub datagrams_undeliverable: AtomicU64,
    /// Datagrams of new clients dropped because their listener was paused or draining.
    pub datagrams_paused: AtomicU64,
    /// Datagrams of new clients refused because their service had as many UDP sessions as it may.
    pub udp_sessions_refused: AtomicU64,
    /// Replies that were not sent because they were larger than what a client had sent allows, and
    /// it had not shown yet that it is there.
    pub udp_replies_withheld: AtomicU64,
    /// Times the kernel refused to cut a run of datagrams apart and they were sent one by one.
    pub offload_refusals: AtomicU64,
    /// ICMP errors that a UDP target's socket reported.
    pub icmp_errors: AtomicU64,
    /// Pipes that flows hold at the moment.
    pub pipes_in_use: AtomicU64,
    /// Times a flow that would have spliced got no pipe, and went on copying.
    pub pipes_refused: AtomicU64,
    /// Pipes that the kernel gave smaller than asked for: the user's pipes have used up
    /// `fs.pipe-user-pages-soft`.
    pub pipes_small: AtomicU64,
    /// 1 once the kernel has refused splice(2) to this process; all is copied from then on.
    pub splice_denied: AtomicU64,
    /// Sessions that ended as `internal`.
    pub broken_sessions: AtomicU64,
    /// Log lines about sessions that were not written because there were too many.
    pub log_lines_dropped: AtomicU64,
}

impl Counters {
    /// Counters for as many data threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { figures: Figures::new(threads), ..Self::default() }
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Counts so many.
pub(crate) fn count_many(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
