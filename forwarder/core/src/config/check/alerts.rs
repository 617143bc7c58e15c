//! What is wrong with alerts.

use schemas::config::{Findings, Refusal, show_size};
use toml::Spanned;

use super::{missing, twice, unknown};
use crate::config::Target;
use crate::config::raw::{File, RawAlert};

pub(super) fn check(file: &File, findings: &mut Findings<'_>) {
    let services = file.services.iter().map(|service| &service.name);
    let rules = file.rules.iter().map(|rule| &rule.name);
    for alert in &file.alerts {
        let span = || alert.span.clone();
        missing(&alert.name, "alert.name", "write name = \"quiet\"", span(), findings);
        missing(&alert.every, "alert.every", "write every = \"5m\"", span(), findings);
        unknown(&alert.services, services.clone(), "service", findings);
        unknown(&alert.rules, rules.clone(), "rule", findings);
        targets(file, alert, findings);
        strikes(alert, findings);
    }
    twice(file.alerts.iter().filter_map(|alert| alert.name.given()), "alert", findings);
}

/// Warns of a target that nobody goes to.
fn targets(file: &File, alert: &RawAlert, findings: &mut Findings<'_>) {
    let known = || {
        let services = file.services.iter().flat_map(|service| service.target.entries());
        let rules = file.rules.iter().flat_map(|rule| rule.target.entries());
        services.chain(rules).map(Spanned::get_ref)
    };
    for target in alert.targets.entries() {
        let wanted: &Target = target.get_ref();
        // Without a port it means every port of its machine.
        let means = |known: &Target| {
            known.host == wanted.host && (wanted.port.is_none() || wanted.port == known.port)
        };
        if !known().any(means) {
            let message = format!("{wanted} is no target of a service or rule");
            let help = "write it as the service or the rule does";
            findings.warning(target.span(), Refusal::new(message, help));
        }
    }
}

/// An alert says when it strikes, and could.
fn strikes(alert: &RawAlert, findings: &mut Findings<'_>) {
    if !alert.ends_by.is_absent() {
        if let Some(below) = alert.below.given() {
            let message = "an alert about ends has no below";
            let help = "write above = 50, or remove ends_by to watch the traffic";
            findings.fault(below.span(), Refusal::new(message, help));
        }
        let help = "write above = 50, above = \"20%\" or above = \"50 and 20%\"";
        missing(&alert.ends_above, "alert.above", help, alert.span.clone(), findings);
        return;
    }
    if alert.below.is_absent() && alert.above.is_absent() {
        let help =
            "write below = \"1 kB\", above = \"10 GB\", or ends_by = \"target\" and above = 50";
        findings.fault(alert.span.clone(), Refusal::new("this alert never strikes", help));
    }
    if alert.below.value() == Some(&0)
        && let Some(below) = alert.below.given()
    {
        let help = "write \"1 B\" to hear when nothing moves";
        findings.fault(below.span(), Refusal::new("there is never less than nothing", help));
    }
    if let (Some(below), Some(above)) = (alert.below.given(), alert.above.value())
        && below.get_ref() >= above
    {
        let above = show_size(*above);
        let message = format!("this alert all but always strikes: above is {above}");
        findings.fault(below.span(), Refusal::new(message, "write less than that"));
    }
}
