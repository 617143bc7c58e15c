//! What must hold for any rules and any client.
//!
//! The input is read as a handful of rules, what the names in them mean, and a client with what is
//! known of it. The compiled matcher must answer as [`expected`] does, which says in the plainest
//! way what the documentation says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use forwarder_core::config::{
    Action, Config, Environment, Listener, NetworkFile, Origin, Rule, ServerName, UnknownName,
};
use forwarder_core::matching::{Book, Client, Fact, Matcher, Question, ReverseNames, Verdict};
use ipnet::IpNet;
use schemas::vocab::Transport;

const SERVICES: usize = 3;
const HOSTS: [&str; 3] = ["a.example.com", "gw.example.net", "nowhere.test"];
const INTERFACES: [&str; 2] = ["eth0", "wg0"];
const DOMAINS: [&str; 5] = ["example.com", "com", "a.example.com", "badexample.com", "example.net"];
const NAMES: [&str; 6] =
    ["example.com", "a.example.com", "b.a.example.com", "badexample.com", "gw.example.net", "com"];

/// Judges the client that `input` describes, by the rules that it describes.
pub(crate) fn check(input: &[u8]) {
    let mut input = Input(input);
    let config = config(&mut input);
    let book = book(&mut input);
    let matcher = Matcher::new(&config, &book);
    for _ in 0..4 {
        let service = input.below(SERVICES);
        let reverse = reverse(&mut input);
        let client = Client {
            listener: config.services[service].listeners[input.below(2)],
            ip: address(&mut input),
            port: u16::from(input.byte() % 8),
            reverse: fact(&mut input, &reverse),
            server_name: fact(&mut input, input_name(&reverse)),
        };
        agree(&config, &book, &matcher, service, &client);
        ask_until_decided(&config, &book, &matcher, service, client, &reverse);
    }
}

fn agree(config: &Config, book: &Book, matcher: &Matcher, service: usize, client: &Client<'_>) {
    let (found, expected) =
        (matcher.judge(service, client), expected(config, book, service, client));
    assert_eq!(found, expected, "{client:?} of {service} by {:#?} with {book:?}", config.rules);
}

/// Answers what is asked: the verdict is the one of who knows everything beforehand, and nothing is
/// asked twice.
fn ask_until_decided(
    config: &Config,
    book: &Book,
    matcher: &Matcher,
    service: usize,
    client: Client<'_>,
    reverse: &ReverseNames,
) {
    let (reverse, server_name) = (Fact::Known(reverse), Fact::Known(input_name(reverse)));
    let knowing = Client { reverse, server_name, ..client };
    let mut learning = Client { reverse: Fact::NotAsked, server_name: Fact::NotAsked, ..client };
    loop {
        match matcher.judge(service, &learning) {
            Verdict::Ask(Question::ReverseName) => {
                assert_eq!(learning.reverse, Fact::NotAsked);
                learning.reverse = reverse;
            }
            Verdict::Ask(Question::ServerName) => {
                assert_eq!(learning.server_name, Fact::NotAsked);
                assert_eq!(learning.listener.transport, Transport::Tcp);
                learning.server_name = server_name;
            }
            verdict => {
                if client.listener.transport == Transport::Tcp {
                    assert_eq!(verdict, expected(config, book, service, &knowing));
                }
                return;
            }
        }
    }
}

/// What the documentation says.
fn expected(config: &Config, book: &Book, service: usize, client: &Client<'_>) -> Verdict {
    let name = &config.services[service].name;
    for (index, rule) in config.rules.iter().enumerate() {
        if !rule.services.is_empty() && !rule.services.contains(name) {
            continue;
        }
        let matches = |guess| matches(rule, book, client, guess);
        if !matches(Guess { reverse: true, server: true }) {
            continue;
        }
        if matches(Guess { reverse: false, server: false }) {
            return decided(config, index, client);
        }
        return Verdict::Ask(match matches(Guess { reverse: false, server: true }) {
            true => Question::ServerName,
            false => Question::ReverseName,
        });
    }
    Verdict::Block { rule: None }
}

fn decided(config: &Config, rule: usize, client: &Client<'_>) -> Verdict {
    let (ptr, confirmed) = (config.dns.require_ptr, config.dns.require_confirmed);
    match (&config.rules[rule].action, client.reverse) {
        (Action::Block, _) => Verdict::Block { rule: Some(rule) },
        (Action::Pass(_), _) if !ptr && !confirmed => Verdict::Pass { rule },
        (Action::Pass(_), Fact::NotAsked) => Verdict::Ask(Question::ReverseName),
        (Action::Pass(_), Fact::Unknown) => Verdict::Nameless { rule },
        (Action::Pass(_), Fact::Known(names)) => {
            let refused = !names.has_name || confirmed && names.confirmed.is_empty();
            if refused { Verdict::Nameless { rule } } else { Verdict::Pass { rule } }
        }
    }
}

/// Whether what has not been asked would turn out in favour of a match.
#[derive(Clone, Copy)]
struct Guess {
    reverse: bool,
    server: bool,
}

/// Ordered so that "any of" is the largest and "all of" the smallest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    No,
    Unknown,
    Yes,
}

impl From<bool> for Truth {
    fn from(is: bool) -> Self {
        if is { Self::Yes } else { Self::No }
    }
}

fn matches(rule: &Rule, book: &Book, client: &Client<'_>, guess: Guess) -> bool {
    let from = |origin| is_from(origin, book, client, guess.reverse);
    let not_from = |origin| is_from(origin, book, client, !guess.reverse);
    let none = |found| match found {
        Truth::Yes => Truth::No,
        Truth::Unknown => Truth::Unknown,
        Truth::No => Truth::Yes,
    };
    let server = |pattern: &ServerName| match client.server_name {
        Fact::NotAsked if client.listener.transport == Transport::Udp => Truth::Unknown,
        Fact::NotAsked => guess.server.into(),
        Fact::Unknown => Truth::Unknown,
        Fact::Known(name) => pattern.means(name).into(),
    };
    let conditions = [
        rule.transport.is_none_or(|transport| transport == client.listener.transport).into(),
        (rule.listeners.is_empty() || rule.listeners.contains(&client.listener)).into(),
        (rule.client_port.is_empty()
            || rule.client_port.iter().any(|ports| ports.contains(&client.port)))
        .into(),
        rule.from.iter().map(from).max().unwrap_or(Truth::Yes),
        none(rule.not_from.iter().map(not_from).max().unwrap_or(Truth::No)),
        rule.server_name.iter().map(server).max().unwrap_or(Truth::Yes),
    ];
    match conditions.into_iter().min() {
        Some(Truth::Yes) | None => true,
        Some(Truth::No) => false,
        Some(Truth::Unknown) => rule.unknown_name == UnknownName::Match,
    }
}

fn is_from(origin: &Origin, book: &Book, client: &Client<'_>, guess: bool) -> Truth {
    let ip = client.ip.to_canonical();
    match origin {
        Origin::Network(network) => holds(network, ip).into(),
        Origin::File(file) => file.networks.iter().any(|network| holds(network, ip)).into(),
        Origin::Interface(name) => {
            book.interfaces.get(name).is_some_and(|own| own.contains(&ip)).into()
        }
        Origin::Name(name) => {
            book.names.get(name).map_or(Truth::Unknown, |own| own.contains(&ip).into())
        }
        Origin::Domain(domain) => match client.reverse {
            Fact::NotAsked => guess.into(),
            Fact::Unknown => Truth::Unknown,
            Fact::Known(names) if names.confirmed.is_empty() => Truth::Unknown,
            Fact::Known(names) => {
                let dotted = format!(".{domain}");
                let within = |name: &String| name == domain || name.ends_with(&dotted);
                names.confirmed.iter().any(within).into()
            }
        },
    }
}

/// Bit by bit.
fn holds(network: &IpNet, ip: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, true),
        IpAddr::V6(ip) => (ip.to_bits(), false),
    };
    let ((own, v4), (other, other_v4)) = (bits(network.addr()), bits(ip));
    v4 == other_v4 && (own ^ other).leading_zeros() >= u32::from(network.prefix_len())
}

/// The bytes as choices; zeros when they are used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    fn several<T>(&mut self, fewer_than: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(fewer_than)).map(|_| one(self)).collect()
    }

    fn one_of<'b>(&mut self, of: &[&'b str]) -> &'b str {
        of[self.below(of.len())]
    }
}

/// The skeleton is read as text, since nothing else makes a configuration; the rest is put in.
fn config(input: &mut Input<'_>) -> Config {
    let mut source = String::new();
    for service in 0..SERVICES {
        source += &format!(
            "[[service]]\nname = \"s{service}\"\nlisten = [\"127.0.0.1:{}\"]\n\
             target = [\"10.0.0.1:80\"]\n",
            1000 + service
        );
    }
    // Rules about nobody between the others, so that they are spread over several words.
    let apart = [1, 1, 1, 1, 1, 1, 11, 40][input.below(8)];
    let rules = input.below(9) * apart;
    for index in 0..rules {
        if index % apart != 0 {
            source += &format!("[[rule]]\nname = \"r{index}\"\naction = \"block\"\n");
            continue;
        }
        let action = ["block", "pass"][input.below(2)];
        source += &format!("[[rule]]\nname = \"r{index}\"\naction = \"{action}\"\n");
        let covered = input.byte();
        let services: Vec<String> = (0..SERVICES)
            .filter(|service| covered & 1 << service != 0)
            .map(|service| format!("\"s{service}\""))
            .collect();
        if !services.is_empty() {
            source += &format!("services = [{}]\n", services.join(", "));
        }
    }
    let environment = Environment {
        host_name: "edge-1".to_owned(),
        local_addresses: Vec::new(),
        congestion_controls: Vec::new(),
        files: std::collections::BTreeMap::new(),
    };
    let mut config =
        Config::parse(&source, "f", &environment).unwrap_or_else(|faults| panic!("{faults}"));
    let listeners: Vec<Listener> =
        config.services.iter().flat_map(|service| service.listeners.clone()).collect();
    for (index, rule) in config.rules.iter_mut().enumerate() {
        if index % apart == 0 {
            fill(rule, &listeners, input);
        } else {
            rule.from = vec![Origin::Network(IpAddr::from(Ipv4Addr::new(198, 51, 100, 1)).into())];
        }
    }
    config.dns.require_ptr = input.byte() % 4 == 3;
    config.dns.require_confirmed = input.byte() % 4 == 3;
    config
}

fn fill(rule: &mut Rule, listeners: &[Listener], input: &mut Input<'_>) {
    rule.from = input.several(4, origin);
    rule.not_from = input.several(3, origin);
    rule.transport = [None, None, Some(Transport::Tcp), Some(Transport::Udp)][input.below(4)];
    if input.byte() % 4 == 3 {
        rule.listeners = input.several(4, |input| listeners[input.below(listeners.len())]);
    }
    rule.client_port = input.several(3, |input| {
        let (one, other) = (u16::from(input.byte() % 8), u16::from(input.byte() % 8));
        one.min(other)..=one.max(other)
    });
    rule.server_name = input.several(3, |input| {
        let name = input.one_of(&NAMES).to_owned();
        if input.below(2) == 0 { ServerName::Exact(name) } else { ServerName::Below(name) }
    });
    if input.byte() % 4 == 3 {
        rule.unknown_name = match rule.unknown_name {
            UnknownName::Match => UnknownName::Skip,
            UnknownName::Skip => UnknownName::Match,
        };
    }
}

fn origin(input: &mut Input<'_>) -> Origin {
    match input.below(8) {
        0 => Origin::Name(input.one_of(&HOSTS).to_owned()),
        1 => Origin::Domain(input.one_of(&DOMAINS).to_owned()),
        2 => Origin::Interface(input.one_of(&INTERFACES).to_owned()),
        3 => Origin::File(NetworkFile {
            path: PathBuf::from("networks"),
            networks: Arc::from(input.several(4, network)),
        }),
        _ => Origin::Network(network(input)),
    }
}

fn network(input: &mut Input<'_>) -> IpNet {
    let ip = address(input).to_canonical();
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let len = input.byte() % (longest + 1);
    IpNet::new(ip, len).map_or_else(|_| ip.into(), |network| network.trunc())
}

/// One of few, so that networks and clients meet often.
fn address(input: &mut Input<'_>) -> IpAddr {
    let choice = input.byte();
    let bits = u32::from(choice);
    let v4 = Ipv4Addr::from((bits & 1) << 31 | (bits & 2) << 15 | (bits & 4) >> 2);
    let bits = u128::from(choice);
    match choice >> 3 & 3 {
        0 | 1 => v4.into(),
        2 => v4.to_ipv6_mapped().into(),
        _ => Ipv6Addr::from(0x2001 << 112 | (bits & 1) << 95 | (bits & 2) << 62 | (bits & 4) >> 2)
            .into(),
    }
}

fn book(input: &mut Input<'_>) -> Book {
    let mut book = Book::default();
    let addresses = |input: &mut Input<'_>| input.several(3, |input| address(input).to_canonical());
    for name in HOSTS {
        if input.below(2) == 1 {
            book.names.insert(name.to_owned(), addresses(input));
        }
    }
    for name in INTERFACES {
        if input.below(2) == 1 {
            book.interfaces.insert(name.to_owned(), addresses(input));
        }
    }
    book
}

fn reverse(input: &mut Input<'_>) -> ReverseNames {
    let confirmed = input.several(3, |input| input.one_of(&NAMES).to_owned());
    ReverseNames { has_name: !confirmed.is_empty() || input.below(2) == 1, confirmed }
}

/// A name that a client with these reverse names might ask for.
fn input_name(reverse: &ReverseNames) -> &str {
    reverse.confirmed.first().map_or("gw.example.net", String::as_str)
}

fn fact<T>(input: &mut Input<'_>, known: T) -> Fact<T> {
    match input.below(4) {
        0 => Fact::NotAsked,
        1 => Fact::Unknown,
        _ => Fact::Known(known),
    }
}
