//! What the data path counts besides sessions: everything that was dropped, delayed or mended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use schemas::vocab::{PerDirection, RuleName, ServiceName};

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
    /// By service. Entered when a configuration is put in force, never per session.
    services: Mutex<HashMap<ServiceName, Arc<Tally>>>,
    /// By rule, in the same way.
    rules: Mutex<HashMap<RuleName, Arc<Tally>>>,
}

/// What is counted of one service or rule since the start, whatever configurations it was part of.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Sessions that were given a number.
    pub(crate) accepted: AtomicU64,
    /// Clients and datagrams refused.
    pub(crate) denied: AtomicU64,
    /// Payload that sessions which have ended delivered, in bytes.
    delivered: PerDirection<AtomicU64>,
    /// UDP sessions of a service at the moment; those of a rule are not counted.
    pub(crate) udp_sessions: AtomicU64,
}

/// What a service or rule has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallied {
    /// Sessions that were given a number.
    pub accepted: u64,
    /// Clients and datagrams refused.
    pub denied: u64,
    /// Payload that sessions which have ended delivered, in bytes.
    pub delivered: PerDirection<u64>,
}

impl Tally {
    /// A session has ended that delivered so many bytes.
    pub(crate) fn ended(&self, delivered: PerDirection<u64>) {
        self.delivered.up.fetch_add(delivered.up, Ordering::Relaxed);
        self.delivered.down.fetch_add(delivered.down, Ordering::Relaxed);
    }

    fn read(&self) -> Tallied {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tallied {
            accepted: value(&self.accepted),
            denied: value(&self.denied),
            delivered: PerDirection {
                up: value(&self.delivered.up),
                down: value(&self.delivered.down),
            },
        }
    }
}

impl Counters {
    /// Counters for as many data threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { figures: Figures::new(threads), ..Self::default() }
    }

    /// The counters of a service.
    pub(crate) fn service(&self, name: &ServiceName) -> Arc<Tally> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(services.entry(name.clone()).or_default())
    }

    /// The counters of a rule.
    pub(crate) fn rule(&self, name: &RuleName) -> Arc<Tally> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rules.entry(name.clone()).or_default())
    }

    /// What a service has come to.
    pub fn of_service(&self, name: &ServiceName) -> Tallied {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.get(name).map_or_else(Tallied::default, |tally| tally.read())
    }

    /// UDP sessions of a service at the moment.
    pub(crate) fn udp_sessions(&self, name: &ServiceName) -> u64 {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.get(name).map_or(0, |tally| tally.udp_sessions.load(Ordering::Relaxed))
    }

    /// What a rule has come to.
    pub fn of_rule(&self, name: &RuleName) -> Tallied {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.get(name).map_or_else(Tallied::default, |tally| tally.read())
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
