//! Faults that no value has on its own: what is missing, written twice, or does not fit together;
//! and what does nothing where it stands.

mod limits;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use schemas::config::{Findings, Refusal};
use schemas::vocab::Transport;
use toml::Spanned;

use super::leaf::Leaf;
use super::raw::{Action, File, Rule, Service};
use super::{CaptureMode, Environment, Host, Listener, Target};

/// Most services of a file.
const MAX_SERVICES: usize = 1024;

/// Most rules of a file. Their names and those of the services go to the counter table's name
/// area, which holds them all unless they are long.
const MAX_RULES: usize = 4096;

/// Most listeners of a file, both transports counted.
const MAX_LISTENERS: usize = 4096;

/// Reports every such fault.
pub(super) fn check(file: &File, environment: &Environment, findings: &mut Findings<'_>) {
    if too_many(file, findings) {
        return;
    }
    node(file, environment, findings);
    file.tcp.check(environment, findings);
    services(file, findings);
    rules(file, findings);
    listeners(file, findings);
    targets(file, findings);
    loops(file, environment, findings);
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
            all_listeners(file).nth(MAX_LISTENERS).map(|(_, span, _)| span),
            format!("there are more than {MAX_LISTENERS} listeners"),
            "listen on 0.0.0.0 or [::] instead of on every address",
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

fn services(file: &File, findings: &mut Findings<'_>) {
    if file.services.is_empty() && !findings.has_faults() {
        let help = "write [[service]] with name, listen and target";
        findings.fault_of_file(Refusal::new("there is no service: nothing to forward", help));
    }
    for service in &file.services {
        let span = || service.span.clone();
        missing(&service.name, "service.name", "write name = \"web\"", span(), findings);
        let help = "write listen = [\"tcp://0.0.0.0:8080\"]";
        missing(&service.listen, "service.listen", help, span(), findings);
    }
    twice(file.services.iter().filter_map(|service| service.name.given()), "service", findings);
}

fn rules(file: &File, findings: &mut Findings<'_>) {
    for rule in &file.rules {
        let span = || rule.span.clone();
        missing(&rule.name, "rule.name", "write name = \"everyone\"", span(), findings);
        let help = "write action = \"pass\" or action = \"block\"";
        missing(&rule.action, "rule.action", help, span(), findings);
        known_services(file, rule, findings);
        match rule.action.value() {
            Some(Action::Block) => nothing_to_relay(rule, findings),
            Some(Action::Pass) => {
                nothing_to_keep(rule, findings);
                limits::check(rule, findings);
            }
            None => {}
        }
    }
    twice(file.rules.iter().filter_map(|rule| rule.name.given()), "rule", findings);
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

fn known_services(file: &File, rule: &Rule, findings: &mut Findings<'_>) {
    let Some(wanted) = rule.services.value() else { return };
    // A service whose name is faulty may be the one that is meant.
    if file.services.iter().any(|service| service.name.value().is_none()) {
        return;
    }
    let names = || file.services.iter().filter_map(|service| service.name.value());
    for name in wanted {
        if names().any(|known| known == name.get_ref()) {
            continue;
        }
        let message = format!("there is no service {:?}", name.get_ref().as_str());
        let near = names()
            .map(|known| (strsim::jaro_winkler(known.as_str(), name.get_ref().as_str()), known))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let help = match near {
            Some((_, known)) => format!("did you mean \"{known}\"?"),
            None => {
                let all: Vec<&str> = names().map(|known| known.as_str()).take(20).collect();
                format!("the services are: {}", all.join(", "))
            }
        };
        findings.fault(name.span(), Refusal::new(message, help));
    }
}

/// A rule that blocks has nothing to say about relaying.
fn nothing_to_relay(rule: &Rule, findings: &mut Findings<'_>) {
    let keys = [
        ("target", rule.target.given().map(Spanned::span)),
        ("capture", rule.capture.given().map(Spanned::span)),
        ("capture_when_behind", rule.capture_when_behind.given().map(Spanned::span)),
        ("limit", rule.limits.first().map(|limit| limit.span.clone())),
        ("quota", rule.quota.as_ref().map(|quota| quota.span.clone())),
        ("timeouts", rule.timeouts_span.clone()),
    ];
    for (key, span) in keys {
        if let Some(span) = span {
            let message = format!("rule.{key} does nothing in a rule that blocks");
            let help = format!("remove {key}, or write action = \"pass\"");
            findings.fault(span, Refusal::new(message, help));
        }
    }
}

/// A rule that keeps nothing is never behind with it.
fn nothing_to_keep(rule: &Rule, findings: &mut Findings<'_>) {
    let off = rule.capture.is_absent() || rule.capture.value() == Some(&CaptureMode::Off);
    if let Some(given) = rule.capture_when_behind.given().filter(|_| off) {
        let message = "rule.capture_when_behind does nothing: the rule captures nothing";
        let help = "write capture = \"full\", or remove capture_when_behind";
        findings.warning(given.span(), Refusal::new(message, help));
    }
}

/// A listener with the place of its entry and the service it belongs to.
type Placed<'f> = (Listener, Range<usize>, &'f Service);

fn all_listeners(file: &File) -> impl Iterator<Item = Placed<'_>> {
    file.services.iter().flat_map(|service| {
        let entries = service.listen.entries().iter();
        entries.flat_map(move |entry| {
            entry.get_ref().iter().map(move |listener| (*listener, entry.span(), service))
        })
    })
}

fn shown(service: &Service) -> String {
    service.name.value().map(|name| format!(" of service {:?}", name.as_str())).unwrap_or_default()
}

/// Two listeners that could not both be bound: the kernel gives an address and port to one
/// socket, and the wildcard address takes the port of every address of its family.
fn listeners(file: &File, findings: &mut Findings<'_>) {
    let mut taken: HashMap<(Transport, u16), Vec<Placed<'_>>> = HashMap::new();
    for (listener, span, service) in all_listeners(file) {
        let (own, port) = (listener.address.ip(), listener.address.port());
        let others = taken.entry((listener.transport, port)).or_default();
        let clashes = |other: IpAddr| {
            // The kernel picks a free port for each 0, but the two could not be told apart.
            let wildcard = port != 0 && (other.is_unspecified() || own.is_unspecified());
            other == own || wildcard && other.is_ipv4() == own.is_ipv4()
        };
        if let Some((other, at, whose)) = others.iter().find(|o| clashes(o.0.address.ip())) {
            let line = findings.line_of(at.clone());
            let whose = shown(whose);
            let message = match *other == listener {
                true => format!("{listener} is also a listener{whose} in line {line}"),
                false => format!("{listener} collides with {other}{whose} in line {line}"),
            };
            findings.fault(span.clone(), Refusal::new(message, "write another address or port"));
        }
        others.push((listener, span, service));
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

/// Targets that are listeners of our own: each session would open the next one, for ever.
fn loops(file: &File, environment: &Environment, findings: &mut Findings<'_>) {
    let listeners: Vec<_> = all_listeners(file).collect();
    let mut look = |targets: &[Spanned<Target>], transports: &[Transport]| {
        for target in targets {
            let hit = listeners.iter().find(|(listener, _, _)| {
                transports.contains(&listener.transport)
                    && reaches(target.get_ref(), *listener, environment)
            });
            if let Some((listener, at, whose)) = hit {
                let line = findings.line_of(at.clone());
                let whose = shown(whose);
                let message = format!(
                    "the target {} is our own listener {listener}{whose} in line {line}: a \
                     session would open the next one, for ever",
                    target.get_ref()
                );
                let help = "write the address of the server behind it";
                findings.fault(target.span(), Refusal::new(message, help));
            }
        }
    };
    for service in &file.services {
        look(service.target.entries(), &transports([service].into_iter()));
    }
    for rule in file.rules.iter().filter(|rule| !rule.target.entries().is_empty()) {
        let services = file.services.iter().filter(|service| applies(rule, service));
        look(rule.target.entries(), &transports(services));
    }
}

fn transports<'a>(services: impl Iterator<Item = &'a Service>) -> Vec<Transport> {
    let entries = services.flat_map(|service| service.listen.entries());
    let mut transports: Vec<Transport> = entries
        .flat_map(|entry| entry.get_ref().iter().map(|listener| listener.transport))
        .collect();
    transports.sort_unstable();
    transports.dedup();
    transports
}

fn reaches(target: &Target, listener: Listener, environment: &Environment) -> bool {
    const LOCALHOST: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses = match &target.host {
        Host::Address(address) => std::slice::from_ref(address),
        Host::Name(name) if name == "localhost" => &LOCALHOST[..],
        // What a name stands for may change at any time: the relay looks when it dials.
        Host::Name(_) => return false,
    };
    let bound = listener.address.ip();
    let is_ours =
        |ip: &IpAddr| ip.is_loopback() || environment.local_addresses.contains(&ip.to_canonical());
    target.port.is_none_or(|port| port == listener.address.port())
        && addresses.iter().any(|ip| {
            *ip == bound || bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4() && is_ours(ip)
        })
}
