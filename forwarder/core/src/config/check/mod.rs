//! Faults that no value has on its own: what is missing, written twice, or does not fit together;
//! and what does nothing where it stands.

mod alerts;
mod limits;
mod listeners;
mod rules;
mod services;

use std::collections::HashMap;
use std::ops::Range;

use schemas::config::{Findings, Refusal};
use schemas::vocab::Transport;
use toml::Spanned;

use super::Environment;
use super::leaf::{Leaf, List};
use super::raw::{File, Rule, Service};

/// Most services of a file.
const MAX_SERVICES: usize = 1024;

/// Most rules of a file. Their names and those of the services go to the counter table's name
/// area, which holds them all unless they are long.
const MAX_RULES: usize = 4096;

/// Most alerts of a file.
const MAX_ALERTS: usize = 256;

/// Most name servers.
const MAX_NAME_SERVERS: usize = 8;

/// Reports every such fault.
pub(super) fn check(file: &File, environment: &Environment, findings: &mut Findings<'_>) {
    if too_many(file, findings) {
        return;
    }
    node(file, environment, findings);
    file.tcp.check(environment, findings);
    services::check(file, environment, findings);
    rules::check(file, environment, findings);
    listeners::check(file, environment, findings);
    alerts::check(file, findings);
}

/// Whether the file is beyond a bound. Then nothing is compared with everything else.
fn too_many(file: &File, findings: &mut Findings<'_>) -> bool {
    let bounds = [
        (
            file.services.get(MAX_SERVICES).map(|one_more| one_more.span.clone()),
            format!("there are more than {MAX_SERVICES} services"),
            "give services with the same targets one [[service]] with several listeners",
        ),
        (
            file.rules.get(MAX_RULES).map(|one_more| one_more.span.clone()),
            format!("there are more than {MAX_RULES} rules"),
            "give networks with the same verdict one [[rule]] with several networks",
        ),
        (
            listeners::one_too_many(file),
            format!("there are more than {} listeners", listeners::MAX_LISTENERS),
            "listen on 0.0.0.0 or [::] instead of on every address",
        ),
        (
            file.alerts.get(MAX_ALERTS).map(|one_more| one_more.span.clone()),
            format!("there are more than {MAX_ALERTS} alerts"),
            "let one [[alert]] watch several services, rules or targets",
        ),
        (
            file.dns.servers.entries().get(MAX_NAME_SERVERS).map(Spanned::span),
            format!("there are more than {MAX_NAME_SERVERS} name servers"),
            "write the nearest",
        ),
    ];
    let mut any = false;
    for (one_more, message, help) in bounds {
        if let Some(span) = one_more {
            any = true;
            findings.fault(span, Refusal::new(message, help));
        }
    }
    any
}

fn node(file: &File, environment: &Environment, findings: &mut Findings<'_>) {
    let name = &environment.host_name;
    if file.node.is_absent() && name.parse::<schemas::vocab::NodeName>().is_err() {
        let message = format!("node is missing, and the host name {name:?} cannot stand in for it");
        findings.fault_of_file(Refusal::new(message, "write node = \"edge-1\" at the top"));
    }
}

fn missing<T>(
    leaf: &Leaf<T>,
    path: &str,
    help: &str,
    span: Range<usize>,
    findings: &mut Findings<'_>,
) {
    if leaf.is_absent() {
        findings.fault(span, Refusal::new(format!("{path} is missing"), help));
    }
}

fn twice<'a, T: ToString + 'a>(
    names: impl Iterator<Item = &'a Spanned<T>>,
    what: &str,
    findings: &mut Findings<'_>,
) {
    let mut seen: HashMap<String, Range<usize>> = HashMap::new();
    for name in names {
        let text = name.get_ref().to_string();
        match seen.get(&text) {
            Some(first) => {
                let line = findings.line_of(first.clone());
                let message = format!("there is another {what} {text:?} in line {line}");
                findings.fault(name.span(), Refusal::new(message, format!("write \"{text}-2\"")));
            }
            None => {
                seen.insert(text, name.span());
            }
        }
    }
}

/// Reports the names in a list that nothing in the file has.
fn unknown<'a, T: AsRef<str> + 'a>(
    wanted: &Leaf<List<T>>,
    names: impl Iterator<Item = &'a Leaf<T>> + Clone,
    what: &str,
    findings: &mut Findings<'_>,
) {
    // Whatever has a faulty name may be the one that is meant.
    if names.clone().any(|name| name.value().is_none()) {
        return;
    }
    let names = || names.clone().filter_map(|name| name.value().map(AsRef::as_ref));
    for name in wanted.entries() {
        let text = name.get_ref().as_ref();
        if names().any(|known| known == text) {
            continue;
        }
        let near = names()
            .map(|known| (strsim::jaro_winkler(known, text), known))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let help = match near {
            Some((_, known)) => format!("did you mean {known:?}?"),
            None => {
                let all: Vec<&str> = names().take(20).collect();
                format!("the {what}s are: {}", all.join(", "))
            }
        };
        findings.fault(name.span(), Refusal::new(format!("there is no {what} {text:?}"), help));
    }
}

/// Whether a rule applies to a service, as far as both can be read.
fn applies(rule: &Rule, service: &Service) -> bool {
    match (&rule.services, service.name.value()) {
        (Leaf::Absent, _) => true,
        (Leaf::Given(names), Some(name)) => {
            names.get_ref().iter().any(|wanted| wanted.get_ref() == name)
        }
        (Leaf::Faulty | Leaf::Given(_), _) => false,
    }
}

/// What the listeners of services speak.
fn transports<'a>(services: impl Iterator<Item = &'a Service>) -> Vec<Transport> {
    let entries = services.flat_map(|service| service.listen.entries());
    let mut transports: Vec<Transport> = entries
        .flat_map(|entry| entry.get_ref().iter().map(|listener| listener.transport()))
        .collect();
    transports.sort_unstable();
    transports.dedup();
    transports
}

/// What a rule's clients speak: what it says, as far as there are listeners for it.
fn transports_of(file: &File, rule: &Rule) -> Vec<Transport> {
    let services = file.services.iter().filter(|service| applies(rule, service));
    let mut transports = transports(services);
    if let Some(own) = rule.transport.value() {
        transports.retain(|transport| transport == own);
    }
    transports
}
