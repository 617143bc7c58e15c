//! What is wrong with rules.

use std::ops::Range;

use schemas::config::{Findings, Refusal};
use schemas::vocab::Transport;
use toml::Spanned;

use super::{applies, limits, missing, services, transports_of, twice, unknown};
use crate::config::address::Listen;
use crate::config::leaf::Leaf;
use crate::config::raw::{Action, File, RawOrigin, Rule};
use crate::config::{CaptureMode, Environment, Origin, ProxySend, UnknownName};

pub(super) fn check(file: &File, environment: &Environment, findings: &mut Findings<'_>) {
    let names = file.services.iter().map(|service| &service.name);
    for rule in &file.rules {
        let span = || rule.span.clone();
        missing(&rule.name, "rule.name", "write name = \"everyone\"", span(), findings);
        let help = "write action = \"pass\" or action = \"block\"";
        missing(&rule.action, "rule.action", help, span(), findings);
        unknown(&rule.services, names.clone(), "service", findings);
        known_listeners(file, rule, findings);
        names_that_are_not_known(rule, findings);
        match rule.action.value() {
            Some(Action::Block) => nothing_to_relay(rule, findings),
            Some(Action::Pass) => {
                nothing_to_keep(rule, findings);
                nothing_to_answer(file, rule, findings);
                nobody_to_tell(file, rule, findings);
                limits::check(rule, findings);
                services::source(&rule.source, rule.target.entries(), environment, findings);
                services::too_many(rule.target.entries(), findings);
            }
            None => {}
        }
    }
    twice(file.rules.iter().filter_map(|rule| rule.name.given()), "rule", findings);
}

/// A rule that is asked at some listeners only names them as its services do.
fn known_listeners(file: &File, rule: &Rule, findings: &mut Findings<'_>) {
    let services = || file.services.iter().filter(|service| applies(rule, service));
    if services().any(|service| service.listen.value().is_none()) {
        return;
    }
    let all = || {
        let entries = services().flat_map(|service| service.listen.entries());
        entries.flat_map(|entry| entry.get_ref())
    };
    for entry in rule.listeners.entries() {
        for wanted in entry.get_ref() {
            if let Listen::Interface(listener) = wanted {
                let message = format!(
                    "{listener} is a listener for each address of a network interface, and those \
                     come and go"
                );
                let help = "write services instead, with a [[service]] for the interface";
                findings.fault(entry.span(), Refusal::new(message, help));
                break;
            }
            if all().any(|listener| listener == wanted) {
                continue;
            }
            let message = format!("{wanted} is no listener of the rule's services");
            let shown: Vec<String> = all().take(10).map(ToString::to_string).collect();
            let help = match &shown[..] {
                [] => "write services that have it".to_owned(),
                shown => format!("the listeners are: {}", shown.join(", ")),
            };
            findings.fault(entry.span(), Refusal::new(message, help));
            break;
        }
    }
}

/// Whether a rule asks for something that may not be found out.
fn asks_names(rule: &Rule) -> bool {
    let is_name = |origin: &Spanned<RawOrigin>| {
        matches!(origin.get_ref(), RawOrigin::Plain(Origin::Name(_) | Origin::Domain(_)))
    };
    let mut origins = rule.from.entries().iter().chain(rule.not_from.entries());
    !rule.server_name.is_absent() || origins.any(is_name)
}

/// Warns where an unknown name opens what should be shut.
fn names_that_are_not_known(rule: &Rule, findings: &mut Findings<'_>) {
    let Some(given) = rule.unknown_name.given() else { return };
    if !asks_names(rule) {
        let message = "rule.unknown_name does nothing: the rule asks for no name";
        findings.warning(given.span(), Refusal::new(message, "remove unknown_name"));
        return;
    }
    let message = match (rule.action.value(), given.get_ref()) {
        (Some(Action::Block), UnknownName::Skip) => {
            "this rule lets a client go by whose name cannot be found out: a name server that is \
             slow or away opens it"
        }
        (Some(Action::Pass), UnknownName::Match) => {
            "this rule passes a client whose name cannot be found out: a name server that is slow \
             or away opens it to everyone"
        }
        _ => return,
    };
    findings.warning(given.span(), Refusal::new(message, "remove unknown_name to keep it shut"));
}

/// A rule that blocks has nothing to say about relaying.
fn nothing_to_relay(rule: &Rule, findings: &mut Findings<'_>) {
    let keys = [
        ("target", at(&rule.target)),
        ("source", at(&rule.source)),
        ("proxy_protocol", at(&rule.proxy_protocol)),
        ("udp_replies", at(&rule.udp_replies)),
        ("udp_reply_ratio", at(&rule.udp_reply_ratio)),
        ("capture", at(&rule.capture)),
        ("capture_when_behind", at(&rule.capture_when_behind)),
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

/// Where a value stands.
fn at<T>(leaf: &Leaf<T>) -> Option<Range<usize>> {
    leaf.given().map(Spanned::span)
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

/// Warns of what is about a transport that the rule's clients do not speak.
fn nothing_to_answer(file: &File, rule: &Rule, findings: &mut Findings<'_>) {
    let spoken = transports_of(file, rule);
    let keys = [
        ("udp_replies", at(&rule.udp_replies), Transport::Udp),
        ("udp_reply_ratio", at(&rule.udp_reply_ratio), Transport::Udp),
        ("proxy_protocol", at(&rule.proxy_protocol), Transport::Tcp),
        ("refuse", at(&rule.refuse), Transport::Tcp),
    ];
    // Without listeners there is more to complain about.
    for (key, span, transport) in keys.into_iter().filter(|_| !spoken.is_empty()) {
        if let Some(span) = span.filter(|_| !spoken.contains(&transport)) {
            let transport = transport.as_str().to_uppercase();
            let message =
                format!("rule.{key} does nothing: no client of the rule speaks {transport}");
            findings.warning(span, Refusal::new(message, format!("remove {key}")));
        }
    }
}

/// A rule need not turn off what none of its services does.
fn nobody_to_tell(file: &File, rule: &Rule, findings: &mut Findings<'_>) {
    let Some(given) = rule.proxy_protocol.given() else { return };
    let mut services = file.services.iter().filter(|service| applies(rule, service));
    let sends = services.any(|service| service.proxy.as_ref().is_some_and(|p| !p.send.is_absent()));
    if *given.get_ref() == ProxySend::Off && !sends {
        let message =
            "rule.proxy_protocol does nothing: no service of the rule sends a PROXY header";
        findings.warning(given.span(), Refusal::new(message, "remove proxy_protocol"));
    }
}
