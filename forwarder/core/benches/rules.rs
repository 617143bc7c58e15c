//! Asking the rules about a client.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use divan::{Bencher, black_box};
use forwarder_core::config::{Config, Environment};
use forwarder_core::matching::{Book, Client, Fact, Matcher};

fn main() {
    divan::main();
}

/// One service and so many rules with four networks each, none of which is the client's, then one
/// for everyone.
fn config(rules: usize) -> Config {
    let mut source = "[[service]]\nname = \"web\"\nlisten = [\"tcp://127.0.0.1:8080\"]\n\
        target = [\"10.0.0.5:80\"]\n"
        .to_owned();
    for rule in 0..rules {
        let nets: Vec<String> =
            (0..4).map(|net| format!("\"10.{}.{}.{net}\"", rule / 256, rule % 256)).collect();
        write!(
            source,
            "[[rule]]\nname = \"r{rule}\"\naction = \"block\"\nfrom = [{}]\n",
            nets.join(", ")
        )
        .expect("a text takes more text");
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

#[divan::bench(args = [0, 10, 100, 1000])]
fn last_of_so_many_rules_matches(bencher: Bencher<'_, '_>, rules: usize) {
    let config = config(rules);
    let client = Client {
        listener: config.services[0].listeners[0],
        ip: IpAddr::from(Ipv4Addr::new(203, 0, 113, 9)),
        port: 40_000,
        reverse: Fact::NotAsked,
        server_name: Fact::NotAsked,
    };
    let matcher = Matcher::new(config.into(), Book::default());
    bencher.bench(|| matcher.judge(0, black_box(&client)));
}
