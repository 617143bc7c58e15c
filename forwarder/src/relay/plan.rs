//! The configuration in force, in the form the data threads ask it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use forwarder_core::config::{
    Action, CaptureMode, Config, Listener, ProxyAccept, ProxySend, ProxyVersion, Rule, Service,
    Target, Tcp, Timeouts, UdpReplies, WhenBehind,
};
use forwarder_core::matching::{Book, Client, Matcher, Question, Verdict};
use schemas::vocab::{ServiceName, Transport};

use super::billing::{Billed, Billing, Billings};
use super::counters::Counters;
use super::figures::{Figures, RuleCounts, RuleFigures};
use super::seats::Seats;
use super::targets::{Lister, Way};
use crate::dial;
use crate::health::{Known, Registry};
use crate::limits::{Limits, RuleLimits};
use crate::listener::Bound;

/// The counter table's name area has no room for the names of this configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for the name {name:?} in the account's name area: restart the forwarder, which begins a new one, or use fewer names"
)]
pub struct NamesFull {
    /// The first name that did not fit.
    pub name: String,
}

/// What a configuration means for sessions that begin now.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) config: Arc<Config>,
    pub(crate) revision: u32,
    pub(crate) tcp: Arc<Tcp>,
    matcher: Arc<Matcher>,
    services: Arc<HashMap<Listener, Arc<ServicePlan>>>,
    own: Arc<HashMap<(Transport, u16), Vec<IpAddr>>>,
    /// Every target that a session may go to.
    pub(crate) known: Arc<Vec<Known>>,
}

/// What the rules say about a client.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decision<'a> {
    /// It may pass.
    Pass(&'a Arc<RulePlan>, &'a Arc<PassPlan>),
    /// It may not: this rule blocks it, or none matches.
    Block(Option<&'a Arc<RulePlan>>),
    /// This rule would pass it, if it had the name that `[dns]` requires.
    Nameless(&'a Arc<RulePlan>),
    /// That depends on something that takes time to find out.
    Ask(Question),
}

/// One service and the rules that cover it.
#[derive(Debug)]
pub(crate) struct ServicePlan {
    pub(crate) name: ServiceName,
    pub(crate) id: u32,
    /// Of what no rule decides about, and of all of it.
    pub(crate) figures: Arc<RuleCounts>,
    /// Whose PROXY headers are taken.
    proxies: Option<ProxyAccept>,
    /// How long its clients may take to say which server they ask for, never zero.
    preread: Duration,
    /// How many UDP sessions it may have. `None`: any number.
    pub(crate) seats: Option<Seats>,
    /// Its index in the configuration.
    index: usize,
    /// By index in the configuration.
    rules: HashMap<usize, Arc<RulePlan>>,
}

/// One rule as it applies to one service.
#[derive(Debug)]
pub(crate) struct RulePlan {
    pub(crate) rule: Rule,
    pub(crate) id: u32,
    pub(crate) limits: RuleLimits,
    billing: Billing,
    /// Made when it first decides about somebody: most pairs of service and rule never do.
    figures: OnceLock<Arc<RuleFigures>>,
    /// Where its clients want to go, for the log.
    pub(crate) intended: Option<Target>,
    /// `None`: the rule blocks.
    pub(crate) pass: Option<Arc<PassPlan>>,
}

/// How a client that may pass is relayed.
#[derive(Debug)]
pub(crate) struct PassPlan {
    pub(crate) capture: CaptureMode,
    pub(crate) when_behind: WhenBehind,
    pub(crate) udp_replies: UdpReplies,
    pub(crate) udp_reply_ratio: Option<u64>,
    pub(crate) timeouts: Timeouts,
    pub(crate) tcp: Arc<Tcp>,
    /// The PROXY header that targets get, if any.
    pub(crate) proxy_send: Option<ProxyVersion>,
    pub(crate) way: Way,
}

/// What outlives a configuration and is known to those after it by its names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lasting<'a> {
    pub(crate) counters: &'a Counters,
    pub(crate) targets: &'a Registry,
    pub(crate) limits: &'a Limits,
}

impl Plan {
    /// The plan of a configuration whose listeners are bound. `name_id` registers a name.
    ///
    /// # Errors
    /// A name does not fit into the name area.
    pub(crate) fn new(
        config: &Config,
        book: &Book,
        bound: &[Bound],
        lasting: &Lasting<'_>,
        name_id: impl Fn(&str) -> Option<u32>,
    ) -> Result<Self, NamesFull> {
        let name_id = |name: &str| name_id(name).ok_or_else(|| NamesFull { name: name.to_owned() });
        let tcp = Arc::new(config.tcp.clone());
        let mut billings = Billings::default();
        let (mut services, mut known) = (HashMap::new(), Vec::new());
        for (index, service) in config.services.iter().enumerate() {
            let mut lister = Lister::new(lasting.targets, service, bound, &mut known, name_id)?;
            let rules = config.rules_of(index).iter().map(|&rule| {
                let rule_of = &config.rules[rule];
                let billing = billings.of_rule(rule_of.customer.as_ref(), name_id)?;
                let way = lister.of_rule(rule_of)?;
                let plan = RulePlan::new(rule_of, service, way, billing, &tcp, lasting, name_id)?;
                Ok((rule, Arc::new(plan)))
            });
            let plan = Arc::new(ServicePlan {
                name: service.name.clone(),
                id: name_id(service.name.as_str())?,
                figures: lasting.counters.figures.service(&service.name),
                proxies: service.proxy_accept.clone(),
                preread: preread(config, index),
                seats: service
                    .max_udp_sessions
                    .map(|most| Seats::new(most, name_id))
                    .transpose()?,
                index,
                rules: rules.collect::<Result<_, _>>()?,
            });
            services.extend(service.listeners.iter().map(|&at| (at, Arc::clone(&plan))));
        }
        let mut own: HashMap<_, Vec<IpAddr>> = HashMap::new();
        for bound in bound {
            let key = (bound.listener.transport, bound.address.port());
            own.entry(key).or_default().push(bound.address.ip());
        }
        let revision = name_id(&config.revision)?;
        let config = Arc::new(config.clone());
        Ok(Self {
            matcher: Arc::new(Matcher::new(&config, book)),
            config,
            revision,
            tcp,
            services: Arc::new(services),
            own: Arc::new(own),
            known: Arc::new(known),
        })
    }

    /// The same, with other meanings of the names in the rules.
    pub(crate) fn with_book(&self, book: &Book) -> Self {
        let matcher = Arc::new(Matcher::new(&self.config, book));
        Self { matcher, ..self.clone() }
    }

    /// The service that a listener belongs to. `None`: it was removed.
    pub(crate) fn service(&self, listener: Listener) -> Option<&Arc<ServicePlan>> {
        self.services.get(&listener)
    }

    /// Which PROXY header a peer must send first. `None`: it is a client itself.
    pub(crate) fn proxy(&self, listener: Listener, peer: IpAddr) -> Option<&ProxyAccept> {
        let proxies = self.service(listener)?.proxies.as_ref()?;
        proxies.trusted.iter().any(|network| network.contains(&peer)).then_some(proxies)
    }

    /// How long a client may take to say which server it asks for, never zero.
    pub(crate) fn preread(&self, listener: Listener) -> Duration {
        self.service(listener).map_or(self.config.timeouts.preread, |service| service.preread)
    }

    /// What the rules say about a client of a service.
    pub(crate) fn decide<'a>(&self, service: &'a ServicePlan, client: &Client<'_>) -> Decision<'a> {
        let plan = |rule: usize| service.rules.get(&rule);
        match self.matcher.judge(service.index, client) {
            Verdict::Pass { rule } => {
                match plan(rule).and_then(|rule| Some((rule, rule.pass()?))) {
                    Some((rule, pass)) => Decision::Pass(rule, pass),
                    None => Decision::Block(plan(rule)),
                }
            }
            Verdict::Block { rule } => Decision::Block(rule.and_then(plan)),
            Verdict::Nameless { rule } => {
                plan(rule).map_or(Decision::Block(None), Decision::Nameless)
            }
            Verdict::Ask(question) => Decision::Ask(question),
        }
    }

    /// Whether whoever dials `target` reaches one of our own listeners.
    pub(crate) fn is_own(&self, transport: Transport, target: SocketAddr) -> bool {
        let Some(addresses) = self.own.get(&(transport, target.port())) else { return false };
        // The kernel takes the unspecified address for the loopback one when it connects.
        let target = target.ip().to_canonical();
        addresses.iter().any(|&own| {
            own == target
                || target.is_unspecified() && own.is_ipv4() == target.is_ipv4()
                || own.is_unspecified()
                    && own.is_ipv4() == target.is_ipv4()
                    && dial::is_local(target)
        })
    }
}

/// The longest that a rule of a service waits for a server's name: which rule it will be is not
/// known before.
fn preread(config: &Config, service: usize) -> Duration {
    let rules = config.rules_of(service).iter().map(|&rule| &config.rules[rule]);
    let longest =
        rules.filter(|rule| !rule.server_name.is_empty()).map(|rule| match &rule.action {
            Action::Pass(pass) => pass.timeouts.preread,
            Action::Block => config.timeouts.preread,
        });
    longest.max().unwrap_or(config.timeouts.preread)
}

impl RulePlan {
    fn new(
        rule: &Rule,
        service: &Service,
        way: Way,
        billing: Billing,
        tcp: &Arc<Tcp>,
        lasting: &Lasting<'_>,
        name_id: impl Fn(&str) -> Result<u32, NamesFull>,
    ) -> Result<Self, NamesFull> {
        let pass = match &rule.action {
            Action::Block => None,
            Action::Pass(pass) => Some(Arc::new(PassPlan {
                capture: pass.capture,
                when_behind: pass.capture_when_behind,
                udp_replies: pass.udp_replies,
                udp_reply_ratio: pass.udp_reply_ratio,
                timeouts: pass.timeouts,
                tcp: Arc::clone(tcp),
                proxy_send: match pass.proxy_send {
                    ProxySend::AsService => service.proxy_send,
                    ProxySend::Off => None,
                    ProxySend::On(version) => Some(version),
                },
                way,
            })),
        };
        let id = name_id(rule.name.as_str())?;
        let own = match &rule.action {
            Action::Pass(pass) => pass.targets.first(),
            Action::Block => None,
        };
        Ok(Self {
            rule: rule.clone(),
            id,
            limits: lasting.limits.of_rule(rule, name_id)?,
            billing,
            figures: OnceLock::new(),
            intended: own.or(service.targets.first()).cloned(),
            pass,
        })
    }

    /// What sessions of `service` that the rule decides about are counted in.
    pub(crate) fn figures(&self, service: &ServicePlan, figures: &Figures) -> &Arc<RuleFigures> {
        self.figures.get_or_init(|| {
            let targets = self.pass.iter().flat_map(|pass| pass.way.targets.all());
            Arc::new(figures.rule(&service.name, &self.rule.name, targets))
        })
    }

    fn pass(&self) -> Option<&Arc<PassPlan>> {
        self.pass.as_ref()
    }

    /// Who is billed for a client's sessions, if anybody.
    pub(crate) fn customer(&self, client: IpAddr) -> Option<&Arc<Billed>> {
        self.billing.of(client)
    }
}
