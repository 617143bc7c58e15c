//! The comparison of relays runs, and counts right.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use e2e_tests::binary;
use e2e_tests::process::{self, Process};
use e2e_tests::wait;
use serde_json::Value;

/// A user who may nothing.
const NOBODY: u32 = 65_534;

/// Whether this machine lets us have network namespaces.
fn namespaces() -> bool {
    let tried = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    rustix::process::geteuid().is_root() && tried.is_ok_and(|status| status.success())
}

fn bench(arguments: &[&str], out: &Path) -> (bool, String) {
    run("bench", &[arguments, &["--no-install"]].concat(), out)
}

fn run(program: &str, arguments: &[&str], out: &Path) -> (bool, String) {
    let mut command = Command::new(binary::path(program));
    command.args(arguments).arg("--out").arg(out);
    let mut bench = Process::start(program, &mut command, out.join("bench.log"));
    let ended = wait::within(Duration::from_secs(120), || bench.exited());
    let status = ended.unwrap_or_else(|| panic!("{program} does not end:\n{}", bench.log()));
    (status.success(), bench.log())
}

#[test]
fn relays_are_compared_and_the_account_agrees_with_the_clients() {
    if !namespaces() {
        eprintln!("skipped: no network namespaces for this user on this machine");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let tests = "idle,conn,rr32,bulk8-up,bulk8-down,udp";
    let arguments = ["--rounds=1", "--seconds=0.05", "--idle=20", "--profile=reno"];
    let arguments =
        [&arguments[..], &["--relay=direct,weir,weir-capture", "--only", tests]].concat();
    let (fine, said) = bench(&arguments, out.path());
    assert!(fine, "{said}");

    let json = std::fs::read(out.path().join("bench.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    let results = json["results"].as_array().unwrap();
    let of = |test: &str, figure: &str, relay: &str| {
        let found = results
            .iter()
            .find(|row| row["test"] == test && row["figure"] == figure && row["relay"] == relay);
        found.and_then(|row| row["median"].as_f64())
    };
    for test in ["conn", "rr32", "udp"] {
        assert!(of(test, "cpu-us", "weir").unwrap() > 0.0, "{test}: {said}");
        assert!(of(test, "per-s", "direct").unwrap() > 0.0, "{test}: {said}");
    }
    assert!(of("bulk8-up", "cpu-per-gb", "weir").unwrap() > 0.0, "{said}");
    assert!(of("bulk8-down", "gbit-per-s", "direct").unwrap() > 0.0, "{said}");
    for test in ["bulk8-up", "bulk8-down"] {
        assert!(of(test, "cpu-per-gb", "weir-capture").unwrap() > 0.0, "{test}: {said}");
    }
    assert!((2.0..2.5).contains(&of("idle", "fds-per-session", "weir").unwrap()), "{said}");
    let table = std::fs::read_to_string(out.path().join("bench.md")).unwrap();
    assert!(table.contains("| bulk8-up "), "{table}");
}

#[test]
fn an_outage_and_its_end_lose_no_session_however_much_waits() {
    let out = tempfile::tempdir().unwrap();
    let arguments = ["--rounds=1", "--rows=4096", "--seconds=3", "--waiting=20000"];
    // Everything it finds missing is an error: rows, processes, a verify that is not content.
    let (fine, said) = run("bench-account", &arguments, out.path());
    assert!(fine, "{said}");
    let json = std::fs::read(out.path().join("bench-account.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    let results = json["results"].as_array().unwrap();
    for test in ["sessions", "usage", "outage", "catch-up"] {
        assert!(results.iter().any(|row| row["test"] == test), "{test}: {said}");
    }
}

#[test]
fn analyze_answers_what_duckdb_and_nfdump_answer() {
    let out = tempfile::tempdir().unwrap();
    let keep = out.path().join("kept").display().to_string();
    let arguments = ["--rounds=1", "--sessions=3000", "--customers=20", "--keep", &keep];
    // An answer that is another one is an error.
    let (fine, said) = run("bench-analyze", &arguments, out.path());
    assert!(fine, "{said}");
    let json = std::fs::read(out.path().join("bench-analyze.json")).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    for (test, figure) in [
        ("usage --by customer,day", "times of DuckDB's time"),
        ("bill --period 2026-10", "times of DuckDB's time"),
        ("sessions --client ADDRESS", "analyze's memory at most, MiB"),
    ] {
        let found = json["results"].as_array().unwrap().iter();
        let mut found = found.filter(|row| row["test"] == test && row["figure"] == figure);
        assert!(found.next().unwrap()["median"].as_f64().unwrap() > 0.0, "{test}: {said}");
    }
}

#[test]
fn without_root_it_says_what_to_type() {
    let mut command = Command::new(binary::path("bench"));
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY);
    }
    let Ok(Output { status, stderr, .. }) = process::try_output(&mut command) else {
        eprintln!("skipped: other users may not run what was built here");
        return;
    };
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(77), "{said}");
    let typed = said.trim_end().rsplit_once("sudo ").unwrap().1;
    assert!(Path::new(typed).is_absolute(), "{said}");
}

#[test]
fn a_test_that_does_not_exist_is_refused_with_those_that_do() {
    let out = tempfile::tempdir().unwrap();
    let (fine, said) = bench(&["--only=speed"], out.path());
    assert!(!fine);
    assert!(said.contains("bulk8-up") && said.contains("speed"), "{said}");
}
