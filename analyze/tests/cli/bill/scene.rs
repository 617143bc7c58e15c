//! Small tables and tariffs that invoices are made of.

use std::fs;
use std::path::{Path, PathBuf};

use schemas::manifest::{BootEndMark, BootMark};
use schemas::table::{Slot, Usage};
use serde_json::Value;

use crate::support::account::Account;
use crate::support::{Data, Run};

pub(crate) const GB: i64 = 1_000_000_000;

/// Microseconds since 1970 UTC.
pub(crate) fn us(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

/// A row of a session's usage.
pub(crate) fn usage(customer: &str, session_no: i64, time: &str, down: i64) -> Usage {
    Usage {
        node: "edge-1".to_owned(),
        boot: "k3f9x2ab".to_owned(),
        session_no,
        seq: Some(session_no),
        slot_start: us(time),
        slot_len_s: 300,
        service: "web".to_owned(),
        rule: "office".to_owned(),
        config_rev: "00112233445566aa".to_owned(),
        customer: Some(customer.to_owned()),
        transport: "tcp".to_owned(),
        client_ip: "10.1.0.7".to_owned(),
        bytes_down: down,
        is_first: true,
        is_final: true,
        ..Usage::default()
    }
}

/// An account in which nothing is unknown from 2025 to the end of 2027.
pub(crate) fn known(usage: Vec<Usage>) -> Account {
    let years =
        i32::try_from((us("2028-01-01T00:00:00Z") - us("2025-01-01T00:00:00Z")) / 1_000_000);
    let down = Slot {
        node: "edge-1".to_owned(),
        boot: "k3f9x2ab".to_owned(),
        slot_start: us("2025-01-01T00:00:00Z"),
        slot_len_s: years.unwrap(),
        status: "DOWN".to_owned(),
        ..Slot::default()
    };
    let end = BootEndMark {
        last_seq: 1,
        last_session_no: 1,
        unopened: 0,
        exact: true,
        ended_at: us("2028-01-01T00:00:00Z"),
    };
    let mark = BootMark {
        node: "edge-1".to_owned(),
        boot: "k3f9x2ab".to_owned(),
        last_seq: 1,
        end: Some(end),
        ..BootMark::default()
    };
    Account { usage, slots: vec![down], boots: vec![mark], ..Account::default() }
}

/// One tariff `t` in EUR with `head`, its items, and a contract of acme with `contract`.
pub(crate) fn tariffs(head: &str, items: &str, contract: &str) -> String {
    format!(
        "[[tariff]]\nname = \"t\"\ncurrency = \"EUR\"\n{head}\n{items}\n\
         [[contract]]\ncustomer = \"acme\"\ntariff = \"t\"\n{contract}\n"
    )
}

/// An item of the metric `down` in GB.
pub(crate) fn item(rest: &str) -> String {
    format!("[[tariff.item]]\nname = \"traffic\"\nmetric = \"down\"\nunit = \"GB\"\n{rest}\n")
}

/// A data directory with a file of tariffs, and room for closed invoices.
pub(crate) struct Office {
    pub(crate) data: Data,
    pub(crate) tariffs: PathBuf,
    pub(crate) frozen: PathBuf,
    pub(crate) dir: tempfile::TempDir,
}

impl Office {
    pub(crate) fn new(account: &Account, tariffs: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tariffs.toml");
        fs::write(&file, tariffs).unwrap();
        let frozen = dir.path().join("invoices");
        Self { data: Data::with(account), tariffs: file, frozen, dir }
    }

    pub(crate) fn write_tariffs(&self, tariffs: &str) {
        fs::write(&self.tariffs, tariffs).unwrap();
    }

    /// Runs `bill --tariffs FILE --period MONTH rest…`.
    pub(crate) fn run(&self, month: &str, rest: &[&str]) -> Run {
        let tariffs = self.tariffs.to_str().unwrap();
        let arguments = ["bill", "--tariffs", tariffs, "--period", month];
        self.data.analyze(&[&arguments[..], rest].concat())
    }

    pub(crate) fn answer(&self, month: &str, rest: &[&str]) -> String {
        let run = self.run(month, rest);
        assert_eq!(run.code, 0, "{rest:?}: {}", run.stderr);
        run.stdout
    }

    /// The same with closed invoices.
    pub(crate) fn frozen(&self, month: &str, rest: &[&str]) -> Run {
        let frozen = self.frozen.to_str().unwrap();
        self.run(month, &[&["--frozen", frozen, "--format", "json"], rest].concat())
    }

    /// The invoices of a month.
    pub(crate) fn invoices(&self, month: &str) -> Vec<Value> {
        serde_json::from_str(&self.answer(month, &["--format", "json"])).unwrap()
    }

    /// The only invoice of a month.
    pub(crate) fn invoice(&self, month: &str) -> Value {
        let invoices = self.invoices(month);
        assert_eq!(invoices.len(), 1);
        invoices[0].clone()
    }
}

/// What is due.
pub(crate) fn due(invoice: &Value) -> &str {
    invoice["totals"]["due"].as_str().unwrap()
}

/// The amounts of lines.
pub(crate) fn amounts(lines: &Value) -> Vec<&str> {
    lines.as_array().unwrap().iter().map(|line| line["amount"].as_str().unwrap()).collect()
}

/// The files below a directory, sorted.
pub(crate) fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => directories.push(path),
                false => found.push(path.strip_prefix(root).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}
