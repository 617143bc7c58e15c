//! The line under every report that says how much of the period was measured.

use schemas::table::Slot;

use crate::support::Data;
use crate::support::account::{Account, ENDED, at};

/// Commands that report about a period.
const REPORTS: [&str; 13] = [
    "usage",
    "top",
    "sessions",
    "traffic",
    "sizes",
    "ends",
    "targets",
    "denied",
    "percentile",
    "quality",
    "captures",
    "compare",
    "reconcile",
];
/// Commands whose period is not that of the other reports, or that want a file.
const LOOKING_AHEAD: [&str; 2] = ["forecast", "margin"];
/// Commands that do not.
const OTHERS: [&str; 7] = ["session", "pcap", "wireshark", "sql", "bill", "verify", "help"];

/// From 12:00 to 12:15 every slot was measured.
const MEASURED: [&str; 4] = ["--since", "2026-10-26T12:00:00Z", "--until", "2026-10-26T12:15:00Z"];

fn coverage(data: &Data, arguments: &[&str]) -> String {
    let run = data.analyze(&[arguments, &["--format", "csv"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let line = run.stderr.lines().find(|line| line.starts_with("coverage "));
    line.unwrap_or_else(|| panic!("no coverage in {:?}", run.stderr)).to_owned()
}

fn with(change: impl FnOnce(&mut Account)) -> Data {
    let mut account = Account::whole();
    change(&mut account);
    Data::with(&account)
}

fn usage(data: &Data) -> String {
    coverage(data, &[&["usage"][..], &MEASURED].concat())
}

fn slot(node: &str, boot: &str, seconds: i64, status: &str) -> Slot {
    Slot {
        node: node.to_owned(),
        boot: boot.to_owned(),
        slot_start: at(seconds),
        slot_len_s: 300,
        status: status.to_owned(),
        ..Slot::default()
    }
}

#[test]
fn every_report_says_its_coverage_in_every_format() {
    let data = with(|_| ());
    let help = data.answer(&["--help"]);
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for line in commands.lines() {
        let command = line.split_whitespace().next().unwrap();
        let all = [&REPORTS[..], &LOOKING_AHEAD, &OTHERS].concat();
        let known = all.contains(&command);
        assert!(known, "is {command} a report? say so here");
    }
    for command in REPORTS {
        let line = "coverage 100 % of the period's slots\n";
        let table = data.analyze(&[&[command][..], &MEASURED].concat());
        assert!(
            table.stdout.contains(line) && table.stderr.is_empty(),
            "{command}: {}",
            table.stdout
        );
        let page = data.answer(&[&[command, "--format", "markdown"][..], &MEASURED].concat());
        assert!(page.contains(&format!("- {line}")), "{command}: {page}");
        for format in ["csv", "json", "ndjson"] {
            let run = data.analyze(&[&[command, "--format", format][..], &MEASURED].concat());
            assert!(run.stderr.contains(line), "{command} {format}: {}", run.stderr);
            assert!(!run.stdout.contains("coverage"), "{command} {format}: {}", run.stdout);
        }
    }
}

#[test]
fn time_in_which_nothing_ran_is_known_and_time_without_a_row_is_not() {
    let data = with(|account| account.slots.retain(|slot| slot.slot_start != at(300)));
    assert_eq!(usage(&data), "coverage 66.6 % of the period's slots, 33.3 % unknown");
    let data = with(|account| {
        account.slots.retain(|slot| slot.slot_start != at(300));
        account.slots.push(slot("edge-1", "p7q8r9s0", 300, "DOWN"));
    });
    assert_eq!(usage(&data), "coverage 66.6 % of the period's slots, 33.3 % down");
    let data = with(|account| account.slots[0].status = "SKIPDATA".to_owned());
    assert_eq!(usage(&data), "coverage 66.6 % of the period's slots, 33.3 % partly shed");
}

#[test]
fn a_slot_that_a_boot_saw_twice_is_told() {
    let data = with(|account| {
        let again = Slot { clock_pass: 1, ..slot("edge-1", ENDED, 300, "OK") };
        account.slots.push(again);
    });
    assert_eq!(usage(&data), "coverage 66.6 % of the period's slots, 33.3 % seen twice");
    // Two boots share the slot in which the one ended and the other began.
    let data = with(|account| account.slots.push(slot("edge-1", "p7q8r9s0", 300, "OK")));
    assert_eq!(usage(&data), "coverage 100 % of the period's slots");
}

#[test]
fn each_forwarder_is_expected_to_cover_the_period() {
    let data = with(|account| account.slots.push(slot("edge-2", "aaaaaaaa", 300, "NODATA")));
    assert_eq!(usage(&data), "coverage 66.6 % of the period's slots, 33.3 % unknown");
    let of = |node| coverage(&data, &[&["usage", "--node", node][..], &MEASURED].concat());
    assert_eq!(of("edge-1"), "coverage 100 % of the period's slots");
    assert_eq!(of("edge-2"), "coverage 33.3 % of the period's slots, 66.6 % unknown");
    assert_eq!(of("edge-3"), "coverage 0.0 % of the period's slots, 100 % unknown");
}

#[test]
fn time_down_that_began_long_before_the_period_is_known() {
    let data = with(|account| {
        account.slots.clear();
        let month = 30 * 86_400;
        let long =
            Slot { slot_len_s: 2 * month, ..slot("edge-1", "p7q8r9s0", -i64::from(month), "DOWN") };
        account.slots.push(long);
    });
    assert_eq!(usage(&data), "coverage 0.0 % of the period's slots, 100 % down");
}

#[test]
fn an_open_end_is_now() {
    let data = with(|_| ());
    let open = coverage(&data, &["usage", "--since", "2026-10-26T12:00:00Z"]);
    // The slots are of a day in the past, and nothing is known since.
    assert!(open.ends_with(" % unknown"), "{open}");
    assert_eq!(coverage(&data, &["usage"]), "coverage 100 % of the period's slots");
    // Of a period without any row the running forwarder still owes one.
    let since = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let hour = coverage(&data, &["usage", "--since", &since.to_string()]);
    assert_eq!(hour, "coverage 0.0 % of the period's slots, 100 % unknown");
}

#[test]
fn a_running_session_stands_beside_ended_ones_once() {
    let rows = |data: &Data| {
        let csv = data.answer(&["sessions", "--open", "--format", "csv"]);
        let of = |line: &&str| line.starts_with("p7q8r9s0-1,");
        csv.lines().filter(of).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut data = with(|_| ());
    assert_eq!(rows(&data).len(), 1);
    let usage = data.answer(&["usage", "--format", "csv"]);
    // Its end comes with a later version; usage is what it was.
    let sessions = Account::whole().sessions;
    let mut ended = sessions.into_iter().find(|row| row.session_no == 1).unwrap();
    ended.boot = "p7q8r9s0".to_owned();
    data.commit(&Account { sessions: vec![ended], ..Account::default() });
    let listed = rows(&data);
    assert!(listed.len() == 1 && listed[0].contains(",done,"), "{listed:?}");
    assert_eq!(data.answer(&["usage", "--format", "csv"]), usage);
}

#[test]
fn a_running_session_has_the_totals_of_its_latest_interval() {
    // Its first interval went to another recorder.
    let data = with(|account| {
        account.usage.retain(|row| !(row.boot != ENDED && row.session_no == 1 && row.is_first));
    });
    let json = data.answer(&["session", "p7q8r9s0-1", "--format", "json"]);
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&row[0]["bytes_up"], &row[0]["bytes_down"]), (&6_000.into(), &79_000.into()));
    assert_eq!(row[0]["intervals"], 2);
}
