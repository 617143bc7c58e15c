//! What may not stand in a source file.

use std::path::Path;

use crate::{read, root, rust_files};

/// The lines of all files under `dir` that `forbidden` objects to, as `file:line: text`.
fn objections(dir: &Path, forbidden: impl Fn(&str) -> bool) -> Vec<String> {
    let own = root().join("tests/tidy");
    let mut found = Vec::new();
    for path in rust_files(dir).into_iter().filter(|path| !path.starts_with(&own)) {
        for (number, line) in (1..).zip(read(&path).lines()) {
            let code = line.split("//").next().unwrap_or_default();
            if forbidden(code) {
                found.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    found
}

#[track_caller]
fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}\n{}", found.join("\n"));
}

#[test]
fn unsafe_lives_in_forwarder_sys_alone() {
    let sys = root().join("forwarder/sys").display().to_string();
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"];
    let mut found = objections(&root(), |code| words.iter().any(|word| code.contains(word)));
    found.retain(|line| !line.starts_with(&sys));
    assert_none(&found, "unsafe code belongs behind a safe function of forwarder-sys:");
}

#[test]
fn every_other_library_forbids_unsafe() {
    for package in [
        "schemas",
        "schemas/journal",
        "forwarder/core",
        "forwarder",
        "recorder",
        "analyze",
        "tests",
    ] {
        let library = root().join(package).join("src/lib.rs");
        assert!(
            read(&library).contains("#![forbid(unsafe_code)]"),
            "{} must say #![forbid(unsafe_code)]",
            library.display()
        );
    }
}

#[test]
fn the_core_asks_no_clock() {
    let clocks = ["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now"];
    let found = objections(&root().join("forwarder/core/src"), |code| {
        clocks.iter().any(|clock| code.contains(clock))
    });
    // A test may anchor its virtual time somewhere; its first instant has to come from a clock.
    let found: Vec<String> = found.into_iter().filter(|line| !in_tests(line)).collect();
    assert_none(&found, "forwarder-core takes `now` as an argument:");
}

/// Whether a `file:line: text` lies below the file's `#[cfg(test)]`.
fn in_tests(objection: &str) -> bool {
    let mut parts = objection.splitn(3, ':');
    let (Some(path), Some(Ok(number))) = (parts.next(), parts.next().map(str::parse::<usize>))
    else {
        return false;
    };
    let name = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    name == "tests"
        || read(Path::new(path)).lines().take(number).any(|line| line.trim() == "#[cfg(test)]")
}

#[test]
fn exceptions_to_lints_are_expectations_with_a_reason() {
    let found = objections(&root(), |code| code.contains("#[allow(") || code.contains("#![allow("));
    assert_none(&found, "write #[expect(.., reason = \"..\")] at the line:");
}

#[test]
fn no_work_is_left_in_marks() {
    let found: Vec<String> = rust_files(&root())
        .into_iter()
        .filter(|path| !path.starts_with(root().join("tests/tidy")))
        .flat_map(|path| {
            let marked =
                |line: &str| ["TODO", "FIXME", "XXX"].iter().any(|mark| line.contains(mark));
            let text = read(&path);
            let lines = (1..).zip(text.lines()).filter(|(_, line)| marked(line));
            lines
                .map(|(number, line)| format!("{}:{number}: {line}", path.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_none(&found, "finish it, or write it down where work is planned:");
}
