//! The command reference is true.

use std::path::Path;
use std::{env, fs};

use crate::support::Data;
use crate::support::account::Account;

#[test]
fn the_examples_of_the_reference_are_what_the_program_prints() {
    let data = Data::with(&Account::whole());
    data.add_capture();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/analyze.md");
    let text = fs::read_to_string(&page).unwrap();
    let update = env::var_os("UPDATE_DOCS").is_some();
    let mut updated = text.clone();
    let mut examples = 0;
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let (command, printed) = block.split_once('\n').unwrap();
        let arguments = words(command.strip_prefix("$ analyze ").unwrap());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let prints = data.answer(&arguments);
        if update {
            updated = updated.replace(block, &format!("{command}\n{prints}"));
        } else {
            assert_eq!(prints, printed, "{command}: UPDATE_DOCS=1 writes what is printed now");
        }
        examples += 1;
    }
    if update {
        fs::write(page, updated).unwrap();
    }
    assert!(examples > 10, "only {examples} examples were found");
}

/// The words of a command line whose only quotes are double ones.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
