//! What is said about rules that no client ever reaches must be certain.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use forwarder_core::config::{Config, Environment};
use forwarder_core::matching::{Book, Client, Fact, Matcher, ReverseNames, Verdict};
use proptest::prelude::*;

const SERVICES: &str = r#"
[[service]]
name   = "both"
listen = ["127.0.0.1:1", "tcp://127.0.0.1:2"]
target = ["10.0.0.1"]

[[service]]
name   = "udp"
listen = ["udp://127.0.0.1:3"]
target = ["10.0.0.1"]
"#;

/// Few distinct values, so that rules and clients meet often.
const ORIGINS: [&str; 9] = [
    "\"10.0.0.0/8\"",
    "\"10.0.0.0/9\"",
    "\"10.128.0.0/9\"",
    "\"0.0.0.0/0\"",
    "\"::/0\"",
    "\"a.example.com\"",
    "\".example.com\"",
    "\"eth0\"",
    "\"@some.txt\"",
];

/// A key of a rule as a line, or nothing.
fn maybe(key: &'static str, values: Vec<&'static str>) -> impl Strategy<Value = String> {
    let line = move |value| format!("{key} = {value}\n");
    prop_oneof![
        3 => Just(String::new()),
        1 => prop::sample::select(values).prop_map(line),
    ]
}

fn origins(key: &'static str, most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(ORIGINS.to_vec()), 0..=most).prop_map(move |list| {
        match list.is_empty() {
            true => String::new(),
            false => format!("{key} = [{}]\n", list.join(", ")),
        }
    })
}

fn rule() -> impl Strategy<Value = String> {
    (
        maybe("services", vec!["[\"both\"]", "[\"udp\"]", "[\"udp\", \"both\"]"]),
        maybe("transport", vec!["\"tcp\"", "\"udp\""]),
        origins("from", 3),
        prop_oneof![3 => Just(String::new()), 1 => origins("not_from", 2)],
        maybe("client_port", vec!["[\"53\"]", "[\">1023\"]", "[\"0-65535\"]"]),
        maybe("server_name", vec!["[\"a.example.com\"]", "[\"*.example.com\"]"]),
        maybe("unknown_name", vec!["\"match\"", "\"skip\""]),
        prop::sample::select(vec!["action = \"pass\"\n", "action = \"block\"\n"]),
    )
        .prop_map(|(services, transport, from, not_from, port, server, unknown, action)| {
            [services, transport, from, not_from, port, server, unknown, action.to_owned()].concat()
        })
}

fn config_of(rules: &[String]) -> (Config, Vec<usize>) {
    let mut source = SERVICES.to_owned();
    let mut lines = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        lines.push(source.lines().count() + 1);
        source += &format!("[[rule]]\nname = \"r{index}\"\n{rule}");
    }
    let files: BTreeMap<PathBuf, Result<String, String>> =
        [(PathBuf::from("some.txt"), Ok("10.1.0.0/16\n".to_owned()))].into();
    let environment = Environment {
        host_name: "a".to_owned(),
        local_addresses: Vec::new(),
        congestion_controls: Vec::new(),
        files,
    };
    let config = Config::parse(&source, "f", &environment);
    (config.unwrap_or_else(|faults| panic!("{faults}")), lines)
}

/// The rules that are said to be unreached.
fn unreached(config: &Config, lines: &[usize]) -> Vec<usize> {
    let warnings = config.warnings.list.iter();
    let warnings = warnings.filter(|warning| warning.message.starts_with("no client ever"));
    let line = |warning: &schemas::config::Diagnostic| warning.place.as_ref().map(|at| at.line);
    warnings.filter_map(line).filter_map(|line| lines.iter().position(|at| *at == line)).collect()
}

proptest! {
    #[test]
    fn a_rule_that_is_said_to_be_unreached_never_decides(
        rules in prop::collection::vec(rule(), 1..7),
        ip in prop::sample::select(vec!["10.1.2.3", "10.200.0.1", "192.0.2.1", "2001:db8::1"]),
        port in prop::sample::select(vec![53u16, 40_000]),
        reverse in 0usize..4,
        server in 0usize..3,
        known in any::<bool>(),
    ) {
        let (config, lines) = config_of(&rules);
        let unreached = unreached(&config, &lines);
        let ip: IpAddr = ip.parse().expect("an address");
        let book = Book {
            names: if known { [("a.example.com".to_owned(), vec![ip])].into() } else { [].into() },
            interfaces: [("eth0".to_owned(), vec![ip])].into(),
        };
        let matcher = Matcher::new(&config, &book);
        let named = ReverseNames { has_name: true, confirmed: vec!["x.example.com".to_owned()] };
        let other = ReverseNames { has_name: true, confirmed: vec!["example.org".to_owned()] };
        let nameless = ReverseNames::default();
        let reverse = [Fact::Unknown, Fact::Known(&named), Fact::Known(&other), Fact::Known(&nameless)]
            [reverse];
        let server_name = [Fact::Unknown, Fact::Known("a.example.com"), Fact::Known("b.org")][server];
        for (service, own) in config.services.iter().enumerate() {
            for &listener in &own.listeners {
                let client = Client { listener, ip, port, reverse, server_name };
                if let Verdict::Pass { rule } | Verdict::Block { rule: Some(rule) } =
                    matcher.judge(service, &client)
                {
                    prop_assert!(!unreached.contains(&rule), "rule {} decides", rule);
                }
            }
        }
    }
}

#[test]
fn what_is_certain_is_said() {
    let everyone = "action = \"pass\"\n";
    let unreached_of = |rules: &[&str]| {
        let rules: Vec<String> = rules.iter().map(|rule| format!("{rule}{everyone}")).collect();
        let (config, lines) = config_of(&rules);
        unreached(&config, &lines)
    };
    assert_eq!(unreached_of(&["", "from = [\".example.com\"]\n"]), [1]);
    assert_eq!(unreached_of(&["transport = \"udp\"\n", "services = [\"udp\"]\n"]), [1]);
    assert_eq!(unreached_of(&["services = [\"udp\"]\ntransport = \"tcp\"\n"]), [0]);
    assert_eq!(unreached_of(&["from = [\"10.0.0.0/9\"]\nnot_from = [\"10.0.0.0/8\"]\n"]), [0]);
    // A rule that asks for more than networks decides about nobody for sure.
    for condition in [
        "client_port = [\"53\"]\n",
        "not_from = [\"10.0.0.0/8\"]\n",
        "server_name = [\"a.example.com\"]\n",
        "from = [\".example.com\"]\n",
        "listeners = [\"tcp://127.0.0.1:1\"]\n",
    ] {
        assert_eq!(unreached_of(&[condition, ""]), Vec::<usize>::new(), "{condition}");
    }
}
