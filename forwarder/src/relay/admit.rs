//! The door: the verdict on a client, and what follows from it.

use std::sync::Arc;
use std::time::Instant;

use forwarder_core::accounting::{Denial, Opening};
use forwarder_core::config::{CaptureMode, Listener, WhenBehind};
use schemas::vocab::{
    ClientAddr, DenyAction, DenyReason, EndPhase, ListenAddr, SessionId, TargetAddr, Transport,
};
use schemas::wire::CaptureOpen;

use super::counters::count;
use super::meter::Meter;
use super::plan::{PassPlan, RulePlan, ServicePlan};
use super::thread::DataThread;

/// A client at the door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The listener it came to.
    pub(crate) listener: Listener,
    /// The socket peer.
    pub(crate) client: ClientAddr,
    /// The local address it used.
    pub(crate) listen: ListenAddr,
    /// When.
    pub(crate) at: Instant,
    /// Payload that came with it: a datagram's, in bytes.
    pub(crate) bytes: u64,
}

/// A client that may pass.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) id: SessionId,
    pub(crate) service: Arc<ServicePlan>,
    pub(crate) rule: Arc<RulePlan>,
    pub(crate) pass: Arc<PassPlan>,
    pub(crate) client: ClientAddr,
    pub(crate) listen: ListenAddr,
}

impl DataThread {
    /// Asks the rules, and gives a client that may pass its number and slot. `None`: it was
    /// refused, and the account knows.
    pub(crate) fn admit(&self, arrival: &Arrival) -> Option<(Admitted, Meter)> {
        let shared = &self.shared;
        let plan = shared.plan.load();
        let Some(service) = plan.service(arrival.listener) else {
            // Its listener was removed while the client waited; no service is left to name.
            count(&shared.counters.denied);
            return None;
        };
        let rule = plan.decide(service, arrival.client.ip());
        let Some((rule, pass)) = rule.and_then(|rule| Some((rule, rule.pass.as_ref()?))) else {
            let reason = if rule.is_some() { DenyReason::Rule } else { DenyReason::NoRule };
            self.refuse(arrival, service, rule, EndPhase::Policy, reason);
            return None;
        };
        let opening = Opening {
            service: service.id,
            rule: rule.id,
            customer: rule.customer_id,
            config_rev: plan.revision,
            transport: arrival.listener.transport,
            client: arrival.client,
            listen: arrival.listen,
            ts_start: shared.clock.wall(arrival.at),
        };
        match shared.account.open(&opening) {
            Ok(slot) => {
                count(&service.counters.accepted);
                let admitted = Admitted {
                    id: SessionId { boot: shared.account.boot(), number: slot.number() },
                    service: Arc::clone(service),
                    rule: Arc::clone(rule),
                    pass: Arc::clone(pass),
                    client: arrival.client,
                    listen: arrival.listen,
                };
                self.log(arrival.at).connect(&admitted);
                Some((admitted, Meter::new(slot, shared.clock, arrival.at)))
            }
            Err(refused) => {
                self.refuse(arrival, service, Some(rule), EndPhase::Policy, refused.reason);
                None
            }
        }
    }

    /// Reports a client that is turned away for want of something of ours, without asking the
    /// rules.
    pub(crate) fn turn_away(&self, arrival: &Arrival, reason: DenyReason) {
        let plan = self.shared.plan.load();
        if let Some(service) = plan.service(arrival.listener) {
            self.refuse(arrival, service, None, EndPhase::Accept, reason);
        }
    }

    fn refuse(
        &self,
        arrival: &Arrival,
        service: &ServicePlan,
        rule: Option<&Arc<RulePlan>>,
        phase: EndPhase,
        reason: DenyReason,
    ) {
        let shared = &self.shared;
        count(&shared.counters.denied);
        count(&service.counters.denied);
        let action = match arrival.listener.transport {
            Transport::Tcp => DenyAction::Reset,
            Transport::Udp => DenyAction::Drop,
        };
        shared.account.deny(Denial {
            service: service.id,
            rule: rule.map_or(0, |rule| rule.id),
            customer: rule.map_or(0, |rule| rule.customer_id),
            transport: arrival.listener.transport,
            client: arrival.client,
            listen: arrival.listen,
            phase,
            reason,
            action,
            bytes: arrival.bytes,
            ts: shared.clock.wall(arrival.at),
        });
        let rule = rule.map(|rule| &rule.rule);
        self.log(arrival.at).refused(service.name.as_str(), rule, arrival, reason);
    }

    /// Begins to keep a session's payload if its rule says so.
    pub(crate) fn keep_payload(
        &self,
        session: &Admitted,
        transport: Transport,
        target: Option<TargetAddr>,
        meter: &Meter,
    ) {
        let mode = session.pass.capture;
        if mode == CaptureMode::Off {
            return;
        }
        let rule = &session.rule.rule;
        let open = CaptureOpen {
            session_no: session.id.number,
            service: session.service.name.to_string(),
            rule: rule.name.to_string(),
            customer: rule.customer.as_ref().map(ToString::to_string).unwrap_or_default(),
            transport: transport.as_str().to_owned(),
            client: session.client.to_string(),
            listen: session.listen.to_string(),
            target: target.map(|target| target.to_string()).unwrap_or_default(),
            ts_start_ns: self.shared.clock.wall_ns(meter.started()),
            ..CaptureOpen::default()
        };
        let when_behind = match transport {
            Transport::Tcp => session.pass.when_behind,
            // A client that sends datagrams is not slowed by being read slowly.
            Transport::Udp => WhenBehind::Drop,
        };
        meter.keep_payload(self.capture.begin(open, mode, when_behind));
    }
}
