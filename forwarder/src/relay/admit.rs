//! The door: the verdict on a client, and what follows from it.

use std::sync::Arc;
use std::time::Instant;

use forwarder_core::accounting::{Denial, Opening};
use forwarder_core::config::{CaptureMode, Listener, Refuse, WhenBehind};
use forwarder_core::matching::{Client, Fact, Question, ReverseNames};
use schemas::vocab::{
    ClientAddr, DenyAction, DenyReason, EndPhase, ListenAddr, SessionId, TargetAddr, Transport,
};
use schemas::wire::CaptureOpen;

use super::billing::Billed;
use super::counters::count;
use super::figures::SessionFigures;
use super::meter::Meter;
use super::plan::{Decision, PassPlan, RulePlan, ServicePlan};
use super::thread::DataThread;
use crate::limits::{Hit, Keys};

/// A client at the door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The listener it came to.
    pub(crate) listener: Listener,
    /// The socket peer.
    pub(crate) client: ClientAddr,
    /// For whom the peer speaks, by its PROXY header.
    pub(crate) proxied: Option<ClientAddr>,
    /// The local address it used.
    pub(crate) listen: ListenAddr,
    /// When.
    pub(crate) at: Instant,
    /// Payload that came with it: a datagram's, in bytes.
    pub(crate) bytes: u64,
}

impl Arrival {
    /// Whom rules and limits see.
    pub(crate) fn effective(&self) -> ClientAddr {
        self.proxied.unwrap_or(self.client)
    }
}

/// What was found out about a client at the door.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) reverse: Fact<Arc<ReverseNames>>,
    pub(crate) server_name: Fact<String>,
}

/// What happens to a client at the door.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once, and most are let in")]
pub(crate) enum Door {
    /// It has a number and a slot.
    Admitted(Admitted, Meter),
    /// It was refused, and the account knows; this it is to see.
    Refused(DenyAction),
    /// It depends: find this out and ask again.
    Asks(Question),
}

/// A client that may pass.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) id: SessionId,
    pub(crate) service: Arc<ServicePlan>,
    pub(crate) rule: Arc<RulePlan>,
    pub(crate) pass: Arc<PassPlan>,
    pub(crate) customer: Option<Arc<Billed>>,
    pub(crate) listener: Listener,
    pub(crate) client: ClientAddr,
    /// Whom rules and limits see.
    pub(crate) effective: ClientAddr,
    pub(crate) listen: ListenAddr,
    /// What the rules asked about the client.
    pub(crate) facts: Facts,
}

impl Admitted {
    /// The server that the client asks for, where a rule wanted to know.
    pub(crate) fn server_name(&self) -> Option<&str> {
        match &self.facts.server_name {
            Fact::Known(name) => Some(name),
            Fact::NotAsked | Fact::Unknown => None,
        }
    }

    /// For whom the client speaks, by its PROXY header.
    pub(crate) fn proxied(&self) -> Option<ClientAddr> {
        Some(self.effective).filter(|effective| *effective != self.client)
    }

    /// The client, as the rules saw it.
    pub(crate) fn as_client(&self) -> Client<'_> {
        seen(self.listener, self.effective, &self.facts)
    }
}

impl DataThread {
    /// Asks the rules, and gives a client that may pass its number and slot.
    pub(crate) fn admit(&self, arrival: &Arrival, facts: &Facts) -> Door {
        let shared = &self.shared;
        let plan = shared.plan.load();
        let Some(service) = plan.service(arrival.listener) else {
            // Its listener was removed while the client waited; no service is left to name.
            count(&shared.counters.denied);
            return Door::Refused(refusal(arrival, None));
        };
        let no = |rule, reason| {
            Door::Refused(self.refuse(arrival, service, rule, EndPhase::Policy, reason, None))
        };
        let (rule, pass) =
            match plan.decide(service, &seen(arrival.listener, arrival.effective(), facts)) {
                Decision::Pass(rule, pass) => (rule, pass),
                Decision::Block(Some(rule)) => return no(Some(rule), DenyReason::Rule),
                Decision::Block(None) => return no(None, DenyReason::NoRule),
                Decision::Nameless(rule) => return no(Some(rule), DenyReason::UnknownName),
                Decision::Ask(question) => return Door::Asks(question),
            };
        let customer = rule.customer(arrival.effective().ip());
        let keys = Keys {
            service: service.name.as_str(),
            customer: customer.map_or("", |customer| customer.name.as_str()),
            client: arrival.effective().ip(),
        };
        let grant = match shared.limits.admit(&rule.limits, &keys, arrival.at) {
            Ok(grant) => grant,
            Err(hit) => {
                let (phase, reason) = (EndPhase::Policy, hit.reason);
                let action = self.refuse(arrival, service, Some(rule), phase, reason, Some(&hit));
                return Door::Refused(action);
            }
        };
        let opening = Opening {
            service: service.id,
            rule: rule.id,
            customer: customer.map_or(0, |customer| customer.id),
            config_rev: plan.revision,
            transport: arrival.listener.transport,
            client: arrival.client,
            proxied_client: arrival.proxied,
            listen: arrival.listen,
            ts_start: shared.clock.wall(arrival.at),
        };
        match shared.account.open(&opening) {
            Ok(slot) => {
                let admitted = Admitted {
                    id: SessionId { boot: shared.account.boot(), number: slot.number() },
                    service: Arc::clone(service),
                    rule: Arc::clone(rule),
                    pass: Arc::clone(pass),
                    customer: customer.cloned(),
                    listener: arrival.listener,
                    client: arrival.client,
                    effective: arrival.effective(),
                    listen: arrival.listen,
                    facts: facts.clone(),
                };
                let figures = SessionFigures::open(
                    rule.figures(service, &shared.counters.figures),
                    self.number,
                );
                let meter = Meter::new(slot, shared.clock, arrival.at, figures, grant);
                Door::Admitted(admitted, meter)
            }
            Err(refused) => no(Some(rule), refused.reason),
        }
    }

    /// Reports a client that is turned away for want of something of ours, without asking the
    /// rules.
    pub(crate) fn turn_away(
        &self,
        arrival: &Arrival,
        phase: EndPhase,
        reason: DenyReason,
    ) -> DenyAction {
        self.turn_away_by(arrival, phase, reason, None)
    }

    /// The same, by a limit of the service if `hit` is one.
    pub(crate) fn turn_away_by(
        &self,
        arrival: &Arrival,
        phase: EndPhase,
        reason: DenyReason,
        hit: Option<&Hit>,
    ) -> DenyAction {
        let plan = self.shared.plan.load();
        match plan.service(arrival.listener) {
            Some(service) => self.refuse(arrival, service, None, phase, reason, hit),
            None => refusal(arrival, None),
        }
    }

    /// `hit`: the limit that refuses, if one does.
    fn refuse(
        &self,
        arrival: &Arrival,
        service: &ServicePlan,
        rule: Option<&Arc<RulePlan>>,
        phase: EndPhase,
        reason: DenyReason,
        hit: Option<&Hit>,
    ) -> DenyAction {
        let shared = &self.shared;
        count(&shared.counters.denied);
        match rule {
            Some(rule) => {
                let figures = rule.figures(service, &shared.counters.figures);
                figures.counters.denied.count(reason);
                if let Some(hit) = hit {
                    figures.counters.refused_by(&hit.limit);
                }
            }
            None => service.figures.denied.count(reason),
        }
        let action = refusal(arrival, rule);
        let customer = rule.and_then(|rule| rule.customer(arrival.effective().ip()));
        shared.account.deny(Denial {
            service: service.id,
            rule: rule.map_or(0, |rule| rule.id),
            limit: hit.map_or(0, |hit| hit.id),
            customer: customer.map_or(0, |customer| customer.id),
            transport: arrival.listener.transport,
            client: arrival.client,
            listen: arrival.listen,
            phase,
            reason,
            action,
            bytes: arrival.bytes,
            ts: shared.clock.wall(arrival.at),
        });
        let rule = rule.map(Arc::as_ref);
        self.log(arrival.at).refused(service, rule, arrival, reason, hit.map(|hit| &*hit.limit));
        action
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
        if mode == CaptureMode::Off || meter.is_shared() {
            return;
        }
        let rule = &session.rule.rule;
        let open = CaptureOpen {
            session_no: session.id.number,
            service: session.service.name.to_string(),
            rule: rule.name.to_string(),
            customer: session.customer.as_ref().map(|one| one.name.to_string()).unwrap_or_default(),
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

fn seen(listener: Listener, client: ClientAddr, facts: &Facts) -> Client<'_> {
    Client {
        listener,
        ip: client.ip(),
        port: client.port(),
        reverse: facts.reverse.as_ref().map(Arc::as_ref),
        server_name: facts.server_name.as_ref().map(String::as_str),
    }
}

/// What a refused client sees.
fn refusal(arrival: &Arrival, rule: Option<&Arc<RulePlan>>) -> DenyAction {
    match (arrival.listener.transport, rule.map(|rule| rule.rule.refuse)) {
        (Transport::Udp, _) => DenyAction::Drop,
        (Transport::Tcp, Some(Refuse::Close)) => DenyAction::Close,
        (Transport::Tcp, Some(Refuse::Reset) | None) => DenyAction::Reset,
    }
}
