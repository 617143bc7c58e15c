//! Log lines about sessions, where a rule asks for them: one line an event, with everything that is
//! known of the session then.
//!
//! `connect` is told when the target's connection stands, `disconnect` at the end with all totals,
//! `error` when no target could be reached and when a side failed, `data` for each piece of payload,
//! and a client that is turned away when a rule logs any of the others.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forwarder_core::accounting::{Ending, Traffic};
use forwarder_core::session::DialFailure;
use forwarder_sys::tcp_info::TcpInfo;
use schemas::vocab::{
    DenyReason, Direction, EgressAddr, EndPhase, EndReason, FirstFin, PerDirection, TargetAddr,
    Transport,
};

use super::admit::{Admitted, Arrival};
use super::counters::{Counters, count};
use super::plan::{RulePlan, ServicePlan};
use super::preread::Bad;
use crate::clock::micros;

/// Lines about sessions that one data thread writes per second, so that an attack does not fill the
/// log.
const LINES_PER_SECOND: u32 = 500;

/// Lines about pieces of payload that one data thread writes per second. They have a budget of their
/// own, so that a fast session does not hide the ends of the others.
const DATA_LINES_PER_SECOND: u32 = 500;

/// Refusals that one data thread tells one by one per second; those beyond are told by their number.
const REFUSALS_PER_SECOND: u32 = 50;

/// How many lines of one kind a thread may still write in this second.
#[derive(Debug)]
pub(crate) struct LogBudget {
    per_second: u32,
    second: Cell<Instant>,
    lines: Cell<u32>,
}

impl LogBudget {
    fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, second: Cell::new(now), lines: Cell::new(0) }
    }

    /// Whether a line may be written now.
    fn allows(&self, now: Instant) -> bool {
        if now.saturating_duration_since(self.second.get()) >= Duration::from_secs(1) {
            self.second.set(now);
            self.lines.set(0);
        }
        let lines = self.lines.get();
        self.lines.set(lines.saturating_add(1));
        lines < self.per_second
    }

    /// As [`LogBudget::allows`], and counts the line if it may not.
    fn allows_or_counts(&self, now: Instant, counters: &Counters) -> bool {
        let allows = self.allows(now);
        if !allows {
            count(&counters.log_lines_dropped);
        }
        allows
    }
}

/// What one data thread may write.
#[derive(Debug)]
pub(crate) struct LogBudgets {
    sessions: LogBudget,
    refusals: LogBudget,
    data: Rc<LogBudget>,
}

impl LogBudgets {
    /// Full ones.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            sessions: LogBudget::new(LINES_PER_SECOND, now),
            refusals: LogBudget::new(REFUSALS_PER_SECOND, now),
            data: Rc::new(LogBudget::new(DATA_LINES_PER_SECOND, now)),
        }
    }
}

/// Where log lines go through: the budgets and the counters of what they held back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log<'a> {
    pub(crate) budgets: &'a LogBudgets,
    pub(crate) counters: &'a Arc<Counters>,
    pub(crate) now: Instant,
}

/// What TCP knows of both sides, as far as it was asked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TcpSides {
    pub(crate) client: Option<TcpInfo>,
    pub(crate) target: Option<TcpInfo>,
}

/// How a session began, for its line.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) egress: Option<EgressAddr>,
    pub(crate) target: Option<TargetAddr>,
    pub(crate) took: Duration,
    pub(crate) tcp: TcpSides,
}

/// How a session ended, for its line.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) transport: Transport,
    pub(crate) egress: Option<EgressAddr>,
    pub(crate) target: Option<TargetAddr>,
    pub(crate) traffic: PerDirection<Traffic>,
    /// Of UDP.
    pub(crate) datagrams_received: PerDirection<u64>,
    pub(crate) ending: Ending,
    pub(crate) duration_us: u64,
    pub(crate) tcp: TcpSides,
}

/// Writes a line about a session: who it is, then what the caller adds.
macro_rules! line {
    ($level:ident, $session:expr, $message:literal, $($more:tt)*) => {
        tracing::$level!(
            session = %$session.id,
            service = %$session.service.name,
            rule = %$session.rule.rule.name,
            customer = $session.customer.as_ref().map(|customer| display(&customer.name)),
            client = %$session.client,
            proxied_client = $session.proxied().map(display),
            listen = %$session.listen,
            server_name = $session.server_name(),
            $($more)*
            $message
        )
    };
}

/// Writes a line with what TCP knows of both sides behind everything else.
macro_rules! line_with_tcp {
    ($session:expr, $tcp:expr, $message:literal, $($more:tt)*) => {{
        let TcpSides { client, target } = $tcp;
        line!(info, $session, $message, $($more)*
            rtt_client_us = client.map(|tcp| tcp.rtt_us),
            rttvar_client_us = client.map(|tcp| tcp.rtt_var_us),
            rto_client_us = client.map(|tcp| tcp.rto_us),
            retrans_client = client.map(|tcp| tcp.retransmits),
            lost_client = client.map(|tcp| tcp.lost),
            cwnd_client = client.map(|tcp| tcp.cwnd),
            mss_client = client.map(|tcp| tcp.mss),
            pmtu_client = client.map(|tcp| tcp.pmtu),
            rcv_space_client = client.map(|tcp| tcp.rcv_space),
            rtt_target_us = target.map(|tcp| tcp.rtt_us),
            rttvar_target_us = target.map(|tcp| tcp.rtt_var_us),
            rto_target_us = target.map(|tcp| tcp.rto_us),
            retrans_target = target.map(|tcp| tcp.retransmits),
            lost_target = target.map(|tcp| tcp.lost),
            cwnd_target = target.map(|tcp| tcp.cwnd),
            mss_target = target.map(|tcp| tcp.mss),
            pmtu_target = target.map(|tcp| tcp.pmtu),
            rcv_space_target = target.map(|tcp| tcp.rcv_space),
        )
    }};
}

impl Log<'_> {
    fn allows(self, is_wanted: bool) -> bool {
        is_wanted && self.budgets.sessions.allows_or_counts(self.now, self.counters)
    }

    /// The target's connection stands.
    pub(crate) fn connect(self, session: &Admitted, beginning: &Beginning) {
        if self.allows(session.rule.rule.log.connect) {
            line_with_tcp!(
                session,
                beginning.tcp,
                "session begins",
                egress = beginning.egress.map(display),
                target = beginning.target.map(display),
                connect_ms = milliseconds(beginning.took),
            );
        }
    }

    /// The session is over.
    pub(crate) fn disconnect(self, session: &Admitted, outcome: &Outcome) {
        let (wanted, ending) = (session.rule.rule.log, &outcome.ending);
        // Of a session that reached no target, `error` has told already.
        let is_told = matches!(ending.phase, EndPhase::Resolve | EndPhase::Connect);
        let is_error = is_error(ending.reason) && !is_told;
        if !self.allows(wanted.disconnect || wanted.error && is_error) {
            return;
        }
        let traffic = outcome.traffic;
        let datagrams = (outcome.transport == Transport::Udp).then_some(outcome.datagrams_received);
        let first_fin = Some(ending.first_fin).filter(|fin| *fin != FirstFin::None);
        line_with_tcp!(session, outcome.tcp, "session ended",
            egress = outcome.egress.map(display),
            target = outcome.target.map(display),
            bytes_up = traffic.up.bytes,
            bytes_down = traffic.down.bytes,
            received_up = traffic.up.received,
            received_down = traffic.down.received,
            datagrams_up = datagrams.map(|_| traffic.up.datagrams),
            datagrams_down = datagrams.map(|_| traffic.down.datagrams),
            datagrams_received_up = datagrams.map(|received| received.up),
            datagrams_received_down = datagrams.map(|received| received.down),
            duration_ms = milliseconds(Duration::from_micros(outcome.duration_us)),
            reason = %ending.reason,
            phase = %ending.phase,
            first_fin = first_fin.map(display),
            errno = Some(ending.errno).filter(|errno| *errno != 0),
        );
    }

    /// No target could be reached.
    pub(crate) fn unreached(
        self,
        session: &Admitted,
        target: Option<TargetAddr>,
        failure: DialFailure,
    ) {
        if self.allows(session.rule.rule.log.error) {
            line!(warn, session, "no target could be reached",
                target = target.map(display),
                intended_target = session.rule.intended.as_ref().map(display),
                reason = %failure.reason(),
                errno = Some(failure.errno()).filter(|errno| *errno != 0),
            );
        }
    }

    /// A client was refused.
    pub(crate) fn refused(
        self,
        service: &ServicePlan,
        rule: Option<&RulePlan>,
        arrival: &Arrival,
        reason: DenyReason,
        limit: Option<&str>,
    ) {
        let Some(rule) = rule else { return };
        let wanted = rule.rule.log;
        if !(wanted.connect || wanted.disconnect || wanted.data) {
            return;
        }
        if !self.budgets.refusals.allows(self.now) {
            count(&rule.figures(service, &self.counters.figures).counters.unlogged);
            return;
        }
        let customer = rule.customer(arrival.effective().ip());
        tracing::info!(
            service = %service.name,
            rule = %rule.rule.name,
            customer = customer.as_ref().map(|customer| display(&customer.name)),
            client = %arrival.client,
            proxied_client = arrival.proxied.map(display),
            listen = %arrival.listen,
            target = rule.intended.as_ref().map(display),
            transport = %arrival.listener.transport,
            bytes_up = Some(arrival.bytes).filter(|_| arrival.listener.transport == Transport::Udp),
            reason = %reason,
            limit,
            "client refused"
        );
    }

    /// A client was refused for what it sent before its payload. No rule was asked that could say
    /// whether to write this; a proxy that is set up wrongly has no other way to show.
    pub(super) fn bad_preamble(self, arrival: &Arrival, bad: Bad) {
        if self.allows(true) {
            tracing::info!(
                client = %arrival.client,
                proxied_client = arrival.proxied.map(display),
                listen = %arrival.listen,
                reason = %DenyReason::BadPreamble,
                why = %bad,
                "client refused"
            );
        }
    }

    /// What writes a line for each piece of a session's payload, if its rule asks for that.
    pub(crate) fn data(self, session: &Rc<Admitted>) -> Option<Box<DataLog>> {
        session.rule.rule.log.data.then(|| {
            Box::new(DataLog {
                budget: Rc::clone(&self.budgets.data),
                counters: Arc::clone(self.counters),
                session: Rc::clone(session),
            })
        })
    }
}

/// Writes a line for each piece of one session's payload: how much of it came from whom, never what
/// it says. For that there are captures.
#[derive(Debug)]
pub(crate) struct DataLog {
    budget: Rc<LogBudget>,
    counters: Arc<Counters>,
    session: Rc<Admitted>,
}

impl DataLog {
    /// So many bytes came from the sender of `direction`; none: it has finished.
    pub(crate) fn received(&self, direction: Direction, bytes: usize, now: Instant) {
        if self.budget.allows_or_counts(now, &self.counters) {
            line!(info, self.session, "payload", direction = direction.as_str(), bytes,);
        }
    }
}

/// Whether a session ended because a side failed, and not as one of them, or we, wanted.
fn is_error(reason: EndReason) -> bool {
    match reason {
        EndReason::ClientReset
        | EndReason::TargetRefused
        | EndReason::TargetUnreachable
        | EndReason::ConnectTimeout
        | EndReason::TargetReset
        | EndReason::ResolveFailed
        | EndReason::NoTarget
        | EndReason::TargetDown
        | EndReason::WriteStall
        | EndReason::Loop
        | EndReason::Resource
        | EndReason::Internal
        | EndReason::Lost => true,
        EndReason::Done
        | EndReason::ClientAbort
        | EndReason::IdleTimeout
        | EndReason::UdpExpired
        | EndReason::UdpDone
        | EndReason::HalfCloseTimeout
        | EndReason::MaxDuration
        | EndReason::Quota
        | EndReason::Killed
        | EndReason::Drained
        | EndReason::Denied => false,
    }
}

/// With three decimals at most.
fn milliseconds(duration: Duration) -> f64 {
    micros(duration) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_counted_and_the_next_second_is_new() {
        let start = Instant::now();
        let (budget, counters) = (LogBudget::new(500, start), Counters::default());
        let written = (0..507).filter(|_| budget.allows_or_counts(start, &counters)).count();
        assert_eq!(written, 500);
        assert_eq!(counters.log_lines_dropped.load(Ordering::Relaxed), 7);
        assert!(budget.allows(start + Duration::from_secs(1)));
    }

    #[test]
    fn a_duration_is_shown_to_the_microsecond() {
        for (us, shown) in
            [(0, "0"), (7, "0.007"), (12_345, "12.345"), (3_600_000_001, "3600000.001")]
        {
            let shown_as = format!("{}", milliseconds(Duration::from_micros(us)));
            assert_eq!(shown_as, shown);
        }
    }
}
