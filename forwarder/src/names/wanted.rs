//! Which names a configuration wants to know.

use std::collections::BTreeSet;
use std::sync::Arc;

use forwarder_core::config::{Action, Config, Host, Origin, Target};

use super::wire::Servers;

/// What is to be followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Who is asked.
    pub(crate) servers: Servers,
    /// Host names in rules.
    pub(crate) in_rules: BTreeSet<Arc<str>>,
    /// Host names of targets.
    pub(crate) targets: BTreeSet<Arc<str>>,
    /// Network interfaces.
    pub(crate) interfaces: BTreeSet<String>,
}

impl Wanted {
    /// What a configuration needs.
    pub(crate) fn by(config: &Config) -> Self {
        let patience = config.timeouts.resolve;
        let servers = Servers { addresses: config.dns.servers.clone(), patience };
        let mut wanted = Self { servers, ..Self::default() };
        for service in &config.services {
            wanted.add_targets(&service.targets);
            let interfaces = service.interfaces.iter().map(|listener| listener.interface.clone());
            wanted.interfaces.extend(interfaces);
        }
        for rule in &config.rules {
            for origin in rule.from.iter().chain(&rule.not_from) {
                match origin {
                    Origin::Name(name) => drop(wanted.in_rules.insert(name.as_str().into())),
                    Origin::Interface(name) => drop(wanted.interfaces.insert(name.clone())),
                    Origin::Network(_) | Origin::Domain(_) | Origin::File(_) => {}
                }
            }
            if let Action::Pass(pass) = &rule.action {
                wanted.add_targets(&pass.targets);
            }
        }
        wanted
    }

    fn add_targets(&mut self, targets: &[Target]) {
        for target in targets {
            if let Host::Name(name) = &target.host {
                self.targets.insert(name.as_str().into());
            }
        }
    }

    /// The same, and what another configuration needs besides.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.in_rules.extend(other.in_rules);
        self.targets.extend(other.targets);
        self.interfaces.extend(other.interfaces);
        self
    }

    /// Every host name.
    pub(crate) fn names(&self) -> BTreeSet<Arc<str>> {
        self.in_rules.union(&self.targets).cloned().collect()
    }
}
