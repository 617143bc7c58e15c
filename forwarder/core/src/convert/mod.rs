//! `barefootd.conf` as `forwarder.toml`.
//!
//! Barefoot has rules alone, each with the address that it listens on, its clients and its target;
//! here every such address becomes a service, which its rules name. What has no counterpart stands
//! in a comment with its line. What would let more clients in than before without it is not left
//! out: the rule stands in comments as a whole, or the file is refused.

mod address;
mod alert;
mod rule;
mod settings;
mod statement;
mod write;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use schemas::config::{Diagnostics, Findings, Refusal};
use schemas::vocab::Transport;

use address::Place;
use rule::{Entrance, Rule};
use settings::{ADMITS_MORE, Settings, scheme};
use statement::{Block, Item, Statement};
use write::{comment, in_comments, list, quote};

use crate::config::{Config, Environment};

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversion {
    /// The new file.
    pub toml: String,
    /// How many statements could not be carried over, or not quite: each has a comment.
    pub notes: usize,
    /// What is wrong with the new file: a target that is a listener, say.
    pub faults: Diagnostics,
}

/// Converts a `barefootd.conf`. `file` is its name in what is reported.
///
/// # Errors
/// The file cannot be understood, or is one that Barefoot would refuse; each fault has its place.
pub fn barefoot(source: &str, file: &str) -> Result<Conversion, Diagnostics> {
    let mut findings = Findings::new(source);
    let items = statement::read(source, &mut findings);
    let mut made = Made::new();
    for item in &items {
        match item {
            Item::Setting(statement) => {
                let line = findings.line_of(statement.span.clone());
                made.settings.take(statement, line);
            }
            Item::Block(block) => made.block(block, &mut findings),
        }
    }
    if made.rules.is_empty() && !findings.has_faults() {
        let help = "a rule is client pass { … } or client block { … }";
        findings.fault_of_file(Refusal::new("there is no rule in this file", help));
    }
    made.collisions(&mut findings);
    if findings.has_faults() {
        return Err(findings.into_diagnostics(file));
    }
    made.settle();
    let toml = made.write(file);
    let environment = Environment { host_name: "forwarder".to_owned(), ..Environment::default() };
    let faults = match Config::parse(&toml, "forwarder.toml", &environment) {
        Ok(_) => Diagnostics::none("forwarder.toml"),
        Err(faults) => faults,
    };
    Ok(Conversion { toml, notes: made.notes(), faults })
}

/// What is said in comments.
#[derive(Debug, Default)]
struct Notes(Vec<String>);

impl Notes {
    fn add(&mut self, line: usize, text: &str) {
        self.0.push(format!("line {line}: {text}"));
    }

    fn lost(&mut self, line: usize, statement: &Statement<'_>, why: &str) {
        self.add(line, &format!("{}: not carried over: {why}", statement.show()));
    }

    fn text(&self) -> String {
        self.0.iter().map(|note| comment(note)).collect()
    }
}

/// One service of the new file.
#[derive(Debug)]
struct Service {
    entrance: Entrance,
    name: String,
    transports: Vec<Transport>,
    target: Option<String>,
    notes: Notes,
    /// For a host name in `to`, which is no listener: an address of this machine alone.
    stand_in: Option<IpAddr>,
}

/// What the new file is made of.
#[derive(Debug)]
struct Made {
    settings: Settings,
    services: Vec<Service>,
    rules: Vec<Rule>,
    alerts: Vec<alert::Alert>,
    /// Notes about blocks that are no rules.
    others: Notes,
    /// Client rules so far, carried over or not: their numbers are in Barefoot's log.
    number: usize,
}

impl Made {
    fn new() -> Self {
        Self {
            settings: Settings::new(),
            services: Vec::new(),
            rules: Vec::new(),
            alerts: Vec::new(),
            others: Notes::default(),
            number: 0,
        }
    }

    fn block(&mut self, block: &Block<'_>, findings: &mut Findings<'_>) {
        let line = findings.line_of(block.span.clone());
        match block.kind.as_str() {
            "client pass" | "client block" => {
                self.number += 1;
                let any_replies = self.settings.any_replies;
                if let Some((mut rule, entrance)) =
                    rule::read(block, self.number, any_replies, findings)
                {
                    rule.service = entrance.map(|entrance| self.service(entrance, &rule, findings));
                    self.rules.push(rule);
                }
            }
            "monitor" => {
                let name = format!("monitor-{}", self.alerts.len() + 1);
                self.alerts.extend(alert::read(block, &name, &mut self.others, findings));
            }
            "hostid block" | "block" | "socks block" => {
                let message = format!("{:?} decides about what Weir does not know", block.kind);
                let help = "write it as client block, or remove it";
                findings.fault(block.span.clone(), Refusal::new(message, help));
            }
            "route" => {
                let text = "route { … }: not carried over: targets are dialled, not reached \
                            through proxies";
                self.others.add(line, text);
            }
            // Where such rules are, clients that none of them passes are refused.
            kind => {
                self.settings.admits_more = true;
                let why = "Weir has nothing like it";
                let text = format!("{kind} {{ … }}: not carried over: {why}; {ADMITS_MORE}");
                self.others.add(line, &text);
            }
        }
    }

    /// The service of a rule's entrance: another's, or a new one.
    fn service(&mut self, entrance: Entrance, rule: &Rule, findings: &Findings<'_>) -> usize {
        let same = |service: &Service| {
            service.entrance.port == entrance.port && service.entrance.place == entrance.place
        };
        if let Some(index) = self.services.iter().position(same) {
            let service = &mut self.services[index];
            service.transports.extend(&rule.transports);
            service.transports.sort_unstable();
            service.transports.dedup();
            if service.target.is_none() {
                service.target.clone_from(&rule.target);
            }
            return index;
        }
        let base = match address::service_name(entrance.port) {
            Some(name) => name.to_owned(),
            None => format!("port-{}", entrance.port),
        };
        let taken = |name: &str| self.services.iter().any(|service| service.name == name);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let mut names = std::iter::once(base.clone()).chain(numbered);
        let name = names.find(|name| !taken(name)).unwrap_or(base);
        let mut notes = Notes::default();
        let mut stand_in = None;
        if let Place::Name(host) = &entrance.place {
            let earlier = self.services.iter().filter(|service| service.stand_in.is_some()).count();
            let last = u8::try_from(earlier % 250 + 1).unwrap_or(1);
            let middle = u8::try_from(earlier / 250).unwrap_or(u8::MAX);
            stand_in = Some(IpAddr::from(Ipv4Addr::new(127, 0, middle, last)));
            let line = findings.line_of(entrance.span.clone());
            let text = format!("{host} is a host name: write its address instead of the one below");
            notes.add(line, &text);
        }
        self.services.push(Service {
            entrance,
            name,
            transports: rule.transports.clone(),
            target: rule.target.clone(),
            notes,
            stand_in,
        });
        self.services.len() - 1
    }

    /// Two addresses of one port that could not both be bound here.
    fn collisions(&self, findings: &mut Findings<'_>) {
        for (index, service) in self.services.iter().enumerate() {
            let clash = self.services[..index].iter().find(|other| {
                other.entrance.port == service.entrance.port
                    && other.transports.iter().any(|own| service.transports.contains(own))
                    && overlap(&other.entrance.place, &service.entrance.place)
            });
            if let Some(other) = clash {
                let line = findings.line_of(other.entrance.span.clone());
                let message = format!(
                    "port {} is listened on at every address in line {line}, and here at one of \
                     them: Weir binds one or the other",
                    service.entrance.port
                );
                let help = "write the same address in both rules";
                findings.fault(service.entrance.span.clone(), Refusal::new(message, help));
            }
        }
    }

    /// What depends on the whole file.
    fn settle(&mut self) {
        if self.settings.admits_more {
            for rule in self.rules.iter_mut().filter(|rule| rule.passes) {
                rule.asleep = true;
            }
        }
        for service in self.services.iter_mut().filter(|service| service.target.is_none()) {
            let text = "no rule passes a client here: without a listener all are refused as well";
            service.notes.0.push(text.to_owned());
        }
        for rule in &mut self.rules {
            let nowhere = |index: usize| self.services[index].target.is_none();
            rule.asleep |= rule.service.is_some_and(nowhere);
            let service = rule.service.map(|index| &self.services[index].transports);
            rule.says_transport = service != Some(&rule.transports);
        }
    }

    fn notes(&self) -> usize {
        let rules = self.rules.iter().map(|rule| rule.notes.0.len()).sum::<usize>();
        let services = self.services.iter().map(|service| service.notes.0.len()).sum::<usize>();
        let alerts = self.alerts.iter().map(|alert| alert.notes.0.len()).sum::<usize>();
        rules + services + alerts + self.settings.notes.0.len() + self.others.0.len()
    }

    fn write(&self, file: &str) -> String {
        let settings = &self.settings;
        let mut parts = vec![
            comment(&format!("Made from {file} by forwarder convert. Comments that begin with a"))
                + &comment("line say what could not be carried over from there, or not quite."),
            settings.notes.text() + &self.others.text(),
        ];
        if let Some(to) = &settings.log_to {
            parts.push(format!("[log]\nto = {}\n", quote(to)));
        }
        let dns = [
            ("require_ptr", settings.require_ptr),
            ("require_confirmed", settings.require_confirmed),
        ];
        let dns: String =
            dns.iter().filter(|(_, on)| *on).map(|(key, _)| format!("{key} = true\n")).collect();
        if !dns.is_empty() {
            parts.push(format!("[dns]\n{dns}"));
        }
        parts.push(format!("[timeouts]\n{}", settings.timeouts.lines()));
        parts.extend(self.services.iter().map(|service| service.write(settings)));
        for rule in &self.rules {
            let service = rule.service.map(|index| &self.services[index]);
            let usual = service.and_then(|service| service.target.as_deref());
            parts.push(rule.write(service.map(|service| service.name.as_str()), usual));
        }
        parts.extend(self.alerts.iter().map(alert::Alert::write));
        parts.retain(|part| !part.is_empty());
        parts.join("\n")
    }
}

impl Service {
    fn write(&self, settings: &Settings) -> String {
        let port = self.entrance.port;
        let hosts = match (&self.entrance.place, self.stand_in) {
            (_, Some(address)) => vec![address.to_string()],
            (Place::Anywhere, None) => vec!["0.0.0.0".to_owned(), "[::]".to_owned()],
            (Place::Network(IpNet::V4(net)), None) => vec![net.addr().to_string()],
            (Place::Network(IpNet::V6(net)), None) => vec![format!("[{}]", net.addr())],
            (Place::Interface(name) | Place::Name(name) | Place::Domain(name), None) => {
                vec![name.clone()]
            }
        };
        let scheme = scheme(&self.transports);
        let listen = hosts.iter().map(|host| format!("{scheme}{host}:{port}"));
        let mut text = "[[service]]\n".to_owned();
        text += &format!("name   = {}\nlisten = {}\n", quote(&self.name), list(listen));
        let Some(target) = &self.target else {
            return self.notes.text() + &in_comments(&text);
        };
        text += &format!("target = {}\n", list([target]));
        match &settings.source {
            Some(source) if self.is_reached_from(source) => {
                text += &format!("source = {}\n", quote(source));
            }
            Some(source) => {
                text += &comment(&format!("the targets are not reached from external: {source}"));
            }
            None => {}
        }
        self.notes.text() + &text
    }

    /// Whether a source address is of the target's kind, as far as that can be seen.
    fn is_reached_from(&self, source: &str) -> bool {
        let Ok(source) = source.parse::<IpAddr>() else { return true };
        let target = self.target.as_deref().and_then(|target| {
            target.parse().ok().or_else(|| Some(target.parse::<std::net::SocketAddr>().ok()?.ip()))
        });
        target.is_none_or(|target: IpAddr| target.is_ipv4() == source.is_ipv4())
    }
}

/// Whether one of two places of `to` holds the other.
fn overlap(one: &Place, other: &Place) -> bool {
    let family = |place: &Place| match place {
        Place::Anywhere => Some((true, true)),
        Place::Network(net) if net.addr().is_unspecified() => {
            Some((net.addr().is_ipv4(), net.addr().is_ipv6()))
        }
        Place::Network(_) | Place::Name(_) | Place::Domain(_) | Place::Interface(_) => None,
    };
    let holds = |wide: &Place, narrow: &Place| match (family(wide), narrow) {
        (None, _) => false,
        (Some((v4, v6)), Place::Network(net)) => {
            if net.addr().is_ipv4() {
                v4
            } else {
                v6
            }
        }
        // A host name stands in as an IPv4 address.
        (Some((v4, _)), Place::Name(_)) => v4,
        (Some(_), _) => true,
    };
    holds(one, other) || holds(other, one)
}
