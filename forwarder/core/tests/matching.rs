//! The compiled rules against the plainest reading of the documentation.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forwarder_core::config::{Config, Environment};
use forwarder_core::matching::{Book, Client, Fact, Matcher, Verdict};
use ipnet::IpNet;
use proptest::prelude::*;

#[path = "../fuzz/rules_input.rs"]
mod rules_input;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_rules_judge_any_client_as_the_documentation_says(
        input in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        rules_input::check(&input);
    }
}

/// `cargo fuzz` needs a nightly compiler; what it found once is kept found here.
#[test]
fn every_input_of_the_fuzzers_corpus_is_judged_as_the_documentation_says() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/rules");
    let mut replayed = 0;
    for file in fs::read_dir(corpus).unwrap() {
        let input = fs::read(file.unwrap().path()).unwrap();
        for at in 0..=input.len() {
            rules_input::check(&input[..at]);
        }
        replayed += 1;
    }
    assert!(replayed > 0, "the corpus is there");
}

/// Parts of a rule: its services, its networks, whether it passes.
type Parts = (Vec<usize>, Vec<IpNet>, bool);

fn network() -> impl Strategy<Value = IpNet> {
    // Few distinct bits, so that networks and clients meet often.
    let v4 = (0u32..8, 0u8..=32).prop_map(|(bits, len)| (IpAddr::from(spread_v4(bits)), len));
    let v6 = (0u32..8, 0u8..=128).prop_map(|(bits, len)| (IpAddr::from(spread_v6(bits)), len));
    prop_oneof![v4, v6].prop_map(|(ip, len)| IpNet::new(ip, len).unwrap().trunc())
}

fn spread_v4(bits: u32) -> Ipv4Addr {
    Ipv4Addr::from((bits & 1) << 31 | (bits & 2) << 15 | (bits & 4) >> 2)
}

fn spread_v6(bits: u32) -> Ipv6Addr {
    let bits = u128::from(bits);
    Ipv6Addr::from(0x2001 << 112 | (bits & 1) << 95 | (bits & 2) << 62 | (bits & 4) >> 2)
}

fn parts() -> impl Strategy<Value = Parts> {
    (prop::collection::vec(0usize..3, 0..3), prop::collection::vec(network(), 0..4), any::<bool>())
}

fn config_of(rules: &[Parts]) -> Config {
    let mut source = String::new();
    for service in 0..3 {
        source += &format!(
            "[[service]]\nname = \"s{service}\"\nlisten = [\"127.0.0.1:{}\"]\n\
             target = [\"10.0.0.1:80\"]\n",
            1000 + service
        );
    }
    let quoted = |texts: Vec<String>| texts.join("\", \"");
    for (index, (services, from, pass)) in rules.iter().enumerate() {
        source += &format!("[[rule]]\nname = \"r{index}\"\n");
        if !services.is_empty() {
            let names = services.iter().map(|service| format!("s{service}")).collect();
            source += &format!("services = [\"{}\"]\n", quoted(names));
        }
        if !from.is_empty() {
            let nets = from.iter().map(IpNet::to_string).collect();
            source += &format!("from = [\"{}\"]\n", quoted(nets));
        }
        source += if *pass { "action = \"pass\"\n" } else { "action = \"block\"\n" };
    }
    let environment = Environment {
        host_name: "a".to_owned(),
        local_addresses: Vec::new(),
        congestion_controls: Vec::new(),
        files: Default::default(),
    };
    Config::parse(&source, "f", &environment).unwrap_or_else(|faults| panic!("{faults}"))
}

fn judge(config: &Config, service: usize, ip: IpAddr) -> Verdict {
    let client = Client {
        listener: config.services[service].listeners[0],
        ip,
        port: 1,
        reverse: Fact::NotAsked,
        server_name: Fact::NotAsked,
    };
    Matcher::new(config, &Book::default()).judge(service, &client)
}

#[test]
fn an_ipv4_client_that_arrives_as_ipv6_is_judged_as_ipv4() {
    let config = config_of(&[(vec![], vec!["10.0.0.0/8".parse().unwrap()], true)]);
    assert_eq!(judge(&config, 0, "::ffff:10.1.2.3".parse().unwrap()), Verdict::Pass { rule: 0 });
}

proptest! {
    #[test]
    fn a_rule_that_is_said_to_be_unreached_never_decides(
        rules in prop::collection::vec(parts(), 1..8),
        bits in 0u32..8,
    ) {
        let config = config_of(&rules);
        let warned: Vec<usize> = config
            .warnings
            .list
            .iter()
            .filter(|warning| warning.message.starts_with("no client ever"))
            .map(|warning| {
                let line = warning.place.as_ref().unwrap().line;
                rule_at(&rules, line)
            })
            .collect();
        for service in 0..3 {
            for client in [IpAddr::from(spread_v4(bits)), IpAddr::from(spread_v6(bits))] {
                let (Verdict::Pass { rule } | Verdict::Block { rule: Some(rule) }) =
                    judge(&config, service, client) else { continue };
                prop_assert!(!warned.contains(&rule), "rule {} decides", rule);
            }
        }
    }
}

/// The rule whose header `config_of` writes into a line.
fn rule_at(rules: &[Parts], line: usize) -> usize {
    let mut at = 3 * 4 + 1;
    for (index, (services, from, _)) in rules.iter().enumerate() {
        if at == line {
            return index;
        }
        at += 3 + usize::from(!services.is_empty()) + usize::from(!from.is_empty());
    }
    panic!("no rule begins in line {line}");
}
