//! `tariffs.toml` as its author meets it: files that are taken, and what is said about those that
//! are not. Each bad file has its answer beside it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::fs;
use std::path::{Path, PathBuf};

use analyze::rating::Plan;
use analyze::tariff::{Charge, KEYS, Pricing, Subject, Tariffs};
use jiff::civil::date;
use proptest::prelude::*;

fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn example() -> String {
    fs::read_to_string(package("dist/tariffs.toml")).unwrap()
}

fn reference() -> String {
    fs::read_to_string(package("../docs/tariffs.md")).unwrap()
}

/// The bad files, by name.
fn bad_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(package("tests/tariff/invalid")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().unwrap() == "toml").collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn every_fault_is_told_with_its_place_and_what_to_write_instead() {
    for file in bad_files() {
        let name = file.file_name().unwrap().to_str().unwrap();
        let faults = Tariffs::parse(name, &fs::read_to_string(&file).unwrap()).expect_err(name);
        assert!(faults.has_faults());
        insta::with_settings!({
            snapshot_path => file.parent().unwrap(),
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(file.file_stem().unwrap().to_str().unwrap(), faults.to_string());
        });
    }
}

#[test]
fn the_example_says_what_its_comments_say() {
    let tariffs = Tariffs::parse("tariffs.toml", &example());
    let tariffs = tariffs.unwrap_or_else(|faults| panic!("{faults}"));
    let names: Vec<&str> = tariffs.tariffs.iter().map(|tariff| &*tariff.name).collect();
    assert_eq!(names, ["transit", "volume"]);
    assert_eq!(tariffs.tariffs[0].versions.len(), 2);
    let subjects: Vec<String> = tariffs.contracts.iter().map(|c| c.subject.to_string()).collect();
    assert_eq!(subjects, ["customer acme", "customer globex"]);
    assert!(matches!(tariffs.contracts[0].subject, Subject::Customer(_)));
    for contract in &tariffs.contracts {
        for month in [date(2026, 10, 1), date(2027, 3, 1)] {
            assert!(Plan::new(&tariffs, contract, month).unwrap().is_some());
        }
    }
    let video = &tariffs.tariffs[1].versions[0].items[1];
    let Charge::Usage(usage) = &video.charge else { panic!("{video:?}") };
    assert!(matches!(usage.pricing, Pricing::Windows(_)));
}

#[test]
fn an_empty_file_has_no_tariffs_and_no_contracts() {
    let empty = Tariffs::parse("f", "").unwrap();
    assert!(empty.tariffs.is_empty() && empty.contracts.is_empty());
}

/// The keys that the tables of the reference describe.
fn documented() -> Vec<String> {
    let page = reference();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once("` |")).map(|(key, _)| key.to_owned()).collect()
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let is_table = |key: &str| KEYS.iter().any(|other| other.starts_with(&format!("{key}.")));
    let mut leaves: Vec<&str> = KEYS.iter().copied().filter(|key| !is_table(key)).collect();
    let mut documented = documented();
    leaves.sort_unstable();
    documented.sort();
    assert_eq!(documented, leaves);
}

/// The text in which `key` is unknown, in the table at `path`.
fn with_unknown_key(path: &str) -> String {
    let inner = "zzzz = 1";
    let item = |body: &str| {
        format!(
            "[[tariff]]\nname = \"t\"\ncurrency = \"EUR\"\n[[tariff.item]]\nname = \"i\"\n{body}\n"
        )
    };
    let usage = |body: &str| item(&format!("metric = \"p95\"\nunit = \"Mbit/s\"\n{body}"));
    match path {
        "" => inner.to_owned(),
        "tariff" => format!("[[tariff]]\n{inner}"),
        "tariff.item" => item(inner),
        "tariff.item.tiers" => usage("model = \"volume\"\ntiers = [{ zzzz = 1 }]"),
        "tariff.item.windows" => usage("windows = [{ zzzz = 1 }]"),
        "tariff.item.rounding" => usage("rounding = { zzzz = 1 }"),
        "tariff.item.package" => usage("package = { zzzz = 1 }"),
        "tariff.item.percentile" => usage("percentile = { zzzz = 1 }"),
        "contract" => format!("[[contract]]\n{inner}"),
        "contract.credit" => format!("[[contract]]\n[[contract.credit]]\n{inner}"),
        other => panic!("{other} is a table that this test does not know"),
    }
}

#[test]
fn the_list_of_keys_is_what_the_reader_asks_for() {
    let parents = KEYS.iter().map(|key| key.rsplit_once('.').map_or("", |(parent, _)| parent));
    let mut parents: Vec<&str> = parents.collect();
    parents.sort_unstable();
    parents.dedup();
    let mut asked = Vec::new();
    for parent in parents {
        let faults = Tariffs::parse("f", &with_unknown_key(parent)).unwrap_err();
        let fault = faults.list.iter().find(|fault| fault.message.contains("zzzz")).unwrap();
        let (_, keys) = fault.help.as_ref().unwrap().split_once("are: ").unwrap();
        let path =
            |key: &str| if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") };
        asked.extend(keys.split(", ").map(path));
    }
    asked.sort();
    asked.dedup();
    let mut listed = KEYS.to_vec();
    listed.sort_unstable();
    assert_eq!(asked, listed);
}

/// The examples of the reference.
fn examples() -> Vec<String> {
    let page = reference();
    let blocks = page.split("```toml\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_examples_in_the_reference_are_right() {
    let examples = examples();
    assert!(examples.len() >= 5);
    for example in examples {
        // An example is a file, or items of a tariff.
        let whole = example.contains("[[tariff]]");
        let head = "[[tariff]]\nname = \"t\"\ncurrency = \"EUR\"\n";
        let text = if whole { example } else { format!("{head}{example}") };
        Tariffs::parse("tariffs.md", &text).unwrap_or_else(|faults| panic!("{faults}"));
    }
}

/// Reads a text: nothing may panic; what is refused says where, within the file; what is taken has
/// a plan, or says why not.
fn check(text: &str) {
    match Tariffs::parse("f", text) {
        Ok(tariffs) => {
            for contract in &tariffs.contracts {
                for month in [date(1970, 1, 1), date(2026, 10, 1), date(9000, 12, 31)] {
                    drop(Plan::new(&tariffs, contract, month));
                }
            }
        }
        Err(faults) => {
            assert!(faults.has_faults() && !faults.to_string().is_empty());
            let lines = text.split('\n').count();
            for place in faults.list.iter().filter_map(|fault| fault.place.as_ref()) {
                assert!((1..=lines).contains(&place.line) && place.column >= 1);
            }
        }
    }
}

fn all_sources() -> Vec<String> {
    let bad = bad_files().into_iter().map(|file| fs::read_to_string(file).unwrap());
    bad.chain([example()]).chain(examples()).collect()
}

#[test]
fn every_beginning_of_a_file_is_taken_or_refused() {
    for source in all_sources() {
        let ends = (0..source.len()).step_by(5).filter(|at| source.is_char_boundary(*at));
        ends.for_each(|end| check(&source[..end]));
    }
}

proptest! {
    #[test]
    fn noise_never_panics(noise in ".{0,300}") {
        check(&noise);
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
        check(&source.into_iter().collect::<String>());
    }

    #[test]
    fn lines_of_all_files_shuffled_together_never_panic(
        lines in prop::collection::vec(prop::sample::select(all_sources().concat().lines().map(str::to_owned).collect::<Vec<_>>()), 0..60),
    ) {
        check(&lines.join("\n"));
    }
}
