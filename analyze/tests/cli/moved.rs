//! `usage` and `top`: rates, shares, the period before, the course.

use serde_json::{Value, json};

use crate::support::Data;
use crate::support::account::{Account, at};

/// From 12:05 to 12:10, the second slot.
const SECOND: [&str; 4] = ["--since", "2026-10-26T12:05:00Z", "--until", "2026-10-26T12:10:00Z"];
const DAY_US: i64 = 86_400_000_000;

fn rows(data: &Data, arguments: &[&str]) -> Vec<Value> {
    let text = data.answer(&[arguments, &["--format", "json"]].concat());
    serde_json::from_str(&text).unwrap()
}

fn whole() -> Data {
    Data::with(&Account::whole())
}

#[test]
fn a_key_may_stand_behind_top_as_behind_by() {
    let data = whole();
    for (short, long) in [("client/24", "client/24"), ("service,target", "service,target")] {
        assert_eq!(rows(&data, &["top", short]), rows(&data, &["top", "--by", long]));
    }
    let two = rows(&data, &["top", "service", "target", "--order", "sessions", "-n", "1"]);
    assert_eq!((&two[0]["service"], &two[0]["target_ip"]), (&json!("web"), &json!("10.0.0.5")));
}

#[test]
fn rates_are_those_of_slots_of_known_length() {
    let client = &rows(&whole(), &["top", "client"])[0];
    assert_eq!(client["bytes_total"], 9_000 + 1_210_079_000);
    // Over the four slots from the first to the last.
    assert_eq!(client["mean_bps"], (9_000_i64 + 1_210_079_000) * 8 / 1_200);
    assert_eq!(client["peak_bps"], (2_000_i64 + 610_000_000) * 8 / 300);
    let customer = &rows(&whole(), &["usage", "--customer", "acme"])[0];
    // The second slot, in which it had two sessions.
    assert_eq!(customer["peak_bps"], (610_002_000_i64 + 40_300) * 8 / 300);
    // Five rows of 150 s.
    assert_eq!(customer["active_us"], 5 * 150_000_000_i64);
}

#[test]
fn slots_of_several_lengths_add_up_as_rates() {
    let mut account = Account::whole();
    account.usage.retain(|row| row.slot_start == at(300) && row.service == "web");
    for row in &mut account.usage {
        (row.bytes_up, row.bytes_down) = (0, 3_000);
    }
    account.usage[0].slot_len_s = 60;
    let rows = rows(&Data::with(&account), &["top", "service"]);
    // One of 60 s and two of 300 s: 400, 80 and 80 bit/s.
    assert_eq!(rows[0]["peak_bps"], 560);
}

#[test]
fn shares_add_up_along_the_rows() {
    let rows = rows(&whole(), &["top", "client", "--order", "sessions"]);
    let column = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("sessions"), [2, 1, 1, 1, 1]);
    assert_eq!(column("share_percent"), [33.33, 16.67, 16.67, 16.67, 16.67]);
    assert_eq!(column("cumulative_percent"), [33.33, 50.0, 66.67, 83.33, 100.0]);
}

#[test]
fn the_largest_rows_are_those_of_the_whole_report() {
    let data = whole();
    for order in ["up", "down", "both", "sessions"] {
        for keys in ["client", "customer", "day", "customer,hour", "client/16,service"] {
            let all = rows(&data, &["top", keys, "--order", order]);
            let two = rows(&data, &["top", keys, "--order", order, "-n", "2"]);
            assert_eq!(two, all[..all.len().min(2)], "{keys} by {order}");
        }
    }
    let asked = rows(&data, &["top", "client", "-n", "1", "--having", "peak_bps < 1 Mbit/s"]);
    assert_eq!(asked[0]["client_ip"], "10.1.4.8");
    assert_eq!(asked[0]["cumulative_percent"], 100.0);
}

#[test]
fn a_session_counts_once_per_key_however_many_rows_it_has() {
    let data = whole();
    let sessions = |arguments: &[&str]| {
        let rows = rows(&data, &[&["usage"], arguments].concat());
        rows.iter().map(|row| row["sessions"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(sessions(&["--by", "service"]), [2, 4]);
    assert_eq!(sessions(&["--by", "day"]), [6]);
    // Those that began before the period, and rows that a filter leaves of a session.
    assert_eq!(sessions(&[&["--by", "node"], &SECOND[..]].concat()), [3]);
    assert_eq!(sessions(&["--by", "node", "--where", "is_final = false"]), [2]);
    // Both of its days count a session that lived through midnight.
    let mut account = Account::whole();
    account.usage[0].slot_start -= DAY_US;
    let days = rows(&Data::with(&account), &["usage", "--by", "day", "--customer", "acme"]);
    assert_eq!((&days[0]["sessions"], &days[1]["sessions"]), (&json!(1), &json!(3)));
}

#[test]
fn each_key_stands_beside_itself_in_the_period_before() {
    let compared = rows(&whole(), &[&["usage", "--compare"], &SECOND[..]].concat());
    // globex moved in the first slot only.
    assert_eq!(compared.len(), 2);
    assert_eq!(compared[0]["customer"], "acme");
    assert_eq!(compared[0]["bytes_total"], 610_042_300);
    assert_eq!(compared[0]["previous_bytes_total"], 600_001_000);
    // 10,041,300 of 600,001,000.
    assert_eq!(compared[0]["change_percent"], 1.67);
    assert_eq!(compared[1]["previous_bytes_total"], 0);
    assert_eq!(compared[1]["change_percent"], Value::Null);
    assert_eq!(compared[0]["sessions"], 2);
    let top = rows(&whole(), &[&["top", "service", "--compare"], &SECOND[..]].concat());
    assert_eq!(
        (&top[0]["service"], &top[0]["previous_bytes_total"]),
        (&json!("web"), &600_001_000.into())
    );
}

#[test]
fn a_day_stands_beside_the_day_before() {
    let mut account = Account::whole();
    account.usage[0].slot_start -= DAY_US;
    let data = Data::with(&account);
    let by_day = |period: &[&str]| {
        let report = ["usage", "--by", "customer,day", "--customer", "acme", "--compare"];
        rows(&data, &[&report, period].concat())
    };
    let days = by_day(&[]);
    assert_eq!((days.len(), &days[0]["day"]), (2, &json!("2026-10-25")));
    assert_eq!(days[0]["previous_bytes_total"], 0);
    assert_eq!(days[1]["previous_bytes_total"], 600_001_000);
    // The day before is read, and has no row.
    let day = by_day(&["--period", "2026-10-26"]);
    assert_eq!(day, days[1..]);
    let months = rows(&data, &["usage", "--by", "month", "--compare"]);
    assert_eq!((months.len(), &months[0]["previous_bytes_total"]), (1, &json!(0)));
}

#[test]
fn an_hour_stands_beside_the_hour_before() {
    let mut account = Account::whole();
    account.usage[0].slot_start -= DAY_US / 24;
    let hours = rows(
        &Data::with(&account),
        &["usage", "--by", "hour,customer", "--customer", "acme", "--compare"],
    );
    assert_eq!(hours[1]["hour"], "2026-10-26T12:00Z");
    assert_eq!(hours[1]["previous_bytes_total"], 600_001_000);
}

#[test]
fn a_course_is_drawn_for_people_only() {
    let data = whole();
    let drawn = data.answer(&["top", "service", "--sparkline"]);
    // web: 600 MB, 610 MB, 75 kB, 10 kB; dns: 2,560 B, nothing, 192 B, nothing.
    for (service, course) in [("web", "▇█▂▂"), ("dns", "█▁▂▁")] {
        let line = drawn.lines().find(|line| line.starts_with(service)).unwrap();
        assert!(line.ends_with(&format!("  {course}")), "{line}");
    }
    assert!(!data.answer(&["top", "service"]).contains("sparkline"));
    let page = data.answer(&["usage", "--sparkline", "--format", "markdown"]);
    assert!(page.contains("| sparkline |"), "{page}");
    let empty = data.answer(&["usage", "--sparkline", "--period", "2026-11"]);
    assert!(empty.contains("rows 0"), "{empty}");
}

#[test]
fn the_coverage_of_the_period_before_is_told_beside_that_of_the_period() {
    let mut account = Account::whole();
    account.slots.retain(|slot| slot.slot_start != at(300));
    let data = Data::with(&account);
    let period = ["--since", "2026-10-26T12:10:00Z", "--until", "2026-10-26T12:15:00Z"];
    let page = data.answer(&[&["usage", "--compare"][..], &period].concat());
    let lines: Vec<&str> = page.lines().filter(|line| line.contains("coverage")).collect();
    assert_eq!(
        lines,
        [
            "coverage 100 % of the period's slots",
            "compared with period 2026-10-26 12:05:00 to 2026-10-26 12:10:00 (UTC), coverage 0.0 % of the period's slots, 100 % unknown",
        ],
        "{page}"
    );
}
