//! `client pass` and `client block` as rules.

use std::time::Duration;

use schemas::config::{Findings, Refusal, show_rate};
use schemas::vocab::Transport;

use super::Notes;
use super::address::{Address, Place, Ports, address, has_netmask};
use super::settings::{Timeouts, admits_all, why_lost};
use super::statement::{Block, Statement, shorten};
use super::write::{in_comments, list, quote};
use crate::config::Rate;

/// One rule of the new file.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) notes: Notes,
    /// Whether it stands in comments: what it asks for besides cannot be asked, and without that
    /// it would let more clients in.
    pub(super) asleep: bool,
    pub(super) name: String,
    /// Index of its service; `None`: every service.
    pub(super) service: Option<usize>,
    pub(super) transports: Vec<Transport>,
    /// Whether its service speaks more than the rule.
    pub(super) says_transport: bool,
    pub(super) from: Option<String>,
    pub(super) client_port: Option<String>,
    pub(super) passes: bool,
    pub(super) target: Option<String>,
    pub(super) any_replies: bool,
    pub(super) payload: bool,
    pub(super) log: Vec<&'static str>,
    pub(super) timeouts: Timeouts,
    pub(super) per_rule: Limits,
    pub(super) per_client: Limits,
}

/// What a `[[rule.limit]]` will say.
#[derive(Debug, Default)]
pub(super) struct Limits {
    pub(super) sessions: Option<u64>,
    pub(super) new_sessions: Option<Rate>,
    pub(super) bytes_per_second: Option<u64>,
}

/// Where a rule's clients come in: the address of `to`.
#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) place: Place,
    pub(super) port: u16,
    pub(super) span: std::ops::Range<usize>,
}

/// Reads a rule, the `number`th of its file, and where its clients come in. `None`: it has faults,
/// which are among the findings.
pub(super) fn read(
    block: &Block<'_>,
    number: usize,
    any_replies: bool,
    findings: &mut Findings<'_>,
) -> Option<(Rule, Option<Entrance>)> {
    let passes = block.kind.ends_with("pass");
    let mut rule = Rule {
        notes: Notes::default(),
        asleep: false,
        name: format!("rule-{number}"),
        service: None,
        transports: vec![Transport::Tcp, Transport::Udp],
        says_transport: true,
        from: None,
        client_port: None,
        passes,
        target: None,
        any_replies,
        payload: false,
        log: Vec::new(),
        timeouts: Timeouts::default(),
        per_rule: Limits::default(),
        per_client: Limits::default(),
    };
    let addresses = addresses(block, passes, findings)?;
    let [from, to, bounce] = addresses;
    let entrance = entrance(to, passes, findings)?;
    rule.clients(from, block, findings)?;
    if let Some((target, statement)) = bounce {
        rule.target = Some(target_of(target, statement, findings)?);
    }
    for statement in &block.statements {
        rule.take(statement, findings);
    }
    rule.drop_contradictions(block, findings);
    Some((rule, entrance))
}

type Read<'b> = Option<(Address, &'b Statement<'b>)>;

/// `from`, `to` and `bounce to` of a rule.
fn addresses<'b>(
    block: &'b Block<'b>,
    passes: bool,
    findings: &mut Findings<'_>,
) -> Option<[Read<'b>; 3]> {
    let mut all_good = true;
    let mut read = |key: &str, required: bool| {
        all_good &= once(block, key, findings);
        let Some(statement) = block.statements.iter().find(|statement| statement.key == key) else {
            if required {
                let message = format!("{} has no {key}", block.kind);
                let help = format!("write {key}: and an address");
                findings.fault(block.span.clone(), Refusal::new(message, help));
                all_good = false;
            }
            return None;
        };
        let masked = |statement| match key {
            "from" => has_netmask(statement),
            _ => Ok(()),
        };
        match masked(statement).and_then(|()| address(statement)) {
            Ok(address) => Some((address, statement)),
            Err((span, refusal)) => {
                findings.fault(span, refusal);
                all_good = false;
                None
            }
        }
    };
    let all = [read("from", true), read("to", true), read("bounce to", passes)];
    all_good.then_some(all)
}

/// Refuses a second statement of a kind: a rule has one, and which of two is meant cannot be told.
fn once(block: &Block<'_>, key: &str, findings: &mut Findings<'_>) -> bool {
    let mut others = block.statements.iter().filter(|statement| statement.key == key).skip(1);
    let Some(second) = others.next() else { return true };
    let message = format!("{key} stands here for the second time in one rule");
    let help = format!("write a rule for each {key}, or remove one of them");
    findings.fault(second.span.clone(), Refusal::new(message, help));
    false
}

/// Where clients come in. Only a rule that blocks may leave the port out: it then blocks everywhere.
fn entrance(to: Read<'_>, passes: bool, findings: &mut Findings<'_>) -> Option<Option<Entrance>> {
    let (to, statement) = to?;
    let mut refuse = |message: &str, help: &str| {
        findings.fault(statement.span.clone(), Refusal::new(message, help));
    };
    let everywhere = match &to.place {
        Place::Anywhere => true,
        Place::Network(net) => net.prefix_len() == 0,
        Place::Name(_) | Place::Domain(_) | Place::Interface(_) => false,
    };
    match (&to.place, &to.ports) {
        (_, Ports::Any) if everywhere && !passes => return Some(None),
        (Place::Domain(_), _) => refuse("a domain is nothing to listen on", "write an address"),
        (Place::Network(net), _) if !everywhere && net.prefix_len() != net.max_prefix_len() => {
            refuse("a network is nothing to listen on", "write one address, without a netmask");
        }
        (_, Ports::One(port)) if *port != 0 => {
            let (place, port, span) = (to.place, *port, statement.span.clone());
            return Some(Some(Entrance { place, port, span }));
        }
        _ => refuse("to does not say which port to listen on", "write one, as in port = 80"),
    }
    None
}

/// A target as `target` has it.
fn target_of(
    target: Address,
    statement: &Statement<'_>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let host = match &target.place {
        Place::Network(net) if net.prefix_len() == net.max_prefix_len() => match net.addr() {
            address if address.is_unspecified() || address.is_multicast() => None,
            address => Some((address.to_string(), address.is_ipv6())),
        },
        Place::Name(name) => Some((name.clone(), false)),
        // What looks like an interface may be a host.
        Place::Interface(name) => Some((name.to_ascii_lowercase(), false)),
        Place::Network(_) | Place::Anywhere | Place::Domain(_) => None,
    };
    let port = match target.ports {
        Ports::Any => Some(None),
        Ports::One(0) | Ports::Some(_) => None,
        Ports::One(port) => Some(Some(port)),
    };
    match (host, port) {
        (Some((host, true)), Some(Some(port))) => Some(format!("[{host}]:{port}")),
        (Some((host, false)), Some(Some(port))) => Some(format!("{host}:{port}")),
        (Some((host, _)), Some(None)) => Some(host),
        _ => {
            let message = "this is no target: it takes one address or host name, and one port";
            let help = "write it as in bounce to: 10.0.0.5 port = 80";
            findings.fault(statement.span.clone(), Refusal::new(message, help));
            None
        }
    }
}

impl Rule {
    fn clients(
        &mut self,
        from: Read<'_>,
        block: &Block<'_>,
        findings: &mut Findings<'_>,
    ) -> Option<()> {
        let (from, statement) = from?;
        let line = findings.line_of(statement.span.clone());
        if let Some(note) = from.note {
            self.notes.add(line, &format!("{}: {note}", statement.show()));
        }
        self.from = match from.place {
            Place::Anywhere => None,
            Place::Network(net) if net.prefix_len() == net.max_prefix_len() => {
                Some(net.addr().to_string())
            }
            Place::Network(net) => Some(net.to_string()),
            Place::Name(name) if name.contains('.') => Some(name),
            Place::Name(name) => Some(format!("{name}.")),
            Place::Interface(name) => Some(name),
            Place::Domain(domain) => {
                if !self.passes {
                    let text = "here it also blocks a client whose name cannot be found out; \
                                unknown_name = \"skip\" would let it by, as Barefoot did";
                    self.notes.add(line, &format!("{}: {text}", statement.show()));
                }
                Some(format!(".{domain}"))
            }
        };
        self.client_port = match from.ports {
            Ports::Any => None,
            Ports::One(port) => Some(port.to_string()),
            Ports::Some(ports) => Some(ports),
        };
        if !once(block, "protocol", findings) {
            return None;
        }
        if let Some(protocol) = block.statements.iter().find(|s| s.key == "protocol") {
            self.transports = protocols(protocol, findings)?;
        }
        Some(())
    }

    /// One statement besides the addresses.
    fn take(&mut self, statement: &Statement<'_>, findings: &Findings<'_>) {
        let line = findings.line_of(statement.span.clone());
        let all_are = |text: &str| statement.values.iter().all(|word| word.text == text);
        match statement.key.as_str() {
            "from" | "to" | "bounce to" | "protocol" | "session.inheritable" => {}
            "log" => self.log(statement, line),
            key if key.starts_with("timeout.") && self.passes => {
                self.timeouts.take(statement, line, &mut self.notes);
            }
            "udp.connectdst" if self.passes => {
                // Whatever else it says: replies of strangers are let in where that was asked for.
                self.any_replies = all_are("no");
                if !all_are("yes") && !all_are("no") {
                    self.notes.lost(line, statement, "it is yes or no; yes is taken");
                }
            }
            "session.max"
            | "session.state.max"
            | "session.throttle"
            | "session.state.throttle"
            | "bandwidth" => self.limit(statement, line),
            "session.state.key" if all_are("from") => {}
            "method" | "clientmethod" if statement.values.iter().any(|w| w.text == "none") => {}
            "method" | "clientmethod" | "user" | "username" | "group" => {
                self.lost(line, statement, "Weir knows clients by their addresses alone");
            }
            // Outside of rules user.… says who the server runs as; here it is no key of Barefoot.
            key if key.starts_with("user.") => {
                self.lost(line, statement, "Weir has nothing like it");
            }
            key if admits_all(key) => self.notes.lost(line, statement, why_lost(key)),
            key => self.lost(line, statement, why_lost(key)),
        }
    }

    /// Leaves out what may have kept clients away, and the rule with it, where it lets them in.
    fn lost(&mut self, line: usize, statement: &Statement<'_>, why: &str) {
        let then = match self.passes {
            true => "without this the rule would pass more, so it stands in comments",
            false => "the rule blocks all of its clients",
        };
        self.asleep |= self.passes;
        self.notes.lost(line, statement, &format!("{why}; {then}"));
    }

    /// A limit: one that cannot be told is not left out.
    fn limit(&mut self, statement: &Statement<'_>, line: usize) {
        if !self.passes {
            self.notes.lost(line, statement, "a rule that blocks has nothing to limit");
            return;
        }
        let taken = match statement.key.as_str() {
            "session.max" => put(&mut self.per_rule.sessions, number(statement, MAX_COUNT)),
            "session.state.max" => put(&mut self.per_client.sessions, number(statement, MAX_COUNT)),
            "session.throttle" => put(&mut self.per_rule.new_sessions, throttle(statement)),
            "session.state.throttle" => put(&mut self.per_client.new_sessions, throttle(statement)),
            _ => put(&mut self.per_rule.bytes_per_second, number(statement, MAX_BANDWIDTH)),
        };
        match taken {
            Taken::Yes => {}
            Taken::Unreadable if statement.key.ends_with("throttle") => {
                let why = "it is number/seconds, of at most 1000000000 and 86400";
                self.lost(line, statement, why);
            }
            Taken::Unreadable => {
                let most = if statement.key == "bandwidth" { MAX_BANDWIDTH } else { MAX_COUNT };
                let why = format!("it is a whole number from 1 to {most}");
                self.lost(line, statement, &why);
            }
            Taken::Contradicts => self.lost(line, statement, "the rule says another one before"),
        }
    }

    fn log(&mut self, statement: &Statement<'_>, line: usize) {
        for word in &statement.values {
            match word.text {
                "connect" => self.log.push("connect"),
                "disconnect" => self.log.push("disconnect"),
                "error" => self.log.push("error"),
                "iooperation" | "ioop" => self.log.push("data"),
                "tcpinfo" => self.log.push("tcpinfo"),
                "data" if self.passes => {
                    self.payload = true;
                    let text = "log: data: payload goes to capture files for Wireshark, not into \
                                the log";
                    self.notes.add(line, text);
                }
                "data" => {}
                odd => {
                    let text = format!("log: {}: not carried over: unknown", shorten(odd));
                    self.notes.add(line, &text);
                }
            }
        }
        self.log.sort_unstable();
        self.log.dedup();
    }

    /// Barefoot refuses limits per client that are looser than those of the rule, and so do we.
    fn drop_contradictions(&mut self, block: &Block<'_>, findings: &Findings<'_>) {
        let line = findings.line_of(block.span.clone());
        if let (Some(own), Some(all)) = (self.per_client.sessions, self.per_rule.sessions)
            && own > all
        {
            self.per_client.sessions = None;
            let text = "session.state.max: not carried over: session.max is less and strikes first";
            self.notes.add(line, text);
        }
        if let (Some(own), Some(all)) = (self.per_client.new_sessions, self.per_rule.new_sessions)
            && own.is_looser(all)
        {
            self.per_client.new_sessions = None;
            let text = "session.state.throttle: not carried over: session.throttle is less and \
                        strikes first";
            self.notes.add(line, text);
        }
    }

    /// The lines of the rule. `service` is its service's name and `usual` that one's target.
    pub(super) fn write(&self, service: Option<&str>, usual: Option<&str>) -> String {
        let mut keys: Vec<(&str, String)> = vec![("name", quote(&self.name))];
        if let Some(service) = service {
            keys.push(("services", list([service])));
        }
        if let [one] = self.transports[..]
            && self.says_transport
        {
            keys.push(("transport", quote(one.as_str())));
        }
        keys.extend(self.from.as_ref().map(|from| ("from", list([from]))));
        keys.extend(self.client_port.as_ref().map(|ports| ("client_port", list([ports]))));
        keys.push(("action", quote(if self.passes { "pass" } else { "block" })));
        let other = self.target.as_deref().filter(|target| Some(*target) != usual);
        keys.extend(other.map(|target| ("target", list([target]))));
        if self.passes && self.any_replies && self.transports.contains(&Transport::Udp) {
            keys.push(("udp_replies", quote("any")));
        }
        if self.payload {
            keys.push(("capture", quote("full")));
        }
        keys.push(("log", list(self.log.iter().copied())));
        keys.extend(self.timeouts.inline().map(|timeouts| ("timeouts", timeouts)));
        let width = keys.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        let mut text = "[[rule]]\n".to_owned();
        for (key, value) in keys {
            text += &format!("{key:<width$} = {value}\n");
        }
        text += &self.per_rule.write("rule");
        // Barefoot's key is the whole address, of IPv6 too.
        text += &self.per_client.write("client/32/128");
        if self.asleep {
            text = in_comments(&text);
        }
        format!("{}{text}", self.notes.text())
    }
}

/// Bytes per second that a bandwidth may have.
const MAX_BANDWIDTH: u64 = 1_000_000_000_000;

/// Sessions that a limit may allow.
const MAX_COUNT: u64 = 1_000_000_000;

/// What became of a limit.
enum Taken {
    Yes,
    Unreadable,
    /// The rule says something else in the same place.
    Contradicts,
}

fn put<T: PartialEq>(place: &mut Option<T>, value: Option<T>) -> Taken {
    match (value, &place) {
        (None, _) => Taken::Unreadable,
        (Some(value), Some(earlier)) if value != *earlier => Taken::Contradicts,
        (value @ Some(_), _) => {
            *place = value;
            Taken::Yes
        }
    }
}

impl Limits {
    fn write(&self, per: &str) -> String {
        let mut text = String::new();
        if let Some(sessions) = self.sessions {
            text += &format!("sessions     = {}\n", sessions);
        }
        if let Some(rate) = self.new_sessions {
            text += &format!("new_sessions = {}\n", quote(&show_rate(rate.count, rate.per)));
        }
        if let Some(bytes) = self.bytes_per_second {
            text += &format!("bandwidth    = {{ both = {} }}\n", quote(&format!("{bytes} B/s")));
        }
        match text.is_empty() {
            true => text,
            false => format!("\n[[rule.limit]]\nper          = {}\n{text}", quote(per)),
        }
    }
}

/// A whole number from 1 to `most`.
fn number(statement: &Statement<'_>, most: u64) -> Option<u64> {
    let [one] = &statement.values[..] else { return None };
    one.text.parse().ok().filter(|number| (1..=most).contains(number))
}

/// `number/seconds`.
fn throttle(statement: &Statement<'_>) -> Option<Rate> {
    let text: String = statement.values.iter().map(|word| word.text).collect();
    let (count, seconds) = text.split_once('/')?;
    let (count, seconds): (u64, u64) = (count.parse().ok()?, seconds.parse().ok()?);
    let good = (1..=MAX_COUNT).contains(&count) && (1..=86_400).contains(&seconds);
    good.then(|| Rate { count, per: Duration::from_secs(seconds) })
}

fn protocols(statement: &Statement<'_>, findings: &mut Findings<'_>) -> Option<Vec<Transport>> {
    let mut transports = Vec::new();
    for word in &statement.values {
        match word.text.to_ascii_lowercase().as_str() {
            "tcp" => transports.push(Transport::Tcp),
            "udp" => transports.push(Transport::Udp),
            _ => {
                let message = format!("{:?} is no protocol", shorten(word.text));
                findings.fault(word.span(), Refusal::new(message, "write tcp, udp or both"));
                return None;
            }
        }
    }
    if transports.is_empty() {
        let message = "protocol has no value";
        findings.fault(statement.span.clone(), Refusal::new(message, "write tcp, udp or both"));
        return None;
    }
    transports.sort_unstable();
    transports.dedup();
    Some(transports)
}
