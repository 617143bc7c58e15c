//! What cannot be billed gets one clear sentence with its place, its exit code, and no file.

use std::fs;
use std::io::ErrorKind::PermissionDenied;
use std::os::unix::fs::PermissionsExt as _;

use super::scene::{GB, Office, files, item, known, tariffs, usage};
use crate::support::Run;

fn office(text: &str) -> Office {
    Office::new(&known(vec![usage("acme", 1, "2026-10-07T10:00:00Z", GB)]), text)
}

fn good() -> String {
    tariffs("", &item("price = \"1\""), "")
}

#[track_caller]
fn refused(run: &Run, code: i32, sentence: &str) {
    assert!(run.stderr.contains(sentence), "{:?} is not in {:?}", sentence, run.stderr);
    assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

#[test]
fn faults_of_tariffs_are_shown_with_their_place() {
    let tiers = "model = \"graduated\"\ntiers = [{ up_to = \"10\", price = \"1\" }, { up_to = \"5\", price = \"1\" }, { price = \"1\" }]";
    for (text, place, sentence) in [
        (
            tariffs("", &item(tiers), ""),
            "tariffs.toml:10:",
            "the tier ends where it begins, at 10, or before",
        ),
        (
            tariffs("tz = \"Mars/Olympus\"", &item("price = \"1\""), ""),
            "tariffs.toml:4:",
            "Mars/Olympus",
        ),
        (tariffs("", &item("price = 0.02"), ""), "tariffs.toml:9:", "write it in quotes: \"0.02\""),
    ] {
        let office = office(&text);
        let output = office.dir.path().join("bill.html");
        let run = office.run("2026-10", &["--format", "html", "-o", output.to_str().unwrap()]);
        refused(&run, 78, sentence);
        assert!(run.stderr.contains(place) && run.stderr.contains('^'), "{}", run.stderr);
        assert!(!output.exists());
    }
}

#[test]
fn a_period_that_does_not_exist_is_refused() {
    let office = office(&good());
    for period in ["2026-13", "2026-02-30", "2026", "october"] {
        let sentence = format!("--period {period:?} is not a billing period");
        refused(&office.run(period, &[]), 64, &sentence);
    }
    refused(&office.run("2026-10", &["--close"]), 64, "--frozen");
    refused(&office.run("2026-10", &["--format", "parquet"]), 64, "use table, csv, json");
}

#[test]
fn who_has_no_contract_is_not_billed() {
    let mut office = office(&good());
    let rows = vec![usage("initech", 2, "2026-10-07T10:00:00Z", GB)];
    let account = crate::support::account::Account { usage: rows, ..Default::default() };
    office.data.commit(&account);
    let bill = |customer: &str| office.run("2026-10", &["--customer", customer]);
    refused(&bill("initech"), 78, "tariffs.toml: customer \"initech\" has traffic and no contract");
    refused(&bill("nobody"), 66, "there is no customer \"nobody\"");
    let all = office.run("2026-10", &[]);
    assert_eq!(
        (all.code, all.stderr.as_str()),
        (0, "not billed: traffic of initech, who have no contract\n")
    );
    office.write_tariffs(&tariffs("", &item("price = \"1\""), "valid_from = 2026-11-01"));
    refused(
        &office.run("2026-10", &["--customer", "acme"]),
        78,
        "has no contract in 2026-10, only from 2026-11-01 on",
    );
    refused(&office.run("2026-10", &[]), 78, "no contract holds in 2026-10");
    office.write_tariffs(&tariffs("valid_to = 2026-10-09", &item("price = \"1\""), ""));
    refused(
        &office.run("2026-10", &[]),
        78,
        "customer acme has a contract for 2026-10-01 to 2026-10-31",
    );
}

#[test]
fn files_that_cannot_be_read_or_written_are_named() {
    let office = office(&good());
    let absent = office.dir.path().join("absent.toml");
    let run = office.data.analyze(&[
        "bill",
        "--tariffs",
        absent.to_str().unwrap(),
        "--period",
        "2026-10",
    ]);
    refused(&run, 66, "there is no file ");
    fs::write(&office.tariffs, b"\xff").unwrap();
    refused(&office.run("2026-10", &[]), 78, "is not text in UTF-8");
    office.write_tariffs(&good());
    let locked = office.dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    let output = locked.join("bill.json");
    // Permissions do not stop root.
    if fs::write(locked.join("try"), "").is_err() {
        refused(&office.run("2026-10", &["-o", output.to_str().unwrap()]), 77, "cannot write ");
        let frozen = locked.join("invoices");
        let close = ["--close", "--frozen", frozen.to_str().unwrap()];
        refused(&office.run("2026-09", &close), 77, "cannot write ");
        assert!(files(&locked).is_empty());
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    // Nobody may make a file there, root neither.
    if fs::write("/sys/bill.json", "").is_err_and(|error| error.kind() == PermissionDenied) {
        refused(
            &office.run("2026-10", &["-o", "/sys/bill.json"]),
            77,
            "cannot write /sys/bill.json",
        );
    }
    // A file where a directory should be stops everyone.
    let close = ["--close", "--frozen", office.tariffs.to_str().unwrap()];
    refused(&office.run("2026-09", &close), 74, "tariffs.toml");
}

#[test]
fn a_newer_directory_and_a_damaged_part_are_told_from_each_other() {
    let office = office(&good());
    let output = office.dir.path().join("bill.csv");
    let bill = || office.run("2026-10", &["--format", "csv", "-o", output.to_str().unwrap()]);
    let part = office.data.part_of("usage");
    let bytes = fs::read(&part).unwrap();
    fs::write(&part, &bytes[..bytes.len() / 2]).unwrap();
    refused(&bill(), 74, &format!("a part is damaged: {}: it has ", part.display()));
    fs::write(office.data.path().join("weir.json"), r#"{"format":2,"schema":"2.0"}"#).unwrap();
    refused(&bill(), 78, "is of data format 2, this analyze reads up to 1");
    assert!(!output.exists());
}
