//! The configuration as its author meets it: files that are taken, and what is said about those
//! that are not. Each file has its answer beside it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use forwarder_core::config::{
    Config, CongestionOffer, Environment, KEYS, LATER, Listener, listener_changes,
    start_only_changes,
};
use proptest::prelude::*;

fn environment() -> Environment {
    Environment {
        host_name: "edge-1".to_owned(),
        local_addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        congestion_controls: [("reno", true), ("bbr", true), ("dctcp", false)]
            .map(|(name, may_use)| CongestionOffer { name: name.to_owned(), may_use })
            .into(),
        files: named_files(),
    }
}

/// The files that configurations here name with an `@`.
fn named_files() -> BTreeMap<PathBuf, Result<String, String>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/named");
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        (PathBuf::from(path.file_name().unwrap()), Ok(fs::read_to_string(path).unwrap()))
    };
    let gone = (PathBuf::from("gone.txt"), Err("there is no such file".to_owned()));
    entries.map(read).chain([gone]).collect()
}

/// The files of a directory beside this one, by name.
fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(directory);
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().unwrap() == "toml").collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn assert_answer(file: &Path, answer: &str) {
    insta::with_settings!({
        snapshot_path => file.parent().unwrap(),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(file.file_stem().unwrap().to_str().unwrap(), answer);
    });
}

#[test]
fn good_files_mean_what_they_say() {
    for file in files("valid") {
        let name = file.file_name().unwrap().to_str().unwrap();
        let config = Config::parse(&fs::read_to_string(&file).unwrap(), name, &environment());
        let config = config.unwrap_or_else(|faults| panic!("{faults}"));
        let warnings = config.warnings.to_string();
        assert_answer(&file, &format!("{warnings}{config:#?}"));
    }
}

#[test]
fn every_fault_is_told_with_its_place_and_what_to_write_instead() {
    for file in files("invalid") {
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut environment = environment();
        if name == "empty.toml" {
            environment.host_name = "my host".to_owned();
        }
        let source = fs::read_to_string(&file).unwrap();
        let faults = Config::parse(&source, name, &environment).expect_err(name);
        assert!(faults.has_faults());
        assert_answer(&file, &faults.to_string());
    }
}

/// The lines that begin a section.
fn header(section: &str) -> String {
    let mut lines = String::new();
    let ends = section.match_indices('.').map(|(at, _)| at).chain([section.len()]);
    for path in ends.map(|end| &section[..end]).filter(|path| !path.is_empty()) {
        lines += &match path {
            "service" | "rule" | "rule.limit" | "alert" => format!("[[{path}]]\n"),
            _ => format!("[{path}]\n"),
        };
    }
    lines
}

/// Every path that a reader asks for, as its own answer to an unknown key lists them.
fn keys_asked_for(section: &str) -> Vec<String> {
    let header = header(section);
    let faults = Config::parse(&format!("{header}zzzz = 1"), "f", &environment()).unwrap_err();
    let fault = faults.list.iter().find(|fault| fault.message.contains("zzzz")).unwrap();
    let (_, listed) = fault.help.as_ref().unwrap().split_once("are: ").unwrap();
    let path =
        |key| if section.is_empty() { String::from(key) } else { format!("{section}.{key}") };
    listed.split(", ").map(path).collect()
}

#[test]
fn the_list_of_keys_is_what_the_reader_asks_for() {
    // Keys of which others are parts.
    let sections = KEYS.iter().filter(|key| is_table(key));
    let mut asked: Vec<String> =
        sections.chain([&""]).flat_map(|section| keys_asked_for(section)).collect();
    let mut listed = KEYS.to_vec();
    asked.sort();
    listed.sort_unstable();
    assert_eq!(asked, listed);
}

fn is_table(key: &str) -> bool {
    KEYS.iter().any(|other| other.starts_with(&format!("{key}.")))
}

/// The part of the reference that is about the forwarder.
fn reference() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, part) = page.split_once("## forwarder.toml").unwrap();
    part.split_once("## recorder.toml").unwrap().0.to_owned()
}

/// The rows of the reference's tables: key and default.
fn documented() -> Vec<(String, String)> {
    let rows = reference();
    let rows = rows.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (key, rest) = row.split_once("` |").unwrap();
        let default = rest.split('|').nth(1).unwrap();
        (key.to_owned(), default.trim().to_owned())
    })
    .collect()
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let mut leaves: Vec<&str> = KEYS.iter().copied().filter(|key| !is_table(key)).collect();
    let documented = documented();
    let mut named: Vec<&str> = documented.iter().map(|(key, _)| key.as_str()).collect();
    leaves.sort_unstable();
    named.sort_unstable();
    assert_eq!(named, leaves);
    let page = reference();
    let (_, later) = page.split_once("refused by name today").unwrap();
    let (list, _) = later.split_once("So is").unwrap();
    let named: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    assert_eq!(named, LATER);
}

#[test]
fn the_defaults_in_the_reference_are_the_defaults() {
    let source = include_str!("../src/config/defaults.toml");
    let defaults: toml::Table = source.parse().unwrap();
    let lookup = |key: &str| {
        let mut parts = key.split('.');
        let first = defaults.get(parts.next()?)?;
        parts.try_fold(first, |section, name| match section {
            toml::Value::Array(entries) => entries[0].get(name),
            section => section.get(name),
        })
    };
    let mut found = 0;
    for (key, default) in documented() {
        match lookup(&key) {
            Some(value) => {
                assert_eq!(default, format!("`{value}`"), "{key}");
                found += 1;
            }
            None => assert!(!default.starts_with('`'), "{key} has no default, but {default}"),
        }
    }
    assert_eq!(found, source.lines().filter(|line| line.contains(" = ")).count());
}

#[test]
fn the_examples_in_the_reference_are_right() {
    let page = reference();
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 5);
    Config::parse(examples[0], "first", &environment()).unwrap_or_else(|faults| panic!("{faults}"));
    // The others add to it: in front, so that the rule for everyone stays the last.
    let all = format!("{}{}", examples[1..].concat(), examples[0]);
    let config = Config::parse(&all, "all", &environment());
    let config = config.unwrap_or_else(|faults| panic!("{faults}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
}

#[test]
fn a_key_of_a_later_version_is_refused_by_name() {
    for key in LATER {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let header = header(section);
        let faults = Config::parse(&format!("{header}{name} = 1"), "f", &environment());
        let expected = format!("{key} is not supported by this version yet");
        let faults = faults.unwrap_err();
        assert!(faults.list.iter().any(|fault| fault.message == expected), "{faults}");
    }
}

#[test]
fn only_start_only_keys_are_named_when_a_reload_is_refused() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid").join(name);
        Config::parse(&fs::read_to_string(path).unwrap(), name, &environment()).unwrap()
    };
    let (few, every) = (read("ten-lines.toml"), read("every-key.toml"));
    assert_eq!(
        start_only_changes(&few, &every),
        [
            "node",
            "threads",
            "recorder.endpoint",
            "recorder.spool",
            "recorder.spool_max",
            "recorder.when_full",
            "accounting.slot",
            "accounting.table",
            "admin.socket",
            "admin.metrics",
        ]
    );
    assert!(start_only_changes(&few, &read("doubtful.toml")).is_empty());
    let changes = listener_changes(&few, &read("doubtful.toml"));
    let shown = |listeners: &[(Listener, _)]| {
        listeners.iter().map(|(listener, _)| listener.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&changes.added), ["tcp://127.0.0.1:8080", "tcp://127.0.0.1:25"]);
    assert_eq!(shown(&changes.removed), ["tcp://0.0.0.0:8080"]);
    assert!(listener_changes(&few, &few).is_empty());
}

#[path = "../fuzz/config_input.rs"]
mod config_input;

/// `cargo fuzz` needs a nightly compiler; what it found once is kept found here.
#[test]
fn every_input_of_the_fuzzers_corpus_is_taken_or_refused() {
    let found = files("../../fuzz/corpus/config");
    for file in found.iter().chain(&files("valid")).chain(&files("invalid")) {
        let input = fs::read(file).unwrap();
        // Shown with a failure only.
        println!("{}", file.display());
        config_input::check(&input);
        // Of a long file not every beginning, but every place in a line before long.
        let step = if input.len() > 1000 { 7 } else { 1 };
        for at in (0..input.len()).step_by(step) {
            config_input::check(&input[..at]);
        }
    }
}

#[test]
fn more_services_or_rules_than_the_bound_are_refused() {
    let services = |count: usize| -> String {
        let one = |n| {
            format!(
                "[[service]]\nname = \"s{n}\"\nlisten = [\"127.0.0.1:{}\"]\ntarget = [\"10.0.0.1:1\"]\n",
                n + 1
            )
        };
        (0..count).map(one).collect()
    };
    let rules = |count: usize| -> String {
        let one = |n| {
            format!(
                "[[rule]]\nname = \"r{n}\"\naction = \"pass\"\nfrom = [\"10.0.{}.{}\"]\n",
                n / 256,
                n % 256
            )
        };
        (0..count).map(one).collect()
    };
    let parse = |source: String| Config::parse(&source, "f", &environment());
    assert!(parse(services(1024) + &rules(4096)).is_ok());
    let faults = parse(services(1025) + &rules(4097)).unwrap_err();
    let told: Vec<_> = faults.list.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(told, ["there are more than 1024 services", "there are more than 4096 rules"]);
    let ports = (0..2049).map(|port| format!("\"127.0.0.1:{}\"", port + 1)).collect::<Vec<_>>();
    let many = services(1).replace("\"127.0.0.1:1\"", &ports.join(", "));
    let faults = parse(many).unwrap_err();
    assert_eq!(faults.list[0].message, "there are more than 4096 listeners");
}

fn all_sources() -> Vec<String> {
    let files = files("valid").into_iter().chain(files("invalid"));
    files.map(|file| fs::read_to_string(file).unwrap()).collect()
}

proptest! {
    #[test]
    fn noise_never_panics(noise in ".{0,300}") {
        config_input::check(noise.as_bytes());
    }

    #[test]
    fn a_mutated_file_never_panics(
        source in prop::sample::select(all_sources()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, "[\\[\\]{}=\"'.,a0-9\n é-]{0,4}"), 1..5),
    ) {
        let mut source: Vec<char> = source.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(source.len() + 1);
            let end = (at + remove).min(source.len());
            source.splice(at..end, insert.chars());
        }
        config_input::check(source.into_iter().collect::<String>().as_bytes());
    }

    #[test]
    fn lines_of_two_files_shuffled_together_never_panic(
        lines in prop::collection::vec(prop::sample::select(all_sources().concat().lines().map(str::to_owned).collect::<Vec<_>>()), 0..60),
    ) {
        config_input::check(lines.join("\n").as_bytes());
    }
}
