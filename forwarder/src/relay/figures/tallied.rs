//! What services and rules have come to: the sums that `status` shows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use schemas::vocab::{PerDirection, RuleName, ServiceName};

use super::counts::{Flow, RuleCounts};

/// What a service or rule has come to since the start, running sessions included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallied {
    /// Sessions that were given a number.
    pub accepted: u64,
    /// Clients and datagrams refused.
    pub denied: u64,
    /// Payload delivered, in bytes.
    pub delivered: PerDirection<u64>,
}

impl Tallied {
    fn add(&mut self, more: Self) {
        self.accepted += more.accepted;
        self.denied += more.denied;
        self.delivered += more.delivered;
    }
}

/// Every service and every rule.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    services: HashMap<ServiceName, Tallied>,
    rules: HashMap<RuleName, Tallied>,
}

impl Tallies {
    pub(super) fn of(rules: &[Arc<RuleCounts>], flows: &[Arc<Flow>]) -> Self {
        let mut all = Self::default();
        for rule in rules {
            let accepted = rule.opened.load(Ordering::Relaxed);
            let tallied = Tallied { accepted, denied: rule.denied.sum(), ..Tallied::default() };
            all.add(&rule.service_name, rule.rule_name.as_ref(), tallied);
        }
        for flow in flows {
            let tallied = Tallied { delivered: flow.totals().bytes, ..Tallied::default() };
            all.add(&flow.service, flow.rule.as_ref(), tallied);
        }
        all
    }

    fn add(&mut self, service: &ServiceName, rule: Option<&RuleName>, more: Tallied) {
        self.services.entry(service.clone()).or_default().add(more);
        if let Some(rule) = rule {
            self.rules.entry(rule.clone()).or_default().add(more);
        }
    }

    /// What a service has come to.
    pub(crate) fn of_service(&self, name: &ServiceName) -> Tallied {
        self.services.get(name).copied().unwrap_or_default()
    }

    /// What a rule has come to, in all services.
    pub(crate) fn of_rule(&self, name: &RuleName) -> Tallied {
        self.rules.get(name).copied().unwrap_or_default()
    }
}
