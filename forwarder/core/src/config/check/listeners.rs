//! Listeners that could not all be bound, and targets that are listeners of our own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use schemas::config::{Findings, Refusal};
use schemas::vocab::Transport;
use toml::Spanned;

use super::{applies, transports};
use crate::config::address::Listen;
use crate::config::raw::{File, Service};
use crate::config::{Environment, Host, Listener, Target};

/// Most listeners of a file, both transports counted, an interface's as one.
pub(super) const MAX_LISTENERS: usize = 4096;

/// The place of the first listener beyond the bound.
pub(super) fn one_too_many(file: &File) -> Option<Range<usize>> {
    all(file).nth(MAX_LISTENERS).map(|(_, span, _)| span)
}

pub(super) fn check(file: &File, environment: &Environment, findings: &mut Findings<'_>) {
    clashes(file, findings);
    loops(file, environment, findings);
}

/// A listener with the place of its entry and the service it belongs to.
type Placed<'f> = (&'f Listen, Range<usize>, &'f Service);

fn all(file: &File) -> impl Iterator<Item = Placed<'_>> {
    file.services.iter().flat_map(|service| {
        let entries = service.listen.entries().iter();
        entries.flat_map(move |entry| {
            entry.get_ref().iter().map(move |listener| (listener, entry.span(), service))
        })
    })
}

fn shown(service: &Service) -> String {
    service.name.value().map(|name| format!(" of service {:?}", name.as_str())).unwrap_or_default()
}

/// Two listeners that could not both be bound.
fn clashes(file: &File, findings: &mut Findings<'_>) {
    let mut taken: HashMap<(Transport, u16), Vec<Placed<'_>>> = HashMap::new();
    for (listener, span, service) in all(file) {
        let others = taken.entry((listener.transport(), listener.port())).or_default();
        if let Some((other, at, whose)) = others.iter().find(|other| clash(listener, other.0)) {
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

/// Whether two listeners of the same port and transport exclude each other: the kernel gives an
/// address and port to one socket, and the wildcard address takes the port of every address of its
/// family. Which addresses an interface has is known only where they are bound.
fn clash(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Address(one), Listen::Address(other)) => {
            let (one, other, port) = (one.address.ip(), other.address.ip(), one.address.port());
            // The kernel picks a free port for each 0, but the two could not be told apart.
            let wildcard = port != 0 && (other.is_unspecified() || one.is_unspecified());
            other == one || wildcard && other.is_ipv4() == one.is_ipv4()
        }
        (Listen::Interface(one), Listen::Interface(other)) => one.interface == other.interface,
        (Listen::Address(address), Listen::Interface(_))
        | (Listen::Interface(_), Listen::Address(address)) => {
            address.address.port() != 0 && address.address.ip().is_unspecified()
        }
    }
}

/// Targets that are listeners of our own: each session would open the next one, for ever.
fn loops(file: &File, environment: &Environment, findings: &mut Findings<'_>) {
    let listeners: Vec<_> = all(file).collect();
    let mut look = |targets: &[Spanned<Target>], services: &[&Service]| {
        if targets.is_empty() {
            return;
        }
        let transports = transports(services.iter().copied());
        let own = services.iter().flat_map(|service| service.listen.entries());
        let own: Vec<&Listen> = own.flat_map(|entry| entry.get_ref()).collect();
        for target in targets {
            let hit = listeners.iter().find_map(|(listen, at, whose)| match listen {
                Listen::Address(listener) => (transports.contains(&listener.transport)
                    && reaches(target.get_ref(), *listener, &own, environment))
                .then_some((listener, at, whose)),
                // The relay looks when it dials.
                Listen::Interface(_) => None,
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
        look(service.target.entries(), &[service]);
    }
    for rule in file.rules.iter().filter(|rule| !rule.target.entries().is_empty()) {
        let services = file.services.iter().filter(|service| applies(rule, service));
        look(rule.target.entries(), &services.collect::<Vec<_>>());
    }
}

/// Whether a session of one of our `own` listeners that goes to a target comes to `listener`.
fn reaches(
    target: &Target,
    listener: Listener,
    own: &[&Listen],
    environment: &Environment,
) -> bool {
    const LOCALHOST: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses = match &target.host {
        Host::Address(address) => std::slice::from_ref(address),
        Host::Name(name) if name == "localhost" => &LOCALHOST[..],
        // What a name stands for may change at any time: the relay looks when it dials.
        Host::Name(_) => return false,
    };
    let port = listener.address.port();
    let goes_there = match target.port {
        Some(target) => target == port,
        None => {
            let same = |own: &&Listen| own.port() == port && own.transport() == listener.transport;
            port != 0 && own.iter().any(same)
        }
    };
    let bound = listener.address.ip();
    let is_ours =
        |ip: &IpAddr| ip.is_loopback() || environment.local_addresses.contains(&ip.to_canonical());
    goes_there
        && addresses.iter().any(|ip| {
            *ip == bound || bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4() && is_ours(ip)
        })
}
