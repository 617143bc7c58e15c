//! What is counted of sessions for status, metrics and alerts, by service, rule and target.
//!
//! What is counted for each piece of payload is counted in a cell that one data thread alone
//! writes; what is counted once a session, in counters that all share. Whoever reads adds up. No
//! counter ever goes back, and none is taken away by a reload. What there are too many series for is
//! counted by the service or the rule alone: no sum is ever short of anything.

mod counts;
mod tallied;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use forwarder_core::accounting::Ending;
use forwarder_core::alert::ended_by;
use forwarder_core::config::{EndedBy, Host, Target};
use schemas::vocab::{Direction, EndReason, RuleName, ServiceName};

pub(crate) use counts::{Flow, FlowTotals, Histogram, RuleCounts, ServiceCounts};
use counts::{FlowCell, add};
pub use tallied::Tallied;
pub(crate) use tallied::Tallies;

/// Rules of services, and targets of those, that are counted each by itself.
const MAX_SERIES: usize = 65_536;

/// Every counter there is. Entered when a configuration is put in force, or when a rule first
/// decides about a client of a service; never per session.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Data threads that count.
    threads: usize,
    /// Most rules of services, and most targets of those.
    most: usize,
    /// What no rule of a service decided about. As many as the account has room for names.
    services: Mutex<BTreeMap<ServiceName, Arc<RuleCounts>>>,
    rules: Mutex<BTreeMap<(ServiceName, RuleName), Arc<RuleCounts>>>,
    /// By the target's text, too.
    flows: Mutex<BTreeMap<(ServiceName, RuleName, String), Arc<Flow>>>,
    /// Rules and targets that are not counted by themselves, because there were too many.
    unseen: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Figures {
    /// None yet, for as many data threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self::bounded(threads, MAX_SERIES)
    }

    fn bounded(threads: usize, most: usize) -> Self {
        Self {
            threads,
            most,
            services: Mutex::default(),
            rules: Mutex::default(),
            flows: Mutex::default(),
            unseen: AtomicU64::new(0),
        }
    }

    /// What is counted of a service that no rule decided about, and the way to what is counted of
    /// all of it.
    pub(crate) fn service(&self, name: &ServiceName) -> Arc<RuleCounts> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || RuleCounts::new(name.clone(), None, Arc::default(), self.threads);
        Arc::clone(services.entry(name.clone()).or_insert_with(|| Arc::new(new())))
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
        let entered = self.entered(&self.rules, key, || {
            let of_all = Arc::clone(&of_service.service);
            RuleCounts::new(service.clone(), Some(rule.clone()), of_all, self.threads)
        });
        let Some(counters) = entered else {
            return RuleFigures { counters: of_service, flows: Vec::new() };
        };
        let flows = targets.filter_map(|target| {
            let key = (service.clone(), rule.clone(), target.to_string());
            let (service, rule) = (service.clone(), Some(rule.clone()));
            self.entered(&self.flows, key, || Flow::new(service, rule, Some(target), self.threads))
        });
        let flows = flows.collect();
        RuleFigures { counters, flows }
    }

    /// `None`: there are too many.
    fn entered<K: Ord, V>(
        &self,
        all: &Mutex<BTreeMap<K, Arc<V>>>,
        key: K,
        make: impl FnOnce() -> V,
    ) -> Option<Arc<V>> {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&key) {
            return Some(Arc::clone(known));
        }
        if all.len() >= self.most {
            self.unseen.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let new = Arc::new(make());
        all.insert(key, Arc::clone(&new));
        Some(new)
    }

    /// Every service that was ever served, in the order of the names.
    pub(crate) fn services(&self) -> Vec<(ServiceName, Arc<ServiceCounts>)> {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.iter().map(|(name, none)| (name.clone(), Arc::clone(&none.service))).collect()
    }

    /// Every rule that ever decided about a client, by service and rule; then, by service, what none
    /// decided about.
    pub(crate) fn rules(&self) -> Vec<Arc<RuleCounts>> {
        let mut rules: Vec<_> =
            self.rules.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        rules.extend(services.values().cloned());
        rules
    }

    /// Every flow of those rules, by service, rule and target; then what has no flow of its own.
    pub(crate) fn flows(&self) -> Vec<Arc<Flow>> {
        let mut flows: Vec<_> =
            self.flows.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        flows.extend(self.rules().iter().map(|rule| Arc::clone(&rule.rest)));
        flows
    }

    /// What services and rules have come to.
    pub(crate) fn tallied(&self) -> Tallies {
        Tallies::of(&self.rules(), &self.flows())
    }

    /// Rules and targets that are not counted by themselves, because there were too many.
    pub(crate) fn unseen(&self) -> u64 {
        self.unseen.load(Ordering::Relaxed)
    }

    /// Logs, once for each rule, how many refusals it could not tell one by one since this was
    /// called last.
    pub(crate) fn tell_unlogged(&self) {
        for rule in self.rules() {
            let clients = rule.unlogged.swap(0, Ordering::Relaxed);
            if clients > 0 {
                let (service, rule) = (&rule.service_name, rule.name());
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
    is_dialled: Cell<bool>,
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
        Self { rule, thread, flow, is_dialled: no(), is_begun: no(), is_over: no() }
    }

    /// A target is dialled.
    pub(crate) fn dialling(&self, host: &Host, port: u16) {
        self.is_dialled.set(true);
        let is_it = |target: &Target| target.host == *host && target.port == Some(port);
        let flow = self.rule.flows.iter().position(|flow| flow.target.as_ref().is_some_and(is_it));
        self.flow.set(flow.and_then(|flow| u16::try_from(flow).ok()).unwrap_or(u16::MAX));
    }

    /// The target's connection stands, so long after the verdict.
    pub(crate) fn connected(&self, took_us: u64) {
        self.rule.counters.service.connects.observe(took_us);
        self.begin();
    }

    fn begin(&self) {
        if !self.is_begun.replace(true) && self.is_dialled.get() {
            self.in_flow(|flow| add(&flow.begun, 1));
        }
    }

    fn in_flow(&self, count: impl FnOnce(&FlowCell)) {
        let flow = self.rule.flows.get(usize::from(self.flow.get()));
        count(flow.unwrap_or(&self.rule.counters.rest).cell(self.thread.into()));
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
        self.leave_flow(ended_by(ending.first_fin, ending.reason));
    }

    /// A session that dialled nobody was never part of a flow.
    fn leave_flow(&self, by: Option<EndedBy>) {
        self.begin();
        if !self.is_dialled.get() {
            return;
        }
        self.in_flow(|flow| {
            match by {
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
            self.leave_flow(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use forwarder_core::alert::Sample;
    use schemas::vocab::{CloseKind, DenyReason, EndPhase, FirstFin, PerDirection, Timestamp};

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

    fn names() -> (ServiceName, RuleName) {
        ("web".parse().unwrap(), "all".parse().unwrap())
    }

    fn rule_of(figures: &Figures) -> Arc<RuleFigures> {
        let (service, rule) = names();
        Arc::new(figures.rule(&service, &rule, PORTS.map(target).into_iter()))
    }

    fn rule() -> Arc<RuleFigures> {
        rule_of(&Figures::new(2))
    }

    /// A session that delivers 3 bytes up, and is over if `ends`.
    fn served(rule: &Arc<RuleFigures>, ends: bool) -> SessionFigures {
        let figures = SessionFigures::open(rule, 0);
        figures.dialling(&target(PORTS[1]).host, PORTS[1]);
        figures.connected(700);
        figures.delivered(Direction::Up, 3);
        if ends {
            figures.end(&ending(EndReason::Done, FirstFin::Client), 2_000_000);
        }
        figures
    }

    #[test]
    fn sums_have_what_runs_and_what_is_over_and_what_had_too_many_series() {
        let (service, rule) = names();
        for (most, of_rule) in [(MAX_SERIES, true), (1, true), (0, false)] {
            let figures = Figures::bounded(2, most);
            let counted = rule_of(&figures);
            let _runs = served(&counted, false);
            served(&counted, true);
            counted.counters.denied.count(DenyReason::Rule);
            figures.service(&service).denied.count(DenyReason::TableFull);
            let tallies = figures.tallied();
            let delivered = PerDirection { up: 6, down: 0 };
            assert_eq!(
                tallies.of_service(&service),
                Tallied { accepted: 2, denied: 2, delivered },
                "at most {most} series"
            );
            let expected = Tallied { accepted: 2, denied: 1, delivered };
            let expected = if of_rule { expected } else { Tallied::default() };
            assert_eq!(tallies.of_rule(&rule), expected, "at most {most} series");
            let bytes = figures.flows().iter().map(|flow| flow.totals().sample.bytes).sum::<u64>();
            assert_eq!(bytes, 6, "at most {most} series");
        }
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
