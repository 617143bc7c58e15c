//! From a file to its meaning.

use std::path::PathBuf;
use std::time::Duration;

use schemas::config::{Diagnostic, Diagnostics, Document, Findings};
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::leaf::Leaf;
use super::raw::{self, File, RawLimit};
use super::{
    Accounting, Action, Balance, Config, Customer, Dns, Environment, KEYS, Limit, Log, LogFormat,
    LogLevel, LogTo, Origin, Pass, ProxySend, Recorder, Refuse, Rule, Service, Source, Target,
    Timeouts, UdpReplies, UnknownName,
};
use super::{check, reach};

/// Every default of the reference documentation, in the same words.
const DEFAULTS: &str = include_str!("defaults.toml");

impl Config {
    /// Reads a configuration. `file` is its name in what is reported.
    ///
    /// # Errors
    /// Everything that is wrong with the file, each with its place and what to write instead.
    /// What is only doubtful is in [`Config::warnings`].
    pub fn parse(source: &str, file: &str, environment: &Environment) -> Result<Self, Diagnostics> {
        let mut malformed = Findings::new(source);
        let document = Document::parse(source, &mut malformed).with_keys(KEYS);
        let mut findings = Findings::new(source);
        let raw = File::read(&document, &mut findings);
        if malformed.has_faults() {
            return Err(beside(
                source,
                malformed.into_diagnostics(file),
                findings.into_diagnostics(file),
            ));
        }
        check::check(&raw, environment, &mut findings);
        if findings.has_faults() {
            return Err(findings.into_diagnostics(file));
        }
        let mut config = meaning(&raw, source, environment)
            .expect("in a file without faults every required key has a value");
        reach::warn(&config, &raw, &mut findings);
        config.warnings = findings.into_diagnostics(file);
        Ok(config)
    }
}

/// The admin socket that a file names, or else the default. Whatever else is wrong with the file
/// does not matter: a running forwarder can be asked though its file was broken since.
pub fn admin_socket_of(source: &str) -> PathBuf {
    let named = |source: &str| {
        let mut findings = Findings::new(source);
        let document = Document::parse(source, &mut findings);
        let mut admin = document.root().section("admin", &mut findings)?;
        Some(PathBuf::from(admin.get("socket")?.as_str()?))
    };
    named(source).or_else(|| named(DEFAULTS)).expect("the defaults name an admin socket")
}

/// The faults of malformed TOML, and those of the values that can still be trusted: what the
/// reader made of a malformed line is its guess, and behind a malformed `[header]` all keys seem
/// to belong to another section.
fn beside(source: &str, mut malformed: Diagnostics, values: Diagnostics) -> Diagnostics {
    let line = |found: &Diagnostic| found.place.as_ref().map_or(usize::MAX, |place| place.line);
    malformed.list.dedup_by_key(|found| line(found));
    let lines: Vec<usize> = malformed.list.iter().map(line).collect();
    let is_header = |line: &usize| {
        source.lines().nth(line - 1).is_some_and(|text| text.trim_start().starts_with('['))
    };
    let last = lines.iter().copied().find(is_header).unwrap_or(usize::MAX);
    let trusted = |found: &Diagnostic| line(found) < last && !lines.contains(&line(found));
    malformed.list.extend(values.list.into_iter().filter(trusted));
    malformed.more += values.more;
    malformed.list.sort_by_key(line);
    malformed
}

/// The meaning of a file without faults.
fn meaning(file: &File, source: &str, environment: &Environment) -> Option<Config> {
    let mut none = Findings::new(DEFAULTS);
    let defaults = File::read(&Document::parse(DEFAULTS, &mut none), &mut none);
    let services: Vec<Service> = file.services.iter().map(service).collect::<Option<_>>()?;
    let timeouts = Timeouts::of(&file.timeouts, &Timeouts::of_defaults(&defaults.timeouts)?);
    let rule_defaults = defaults.rules.first()?;
    let rules: Vec<Rule> =
        file.rules.iter().map(|raw| rule(raw, rule_defaults, &timeouts)).collect::<Option<_>>()?;
    let rules_of = services.iter().map(|service| applying(&rules, service)).collect();
    Some(Config {
        node: match file.node.value() {
            Some(node) => node.clone(),
            None => environment.host_name.parse().ok()?,
        },
        threads: or(&file.threads, &defaults.threads)?.try_into().ok()?,
        revision: revision(source),
        recorder: recorder(&file.recorder, &defaults.recorder)?,
        accounting: Accounting {
            slot_len_s: or(&file.accounting.slot, &defaults.accounting.slot)?,
            table_slots: or(&file.accounting.table, &defaults.accounting.table)?.try_into().ok()?,
        },
        admin_socket: or(&file.admin.socket, &defaults.admin.socket)?,
        metrics: None,
        log: Log { to: LogTo::Stderr, format: LogFormat::Text, level: LogLevel::Info },
        dns: Dns::default(),
        timeouts,
        tcp: file.tcp.resolve(&defaults.tcp)?,
        services,
        rules,
        alerts: Vec::new(),
        rules_of,
        warnings: Diagnostics::none(""),
    })
}

/// The first 16 hexadecimal digits of the file's SHA-256.
fn revision(source: &str) -> String {
    Sha256::digest(source).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What the file says, or else the default.
fn or<T: Clone>(leaf: &Leaf<T>, default: &Leaf<T>) -> Option<T> {
    leaf.value().or(default.value()).cloned()
}

fn recorder(file: &raw::Recorder, defaults: &raw::Recorder) -> Option<Recorder> {
    Some(Recorder {
        socket: or(&file.endpoint, &defaults.endpoint)?,
        spool: or(&file.spool, &defaults.spool)?,
        spool_max_bytes: or(&file.spool_max, &defaults.spool_max)?,
        when_full: or(&file.when_full, &defaults.when_full)?,
    })
}

impl Timeouts {
    fn of_defaults(raw: &raw::Timeouts) -> Option<Self> {
        Some(Self {
            preread: *raw.preread.value()?,
            resolve: *raw.resolve.value()?,
            connect: *raw.connect.value()?,
            half_closed: *raw.half_closed.value()?,
            tcp_idle: *raw.tcp_idle.value()?,
            udp_idle: *raw.udp_idle.value()?,
            max_duration: *raw.max_duration.value()?,
            drain: *raw.drain.value()?,
        })
    }

    fn of(raw: &raw::Timeouts, otherwise: &Self) -> Self {
        let or = |leaf: &Leaf<Duration>, otherwise| leaf.value().copied().unwrap_or(otherwise);
        Self {
            preread: or(&raw.preread, otherwise.preread),
            resolve: or(&raw.resolve, otherwise.resolve),
            connect: or(&raw.connect, otherwise.connect),
            half_closed: or(&raw.half_closed, otherwise.half_closed),
            tcp_idle: or(&raw.tcp_idle, otherwise.tcp_idle),
            udp_idle: or(&raw.udp_idle, otherwise.udp_idle),
            max_duration: or(&raw.max_duration, otherwise.max_duration),
            drain: or(&raw.drain, otherwise.drain),
        }
    }
}

fn service(raw: &raw::Service) -> Option<Service> {
    Some(Service {
        name: raw.name.value()?.clone(),
        listeners: raw.listen.entries().iter().flat_map(|entry| entry.get_ref().clone()).collect(),
        interfaces: Vec::new(),
        targets: targets(&raw.target),
        balance: Balance::default(),
        health: None,
        proxy_accept: None,
        proxy_send: None,
        source: Source::default(),
        max_udp_sessions: None,
    })
}

fn targets(raw: &Leaf<Vec<Spanned<Target>>>) -> Vec<Target> {
    raw.entries().iter().map(|target| target.get_ref().clone()).collect()
}

fn rule(raw: &raw::Rule, defaults: &raw::Rule, timeouts: &Timeouts) -> Option<Rule> {
    Some(Rule {
        name: raw.name.value()?.clone(),
        services: raw.services.entries().iter().map(|name| name.get_ref().clone()).collect(),
        listeners: Vec::new(),
        transport: None,
        from: raw.from.entries().iter().map(|net| Origin::Network(*net.get_ref())).collect(),
        not_from: Vec::new(),
        client_port: Vec::new(),
        server_name: Vec::new(),
        unknown_name: match raw.action.value()? {
            raw::Action::Block => UnknownName::Match,
            raw::Action::Pass => UnknownName::Skip,
        },
        customer: raw.customer.value().cloned().map(Customer::Fixed),
        log: or(&raw.log, &defaults.log)?,
        refuse: Refuse::default(),
        limits: limits(raw)?,
        action: match raw.action.value()? {
            raw::Action::Block => Action::Block,
            raw::Action::Pass => Action::Pass(Box::new(Pass {
                targets: targets(&raw.target),
                source: None,
                proxy_send: ProxySend::default(),
                udp_replies: UdpReplies::default(),
                udp_reply_ratio: None,
                capture: or(&raw.capture, &defaults.capture)?,
                capture_when_behind: or(&raw.capture_when_behind, &defaults.capture_when_behind)?,
                timeouts: Timeouts::of(&raw.timeouts, timeouts),
            })),
        },
    })
}

/// The limits of a rule, one for each `per`.
fn limits(raw: &raw::Rule) -> Option<Vec<Limit>> {
    let mut limits: Vec<Limit> = raw.limits.iter().map(RawLimit::resolve).collect::<Option<_>>()?;
    if let Some(quota) = &raw.quota {
        let (per, quota) = (raw.quota_per(), Some(quota.resolve()?));
        match limits.iter_mut().find(|limit| limit.per == per) {
            Some(limit) => limit.quota = quota,
            None => limits.push(Limit {
                per,
                sessions: None,
                new_sessions: None,
                bandwidth: None,
                quota,
            }),
        }
    }
    Some(limits)
}

/// The indices of the rules that apply to a service.
fn applying(rules: &[Rule], service: &Service) -> Vec<usize> {
    let covers = |rule: &Rule| rule.services.is_empty() || rule.services.contains(&service.name);
    (0..rules.len()).filter(|index| covers(&rules[*index])).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_defaults_are_a_file_without_faults() {
        let mut findings = Findings::new(DEFAULTS);
        File::read(&Document::parse(DEFAULTS, &mut findings), &mut findings);
        let found = findings.into_diagnostics("defaults.toml");
        assert!(found.is_empty(), "{found}");
    }

    #[test]
    fn the_admin_socket_is_found_in_a_file_that_is_broken_elsewhere() {
        let source = "node = = 1\n[recorder]\nwhat = \n[admin]\nsocket = \"/a/b\"\n[[service]\n";
        assert_eq!(admin_socket_of(source), Path::new("/a/b"));
        let default = Path::new("/run/weir/forwarder.sock");
        for source in ["", "admin = 1", "[admin]\nsocket = 1", "[[admin]]\nsocket = \"/a\""] {
            assert_eq!(admin_socket_of(source), default);
        }
    }
}
