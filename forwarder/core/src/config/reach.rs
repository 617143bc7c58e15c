//! Warnings about rules that no client ever meets, and services that let nobody in.
//!
//! What is said here is certain: a rule is called unreached only if networks alone show it. A rule
//! decides about a network for sure if it asks for nothing else.

use std::collections::HashMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemas::config::{Findings, Refusal};
use schemas::vocab::Transport;

use super::raw::File;
use super::{Action, Config, Origin, Rule};

/// Compares the meaning of a file without faults with the file, for the places.
pub(super) fn warn(config: &Config, file: &File, findings: &mut Findings<'_>) {
    unreached_rules(config, file, findings);
    closed_services(config, file, findings);
}

/// Networks that are decided, and by which rule.
type Decided = HashMap<IpNet, usize>;

/// A service and what its clients speak.
type Entrance = (usize, Transport);

/// What is decided, by the rules that were looked at so far.
#[derive(Debug, Default)]
struct Decisions {
    /// By rules for every service and both transports. They are kept once, or many rules and
    /// services would fill the memory.
    everywhere: Decided,
    at: HashMap<Entrance, Decided>,
}

impl Decisions {
    /// The rule that decides about all of `net`, if a single network of one does.
    fn about(&self, entrance: Entrance, net: IpNet) -> Option<usize> {
        let larger = || std::iter::successors(Some(net), IpNet::supernet);
        let by = |decided: &Decided| larger().find_map(|net| decided.get(&net).copied());
        by(&self.everywhere).or_else(|| self.at.get(&entrance).and_then(by))
    }

    /// Takes in what a rule decides for sure.
    fn add(&mut self, index: usize, rule: &Rule, entrances: &[Entrance]) {
        let decides = rule.listeners.is_empty()
            && rule.not_from.is_empty()
            && rule.client_port.is_empty()
            && rule.server_name.is_empty();
        if !decides {
            return;
        }
        let enter = |decided: &mut Decided| {
            for net in networks(rule) {
                decided.entry(net).or_insert(index);
            }
        };
        if rule.services.is_empty() && rule.transport.is_none() {
            enter(&mut self.everywhere);
            return;
        }
        for entrance in entrances {
            enter(self.at.entry(*entrance).or_default());
        }
    }
}

fn unreached_rules(config: &Config, file: &File, findings: &mut Findings<'_>) {
    let mut decisions = Decisions::default();
    for (index, rule) in config.rules.iter().enumerate() {
        let entrances = entrances(config, rule);
        let warning = match entrances.is_empty() {
            true => nowhere(rule),
            false => decided(config, file, &decisions, rule, &entrances, findings)
                .or_else(|| contradicts_itself(rule)),
        };
        if let Some((why, help)) = warning {
            let message = format!("no client ever reaches this rule: {why}");
            findings.warning(file.rules[index].span.clone(), Refusal::new(message, help));
        }
        decisions.add(index, rule, &entrances);
    }
}

/// Where a rule is asked: at the listeners that it applies to, by their service and transport.
fn entrances(config: &Config, rule: &Rule) -> Vec<Entrance> {
    let mut entrances = Vec::new();
    for (index, service) in config.services.iter().enumerate() {
        if !rule.services.is_empty() && !rule.services.contains(&service.name) {
            continue;
        }
        let own = service.listeners.iter();
        let own = own.filter(|own| rule.listeners.is_empty() || rule.listeners.contains(own));
        let interfaces = service.interfaces.iter().filter(|_| rule.listeners.is_empty());
        let spoken = own
            .map(|listener| listener.transport)
            .chain(interfaces.map(|listener| listener.transport))
            .filter(|transport| rule.transport.is_none_or(|own| own == *transport));
        entrances.extend(spoken.map(|transport| (index, transport)));
    }
    entrances.sort_unstable();
    entrances.dedup();
    entrances
}

/// What to say of a rule that is asked at no listener.
fn nowhere(rule: &Rule) -> Option<(String, &'static str)> {
    let transport = rule.transport?.as_str().to_uppercase();
    Some((
        format!("none of its listeners speaks {transport}"),
        "write another transport, or remove the rule",
    ))
}

/// What to say of a rule about whose clients earlier ones decide.
fn decided(
    config: &Config,
    file: &File,
    decisions: &Decisions,
    rule: &Rule,
    entrances: &[Entrance],
    findings: &Findings<'_>,
) -> Option<(String, &'static str)> {
    let nets = origins(rule)?;
    let covering: Vec<usize> = entrances
        .iter()
        .flat_map(|entrance| nets.iter().map(|net| decisions.about(*entrance, *net)))
        .collect::<Option<_>>()?;
    Some((deciders(config, file, covering, findings), "move it up, or remove it"))
}

fn deciders(
    config: &Config,
    file: &File,
    mut covering: Vec<usize>,
    findings: &Findings<'_>,
) -> String {
    covering.sort_unstable();
    covering.dedup();
    let line = |rule: &usize| findings.line_of(file.rules[*rule].span.clone()).to_string();
    match covering[..] {
        [one] => {
            let name = config.rules[one].name.as_str();
            format!("rule {name:?} in line {} decides first", line(&one))
        }
        _ => {
            let lines: Vec<String> = covering.iter().take(10).map(line).collect();
            format!("the rules in lines {} decide first", lines.join(", "))
        }
    }
}

/// What to say of a rule that takes out everyone whom it is about.
fn contradicts_itself(rule: &Rule) -> Option<(String, &'static str)> {
    let taken_out = plain_networks(&rule.not_from);
    let is_out = |net: &IpNet| taken_out.iter().any(|out| out.contains(net));
    (!taken_out.is_empty() && origins(rule)?.iter().all(is_out)).then(|| {
        ("its not_from takes out everyone in its from".to_owned(), "write a smaller not_from")
    })
}

/// Networks that hold every client of a rule. `None`: not worth the time, as for those of a file.
fn origins(rule: &Rule) -> Option<Vec<IpNet>> {
    let is_network = |origin: &Origin| matches!(origin, Origin::Network(_));
    let is_file = |origin: &Origin| matches!(origin, Origin::File(_));
    if rule.from.iter().any(is_file) {
        return None;
    }
    match rule.from.iter().all(is_network) {
        true => Some(networks(rule)),
        // A name or an interface may have any address.
        false => Some(everyone()),
    }
}

/// Networks all of whose clients meet a rule's `from`, whatever else there is in it.
fn networks(rule: &Rule) -> Vec<IpNet> {
    if rule.from.is_empty() { everyone() } else { plain_networks(&rule.from) }
}

fn everyone() -> Vec<IpNet> {
    vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
}

fn plain_networks(origins: &[Origin]) -> Vec<IpNet> {
    let network = |origin: &Origin| match origin {
        Origin::Network(net) => Some(*net),
        Origin::Name(_) | Origin::Domain(_) | Origin::Interface(_) | Origin::File(_) => None,
    };
    origins.iter().filter_map(network).collect()
}

fn closed_services(config: &Config, file: &File, findings: &mut Findings<'_>) {
    for (index, service) in config.services.iter().enumerate() {
        let passes = |rule: &usize| matches!(config.rules[*rule].action, Action::Pass(_));
        if !config.rules_of(index).iter().any(passes) {
            let name = service.name.as_str();
            let message =
                format!("every client of service {name:?} will be refused: no rule passes one");
            let help = "add [[rule]] with name = \"everyone\" and action = \"pass\" at the end";
            findings.warning(file.services[index].span.clone(), Refusal::new(message, help));
        }
    }
}
