//! Reports about sessions: sizes, ends, targets, long-lived ones; and refused attempts.

use schemas::table::Slot;
use serde_json::{Value, json};

use crate::support::Data;
use crate::support::account::{Account, RUNNING, at};

const SECOND_US: i64 = 1_000_000;

fn rows(account: &Account, arguments: &[&str]) -> Vec<Value> {
    let text = Data::with(account).answer(&[arguments, &["--format", "json"]].concat());
    serde_json::from_str(&text).unwrap()
}

fn column(rows: &[Value], name: &str) -> Vec<Value> {
    rows.iter().map(|row| row[name].clone()).collect()
}

#[test]
fn sessions_fall_into_powers_of_ten() {
    // 0, 192, 2,560, 40,300 and 1,210,003,000 bytes.
    let sizes = rows(&Account::whole(), &["sizes"]);
    let from = json!([0, 100, 1_000, 10_000, 1_000_000_000, null]);
    let below = json!([1, 1_000, 10_000, 100_000, 10_000_000_000_i64, null]);
    assert_eq!(Value::from(column(&sizes, "bytes_from")), from);
    assert_eq!(Value::from(column(&sizes, "bytes_below")), below);
    assert_eq!(column(&sizes, "sessions"), [1, 1, 1, 1, 1, 5]);
    assert_eq!(column(&sizes, "share_percent"), [20.0, 20.0, 20.0, 20.0, 20.0, 100.0]);
    let all = &sizes[5];
    assert_eq!(all["bytes_total"], 1_210_046_052);
    assert_eq!((&all["bytes_p50"], &all["bytes_p90"]), (&json!(2_560), &json!(1_210_003_000)));
    // Four lived 150 s and one 300 s.
    assert_eq!(all["duration_p50_us"], 150 * SECOND_US);
    assert_eq!(all["duration_p90_us"], 300 * SECOND_US);
    assert_eq!(sizes[3]["bytes_percent"], 0.0);
    assert_eq!(sizes[4]["bytes_percent"], 100.0);
}

#[test]
fn sizes_are_told_by_duration_by_key_and_with_running_sessions() {
    let account = Account::whole();
    let durations = rows(&account, &["sizes", "--of", "duration", "--by", "service", "--open"]);
    assert_eq!(column(&durations, "service"), ["dns", "dns", "web", "web"]);
    assert_eq!(durations[0]["duration_from_us"], 60 * SECOND_US);
    assert_eq!(durations[0]["duration_below_us"], 600 * SECOND_US);
    // Three that ended, and one that runs.
    assert_eq!(column(&durations, "sessions"), [2, 2, 4, 4]);
    assert_eq!(column(&durations, "share_percent"), [100.0; 4]);
}

#[test]
fn ends_are_counted_by_who_and_why() {
    let ends = rows(&Account::whole(), &["ends"]);
    let expected = [
        ("forwarder", "udp_expired", 2, 40.0),
        ("client", "done", 1, 20.0),
        ("forwarder", "lost", 1, 20.0),
        ("target", "target_refused", 1, 20.0),
    ];
    assert_eq!(ends.len(), expected.len());
    for (row, (by, reason, sessions, share)) in ends.iter().zip(expected) {
        assert_eq!((&row["ended_by"], &row["end_reason"]), (&json!(by), &json!(reason)));
        assert_eq!((&row["sessions"], &row["share_percent"]), (&json!(sessions), &json!(share)));
    }
    assert_eq!(ends[0]["duration_p50_us"], 150 * SECOND_US);
    assert_eq!((&ends[0]["bytes_up"], &ends[0]["bytes_down"]), (&json!(576), &json!(2_176)));
}

#[test]
fn targets_are_judged_by_what_sessions_met() {
    let mut account = Account::whole();
    let mut web: Vec<_> = account.sessions.iter_mut().filter(|s| s.service == "web").collect();
    // 1 and 3 were connected, 4 was refused.
    for (session, (connect, rtt, retrans)) in web.iter_mut().zip([
        (Some(1_000), Some(300), Some(0)),
        (Some(9_000), Some(500), Some(4)),
        (None, None, None),
    ]) {
        (session.connect_us, session.rtt_target_us) = (connect, rtt);
        session.retrans_target = retrans;
    }
    let targets = rows(&account, &["targets"]);
    let web = &targets[0];
    let expected = json!({
        "target_ip": "10.0.0.5", "sessions": 3, "failed": 1, "failed_percent": 33.33, "refused": 1,
        "timeouts": 0, "unreachable": 0, "resets": 0, "connect_p50_us": 1_000,
        "connect_p95_us": 9_000, "connect_p99_us": 9_000, "rtt_p50_us": 300, "retrans_target": 4,
        "retrans_percent": 50.0, "bytes_up": 3_300, "bytes_down": 1_210_040_000,
        "share_percent": 100.0
    });
    assert_eq!(*web, expected);
    assert_eq!(targets[1]["retrans_percent"], Value::Null);
    assert_eq!(rows(&account, &["targets", "--open"])[0]["sessions"], 4);
    let failing = rows(&account, &["targets", "--having", "failed > 0"]);
    assert_eq!(column(&failing, "target_ip"), ["10.0.0.5"]);
}

#[test]
fn long_sessions_are_listed_with_their_rate_and_how_long_they_are_idle() {
    let mut account = Account::whole();
    let long = rows(&account, &["sessions", "--long", "300s"]);
    assert_eq!(column(&long, "session"), ["p7q8r9s0-1", "k3f9x2ab-1"]);
    // It began 150 s before the end of the third slot, and is told of to the end of the fourth.
    assert_eq!(long[0]["ts_start"], "2026-10-26T12:12:30.000000Z");
    assert_eq!(long[0]["duration_us"], 450 * SECOND_US);
    assert_eq!((&long[0]["last_bps"], &long[0]["idle_us"]), (&json!(10_000 * 8 / 300), &json!(0)));
    assert_eq!((&long[0]["bytes_total"], &long[0]["end_reason"]), (&json!(85_000), &Value::Null));
    assert_eq!((&long[1]["end_reason"], &long[1]["idle_us"]), (&json!("done"), &Value::Null));
    // A slot later nothing has moved.
    account.slots.push(Slot {
        node: "edge-1".to_owned(),
        boot: RUNNING.to_owned(),
        slot_start: at(1_200),
        slot_len_s: 300,
        status: "NODATA".to_owned(),
        ..Slot::default()
    });
    let idle = &rows(&account, &["sessions", "--long", "10m"])[0];
    assert_eq!(idle["duration_us"], 750 * SECOND_US);
    assert_eq!((&idle["last_bps"], &idle["idle_us"]), (&json!(0), &json!(300 * SECOND_US)));
    // As it was at the end of the third slot.
    let earlier = ["sessions", "--long", "1s", "--until", "2026-10-26T12:15:00Z", "-n", "9"];
    let row = rows(&account, &earlier).into_iter().find(|row| row["session"] == "p7q8r9s0-1");
    assert_eq!(row.unwrap()["duration_us"], 150 * SECOND_US);
}

#[test]
fn a_condition_on_a_column_that_running_sessions_do_not_have_leaves_them_out() {
    let listed = rows(&Account::whole(), &["sessions", "--open", "--where", "target_port = 80"]);
    assert_eq!(column(&listed, "session"), ["k3f9x2ab-1", "k3f9x2ab-3", "k3f9x2ab-4"]);
}

#[test]
fn who_was_refused_and_let_in_later_is_told() {
    let mut account = Account::whole();
    let denied = rows(&account, &["denied", "--by", "reason"]);
    assert_eq!((&denied[0]["clients"], &denied[0]["allowed_later"]), (&json!(2), &json!(0)));
    // One has a session at 12:07:30 that ended, the other one at 12:12:30 that runs.
    for session in account.sessions.iter_mut().filter(|session| session.session_no == 3) {
        session.client_ip = "192.0.2.66".to_owned();
    }
    for row in account.usage.iter_mut().filter(|row| row.boot == RUNNING && row.session_no == 1) {
        row.client_ip = "192.0.2.67".to_owned();
    }
    let each = rows(&account, &["denied", "--until", "2026-10-26T12:05:00Z"]);
    assert_eq!(column(&each, "allowed_later"), [1, 1]);
    assert_eq!(rows(&account, &["denied", "--by", "reason"])[0]["allowed_later"], 2);
    // A session of another service is none of this one, nor is one before the refusal.
    for row in &mut account.denied {
        row.ts_last = at(600);
    }
    assert_eq!(column(&rows(&account, &["denied"]), "allowed_later"), [0, 1]);
    for row in &mut account.denied {
        row.service = "dns".to_owned();
    }
    assert_eq!(column(&rows(&account, &["denied"]), "allowed_later"), [0, 0]);
}
