//! From a file to its meaning.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemas::config::{Diagnostic, Diagnostics, Document, Findings};
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::address::Listen;
use super::files::{self, Files};
use super::leaf::{Leaf, List};
use super::raw::{self, File, RawAlert, RawCustomer, RawLimit, RawOrigin};
use super::{
    Accounting, Action, Alert, Config, Customer, CustomerFile, Dns, Environment, Health, KEYS,
    Limit, Listener, Log, NetworkFile, Origin, Pass, ProxyAccept, Recorder, Rule, Service,
    Timeouts, UnknownName, Watch,
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
        let files = Files::read(&raw, file, environment, &mut findings);
        check::check(&raw, environment, &mut findings);
        if findings.has_faults() {
            return Err(findings.into_diagnostics(file));
        }
        let revision = revision(source, &files::contents(&raw, environment));
        let mut config = meaning(&raw, &files, revision, environment)
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
    // What is wrong in the files that it names can wait.
    let own = |found: &Diagnostic| found.file.is_none();
    let line = |found: &Diagnostic| {
        found.place.as_ref().filter(|_| own(found)).map_or(usize::MAX, |place| place.line)
    };
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
fn meaning(
    file: &File,
    files: &Files,
    revision: String,
    environment: &Environment,
) -> Option<Config> {
    let mut none = Findings::new(DEFAULTS);
    let defaults = File::read(&Document::parse(DEFAULTS, &mut none), &mut none);
    let usual = defaults.services.first()?;
    let services: Vec<Service> =
        file.services.iter().map(|raw| service(raw, usual)).collect::<Option<_>>()?;
    let timeouts = Timeouts::of(&file.timeouts, &Timeouts::of_defaults(&defaults.timeouts)?);
    let rule_defaults = defaults.rules.first()?;
    let rules: Vec<Rule> = file
        .rules
        .iter()
        .map(|raw| rule(raw, rule_defaults, files, &timeouts))
        .collect::<Option<_>>()?;
    let rules_of = services.iter().map(|service| applying(&rules, service)).collect();
    Some(Config {
        node: match file.node.value() {
            Some(node) => node.clone(),
            None => environment.host_name.parse().ok()?,
        },
        threads: or(&file.threads, &defaults.threads)?.try_into().ok()?,
        revision,
        recorder: recorder(&file.recorder, &defaults.recorder)?,
        accounting: Accounting {
            slot_len_s: or(&file.accounting.slot, &defaults.accounting.slot)?,
            table_slots: or(&file.accounting.table, &defaults.accounting.table)?.try_into().ok()?,
        },
        admin_socket: or(&file.admin.socket, &defaults.admin.socket)?,
        metrics: file.admin.metrics.value().copied(),
        log: Log {
            to: or(&file.log.to, &defaults.log.to)?,
            format: or(&file.log.format, &defaults.log.format)?,
            level: or(&file.log.level, &defaults.log.level)?,
        },
        dns: Dns {
            servers: plain(&file.dns.servers),
            require_ptr: or(&file.dns.require_ptr, &defaults.dns.require_ptr)?,
            require_confirmed: or(&file.dns.require_confirmed, &defaults.dns.require_confirmed)?,
        },
        timeouts,
        tcp: file.tcp.resolve(&defaults.tcp)?,
        services,
        rules,
        alerts: file.alerts.iter().map(alert).collect::<Option<_>>()?,
        rules_of,
        warnings: Diagnostics::none(""),
    })
}

/// The first 16 hexadecimal digits of the SHA-256 of a configuration and of the files that it
/// names, if it names some.
fn revision(source: &str, files: &BTreeMap<PathBuf, &str>) -> String {
    let mut digest = Sha256::new_with_prefix(source);
    for (path, content) in files {
        digest.update(Sha256::digest(path.as_os_str().as_encoded_bytes()));
        digest.update(Sha256::digest(content));
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
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

fn service(raw: &raw::Service, defaults: &raw::Service) -> Option<Service> {
    let proxy = raw.proxy.as_ref();
    let mut listeners = Vec::new();
    let mut interfaces = Vec::new();
    for listen in raw.listen.entries().iter().flat_map(|entry| entry.get_ref()) {
        match listen {
            Listen::Address(listener) => listeners.push(*listener),
            Listen::Interface(listener) => interfaces.push(listener.clone()),
        }
    }
    Some(Service {
        name: raw.name.value()?.clone(),
        listeners,
        interfaces,
        targets: plain(&raw.target),
        balance: or(&raw.balance, &defaults.balance)?,
        health: match &raw.health {
            Some(health) => Some(self::health(health, defaults.health.as_ref()?)?),
            None => None,
        },
        proxy_accept: proxy.and_then(|proxy| {
            let (version, trusted) = (*proxy.accept.value()?, plain(&proxy.trusted));
            Some(ProxyAccept { version, trusted })
        }),
        proxy_send: proxy.and_then(|proxy| proxy.send.value().copied()),
        source: raw.source.value().copied().unwrap_or_default(),
        max_udp_sessions: raw.max_udp_sessions.value().copied(),
    })
}

fn health(raw: &raw::Health, defaults: &raw::Health) -> Option<Health> {
    let every = or(&raw.every, &defaults.every)?;
    Some(Health {
        every,
        timeout: or(&raw.timeout, &defaults.timeout)?.min(every),
        rise: or(&raw.rise, &defaults.rise)?.try_into().ok()?,
        fall: or(&raw.fall, &defaults.fall)?.try_into().ok()?,
    })
}

/// The entries of a list without their places.
fn plain<T: Clone>(raw: &Leaf<Vec<Spanned<T>>>) -> Vec<T> {
    raw.entries().iter().map(|entry| entry.get_ref().clone()).collect()
}

fn rule(raw: &raw::Rule, defaults: &raw::Rule, files: &Files, timeouts: &Timeouts) -> Option<Rule> {
    let action = raw.action.value()?;
    Some(Rule {
        name: raw.name.value()?.clone(),
        services: plain(&raw.services),
        listeners: listeners(&raw.listeners),
        transport: raw.transport.value().copied(),
        from: origins(&raw.from, files)?,
        not_from: origins(&raw.not_from, files)?,
        client_port: plain(&raw.client_port).concat(),
        server_name: plain(&raw.server_name),
        unknown_name: raw.unknown_name.value().copied().unwrap_or(match action {
            raw::Action::Block => UnknownName::Match,
            raw::Action::Pass => UnknownName::Skip,
        }),
        customer: match raw.customer.value() {
            None => None,
            Some(RawCustomer::Fixed(name)) => Some(Customer::Fixed(name.clone())),
            Some(RawCustomer::File(path)) => Some(Customer::ByNetwork(CustomerFile {
                path: path.clone(),
                networks: files.customers(path)?,
            })),
        },
        log: or(&raw.log, &defaults.log)?,
        refuse: or(&raw.refuse, &defaults.refuse)?,
        limits: limits(raw)?,
        action: match action {
            raw::Action::Block => Action::Block,
            raw::Action::Pass => Action::Pass(Box::new(Pass {
                targets: plain(&raw.target),
                source: raw.source.value().copied(),
                proxy_send: raw.proxy_protocol.value().copied().unwrap_or_default(),
                udp_replies: or(&raw.udp_replies, &defaults.udp_replies)?,
                udp_reply_ratio: raw.udp_reply_ratio.value().copied(),
                capture: or(&raw.capture, &defaults.capture)?,
                capture_when_behind: or(&raw.capture_when_behind, &defaults.capture_when_behind)?,
                timeouts: Timeouts::of(&raw.timeouts, timeouts),
            })),
        },
    })
}

fn listeners(raw: &Leaf<List<Vec<Listen>>>) -> Vec<Listener> {
    let of_address = |listen: Listen| match listen {
        Listen::Address(listener) => Some(listener),
        Listen::Interface(_) => None,
    };
    plain(raw).concat().into_iter().filter_map(of_address).collect()
}

fn origins(raw: &Leaf<List<RawOrigin>>, files: &Files) -> Option<Vec<Origin>> {
    let meaning = |origin: &Spanned<RawOrigin>| {
        Some(match origin.get_ref() {
            RawOrigin::Plain(origin) => origin.clone(),
            RawOrigin::File(path) => {
                Origin::File(NetworkFile { path: path.clone(), networks: files.networks(path)? })
            }
        })
    };
    raw.entries().iter().map(meaning).collect()
}

fn alert(raw: &RawAlert) -> Option<Alert> {
    Some(Alert {
        name: raw.name.value()?.clone(),
        services: plain(&raw.services),
        rules: plain(&raw.rules),
        targets: plain(&raw.targets),
        every: *raw.every.value()?,
        watch: match raw.ends_by.value() {
            None => Watch::Traffic {
                below: raw.below.value().copied(),
                above: raw.above.value().copied(),
            },
            Some(by) => {
                let share = raw.ends_above.value()?;
                Watch::Ends { by: *by, above: share.above, share_permille: share.permille }
            }
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
