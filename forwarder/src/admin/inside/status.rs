//! How the forwarder is doing.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use forwarder_core::accounting::LiveSession;
use forwarder_core::config::{Action, Listener, Rule, Service};
use schemas::vocab::PerDirection;

use super::super::{
    Delivered, Held, RecorderStatus, RuleStatus, ServiceStatus, SessionTotals, SpoolStatus, Status,
    TableStatus, TargetStatus,
};
use super::Inside;
use crate::health::{TargetState, TargetView};
use crate::relay::{Holder, Intakes, Sight, Tallied};

impl Inside {
    pub(super) fn status(&self, sights: &HashMap<u64, Sight>) -> Status {
        let config = self.live.config();
        let (accepted, refused) = self.account.opened_and_denied();
        let (used, size) = self.account.table_use();
        let intakes = self.controls.intakes();
        let tallies = self.counters.figures.tallied();
        let running = Running::count(self.account.live());
        let service = |service: &Service| {
            self.service(service, tallies.of_service(&service.name), &running, &intakes)
        };
        let rule = |rule: &Rule| self::rule(rule, tallies.of_rule(&rule.name), &running);
        Status {
            node: config.node.to_string(),
            boot: self.account.boot().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.clock.now().saturating_duration_since(self.started).as_secs(),
            config_file: self.live.file().display().to_string(),
            config_rev: config.revision.clone(),
            draining: intakes.is_draining(),
            sessions: SessionTotals { current: running.all, accepted, refused },
            held: held(sights),
            services: config.services.iter().map(service).collect(),
            rules: config.rules.iter().map(rule).collect(),
            targets: self.targets.snapshot(self.clock.now()).into_iter().map(target).collect(),
            limits: self.shared_limits(),
            table: TableStatus { used: used as u64, size: size as u64 },
            spool: self.spool_status(),
            recorder: self.recorder_status(format!("unix:{}", config.recorder.socket.display())),
            counters: self.counted(),
        }
    }

    fn service(
        &self,
        service: &Service,
        tallied: Tallied,
        running: &Running,
        intakes: &Intakes,
    ) -> ServiceStatus {
        let shown = |listener: &Listener| self.live.shown(listener);
        let listeners = self.live.listeners_of(&service.name);
        let paused = listeners.iter().filter(|listener| intakes.is_paused(listener));
        let live = running.by_service.get(service.name.as_str()).copied().unwrap_or_default();
        ServiceStatus {
            name: service.name.to_string(),
            listeners: listeners.iter().map(shown).collect(),
            paused: paused.map(shown).collect(),
            sessions: totals(tallied, live),
            delivered: delivered(tallied),
            live_bytes_up: live.bytes.up,
            live_bytes_down: live.bytes.down,
        }
    }

    fn spool_status(&self) -> SpoolStatus {
        SpoolStatus {
            directory: self.spool.dir.display().to_string(),
            bytes: self.spool.bytes(),
            max_bytes: self.spool.max_bytes,
            unacknowledged_frames: self.spool.unacknowledged(),
        }
    }

    fn recorder_status(&self, endpoint: String) -> RecorderStatus {
        let link = self.link.borrow();
        let state = match (link.connected_since_us, &link.last_error) {
            (Some(_), _) => "connected".to_owned(),
            (None, Some(error)) => format!("away: {error}"),
            (None, None) => "not reached yet".to_owned(),
        };
        RecorderStatus { endpoint, state }
    }

    fn counted(&self) -> BTreeMap<String, u64> {
        let counters = &self.counters;
        let counted = [
            ("accept_pauses", &counters.accept_pauses),
            ("accept_failures", &counters.accept_failures),
            ("door_full", &counters.door_full),
            ("datagrams_unsent", &counters.datagrams_unsent),
            ("datagrams_undeliverable", &counters.datagrams_undeliverable),
            ("datagrams_paused", &counters.datagrams_paused),
            ("udp_sessions_refused", &counters.udp_sessions_refused),
            ("udp_replies_withheld", &counters.udp_replies_withheld),
            ("offload_refusals", &counters.offload_refusals),
            ("icmp_errors", &counters.icmp_errors),
            ("pipes_in_use", &counters.pipes_in_use),
            ("pipes_refused", &counters.pipes_refused),
            ("pipes_small", &counters.pipes_small),
            ("splice_denied", &counters.splice_denied),
            ("broken_sessions", &counters.broken_sessions),
        ];
        let value = |(name, counter): (&str, &std::sync::atomic::AtomicU64)| {
            (name.to_owned(), counter.load(Ordering::Relaxed))
        };
        let unwritten =
            counters.log_lines_dropped.load(Ordering::Relaxed) + self.log_lines_lost.count();
        let capture = self.capture.counts();
        let elsewhere = [
            ("log_lines_dropped", unwritten),
            ("capture_dropped_bytes", capture.dropped_bytes),
            ("capture_dropped_messages", capture.dropped_messages),
            ("capture_pipes_refused", capture.pipes_refused),
        ];
        let elsewhere = elsewhere.map(|(name, count)| (name.to_owned(), count));
        let names = self.names.all().map(|(name, count)| (name.to_owned(), count));
        counted.into_iter().map(value).chain(elsewhere).chain(names).collect()
    }
}

fn held(sights: &HashMap<u64, Sight>) -> Held {
    let by = |holder| sights.values().filter(|sight| sight.held_by == Some(holder)).count() as u64;
    Held { by_capture: by(Holder::Capture), by_limit: by(Holder::Limit) }
}

fn rule(rule: &Rule, tallied: Tallied, running: &Running) -> RuleStatus {
    let live = running.by_rule.get(rule.name.as_str()).copied().unwrap_or_default();
    let action = match rule.action {
        Action::Pass(_) => "pass",
        Action::Block => "block",
    };
    RuleStatus {
        name: rule.name.to_string(),
        action: action.to_owned(),
        sessions: totals(tallied, live),
        delivered: delivered(tallied),
    }
}

fn target(target: TargetView) -> TargetStatus {
    let state = match target.state {
        TargetState::Up => "up",
        TargetState::BackingOff => "backing_off",
        TargetState::Down => "down",
    };
    TargetStatus {
        service: target.service.to_string(),
        target: target.target,
        state: state.to_owned(),
        sessions: target.sessions,
    }
}

fn totals(tallied: Tallied, live: Live) -> SessionTotals {
    SessionTotals { current: live.sessions, accepted: tallied.accepted, refused: tallied.denied }
}

fn delivered(tallied: Tallied) -> Delivered {
    Delivered { bytes_up: tallied.delivered.up, bytes_down: tallied.delivered.down }
}

/// The sessions that run, of one service or rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Live {
    sessions: u64,
    bytes: PerDirection<u64>,
}

impl Live {
    fn add(&mut self, sessions: u64, bytes: PerDirection<u64>) {
        self.sessions += sessions;
        self.bytes += bytes;
    }
}

/// The sessions that run.
#[derive(Debug, Default)]
struct Running {
    all: u64,
    by_service: HashMap<String, Live>,
    by_rule: HashMap<String, Live>,
}

impl Running {
    fn count(sessions: impl Iterator<Item = LiveSession>) -> Self {
        let mut running = Self::default();
        for session in sessions {
            let bytes = session.traffic.map(|traffic| traffic.bytes);
            running.all += session.sessions;
            running.by_service.entry(session.service).or_default().add(session.sessions, bytes);
            running.by_rule.entry(session.rule).or_default().add(session.sessions, bytes);
        }
        running
    }
}

#[cfg(test)]
mod tests {
    use super::super::sessions::tests::session;
    use super::*;

    #[test]
    fn running_sessions_are_summed_by_service_and_by_rule() {
        let running =
            Running::count([session(1, "a"), session(2, "b"), session(3, "a")].into_iter());
        assert_eq!(running.all, 3);
        let of_a = Live { sessions: 2, bytes: PerDirection { up: 4, down: 40 } };
        assert_eq!(running.by_service["a"], of_a);
        let of_all = Live { sessions: 3, bytes: PerDirection { up: 6, down: 60 } };
        assert_eq!(running.by_rule["everyone"], of_all);
    }
}
