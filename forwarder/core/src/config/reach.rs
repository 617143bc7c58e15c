//! Warnings about rules that no client ever meets, and services that let nobody in.

use std::collections::HashMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemas::config::{Findings, Refusal};

use super::raw::File;
use super::{Action, Config, Origin, Rule};

/// Compares the meaning of a file without faults with the file, for the places.
pub(super) fn warn(config: &Config, file: &File, findings: &mut Findings<'_>) {
    unreached_rules(config, file, findings);
    closed_services(config, file, findings);
}

/// Networks that are decided, and by which rule.
type Decided = HashMap<IpNet, usize>;

fn unreached_rules(config: &Config, file: &File, findings: &mut Findings<'_>) {
    let mut services_of: Vec<Vec<usize>> = vec![Vec::new(); config.rules.len()];
    for service in 0..config.services.len() {
        for rule in config.rules_of(service) {
            services_of[*rule].push(service);
        }
    }
    // A rule for every service is kept once, or many rules and services would fill the memory.
    let mut everywhere = Decided::new();
    let mut decided: Vec<Decided> = vec![Decided::new(); config.services.len()];
    for (index, (rule, services)) in config.rules.iter().zip(services_of).enumerate() {
        let nets = networks(rule);
        let covering: Option<Vec<usize>> = services
            .iter()
            .flat_map(|service| nets.iter().map(|net| (&decided[*service], *net)))
            .map(|(own, net)| covering_rule(&everywhere, net).or_else(|| covering_rule(own, net)))
            .collect();
        if let Some(covering) = covering.filter(|covering| !covering.is_empty()) {
            let first = deciders(config, file, covering, findings);
            let message = format!("no client ever reaches this rule: {first}");
            let help = "move it up, or remove it";
            findings.warning(file.rules[index].span.clone(), Refusal::new(message, help));
        }
        let own = decided.iter_mut().enumerate().filter(|(service, _)| services.contains(service));
        let maps: Vec<&mut Decided> = match rule.services.is_empty() {
            true => vec![&mut everywhere],
            false => own.map(|(_, map)| map).collect(),
        };
        for map in maps {
            for net in &nets {
                map.entry(*net).or_insert(index);
            }
        }
    }
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

/// The rule that decides about all of `net`, if a single network of one does.
fn covering_rule(decided: &Decided, net: IpNet) -> Option<usize> {
    std::iter::successors(Some(net), IpNet::supernet).find_map(|net| decided.get(&net).copied())
}

/// The clients of a rule as networks.
fn networks(rule: &Rule) -> Vec<IpNet> {
    if rule.from.is_empty() {
        return vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    }
    let network = |origin: &Origin| match origin {
        Origin::Network(net) => Some(*net),
        _ => None,
    };
    rule.from.iter().filter_map(network).collect()
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
