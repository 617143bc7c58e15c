//! Asking the rules about a client, and getting them ready to be asked.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set its scene should fail")]

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use divan::{Bencher, black_box};
use forwarder_core::config::{Config, Environment, Origin};
use forwarder_core::matching::{Book, Client, Fact, Matcher};
use ipnet::IpNet;

/// Clients that are asked about in turn: more than a processor guesses.
const CLIENTS: usize = 1024;

fn main() {
    divan::main();
}

/// How so many networks stand in rules. Whoever is in none of them is passed by the last rule, as
/// half of the clients are.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// All in `from` of one rule.
    OneRule,
    /// Ten in `from` of each rule.
    TenEach,
    /// Ten in `from` of each rule that is about another client port: the first rule that holds a
    /// client is not the one that decides.
    OtherPorts,
    /// Ten in `not_from` of each rule that is about another client port: every client is in reach of
    /// every rule.
    Except,
    /// Each of 32 prefix lengths around the same addresses, in rules about another client port: a
    /// client is in 32 networks, none of which decides.
    Nested,
}

impl Shape {
    fn networks_of_a_rule(self, all: usize) -> usize {
        match self {
            Self::OneRule => all.max(1),
            Self::TenEach | Self::OtherPorts | Self::Except | Self::Nested => (all / 4000).max(10),
        }
    }

    fn network(self, number: usize) -> IpNet {
        let ip = |number| IpAddr::from(Ipv4Addr::from(scattered(number)));
        let (number, len) = match self {
            Self::Nested => (number / 32, number % 32 + 1),
            _ => (number, 16 + number % 17),
        };
        IpNet::new(ip(number), u8::try_from(len).unwrap()).unwrap().trunc()
    }

    fn config(self, networks: usize) -> Config {
        let each = self.networks_of_a_rule(networks);
        let mut config = parsed(networks.div_ceil(each));
        let rules = config.rules.len() - 1;
        for number in 0..networks {
            // Networks around each other are not in rules beside each other.
            let rule = &mut config.rules[number * 37 % rules];
            let origin = Origin::Network(self.network(number));
            match self {
                Self::Except => rule.not_from.push(origin),
                _ => rule.from.push(origin),
            }
            if matches!(self, Self::OtherPorts | Self::Except | Self::Nested) {
                rule.client_port = vec![1..=1];
            }
        }
        config
    }
}

/// An address anywhere, the same for the same number.
fn scattered(number: usize) -> u32 {
    u32::try_from(number)
        .unwrap()
        .wrapping_mul(0x9e37_79b1)
        .rotate_left(13)
        .wrapping_mul(0x85eb_ca6b)
}

/// One service and so many rules that block, then one that passes.
fn parsed(rules: usize) -> Config {
    let mut source = "[[service]]\nname = \"web\"\nlisten = [\"tcp://127.0.0.1:8080\"]\n\
        target = [\"10.0.0.5:80\"]\n"
        .to_owned();
    for rule in 0..rules {
        write!(source, "[[rule]]\nname = \"r{rule}\"\naction = \"block\"\n").unwrap();
    }
    source += "[[rule]]\nname = \"everyone\"\naction = \"pass\"\n";
    let environment = Environment {
        host_name: "edge-1".to_owned(),
        local_addresses: Vec::new(),
        congestion_controls: Vec::new(),
        files: std::collections::BTreeMap::new(),
    };
    Config::parse(&source, "f", &environment).unwrap_or_else(|faults| panic!("{faults}"))
}

const SHAPES: [(Shape, usize); 9] = [
    (Shape::OneRule, 0),
    (Shape::OneRule, 10_000),
    (Shape::OneRule, 100_000),
    (Shape::TenEach, 100),
    (Shape::TenEach, 10_000),
    (Shape::TenEach, 100_000),
    (Shape::OtherPorts, 10_000),
    (Shape::Except, 10_000),
    (Shape::Nested, 10_000),
];

#[divan::bench(args = SHAPES, sample_size = 1024)]
fn judge_a_client(bencher: Bencher<'_, '_>, (shape, networks): (Shape, usize)) {
    let config = shape.config(networks);
    let matcher = Matcher::new(&config, &Book::default());
    let listener = config.services[0].listeners[0];
    let clients: Vec<Client<'_>> = (0..CLIENTS)
        .map(|number| {
            let inside = scattered(number * networks / CLIENTS / 32);
            let outside = scattered(number).wrapping_mul(3);
            Client {
                listener,
                ip: Ipv4Addr::from(if number % 2 == 0 { inside } else { outside }).into(),
                port: 40_000,
                reverse: Fact::NotAsked,
                server_name: Fact::NotAsked,
            }
        })
        .collect();
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 1) % CLIENTS;
        matcher.judge(0, black_box(&clients[next]))
    });
}

#[divan::bench(args = [(Shape::OneRule, 10_000), (Shape::OneRule, 100_000), (Shape::TenEach, 100_000)])]
fn get_ready(bencher: Bencher<'_, '_>, (shape, networks): (Shape, usize)) {
    let config = shape.config(networks);
    bencher.bench_local(|| Matcher::new(black_box(&config), &Book::default()));
}
