//! Limits that say nothing, lack something, or contradict each other.

use std::ops::Range;

use schemas::config::{Findings, Refusal, show_bandwidth, show_rate, show_size};
use toml::Spanned;

use super::missing;
use crate::config::leaf::Leaf;
use crate::config::raw::{RawBandwidth, RawLimit, RawQuota, Rule, Ways};
use crate::config::{Per, Rate};

/// Most limits of a rule.
const MAX_LIMITS: usize = 16;

/// Reports what is wrong with the limits of a rule that passes.
pub(super) fn check(rule: &Rule, findings: &mut Findings<'_>) {
    if let Some(one_more) = rule.limits.get(MAX_LIMITS) {
        let message = format!("the rule has more than {MAX_LIMITS} limits");
        let help = "write what has the same per into one [[rule.limit]]";
        findings.fault(one_more.span.clone(), Refusal::new(message, help));
        return;
    }
    for limit in &rule.limits {
        alone(rule, limit, findings);
    }
    if let Some(own) = &rule.quota {
        quota("rule.quota", own, findings);
        second_quota(rule, own, findings);
    }
    for (at, limit) in rule.limits.iter().enumerate() {
        let Some(per) = limit.per.value() else { continue };
        let others = || rule.limits[..at].iter().filter(|other| other.per.value().is_some());
        if let Some(other) = others().find(|other| other.per.value() == Some(per)) {
            let line = findings.line_of(other.span.clone());
            let message = format!("there is another limit per {per} in line {line}");
            let help = "write both into one [[rule.limit]]";
            findings.fault(limit.span.clone(), Refusal::new(message, help));
        }
    }
    for narrow in &rule.limits {
        let wider =
            rule.limits.iter().filter(|wide| match (wide.per.value(), narrow.per.value()) {
                (Some(wide), Some(narrow)) => contains(*wide, *narrow),
                _ => false,
            });
        for wide in wider {
            looser(narrow, wide, findings);
        }
    }
}

/// What a limit lacks by itself.
fn alone(rule: &Rule, limit: &RawLimit, findings: &mut Findings<'_>) {
    let span = || limit.span.clone();
    missing(&limit.per, "rule.limit.per", "write per = \"rule\"", span(), findings);
    let empty = limit.sessions.is_absent()
        && limit.new_sessions.is_absent()
        && !limit.has_bandwidth
        && !limit.has_quota;
    if empty {
        let help =
            "write sessions = 100, new_sessions = \"20/s\", bandwidth = { … } or quota = { … }";
        findings.fault(span(), Refusal::new("this limit limits nothing", help));
    }
    if limit.per.value() == Some(&Per::Customer) && rule.customer.is_absent() {
        let message = "the rule names no customer: all its sessions share this limit";
        let help = "write per = \"rule\", or customer = \"acme\" in the rule";
        findings.warning(span(), Refusal::new(message, help));
    }
    if let Some(own) = &limit.bandwidth {
        bandwidth(own, findings);
    }
    if let Some(own) = &limit.quota {
        quota("rule.limit.quota", own, findings);
    }
}

fn bandwidth(bandwidth: &RawBandwidth, findings: &mut Findings<'_>) {
    if bandwidth.ways.are_absent() {
        let message = match bandwidth.burst.is_absent() {
            true => "this bandwidth limits nothing",
            false => "a burst without a bandwidth limits nothing",
        };
        let help = "write up, down or both, as in bandwidth = { both = \"10 MB/s\" }";
        findings.fault(bandwidth.span.clone(), Refusal::new(message, help));
    }
    never_strikes(&bandwidth.ways, show_bandwidth, findings);
}

fn quota(path: &str, quota: &RawQuota, findings: &mut Findings<'_>) {
    let span = || quota.span.clone();
    if quota.ways.are_absent() {
        let help = "write up, down or both, as in both = \"100 GB\"";
        findings.fault(span(), Refusal::new("this quota limits nothing", help));
    }
    let every = format!("{path}.every");
    missing(&quota.every, &every, "write every = \"month\" or every = \"day\"", span(), findings);
    if quota.tz.is_absent() {
        let message = format!("{path}.tz is missing: a day begins at midnight, but whose?");
        let help = "write the zone that counts, as in tz = \"Europe/Berlin\" or tz = \"UTC\"";
        findings.fault(span(), Refusal::new(message, help));
    }
    never_strikes(&quota.ways, show_size, findings);
}

/// Warns about what another part of the same limit makes useless.
fn never_strikes(ways: &Ways, show: impl Fn(u64) -> String, findings: &mut Findings<'_>) {
    let Some(both) = ways.both.given() else { return };
    for (name, way) in [("up", &ways.up), ("down", &ways.down)] {
        if let Some(way) = way.given().filter(|way| way.get_ref() >= both.get_ref()) {
            let message =
                format!("{name} does nothing: both lets through {}", show(*both.get_ref()));
            let help = format!("write less than that, or remove {name}");
            findings.warning(way.span(), Refusal::new(message, help));
        }
    }
    if let (Some(up), Some(down)) = (ways.up.value(), ways.down.value())
        && up.saturating_add(*down) <= *both.get_ref()
    {
        let message = "both does nothing: up and down together let through no more";
        let help = "write less than their sum, or remove both";
        findings.warning(both.span(), Refusal::new(message, help));
    }
}

/// `rule.quota` is a limit like any other: there cannot be two of one kind.
fn second_quota(rule: &Rule, own: &RawQuota, findings: &mut Findings<'_>) {
    let per = rule.quota_per();
    let same = rule.limits.iter().find(|limit| limit.per.value() == Some(&per) && limit.has_quota);
    if let Some(other) = same {
        let line = findings.line_of(other.span.clone());
        let message = format!("there is another quota per {per} in line {line}");
        findings.fault(own.span.clone(), Refusal::new(message, "remove one of them"));
    }
}

/// Whether every session that shares a limit with another per `narrow` also does per `wide`.
fn contains(wide: Per, narrow: Per) -> bool {
    match (wide, narrow) {
        (Per::Rule, narrow) => narrow != Per::Rule,
        // Who is billed depends on the address alone.
        (Per::Customer, narrow) => narrow == Per::CLIENT,
        (Per::Client { v4, v6 }, Per::Client { v4: narrow_v4, v6: narrow_v6 }) => {
            wide != narrow && v4 <= narrow_v4 && v6 <= narrow_v6
        }
        (Per::Service, _) | (Per::Client { .. }, _) => false,
    }
}

/// Reports where a limit of few lets through more than that of many with them.
fn looser(narrow: &RawLimit, wide: &RawLimit, findings: &mut Findings<'_>) {
    let mut report = |key: &str, at: Range<usize>, ours: String, theirs: String| {
        let (Some(narrow), Some(per)) = (narrow.per.value(), wide.per.value()) else { return };
        let line = findings.line_of(wide.span.clone());
        let message = format!(
            "{key} per {narrow} can never strike: {ours} is more than the {theirs} per {per} of \
             line {line}"
        );
        findings
            .fault(at, Refusal::new(message, format!("write at most {theirs}, or remove {key}")));
    };
    if let (Some(ours), Some(theirs)) = (narrow.sessions.given(), wide.sessions.value())
        && ours.get_ref() > theirs
    {
        report("sessions", ours.span(), ours.get_ref().to_string(), theirs.to_string());
    }
    if let (Some(ours), Some(theirs)) = (narrow.new_sessions.given(), wide.new_sessions.value())
        && ours.get_ref().is_looser(*theirs)
    {
        let shown = |rate: &Rate| format!("{:?}", show_rate(rate.count, rate.per));
        report("new_sessions", ours.span(), shown(ours.get_ref()), shown(theirs));
    }
    if let (Some(ours), Some(theirs)) = (&narrow.bandwidth, &wide.bandwidth) {
        for (key, ours, theirs) in pairs(&ours.ways, &theirs.ways) {
            let shown = |bps: u64| format!("{:?}", show_bandwidth(bps));
            let key = format!("bandwidth.{key}");
            report(&key, ours.span(), shown(*ours.get_ref()), shown(theirs));
        }
    }
    if let (Some(ours), Some(theirs)) = (&narrow.quota, &wide.quota)
        && ours.every.value() == theirs.every.value()
        && ours.tz.value() == theirs.tz.value()
    {
        for (key, ours, theirs) in pairs(&ours.ways, &theirs.ways) {
            let shown = |bytes: u64| format!("{:?}", show_size(bytes));
            report(&format!("quota.{key}"), ours.span(), shown(*ours.get_ref()), shown(theirs));
        }
    }
}

/// The ways in which `ours` is more than `theirs`.
fn pairs<'w>(
    ours: &'w Ways,
    theirs: &Ways,
) -> impl Iterator<Item = (&'static str, &'w Spanned<u64>, u64)> {
    let of = |theirs: &Leaf<u64>| theirs.value().copied().unwrap_or(u64::MAX);
    let ways = [
        ("up", &ours.up, of(&theirs.up).min(of(&theirs.both))),
        ("down", &ours.down, of(&theirs.down).min(of(&theirs.both))),
        ("both", &ours.both, of(&theirs.both)),
    ];
    ways.into_iter().filter_map(|(key, ours, theirs)| {
        ours.given().filter(|ours| *ours.get_ref() > theirs).map(|ours| (key, ours, theirs))
    })
}
