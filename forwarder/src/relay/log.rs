//! Log lines about sessions, where a rule asks for them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use forwarder_core::session::DialFailure;
use schemas::vocab::{DenyReason, EgressAddr, EndReason, PerDirection, TargetAddr};

use super::admit::{Admitted, Arrival};
use super::counters::{Counters, count};
use super::preread::Bad;

/// Lines one data thread writes per second, so that an attack does not fill the log.
const LINES_PER_SECOND: u32 = 500;

/// How many lines a thread may still write in this second.
#[derive(Debug)]
pub(crate) struct LogBudget {
    second: Cell<Instant>,
    lines: Cell<u32>,
}

impl LogBudget {
    /// A full budget.
    pub(crate) fn new(now: Instant) -> Self {
        Self { second: Cell::new(now), lines: Cell::new(0) }
    }

    /// Whether a line may be written now; counts the lines that may not.
    fn allows(&self, now: Instant, counters: &Counters) -> bool {
        if now.saturating_duration_since(self.second.get()) >= Duration::from_secs(1) {
            self.second.set(now);
            self.lines.set(0);
        }
        let lines = self.lines.get();
        self.lines.set(lines.saturating_add(1));
        if lines >= LINES_PER_SECOND {
            count(&counters.log_lines_dropped);
        }
        lines < LINES_PER_SECOND
    }
}

/// Where log lines go through: the budget and the counters of what it held back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log<'a> {
    pub(crate) budget: &'a LogBudget,
    pub(crate) counters: &'a Counters,
    pub(crate) now: Instant,
}

/// How a session ended, for its line.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) egress: Option<EgressAddr>,
    pub(crate) target: Option<TargetAddr>,
    pub(crate) bytes: PerDirection<u64>,
    pub(crate) duration_us: u64,
    pub(crate) reason: EndReason,
}

impl Log<'_> {
    /// The verdict was pass.
    pub(crate) fn connect(self, session: &Admitted) {
        if session.rule.rule.log.connect && self.budget.allows(self.now, self.counters) {
            tracing::info!(
                session = %session.id,
                service = %session.service.name,
                rule = %session.rule.rule.name,
                client = %session.client,
                proxied_client = session.proxied().map(tracing::field::display),
                listen = %session.listen,
                "session begins"
            );
        }
    }

    /// The session is over.
    pub(crate) fn disconnect(self, session: &Admitted, outcome: &Outcome) {
        if session.rule.rule.log.disconnect && self.budget.allows(self.now, self.counters) {
            tracing::info!(
                session = %session.id,
                service = %session.service.name,
                rule = %session.rule.rule.name,
                client = %session.client,
                proxied_client = session.proxied().map(tracing::field::display),
                listen = %session.listen,
                egress = outcome.egress.map(tracing::field::display),
                target = outcome.target.map(tracing::field::display),
                bytes_up = outcome.bytes.up,
                bytes_down = outcome.bytes.down,
                duration_us = outcome.duration_us,
                reason = %outcome.reason,
                "session ended"
            );
        }
    }

    /// No target could be reached.
    pub(crate) fn unreached(
        self,
        session: &Admitted,
        target: Option<TargetAddr>,
        failure: DialFailure,
    ) {
        if session.rule.rule.log.error && self.budget.allows(self.now, self.counters) {
            tracing::warn!(
                session = %session.id,
                service = %session.service.name,
                rule = %session.rule.rule.name,
                client = %session.client,
                proxied_client = session.proxied().map(tracing::field::display),
                listen = %session.listen,
                target = target.map(tracing::field::display),
                reason = %failure.reason(),
                errno = failure.errno(),
                "no target could be reached"
            );
        }
    }

    /// A client was refused.
    pub(crate) fn refused(
        self,
        service: &str,
        rule: Option<&forwarder_core::config::Rule>,
        arrival: &Arrival,
        reason: DenyReason,
    ) {
        if rule.is_some_and(|rule| rule.log.connect) && self.budget.allows(self.now, self.counters)
        {
            tracing::info!(
                service,
                rule = rule.map(|rule| tracing::field::display(&rule.name)),
                client = %arrival.client,
                proxied_client = arrival.proxied.map(tracing::field::display),
                listen = %arrival.listen,
                reason = %reason,
                "client refused"
            );
        }
    }

    /// A client was refused for what it sent before its payload. No rule was asked that could say
    /// whether to write this; a proxy that is set up wrongly has no other way to show.
    pub(super) fn bad_preamble(self, arrival: &Arrival, bad: Bad) {
        if self.budget.allows(self.now, self.counters) {
            tracing::info!(
                client = %arrival.client,
                proxied_client = arrival.proxied.map(tracing::field::display),
                listen = %arrival.listen,
                reason = %DenyReason::BadPreamble,
                why = %bad,
                "client refused"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_counted_and_the_next_second_is_new() {
        let start = Instant::now();
        let (budget, counters) = (LogBudget::new(start), Counters::default());
        let written = (0..LINES_PER_SECOND + 7).filter(|_| budget.allows(start, &counters)).count();
        assert_eq!(written, LINES_PER_SECOND as usize);
        assert_eq!(counters.log_lines_dropped.load(Ordering::Relaxed), 7);
        assert!(budget.allows(start + Duration::from_secs(1), &counters));
    }
}
