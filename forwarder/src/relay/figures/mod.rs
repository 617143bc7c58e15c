//! What is counted of sessions for metrics and alerts, by service, rule and target.
//!
//! What is counted for each piece of payload is counted in a cell that one data thread alone
//! writes; what is counted once a session, in counters that all share. Whoever reads adds up. No
//! counter ever goes back, and none is taken away by a reload.

mod counts;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use forwarder_core::accounting::Ending;
use forwarder_core::alert::ended_by;
use forwarder_core::config::{EndedBy, Host, Target};
use schemas::vocab::{Direction, EndReason, RuleName, ServiceName};

pub(crate) use counts::{Flow, Histogram, RuleCounts, ServiceCounts};
use counts::{FlowCell, add};

/// Rules of services, and targets of those, that are counted each by itself.
const MAX_SERIES: usize = 65_536;

/// Every counter there is. Entered when a configuration is put in force, or when a rule first
/// decides about a client of a service; never per session.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Data threads that count.
    threads: usize,
    services: Mutex<BTreeMap<ServiceName, Arc<ServiceCounts>>>,
    rules: Mutex<BTreeMap<(ServiceName, RuleName), Arc<RuleCounts>>>,
    /// By the target's text, too.
    flows: Mutex<BTreeMap<(ServiceName, RuleName, String), Arc<Flow>>>,
    /// Counters that nobody sees, because there were too many.
    unseen: AtomicU64,
}

impl Figures {
    /// None yet, for as many data threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads, ..Self::default() }
    }

    /// The counters of a service.
    pub(crate) fn service(&self, name: &ServiceName) -> Arc<ServiceCounts> {
        self.entered(&self.services, name.clone(), ServiceCounts::default)
    }

    /// What the sessions of a service that one rule decides about are counted in.
    pub(crate) fn rule(
        &self,
        service: &ServiceName,
        rule: &RuleName,
        targets: impl Iterator<Item = Target>,
    ) -> RuleFigures {
        let key = (service.clone(), rule.clone());
        let of_service = self.service(service);
        let counters = self.entered(&self.rules, key, || {
            RuleCounts::new(service.clone(), rule.clone(), of_service)
        });
        let flows = targets.map(|target| {
            let key = (service.clone(), rule.clone(), target.to_string());
            let (service, rule) = (service.clone(), rule.clone());
            self.entered(&self.flows, key, || Flow::new(service, rule, target, self.threads))
        });
        RuleFigures { counters, flows: flows.collect() }
    }

    fn entered<K: Ord, V>(
        &self,
        all: &Mutex<BTreeMap<K, Arc<V>>>,
        key: K,
        make: impl FnOnce() -> V,
    ) -> Arc<V> {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&key) {
            return Arc::clone(known);
        }
        let new = Arc::new(make());
        if all.len() < MAX_SERIES {
            all.insert(key, Arc::clone(&new));
        } else {
            self.unseen.fetch_add(1, Ordering::Relaxed);
        }
        new
    }

    /// Every service that was ever served, in the order of the names.
    pub(crate) fn services(&self) -> Vec<(ServiceName, Arc<ServiceCounts>)> {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.iter().map(|(name, service)| (name.clone(), Arc::clone(service))).collect()
    }

    /// Every rule that ever decided about a client, by service and rule.
    pub(crate) fn rules(&self) -> Vec<Arc<RuleCounts>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Every flow of those rules, by service, rule and target.
    pub(crate) fn flows(&self) -> Vec<Arc<Flow>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Counters that nobody sees, because there were too many.
    pub(crate) fn unseen(&self) -> u64 {
        self.unseen.load(Ordering::Relaxed)
    }

    /// Logs, once for each rule, how many refusals it could not tell one by one since this was
    /// called last.
    pub(crate) fn tell_unlogged(&self) {
        for rule in self.rules() {
            let clients = rule.unlogged.swap(0, Ordering::Relaxed);
            if clients > 0 {
                let (service, rule) = (&rule.service_name, &rule.rule_name);
                tracing::info!(%service, %rule, clients, "more clients refused");
            }
        }
    }
}

/// What the sessions of a service that one rule decides about are counted in.
#[derive(Debug)]
pub(crate) struct RuleFigures {
    pub(crate) counters: Arc<RuleCounts>,
    /// Of the rule's targets.
    pub(crate) flows: Vec<Arc<Flow>>,
}

/// One session's way into the counters. Dropped without an end it counts as `internal`.
#[derive(Debug)]
pub(crate) struct SessionFigures {
    rule: Arc<RuleFigures>,
    /// Number of the data thread.
    thread: u16,
    /// Which of the rule's flows: that of the target that was dialled last.
    flow: Cell<u16>,
    /// Whether the session counts as one of that flow already.
    is_begun: Cell<bool>,
    is_over: Cell<bool>,
}

impl SessionFigures {
    /// Counts a session that begins on data thread `thread`.
    pub(crate) fn open(rule: &Arc<RuleFigures>, thread: u16) -> Self {
        rule.counters.opened.fetch_add(1, Ordering::Relaxed);
        let no = || Cell::new(false);
        let (rule, flow) = (Arc::clone(rule), Cell::new(u16::MAX));
        Self { rule, thread, flow, is_begun: no(), is_over: no() }
    }

    /// A target is dialled.
    pub(crate) fn dialling(&self, host: &Host, port: u16) {
        let is_it = |target: &Target| target.host == *host && target.port == Some(port);
        let flow = self.rule.flows.iter().position(|flow| is_it(&flow.target));
        self.flow.set(flow.and_then(|flow| u16::try_from(flow).ok()).unwrap_or(u16::MAX));
    }

    /// The target's connection stands, so long after the verdict.
    pub(crate) fn connected(&self, took_us: u64) {
        self.rule.counters.service.connects.observe(took_us);
        self.begin();
    }

    fn begin(&self) {
        if !self.is_begun.replace(true) {
            self.in_flow(|flow| add(&flow.begun, 1));
        }
    }

    fn in_flow(&self, count: impl FnOnce(&FlowCell)) {
        if let Some(flow) = self.rule.flows.get(usize::from(self.flow.get())) {
            count(flow.cell(self.thread.into()));
        }
    }

    /// Payload was delivered.
    pub(crate) fn delivered(&self, direction: Direction, bytes: u64) {
        self.in_flow(|flow| add(&flow.bytes[direction], bytes));
    }

    /// Datagrams were delivered.
    pub(crate) fn delivered_datagrams(&self, direction: Direction, datagrams: u64, bytes: u64) {
        self.in_flow(|flow| {
            add(&flow.bytes[direction], bytes);
            add(&flow.datagrams[direction], datagrams);
        });
    }

    /// Payload was received through a pipe.
    pub(crate) fn spliced(&self, bytes: u64) {
        self.in_flow(|flow| add(&flow.spliced, bytes));
    }

    /// So much of the payload was handed to a capture, in all.
    pub(crate) fn captured(&self, bytes: u64) {
        self.rule.counters.service.captured.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The session is over.
    pub(crate) fn end(&self, ending: &Ending, duration_us: u64) {
        self.is_over.set(true);
        self.rule.counters.service.durations.observe(duration_us);
        self.rule.counters.closed.count(ending.reason);
        self.begin();
        self.in_flow(|flow| {
            match ended_by(ending.first_fin, ending.reason) {
                Some(EndedBy::Client) => add(&flow.by_client, 1),
                Some(EndedBy::Target) => add(&flow.by_target, 1),
                None => {}
            }
            add(&flow.over, 1);
        });
    }
}

impl Drop for SessionFigures {
    fn drop(&mut self) {
        if !self.is_over.get() {
            self.rule.counters.closed.count(EndReason::Internal);
            self.begin();
            self.in_flow(|flow| add(&flow.over, 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use forwarder_core::alert::Sample;
    use schemas::vocab::{CloseKind, EndPhase, FirstFin, PerDirection, Timestamp};

    use super::counts::FlowTotals;
    use super::*;

    fn ending(reason: EndReason, first_fin: FirstFin) -> Ending {
        Ending {
            reason,
            phase: EndPhase::Data,
            first_fin,
            client_close: CloseKind::None,
            target_close: CloseKind::None,
            errno: 0,
            ts_end: Timestamp::default(),
            duration_us: 0,
        }
    }

    const PORTS: [u16; 2] = [1, 2];

    fn target(port: u16) -> Target {
        Target { host: Host::Address([10, 0, 0, 1].into()), port: Some(port) }
    }

    fn rule() -> Arc<RuleFigures> {
        let (service, rule): (ServiceName, RuleName) =
            ("web".parse().unwrap(), "all".parse().unwrap());
        let flow = |port| Flow::new(service.clone(), rule.clone(), target(port), 2);
        let flows = PORTS.map(|port| Arc::new(flow(port))).to_vec();
        let counters = Arc::new(RuleCounts::new(service, rule, Arc::default()));
        Arc::new(RuleFigures { counters, flows })
    }

    #[test]
    fn a_session_counts_for_the_target_that_took_it_and_no_other() {
        let rule = rule();
        let [refusing, taking] = [&rule.flows[0], &rule.flows[1]];
        let figures = SessionFigures::open(&rule, 0);
        figures.dialling(&target(PORTS[0]).host, PORTS[0]);
        figures.dialling(&target(PORTS[1]).host, PORTS[1]);
        assert_eq!(taking.totals().sample.begun, 0);
        figures.connected(700);
        figures.delivered(Direction::Up, 5);
        figures.spliced(5);
        figures.delivered_datagrams(Direction::Down, 2, 7);
        figures.end(&ending(EndReason::Done, FirstFin::Client), 2_000_000);
        drop(figures);
        assert_eq!(refusing.totals(), FlowTotals::default());
        let totals = taking.totals();
        let sample = Sample { bytes: 12, begun: 1, over: 1, by_client: 1, by_target: 0 };
        assert_eq!((totals.sample, totals.spliced), (sample, 5));
        assert_eq!(totals.bytes, PerDirection { up: 5, down: 7 });
        assert_eq!(totals.datagrams, PerDirection { up: 0, down: 2 });
        assert_eq!(rule.counters.closed.read().collect::<Vec<_>>(), [(EndReason::Done, 1)]);
        let (connects, sum) = rule.counters.service.connects.read();
        assert_eq!((connects[2], sum), ((0.001, 1), 0.0007));
        assert_eq!(rule.counters.service.durations.read().0[3], (10.0, 1));
    }

    #[test]
    fn a_session_that_reaches_no_target_counts_for_the_last_one_it_tried() {
        let rule = rule();
        let figures = SessionFigures::open(&rule, 1);
        figures.dialling(&target(PORTS[0]).host, PORTS[0]);
        figures.end(&ending(EndReason::TargetRefused, FirstFin::None), 10);
        drop(figures);
        let sample = Sample { bytes: 0, begun: 1, over: 1, by_client: 0, by_target: 1 };
        assert_eq!(rule.flows[0].totals().sample, sample);
        // One that a panic took away.
        drop(SessionFigures::open(&rule, 0));
        assert_eq!(
            rule.counters.closed.read().collect::<Vec<_>>(),
            [(EndReason::TargetRefused, 1), (EndReason::Internal, 1)]
        );
    }
}
