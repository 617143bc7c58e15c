//! Barefoot's configuration as ours. Each file has its answer beside it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::fs;
use std::path::{Path, PathBuf};

use forwarder_core::convert::barefoot;
use proptest::prelude::*;

#[path = "../fuzz/convert_input.rs"]
mod convert_input;

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_none_or(|extension| extension == "conf"));
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn what_was_said_for_barefoot_is_said_for_weir() {
    for file in files("tests/convert") {
        let name = file.file_name().unwrap().to_str().unwrap();
        let answer = match barefoot(&fs::read_to_string(&file).unwrap(), name) {
            Ok(made) => format!("{}\n-- {} notes\n{}", made.toml, made.notes, made.faults),
            Err(faults) => faults.to_string(),
        };
        insta::with_settings!({
            snapshot_path => file.parent().unwrap(),
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(file.file_stem().unwrap().to_str().unwrap(), answer);
        });
    }
}

/// Whatever kept clients away and cannot be said here: no rule that passes lives without it.
#[test]
fn no_rule_passes_clients_that_barefoot_kept_away() {
    for file in files("tests/convert") {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("restricted-") {
            continue;
        }
        let made = barefoot(&fs::read_to_string(&file).unwrap(), &name).unwrap();
        assert!(!made.toml.contains("\n[[rule]]"), "{name}:\n{}", made.toml);
        assert!(made.toml.contains("\n#[[rule]]"), "{name}:\n{}", made.toml);
    }
    for restriction in [
        "session.max: x",
        "session.throttle: 1/0",
        "session.state.max: -1",
        "bandwidth: 1k",
        "user: joe",
        "username: joe",
        "user.name: joe",
        "group: g",
        "libwrap: twist /bin/false",
        "sesion.max: 3",
    ] {
        let rule = "client pass { from: 0/0 to: 192.0.2.1 port = 80 bounce to: 10.9.0.1";
        let made = barefoot(&format!("{rule} {restriction} }}"), "b.conf").unwrap();
        assert!(!made.toml.contains("\n[[rule]]"), "{restriction}:\n{}", made.toml);
        assert!(made.toml.contains(restriction), "{restriction}:\n{}", made.toml);
    }
}

/// `cargo fuzz` needs a nightly compiler; what it found once is kept found here.
#[test]
fn every_input_of_the_fuzzers_corpus_is_converted_or_refused() {
    for file in files("fuzz/corpus/convert").iter().chain(&files("tests/convert")) {
        let input = fs::read(file).unwrap();
        // Shown with a failure only.
        println!("{}", file.display());
        for end in 0..=input.len() {
            convert_input::check(&input[..end]);
        }
    }
}

/// A rule that Barefoot would take, of addresses that do not get in each other's way.
fn rule() -> impl Strategy<Value = String> {
    let from = prop::sample::select(vec![
        "0/0",
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.0.0/255.255.0.0",
        "::/0",
        ".example.com",
        "host.example.com",
        "eth0",
        "192.0.2.7/32",
        "10.0.0.0/8 port > 1023",
        "0/0 port 1024 - 65535",
    ]);
    let to = prop::sample::select(vec![
        "192.0.2.1 port = http",
        "192.0.2.1 port = 8080",
        "192.0.2.2 port 80",
        "eth1 port = 8081",
        "gate.example.com port = 25",
        "2001:db8::1 port = domain",
    ]);
    let target = prop::sample::select(vec![
        "10.9.0.1",
        "10.9.0.2 port = 8443",
        "fd00::9 port = 80",
        "www.example.com port = http",
    ]);
    let rest = prop::collection::vec(
        prop::sample::select(vec![
            "log: connect disconnect",
            "log: error data ioop tcpinfo",
            "session.max: 100",
            "session.throttle: 10/5",
            "session.state.max: 200",
            "session.state.throttle: 100/1",
            "session.state.key: from",
            "bandwidth: 102400",
            "timeout.io: 0",
            "timeout.connect: 3",
            "timeout.tcp_fin_wait: 9",
            "udp.connectdst: no",
            "libwrap: banners /x",
            "user: joe",
            "method: none",
            "redirect from: 192.0.2.9",
        ]),
        0..6,
    );
    let protocol =
        prop::sample::select(vec!["", "protocol: tcp\n", "protocol: udp\n", "protocol: tcp udp\n"]);
    let all = (any::<bool>(), from, to, target, protocol, rest);
    all.prop_map(|(pass, from, to, target, protocol, rest)| {
        let (kind, bounce) = match pass {
            true => ("pass", format!("bounce to: {target}\n")),
            false => ("block", String::new()),
        };
        format!(
            "client {kind} {{\nfrom: {from} to: {to}\n{bounce}{protocol}{}\n}}\n",
            rest.join("\n")
        )
    })
}

fn settings() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec![
            "logoutput: syslog",
            "logoutput: /var/log/b.log stderr",
            "external: 192.0.2.1",
            "external: 2001:db8::1",
            "external: eth0",
            "external.rotation: route",
            "external.rotation: same-same",
            "srchost: nodnsmismatch",
            "timeout.io: 100",
            "timeout.io.udp: 0",
            "timeout.connect: 9",
            "user.privileged: root",
            "method: rfc931",
        ]),
        0..5,
    )
    .prop_map(|settings| settings.join("\n") + "\n")
}

proptest! {
    #[test]
    fn what_barefoot_takes_becomes_a_configuration(
        settings in settings(),
        first in rule(),
        rules in prop::collection::vec(rule(), 0..6),
    ) {
        let source = settings + &first + &rules.concat();
        let made = barefoot(&source, "b.conf");
        let made = made.map_err(|faults| TestCaseError::fail(format!("{faults}")))?;
        // Where only rules that block are left, there is nothing to forward.
        let told = made.faults.list.iter().filter(|fault| !fault.message.contains("no service"));
        let told: Vec<_> = told.collect();
        prop_assert!(told.is_empty(), "{}\n{}\n{}", source, made.toml, made.faults);
    }

    #[test]
    fn noise_never_panics(noise in ".{0,300}") {
        convert_input::check(noise.as_bytes());
    }

    #[test]
    fn words_of_real_files_in_any_order_never_panic(
        words in prop::collection::vec(prop::sample::select(words()), 0..60),
    ) {
        convert_input::check(words.join(" ").as_bytes());
    }
}

fn words() -> Vec<String> {
    let texts = files("tests/convert").into_iter().map(|file| fs::read_to_string(file).unwrap());
    let texts: String = texts.collect();
    texts.lines().flat_map(|line| line.split_whitespace()).map(str::to_owned).collect()
}
