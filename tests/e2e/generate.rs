//! Reports over a made-up account say what was counted when it was made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e_tests::binary;
use e2e_tests::process::output;
use serde_json::Value;
use tempfile::TempDir;

use crate::rows::integer;

/// An account and what is true of it.
struct Made {
    data: TempDir,
    truth: Value,
}

impl Made {
    fn new(seed: &str) -> Self {
        let data = tempfile::tempdir().expect("a directory for temporary files");
        generate(data.path(), seed);
        let truth = fs::read(data.path().join("truth.json")).expect("it was written");
        Self { data, truth: serde_json::from_slice(&truth).expect("it is JSON") }
    }

    fn analyze(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(binary::path("analyze"));
        let output = output(command.arg("--data").arg(self.data.path()).args(arguments));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("reports are text")
    }

    fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.analyze(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&text).expect("it is JSON")
    }

    /// What is true of each customer, and of nobody's traffic.
    fn customers(&self) -> &[Value] {
        self.truth["customers"].as_array().expect("an array")
    }
}

fn generate(out: &Path, seed: &str) {
    let mut command = Command::new(binary::path("generate"));
    command.args(["--sessions=2000", "--customers=20", "--days=3", "--seed", seed, "--out"]);
    let output = output(command.arg(out));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn of<'r>(rows: &'r [Value], customer: &Value) -> &'r Value {
    let found = rows.iter().find(|row| row["customer"] == *customer);
    found.unwrap_or_else(|| panic!("{customer} is not in {rows:?}"))
}

#[test]
fn a_made_up_account_is_whole_and_its_sums_are_those_that_were_counted() {
    for seed in ["1", "2"] {
        let made = Made::new(seed);
        made.analyze(&["verify"]);
        for command in ["usage", "top"] {
            let rows = made.rows(&[command, "--by", "customer"]);
            assert_eq!(rows.len(), made.customers().len());
            for truth in made.customers() {
                let row = of(&rows, &truth["customer"]);
                for column in ["sessions", "bytes_up", "bytes_down"] {
                    assert_eq!(row[column], truth[column], "seed {seed}, {command}: {row}");
                }
            }
        }
        let count = &made.rows(&["sql", "select count(*) as ended from sessions"])[0];
        assert_eq!(count["ended"], made.truth["sessions"]);
        let all = made.rows(&["sessions", "--open"]);
        let open = integer(&made.truth, "open");
        assert!(open > 1, "seed {seed}: {open}");
        let running = all.iter().filter(|row| row["end_reason"].is_null()).count();
        assert_eq!(i64::try_from(running).ok(), Some(open));
    }
}

#[test]
fn percentiles_are_those_of_the_slots_that_were_made() {
    let bps = |bytes: &Value| bytes.as_i64().expect("whole bytes of a slot") * 8 / 300;
    for seed in ["8", "9"] {
        let made = Made::new(seed);
        for mode in ["max_of_p95", "p95_of_sum", "p95_of_max"] {
            let rows = made.rows(&["percentile", "--mode", mode]);
            assert_eq!(rows.len(), made.customers().len());
            for truth in made.customers() {
                let (row, truth) = (of(&rows, &truth["customer"]), &truth["p95"]);
                let said = ["percentile_up_bps", "percentile_down_bps", "percentile_bps"];
                let said = said.map(|column| integer(row, column));
                let max = bps(&truth["in"]).max(bps(&truth["out"]));
                let figure = if mode == "max_of_p95" { max } else { bps(&truth[mode]) };
                assert_eq!(said, [bps(&truth["in"]), bps(&truth["out"]), figure], "{mode}: {row}");
            }
        }
    }
}

#[test]
fn invoices_come_to_what_was_worked_out_beside_the_account() {
    for seed in ["6", "7"] {
        let made = Made::new(seed);
        let prices = made.data.path().join("tariffs.toml").display().to_string();
        let invoices = made.rows(&["bill", "--tariffs", &prices, "--period", "2026-10"]);
        for truth in made.customers().iter().filter(|truth| !truth["invoice"].is_null()) {
            let find = |invoice: &&Value| invoice["subject"]["name"] == truth["customer"];
            let invoice = invoices.iter().find(find).unwrap();
            let worked_out = &truth["invoice"];
            assert_eq!(invoice["tariff"], worked_out["tariff"]);
            let lines = invoice["lines"].as_array().unwrap().iter().map(|line| &line["amount"]);
            let lines: Vec<&Value> = lines.filter(|amount| **amount != "0.00").collect();
            assert_eq!(Value::from_iter(lines.into_iter().cloned()), worked_out["lines"]);
            let totals = &invoice["totals"];
            assert_eq!(
                (&totals["net"], &totals["gross"]),
                (&worked_out["net"], &worked_out["total"])
            );
        }
    }
}

#[test]
fn the_same_options_make_the_same_account_and_another_seed_another() {
    let content = |seed| {
        let made = tempfile::tempdir().unwrap();
        generate(made.path(), seed);
        // It names every part with its checksum.
        let manifest = made.path().join("manifest");
        let mut files: Vec<PathBuf> =
            fs::read_dir(manifest).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.push(made.path().join("truth.json"));
        files.sort_unstable();
        files.iter().map(|file| fs::read_to_string(file).unwrap()).collect::<Vec<_>>()
    };
    let (one, again, other) = (content("3"), content("3"), content("4"));
    assert!(one == again && one != other);
}

#[test]
fn an_account_that_is_there_is_not_added_to() {
    let made = Made::new("5");
    let mut command = Command::new(binary::path("generate"));
    command.args(["--sessions=1", "--customers=1", "--days=1", "--out"]);
    let output = output(command.arg(made.data.path()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("holds an account already"), "{said}");
}
