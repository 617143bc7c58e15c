//! What is wrong with services.

use schemas::config::{Findings, Refusal, show_duration};
use schemas::vocab::Transport;
use toml::Spanned;

use super::{applies, missing, transports, twice};
use crate::config::leaf::Leaf;
use crate::config::raw::{Action, File, Health, Proxy, Rule, Service};
use crate::config::{Environment, Host, Source, Target};
use crate::target::MAX_TARGETS;

pub(super) fn check(file: &File, environment: &Environment, findings: &mut Findings<'_>) {
    if file.services.is_empty() && !findings.has_faults() {
        let help = "write [[service]] with name, listen and target";
        findings.fault_of_file(Refusal::new("there is no service: nothing to forward", help));
    }
    for service in &file.services {
        let span = || service.span.clone();
        missing(&service.name, "service.name", "write name = \"web\"", span(), findings);
        let help = "write listen = [\"tcp://0.0.0.0:8080\"]";
        missing(&service.listen, "service.listen", help, span(), findings);
        if let Some(own) = &service.health {
            health(own, findings);
        }
        if let Some(own) = &service.proxy {
            proxy(own, findings);
        }
        source(&service.source, service.target.entries(), environment, findings);
        too_many(service.target.entries(), findings);
        does_nothing(file, service, findings);
    }
    twice(file.services.iter().filter_map(|service| service.name.given()), "service", findings);
    targets(file, findings);
}

fn health(health: &Health, findings: &mut Findings<'_>) {
    if let (Some(timeout), Some(every)) = (health.timeout.given(), health.every.value())
        && timeout.get_ref() > every
    {
        let every = show_duration(*every);
        let message = format!("the next check begins after {every}, before this one has ended");
        findings.fault(timeout.span(), Refusal::new(message, format!("write \"{every}\" or less")));
    }
}

fn proxy(proxy: &Proxy, findings: &mut Findings<'_>) {
    match (proxy.accept.is_absent(), proxy.trusted.is_absent()) {
        (false, true) => {
            let message = "accept without trusted: anybody could claim to be anybody";
            let help = "write the networks of the proxies, as in trusted = [\"10.0.0.0/8\"]";
            findings.fault(proxy.span.clone(), Refusal::new(message, help));
        }
        (true, false) => {
            let message = "trusted without accept does nothing";
            let help = "write accept = \"any\", \"v1\" or \"v2\"";
            findings.fault(proxy.span.clone(), Refusal::new(message, help));
        }
        (true, true) if proxy.send.is_absent() => {
            let help = "write accept and trusted, send, or all three";
            findings.fault(proxy.span.clone(), Refusal::new("this says nothing", help));
        }
        _ => {}
    }
}

/// Reports a source address that cannot reach a target, and warns of one that this machine has
/// not.
pub(super) fn source(
    source: &Leaf<Source>,
    targets: &[Spanned<Target>],
    environment: &Environment,
    findings: &mut Findings<'_>,
) {
    let Some(given) = source.given() else { return };
    let Source::Address(address) = given.get_ref() else { return };
    let other_family = |target: &&Spanned<Target>| match &target.get_ref().host {
        Host::Address(target) => target.is_ipv4() != address.is_ipv4(),
        Host::Name(_) => false,
    };
    if let Some(target) = targets.iter().find(other_family) {
        let message = format!("{} cannot be reached from {address}", target.get_ref());
        let help = "write a source of the target's kind, IPv4 or IPv6";
        findings.fault(given.span(), Refusal::new(message, help));
    }
    let known = &environment.local_addresses;
    if !known.is_empty() && !address.is_loopback() && !known.contains(address) {
        let message = format!("no network interface of this machine has the address {address} now");
        let help = "without it no target can be dialled";
        findings.warning(given.span(), Refusal::new(message, help));
    }
}

/// Warns of what has no meaning for the service's listeners or targets.
fn does_nothing(file: &File, service: &Service, findings: &mut Findings<'_>) {
    let spoken = transports([service].into_iter());
    if spoken.is_empty() {
        return;
    }
    let useless = |key: &str, why: &str| {
        Refusal::new(format!("service.{key} does nothing: {why}"), format!("remove {key}"))
    };
    if !spoken.contains(&Transport::Udp)
        && let Some(given) = service.max_udp_sessions.given()
    {
        let refusal = useless("max_udp_sessions", "the service has no UDP listener");
        findings.warning(given.span(), refusal);
    }
    if !spoken.contains(&Transport::Tcp)
        && let Some(proxy) = &service.proxy
    {
        let why = "the service has no TCP listener, and only TCP carries a PROXY header";
        findings.warning(proxy.span.clone(), useless("proxy_protocol", why));
    }
    let rules = file.rules.iter().filter(|rule| applies(rule, service));
    let most = rules.map(|rule| rule.target.entries().len()).max().unwrap_or(0);
    if most.max(service.target.entries().len()) == 1
        && let Some(given) = service.balance.given()
    {
        findings.warning(given.span(), useless("balance", "there is one target alone"));
    }
}

/// Reports a list of targets that is too long.
pub(super) fn too_many(targets: &[Spanned<Target>], findings: &mut Findings<'_>) {
    if let Some(one_more) = targets.get(MAX_TARGETS) {
        let message = format!("there are more than {MAX_TARGETS} targets in the list");
        let help = "write a host name for several of them";
        findings.fault(one_more.span(), Refusal::new(message, help));
    }
}

/// Services that some client may use and that have nowhere to go.
fn targets(file: &File, findings: &mut Findings<'_>) {
    for service in file.services.iter().filter(|service| service.target.is_absent()) {
        let passing: Vec<&Rule> = file
            .rules
            .iter()
            .filter(|rule| rule.action.value() == Some(&Action::Pass) && applies(rule, service))
            .collect();
        let why = match passing.iter().find(|rule| rule.target.is_absent()) {
            None if passing.is_empty() => "no rule gives it one".to_owned(),
            None => continue,
            Some(rule) => match rule.name.value() {
                Some(name) => format!("rule {:?} passes clients without one", name.as_str()),
                None => "a rule passes clients without one".to_owned(),
            },
        };
        let message = format!("the service has no target, and {why}");
        let help = "write target = [\"10.0.0.5:80\"]";
        findings.fault(service.span.clone(), Refusal::new(message, help));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_list_of_too_many_targets_is_told_where_it_is_too_long() {
        let environment = Environment {
            host_name: "a".to_owned(),
            local_addresses: Vec::new(),
            congestion_controls: Vec::new(),
            files: BTreeMap::new(),
        };
        let parse = |count: usize| {
            let targets: String = (0..count).map(|port| format!("\"a:{}\",\n", port + 1)).collect();
            let text = format!(
                "[[service]]\nname = \"s\"\nlisten = [\"127.0.0.1:1\"]\ntarget = [\n{targets}]\n"
            );
            Config::parse(&text, "f", &environment)
        };
        assert!(parse(MAX_TARGETS).is_ok());
        let faults = parse(MAX_TARGETS + 1).unwrap_err().to_string();
        assert!(faults.starts_with("f:133:1: there are more than 128 targets"), "{faults}");
    }
}
