//! Where sessions go: the targets of a rule and service, each with the port that is dialled.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use forwarder_core::config::{Action, Balance, Health, Host, Rule, Service, Source, Target};
use forwarder_core::target::Pool;
use schemas::vocab::{ServiceName, Transport};

use super::plan::NamesFull;
use crate::health::{Key, Known, Registry};
use crate::listener::Bound;

/// A target as it is dialled.
#[derive(Debug)]
pub(crate) struct TargetPlan {
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// The id of its name; 0: configured as an address.
    pub(crate) name_id: u32,
}

/// Where a rule's sessions go.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) targets: Arc<Targets>,
    /// The address of ours that targets see.
    pub(crate) source: Source,
}

/// A list of targets.
#[derive(Debug)]
pub(crate) enum Targets {
    /// Each with a port of its own.
    Fixed(Pool<TargetPlan>),
    /// By the port that the client came to, which is dialled where the file says no other. The same
    /// machine may be up on one port and down on another, so each port is a pool of its own.
    ByPort(HashMap<u16, Pool<TargetPlan>>),
    /// None at all: each rule of the service has targets of its own.
    None,
}

impl Targets {
    /// Every target that sessions may go to, with its port.
    pub(crate) fn all(&self) -> Vec<Target> {
        let pools: Vec<&Pool<TargetPlan>> = match self {
            Self::Fixed(pool) => vec![pool],
            Self::ByPort(pools) => pools.values().collect(),
            Self::None => Vec::new(),
        };
        let target = |plan: &TargetPlan| Target { host: plan.host.clone(), port: Some(plan.port) };
        pools.into_iter().flat_map(Pool::targets).map(target).collect()
    }

    /// The targets of a client that came to this port. `None`: there are none.
    pub(crate) fn pool(&self, listen_port: u16) -> Option<&Pool<TargetPlan>> {
        match self {
            Self::Fixed(pool) => Some(pool),
            Self::ByPort(pools) => pools.get(&listen_port),
            Self::None => None,
        }
    }
}

/// Makes the lists of one service, and notes what targets they hold.
pub(crate) struct Lister<'a, N> {
    registry: &'a Registry,
    service: ServiceName,
    balance: Balance,
    health: Option<Health>,
    /// The ports that clients come to, and how.
    ports: BTreeMap<u16, Vec<Transport>>,
    name_id: N,
    known: &'a mut Vec<Known>,
    seen: HashMap<Key, usize>,
    /// Where sessions go unless a rule says otherwise.
    of_service: Way,
}

impl<'a, N: Fn(&str) -> Result<u32, NamesFull>> Lister<'a, N> {
    /// Lists for a service whose listeners are among `bound`. `name_id` registers a name.
    ///
    /// # Errors
    /// A name does not fit into the name area.
    pub(crate) fn new(
        registry: &'a Registry,
        service: &Service,
        bound: &[Bound],
        known: &'a mut Vec<Known>,
        name_id: N,
    ) -> Result<Self, NamesFull> {
        let mut ports: BTreeMap<u16, Vec<Transport>> = BTreeMap::new();
        let theirs = |bound: &&Bound| service.listeners.contains(&bound.listener);
        for bound in bound.iter().filter(theirs) {
            let transports = ports.entry(bound.address.port()).or_default();
            if !transports.contains(&bound.listener.transport) {
                transports.push(bound.listener.transport);
            }
        }
        let mut lister = Self {
            registry,
            service: service.name.clone(),
            balance: service.balance,
            health: service.health,
            ports,
            name_id,
            known,
            seen: HashMap::new(),
            of_service: Way { targets: Arc::new(Targets::None), source: service.source },
        };
        lister.of_service.targets = lister.list(&service.targets, service.source)?;
        Ok(lister)
    }

    /// Where the sessions of a rule go.
    ///
    /// # Errors
    /// A name does not fit into the name area.
    pub(crate) fn of_rule(&mut self, rule: &Rule) -> Result<Way, NamesFull> {
        let mut way = self.of_service.clone();
        let Action::Pass(pass) = &rule.action else { return Ok(way) };
        way.source = pass.source.unwrap_or(way.source);
        if !pass.targets.is_empty() {
            way.targets = self.list(&pass.targets, way.source)?;
        }
        Ok(way)
    }

    fn list(&mut self, targets: &[Target], source: Source) -> Result<Arc<Targets>, NamesFull> {
        if targets.is_empty() {
            return Ok(Arc::new(Targets::None));
        }
        if targets.iter().all(|target| target.port.is_some()) {
            let mut transports: Vec<_> = self.ports.values().flatten().copied().collect();
            transports.sort_unstable();
            transports.dedup();
            let pool = self.pool(targets, 0, &transports, source)?;
            return Ok(Arc::new(Targets::Fixed(pool)));
        }
        let pools =
            self.ports.clone().into_iter().map(|(port, transports)| {
                Ok((port, self.pool(targets, port, &transports, source)?))
            });
        Ok(Arc::new(Targets::ByPort(pools.collect::<Result<_, _>>()?)))
    }

    fn pool(
        &mut self,
        targets: &[Target],
        listen_port: u16,
        transports: &[Transport],
        source: Source,
    ) -> Result<Pool<TargetPlan>, NamesFull> {
        let mut members = Vec::with_capacity(targets.len());
        for target in targets {
            let (host, port) = (target.host.clone(), target.port.unwrap_or(listen_port));
            let name_id = match &host {
                Host::Address(_) => 0,
                Host::Name(name) => (self.name_id)(name)?,
            };
            let text = match &host {
                Host::Address(address) => address.to_string(),
                Host::Name(name) => name.clone(),
            };
            let key = Key { service: self.service.clone(), host: host.clone(), port };
            let health = self.registry.health(&key);
            self.note(Known {
                key,
                health: Arc::clone(&health),
                transports: transports.to_vec(),
                check: self.health.filter(|_| self.is_checked(target, transports)),
                source,
            });
            members.push((text, port, health, TargetPlan { host, port, name_id }));
        }
        Ok(Pool::new(self.balance, members))
    }

    /// Checks speak TCP. Where only the port that clients came to is known, a port that none comes to
    /// by TCP is not checked, unless none comes to any.
    fn is_checked(&self, target: &Target, transports: &[Transport]) -> bool {
        let tcp = |transports: &[Transport]| transports.contains(&Transport::Tcp);
        target.port.is_some() || tcp(transports) || !self.ports.values().any(|all| tcp(all))
    }

    /// Notes a target, which another list of the service may hold too.
    fn note(&mut self, target: Known) {
        let Some(&index) = self.seen.get(&target.key) else {
            self.seen.insert(target.key.clone(), self.known.len());
            self.known.push(target);
            return;
        };
        let known = &mut self.known[index];
        known.transports.extend(target.transports);
        known.transports.sort_unstable();
        known.transports.dedup();
        known.check = known.check.or(target.check);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use forwarder_core::config::Listener;

    use super::*;

    fn bound(listeners: &[(&str, Transport, u16)]) -> Vec<Bound> {
        let bound = |(address, transport, port): &(&str, Transport, u16)| Bound {
            listener: Listener { transport: *transport, address: address.parse().unwrap() },
            address: std::net::SocketAddr::new([127, 0, 0, 1].into(), *port),
        };
        listeners.iter().map(bound).collect()
    }

    fn target(text: &str, port: Option<u16>) -> Target {
        Target { host: Host::Name(text.to_owned()), port }
    }

    /// The lists of a service, and what targets they hold, as text.
    fn lists(bound: &[Bound], lists: &[&[Target]]) -> (Vec<Arc<Targets>>, Vec<String>) {
        let environment = forwarder_core::config::Environment {
            host_name: "a".to_owned(),
            local_addresses: Vec::new(),
            congestion_controls: Vec::new(),
            files: BTreeMap::new(),
        };
        let source = "[[service]]\nname = \"s\"\nlisten = [\"127.0.0.1:1\"]\ntarget = [\"a:2\"]\n";
        let config = forwarder_core::config::Config::parse(source, "f", &environment).unwrap();
        let mut service = config.services[0].clone();
        let second = Duration::from_secs(1);
        service.targets.clear();
        service.listeners = bound.iter().map(|bound| bound.listener).collect();
        service.health = Some(Health { every: second, timeout: second, rise: 1, fall: 1 });
        let registry = Registry::new(Instant::now());
        let mut known = Vec::new();
        let name_id = |_: &str| Ok(1);
        let mut lister = Lister::new(&registry, &service, bound, &mut known, name_id).unwrap();
        let made = lists.iter().map(|list| lister.list(list, Source::Kernel).unwrap()).collect();
        let shown = |known: &Known| {
            let check = if known.check.is_some() { "checked" } else { "not checked" };
            format!("{} {:?} {check}", known.key.target(), known.transports)
        };
        (made, known.iter().map(shown).collect())
    }

    fn ports(pool: &Pool<TargetPlan>) -> Vec<u16> {
        pool.targets().map(|target| target.port).collect()
    }

    #[test]
    fn a_target_without_a_port_takes_the_one_that_the_client_came_to() {
        let bound = bound(&[
            ("127.0.0.1:0", Transport::Tcp, 4000),
            ("127.0.0.1:1", Transport::Tcp, 4001),
            ("127.0.0.1:1", Transport::Udp, 4002),
        ]);
        let (lists, known) = lists(&bound, &[&[target("a", None), target("b", Some(80))]]);
        assert_eq!(ports(lists[0].pool(4000).unwrap()), [4000, 80]);
        assert_eq!(ports(lists[0].pool(4001).unwrap()), [4001, 80]);
        assert!(lists[0].pool(4003).is_none());
        assert_eq!(
            known,
            [
                "a:4000 [Tcp] checked",
                "b:80 [Tcp, Udp] checked",
                "a:4001 [Tcp] checked",
                "a:4002 [Udp] not checked",
            ]
        );
    }

    #[test]
    fn a_target_that_several_lists_hold_is_one() {
        let bound = bound(&[("127.0.0.1:1", Transport::Udp, 53)]);
        let (both, one) = ([target("a", Some(53)), target("b", Some(53))], [target("b", Some(53))]);
        let (lists, known) = lists(&bound, &[&both, &one]);
        assert_eq!(ports(lists[1].pool(53).unwrap()), [53]);
        assert_eq!(known, ["a:53 [Udp] checked", "b:53 [Udp] checked"]);
    }
}
