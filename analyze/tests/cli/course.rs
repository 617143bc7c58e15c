//! `traffic`: a course over time, in which a gap is a gap.

use schemas::table::Slot;
use serde_json::{Value, json};

use crate::support::Data;
use crate::support::account::{Account, ENDED, RUNNING, at};

/// From noon on five slots, of which the first three were measured.
const FIVE: [&str; 4] = ["--since", "2026-10-26T12:00:00Z", "--until", "2026-10-26T12:25:00Z"];

fn rows(account: &Account, arguments: &[&str]) -> Vec<Value> {
    let data = Data::with(account);
    let text = data.answer(&[&["traffic"], arguments, &["--format", "json"]].concat());
    serde_json::from_str(&text).unwrap()
}

fn statuses(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["status"].as_str().unwrap()).collect()
}

#[test]
fn each_slot_has_its_rates_and_counts() {
    let rows = rows(&Account::whole(), &FIVE);
    assert_eq!(statuses(&rows), ["OK", "OK", "OK", "PARTIAL", "UNKNOWN"]);
    let second = &rows[1];
    assert_eq!(second["slot_start"], "2026-10-26T12:05:00.000000Z");
    assert_eq!(second["up_bps"], 2_300 * 8 / 300);
    assert_eq!(second["down_bps"], 610_040_000_i64 * 8 / 300);
    assert_eq!((&second["new_sessions"], &second["new_per_s"]), (&json!(2), &json!(0.007)));
    assert_eq!((&second["open_sessions"], &second["quality"]), (&json!(1), &json!(1)));
    // 1,234 and 5 attempts, told of at 12:04:50.
    assert_eq!((&rows[0]["denied"], &rows[0]["denied_per_s"]), (&json!(1_239), &json!(4.13)));
    assert_eq!(second["denied"], 0);
    // The slot that runs: its usage is there, the word on it not yet.
    assert_eq!(rows[3]["down_bps"], 9_000 * 8 / 300);
}

#[test]
fn what_nobody_measured_is_a_gap_and_no_zero() {
    let row = &rows(&Account::whole(), &FIVE)[4];
    for column in ["up_bps", "down_bps", "open_sessions", "new_sessions", "denied", "quality"] {
        assert_eq!(row[column], Value::Null, "{column}");
    }
    let mut account = Account::whole();
    account.slots.push(Slot {
        node: "edge-1".to_owned(),
        boot: RUNNING.to_owned(),
        slot_start: at(1_200),
        slot_len_s: 300,
        status: "DOWN".to_owned(),
        ..Slot::default()
    });
    let row = &rows(&account, &FIVE)[4];
    assert_eq!((&row["status"], &row["up_bps"]), (&json!("DOWN"), &json!(0)));
    account.slots.last_mut().unwrap().status = "NODATA".to_owned();
    assert_eq!(rows(&account, &FIVE)[4]["status"], "NODATA");
}

#[test]
fn time_down_since_long_before_the_period_is_known() {
    let mut account = Account::whole();
    account.usage.clear();
    account.slots.truncate(1);
    account.slots[0].status = "DOWN".to_owned();
    account.slots[0].slot_start = at(-30 * 86_400);
    account.slots[0].slot_len_s = 60 * 86_400;
    assert_eq!(statuses(&rows(&account, &FIVE)), ["DOWN"; 5]);
}

#[test]
fn a_slot_that_was_measured_twice_has_no_rates() {
    let mut account = Account::whole();
    let again = account.slots.iter().find(|slot| slot.slot_start == at(300)).unwrap();
    account.slots.push(Slot { clock_pass: 1, boot: ENDED.to_owned(), ..again.clone() });
    let row = &rows(&account, &FIVE)[1];
    assert_eq!((&row["status"], &row["up_bps"]), (&json!("TWICE"), &Value::Null));
    assert_eq!(row["new_sessions"], 2);
}

#[test]
fn a_forwarder_that_says_nothing_makes_a_slot_partial() {
    let mut account = Account::whole();
    let other = Slot { node: "edge-2".to_owned(), ..account.slots[0].clone() };
    account.slots.push(other);
    let rows = rows(&account, &FIVE);
    assert_eq!(statuses(&rows), ["OK", "PARTIAL", "PARTIAL", "PARTIAL", "UNKNOWN"]);
    assert_eq!(rows[0]["open_sessions"], 2);
}

#[test]
fn an_hour_has_the_mean_of_what_is_known_of_it() {
    let hours = rows(&Account::whole(), &["--by", "hour", "--tz", "Asia/Kolkata"]);
    assert_eq!(hours.len(), 1);
    assert_eq!(hours[0]["hour"], "2026-10-26T17:00+05:30");
    // 1,512, 2,300, 5,064 and 1,000 bytes in four slots.
    assert_eq!(hours[0]["up_bps"], 9_876 * 8 / 1_200);
    assert_eq!((&hours[0]["new_sessions"], &hours[0]["status"]), (&json!(6), &json!("PARTIAL")));
}

#[test]
fn a_filter_leaves_empty_what_nobody_counts_by_it() {
    let of = |filter: &[&str]| rows(&Account::whole(), &[&FIVE[..], filter].concat())[0].clone();
    let service = of(&["--service", "dns"]);
    assert_eq!((&service["open_sessions"], &service["denied"]), (&Value::Null, &json!(0)));
    assert_eq!(service["up_bps"], 512 * 8 / 300);
    assert_eq!(of(&["--where", "bytes_up > 0"])["denied"], Value::Null);
    assert_eq!(of(&["--node", "edge-1"])["open_sessions"], 1);
}
