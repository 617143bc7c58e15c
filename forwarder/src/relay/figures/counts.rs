//! The counters themselves, and how they are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use forwarder_core::alert::Sample;
use forwarder_core::config::Target;
use schemas::vocab::{DenyReason, EndReason, PerDirection, RuleName, ServiceName};

/// Upper bounds of the buckets of session durations, in microseconds.
pub(crate) const DURATIONS_US: [u64; 10] = [
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    3_600_000_000,
    14_400_000_000,
    86_400_000_000,
];

/// Upper bounds of the buckets of the time from a verdict to a target's connection, in
/// microseconds.
pub(crate) const CONNECTS_US: [u64; 10] =
    [250, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// How often something took how long.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds_us: &'static [u64; 10],
    /// One for each bound, and one for what is above all of them.
    buckets: [AtomicU64; 11],
    sum_us: AtomicU64,
}

impl Histogram {
    const fn new(bounds_us: &'static [u64; 10]) -> Self {
        Self { bounds_us, buckets: [const { AtomicU64::new(0) }; 11], sum_us: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, took_us: u64) {
        let bucket = self.bounds_us.partition_point(|bound| *bound < took_us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// Each upper bound in seconds, infinity last, with how many were in its bucket alone; and the
    /// sum of all in seconds.
    pub(crate) fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let bounds = self.bounds_us.iter().map(|us| seconds(*us)).chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        (bounds.zip(counts).collect(), seconds(self.sum_us.load(Ordering::Relaxed)))
    }
}

fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}

/// What is counted of one service since the start, whatever configurations it was part of.
#[derive(Debug)]
pub(crate) struct ServiceCounts {
    /// UDP sessions at the moment.
    pub(crate) udp_sessions: AtomicU64,
    /// Payload of sessions that are over, handed to captures, in bytes.
    pub(crate) captured: AtomicU64,
    /// Sessions that are over, by how long they lasted.
    pub(crate) durations: Histogram,
    /// Targets' connections, by how long they took to stand.
    pub(crate) connects: Histogram,
}

impl Default for ServiceCounts {
    fn default() -> Self {
        Self {
            udp_sessions: AtomicU64::new(0),
            captured: AtomicU64::new(0),
            durations: Histogram::new(&DURATIONS_US),
            connects: Histogram::new(&CONNECTS_US),
        }
    }
}

/// A counter for each of a closed set of words.
#[derive(Debug)]
pub(crate) struct Terms<T: 'static> {
    all: &'static [T],
    counts: Box<[AtomicU64]>,
}

impl<T: Copy + PartialEq> Terms<T> {
    fn new(all: &'static [T]) -> Self {
        Self { all, counts: all.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn count(&self, term: T) {
        if let Some(index) = self.all.iter().position(|one| *one == term) {
            self.counts[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All of them together.
    pub(crate) fn sum(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Those that were counted at all.
    pub(crate) fn read(&self) -> impl Iterator<Item = (T, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        self.all.iter().copied().zip(counts).filter(|(_, count)| *count > 0)
    }
}

/// What is counted of the clients of a service that one rule decided about, or none.
#[derive(Debug)]
pub(crate) struct RuleCounts {
    pub(crate) service_name: ServiceName,
    /// `None`: clients that no rule decided about, and those of rules that are too many.
    pub(crate) rule_name: Option<RuleName>,
    pub(crate) service: Arc<ServiceCounts>,
    /// Sessions that were given a number.
    pub(crate) opened: AtomicU64,
    /// Sessions that are over.
    pub(crate) closed: Terms<EndReason>,
    /// Clients and datagrams refused.
    pub(crate) denied: Terms<DenyReason>,
    /// Of those, the ones that a limit refused, by its name.
    limits: RwLock<BTreeMap<Box<str>, AtomicU64>>,
    /// Refusals that the rule would have logged, had there not been so many.
    pub(crate) unlogged: AtomicU64,
    /// What has no flow of its own: its target is no longer the rule's, or one too many.
    pub(super) rest: Arc<Flow>,
}

impl RuleCounts {
    pub(crate) fn new(
        service_name: ServiceName,
        rule_name: Option<RuleName>,
        service: Arc<ServiceCounts>,
        threads: usize,
    ) -> Self {
        let rest = Flow::new(service_name.clone(), rule_name.clone(), None, threads);
        Self {
            service_name,
            rule_name,
            service,
            opened: AtomicU64::new(0),
            closed: Terms::new(EndReason::ALL),
            denied: Terms::new(DenyReason::ALL),
            limits: RwLock::default(),
            unlogged: AtomicU64::new(0),
            rest: Arc::new(rest),
        }
    }

    /// The rule's name, empty for none.
    pub(crate) fn name(&self) -> &str {
        self.rule_name.as_ref().map_or("", |rule| rule.as_str())
    }

    /// A limit refused a client. Its name is one of the configuration's.
    pub(crate) fn refused_by(&self, limit: &str) {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = limits.get(limit) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        drop(limits);
        let mut limits = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        limits.entry(limit.into()).or_default().fetch_add(1, Ordering::Relaxed);
    }

    /// How many clients each limit refused.
    pub(crate) fn limits(&self) -> Vec<(String, u64)> {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        limits.iter().map(|(limit, count)| (limit.to_string(), value(count))).collect()
    }
}

/// The sessions of one service that one rule sends to one target.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) service: ServiceName,
    pub(crate) rule: Option<RuleName>,
    /// `None`: every target that has no flow of its own.
    pub(crate) target: Option<Target>,
    /// One for each data thread.
    cells: Box<[FlowCell]>,
}

/// A data thread's part of a flow's counters: no other thread writes to it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct FlowCell {
    pub(super) begun: AtomicU64,
    pub(super) over: AtomicU64,
    pub(super) by_client: AtomicU64,
    pub(super) by_target: AtomicU64,
    pub(super) bytes: PerDirection<AtomicU64>,
    pub(super) datagrams: PerDirection<AtomicU64>,
    pub(super) spliced: AtomicU64,
}

/// What all threads have counted of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FlowTotals {
    pub(crate) sample: Sample,
    pub(crate) bytes: PerDirection<u64>,
    pub(crate) datagrams: PerDirection<u64>,
    pub(crate) spliced: u64,
}

impl Flow {
    pub(crate) fn new(
        service: ServiceName,
        rule: Option<RuleName>,
        target: Option<Target>,
        threads: usize,
    ) -> Self {
        let cells = (0..threads.max(1)).map(|_| FlowCell::default()).collect();
        Self { service, rule, target, cells }
    }

    /// The part that data thread `number` writes to.
    pub(super) fn cell(&self, number: usize) -> &FlowCell {
        &self.cells[number % self.cells.len()]
    }

    pub(crate) fn totals(&self) -> FlowTotals {
        let sum = |of: fn(&FlowCell) -> &AtomicU64| {
            self.cells.iter().map(|cell| of(cell).load(Ordering::Relaxed)).sum::<u64>()
        };
        // What is over is read before what began, so that never more is over than began.
        let over = sum(|cell| &cell.over);
        let bytes = PerDirection { up: sum(|c| &c.bytes.up), down: sum(|c| &c.bytes.down) };
        FlowTotals {
            sample: Sample {
                bytes: bytes.sum(),
                begun: sum(|cell| &cell.begun),
                over,
                by_client: sum(|cell| &cell.by_client),
                by_target: sum(|cell| &cell.by_target),
            },
            bytes,
            datagrams: PerDirection {
                up: sum(|cell| &cell.datagrams.up),
                down: sum(|cell| &cell.datagrams.down),
            },
            spliced: sum(|cell| &cell.spliced),
        }
    }
}

/// To be called by the one thread that writes to the cell.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}
