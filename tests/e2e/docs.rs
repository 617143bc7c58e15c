//! The documents say what is true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e_tests::binary;
use e2e_tests::scene::Said;

fn document(name: &str) -> String {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace");
    fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let parts = text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    parts.map(str::to_owned).collect()
}

fn said(program: &str, arguments: &[&str]) -> Said {
    Said::of(Command::new(binary::path(program)).args(arguments).stdin(Stdio::null()))
}

#[test]
fn the_configurations_in_the_readme_are_right() {
    let examples = blocks(&document("README.md"), "toml");
    let words = [
        vec!["web", "0.0.0.0:8080", "10.0.0.5:80", "office", "acme"],
        vec!["shop", "first-available", "api.example.com", "50 sessions", "500 GB", "globex"],
    ];
    assert_eq!(examples.len(), words.len());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forwarder.toml");
    for (example, words) in examples.iter().zip(words) {
        fs::write(&file, example).unwrap();
        let shown = said("forwarder", &["check", "-c", &file.display().to_string()]).fine();
        for word in words {
            assert!(shown.stdout.contains(word), "{word} is missing in\n{}", shown.stdout);
        }
    }
}

/// The commands in shell blocks and in code spans, as words.
fn commands(text: &str) -> Vec<Vec<String>> {
    let spans = text.split('`').skip(1).step_by(2).map(str::to_owned);
    let lines = blocks(text, "sh")
        .into_iter()
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>());
    let words = |line: String| {
        let line = line.split('#').next().unwrap_or_default().to_owned();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    spans.chain(lines).map(words).filter(|words| words.len() > 1).collect()
}

#[test]
fn every_command_that_the_documents_name_exists() {
    let mut found = 0;
    for name in ["README.md", "docs/README.md", "docs/configuration.md", "docs/tables.md"] {
        for words in commands(&document(name)) {
            let program = words[0].rsplit('/').next().unwrap_or_default();
            if !["forwarder", "recorder", "analyze"].contains(&program) {
                continue;
            }
            let mut words = words[1..].iter().map(String::as_str).peekable();
            if words.next_if_eq(&"--data").is_some() {
                words.next();
            }
            let Some(command) = words.next().filter(|word| !word.starts_with('-')) else {
                continue;
            };
            let help = said(program, &[command, "--help"]).fine().stdout;
            for option in words.filter(|word| word.starts_with('-')) {
                assert!(help.contains(option), "{name}: {program} {command} has no {option}");
            }
            found += 1;
        }
    }
    assert!(found > 20, "only {found} commands were found in the documents");
}

#[test]
fn every_command_explains_itself() {
    for program in ["forwarder", "recorder", "analyze"] {
        let manual = said(program, &["--help"]).fine().stdout;
        let commands = manual.split("Commands:").nth(1).expect("it has commands");
        let commands = commands.split("Options:").next().expect("and then options");
        let names: Vec<&str> = commands
            .lines()
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .collect();
        assert!(names.len() >= 4, "{names:?}");
        for name in names {
            let help = said(program, &[name, "--help"]).fine().stdout;
            assert!(
                help.contains("Usage:") && help.lines().count() > 8,
                "{program} {name}:\n{help}"
            );
        }
    }
}

#[test]
fn every_key_is_documented() {
    let page = document("docs/configuration.md");
    let documented = |key: &str| page.contains(&format!("| `{key}` |"));
    let forwarder = forwarder_core::config::KEYS.iter().filter(|key| {
        // A table has no value of its own; its keys are what is documented.
        !forwarder_core::config::KEYS.iter().any(|other| other.starts_with(&format!("{key}.")))
    });
    let missing: Vec<_> =
        forwarder.chain(&recorder::config::KEYS).filter(|key| !documented(key)).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not name {missing:?}");
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let page = document("docs/logging.md");
    let exist: BTreeSet<&str> =
        forwarder::metrics::FAMILIES.iter().map(|family| family.name).collect();
    let table = page.split("## Metrics").nth(1).expect("a section about metrics");
    let named = table.split('`').skip(1).step_by(2).filter(|span| span.starts_with("forwarder_"));
    assert_eq!(named.collect::<BTreeSet<_>>(), exist);
}

/// The demonstration itself, for fewer seconds than a reader would watch.
#[test]
fn the_demonstration_prints_what_the_readme_shows() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Command::new(binary::path("demo"));
    let said = Said::of(demo.arg("3").current_dir(dir.path()).stdin(Stdio::null())).fine();
    let readme = document("README.md");
    let excerpt = readme.split("<!-- demo -->").nth(1).expect("the README shows it");
    let excerpt = &blocks(excerpt, "")[0];
    let fixed = |line: &&str| line.starts_with("## ") || line.starts_with("$ ");
    // A session's name is another each time.
    let shape = |line: &str| {
        let words =
            line.split_whitespace().map(|word| if is_session(word) { "SESSION" } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    let printed: Vec<String> = said.stdout.lines().map(shape).collect();
    let shown: Vec<&str> = excerpt.lines().filter(fixed).collect();
    assert!(shown.len() >= 6, "{shown:?}");
    for line in shown {
        assert!(
            printed.contains(&shape(line)),
            "the demonstration does not print {line:?}:\n{}",
            said.stdout
        );
    }
    assert!(dir.path().join("demo-data/data/accounting/usage").is_dir());
}

fn is_session(word: &str) -> bool {
    word.parse::<schemas::vocab::SessionId>().is_ok()
}
