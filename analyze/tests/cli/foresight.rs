//! `forecast` and `margin`: where usage leads, and what it costs.

use std::fs;

use jiff::Timestamp;
use schemas::table::{Slot, Usage};
use serde_json::Value;

use crate::support::Data;
use crate::support::account::{Account, at};

const GB: i64 = 1_000_000_000;
/// What a slot of 300 s carries at 1 Mbit/s.
const MBIT: i64 = 37_500_000;

fn json(data: &Data, arguments: &[&str]) -> Value {
    serde_json::from_str(&data.answer(&[arguments, &["--format", "json"]].concat())).unwrap()
}

fn us(time: &str) -> i64 {
    time.parse::<Timestamp>().unwrap().as_microsecond()
}

fn usage(account: &Account, customer: &str, number: i64, slot_start: i64, down: i64) -> Usage {
    Usage {
        session_no: 1_000 + number,
        slot_start,
        customer: Some(customer.to_owned()),
        bytes_up: 0,
        bytes_down: down,
        ..account.usage[0].clone()
    }
}

fn slot(account: &Account, slot_start: i64) -> Slot {
    Slot { slot_start, ..account.slots[0].clone() }
}

/// Three weeks before the 26th of October, a Monday: 7 GB on Mondays, 1 GB on other days.
fn three_weeks() -> Data {
    let mut account = Account::whole();
    account.slots.push(slot(&account, us("2026-10-05T00:00:00Z")));
    for day in 0..21 {
        let noon = us("2026-10-05T12:00:00Z") + day * 86_400_000_000;
        let bytes = if day % 7 == 0 { 7 * GB } else { GB };
        let row = usage(&account, "acme", day, noon, bytes);
        account.usage.push(row);
    }
    Data::with(&account)
}

/// 20 slots from noon: acme with 1, 2, 3… 20 Mbit/s, globex with 1.
fn twenty_slots() -> Data {
    let mut account = Account::whole();
    let (mut rows, mut slots) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let start = at(300 * number);
        rows.push(usage(&account, "acme", number, start, (number + 1) * MBIT));
        rows.push(usage(&account, "globex", 100 + number, start, MBIT));
        slots.push(slot(&account, start));
    }
    (account.usage, account.slots) = (rows, slots);
    Data::with(&account)
}

#[test]
fn helps_have_examples() {
    let data = Data::empty();
    for command in ["forecast", "margin"] {
        let help = data.answer(&[command, "--help"]);
        assert!(help.contains("Example"), "{command} --help has no example:\n{help}");
        insta::assert_snapshot!(format!("help_{command}"), help);
    }
}

#[test]
fn usage_goes_on_as_it_did_or_as_its_weekdays_do() {
    let data = three_weeks();
    let asked = ["forecast", "--allowance", "45 GB", "--until", "2026-10-26", "--customer", "acme"];
    let row = &json(&data, &asked)[0];
    // Three Mondays and 18 other days, in 25 of 31 days.
    assert_eq!(row["used_bytes"], 39 * GB);
    assert_eq!(row["used_percent"], 86.67);
    assert_eq!(row["projected_bytes"], 39 * GB * 31 / 25);
    assert_eq!(row["projected_percent"], 107.47);
    // One Monday and five other days are to come.
    assert_eq!(row["weekday_bytes"], (39 + 7 + 5) * GB);
    // 25 days x 45/39 = 28 days, 20 hours, 18 minutes and 27.69… seconds.
    assert_eq!(row["runs_out"], "2026-10-29T20:18:27.692307Z");
    assert_eq!(row["period_start"], "2026-10-01T00:00:00.000000Z");
    assert_eq!(row["period_end"], "2026-11-01T00:00:00.000000Z");
    // By then it had run out already: the 18th, a Sunday, brought it to 2 x 7 + 12 GB.
    let spent = ["forecast", "--allowance", "26 GB", "--until", "2026-10-26", "--customer", "acme"];
    assert_eq!(json(&data, &spent)[0]["runs_out"], "2026-10-18T12:00:00.000000Z");
    // Half of Monday is over: half of a mean Monday is to come, and what it had so far stands.
    let later = ["forecast", "--until", "2026-10-26T12:00:00Z", "--customer", "acme"];
    let row = &json(&data, &later)[0];
    assert_eq!(row["weekday_bytes"], 39 * GB + 7 * GB / 2 + 5 * GB);
    assert_eq!((&row["allowance_bytes"], &row["runs_out"]), (&Value::Null, &Value::Null));
}

#[test]
fn the_moment_of_a_forecast_is_the_end_of_the_newest_slot() {
    let data = Data::with(&Account::whole());
    let asked = ["forecast", "--allowance", "500 GB", "--direction", "up"];
    let answer = data.answer(&asked);
    assert!(answer.contains("period 2026-10-01 00:00:00 to 2026-10-26 12:15:00 (UTC)"), "{answer}");
    let row = &json(&data, &asked)[0];
    // The slot that runs does not count; 25 days and 12:15 h of 31 days are over.
    let used: i64 = 1_000 + 2_000 + 300 + 5_000;
    assert_eq!(row["used_bytes"], used);
    assert_eq!(row["projected_bytes"], used * 31 * 86_400 / (25 * 86_400 + 12 * 3_600 + 900));
    // Of no weekday a whole day is known.
    assert_eq!(row["weekday_bytes"], Value::Null);
    let past = json(&data, &["forecast", "--period", "2026-10-26", "--customer", "acme"]);
    assert_eq!(past[0]["period_end"], "2026-10-27T00:00:00.000000Z");
}

#[test]
fn allowances_of_contracts_have_their_own_periods_and_shares() {
    let data = three_weeks();
    let file = data.path().join("tariffs.toml");
    let tariffs = r#"
[[tariff]]
name = "monthly"
currency = "EUR"
[[tariff.item]]
name = "traffic"
metric = "down"
unit = "GB"
allowance = "45 GB"
price = "0.10"
[[tariff.item]]
name = "dns"
metric = "sum"
unit = "GB"
services = ["dns"]
allowance = "1 GB"
price = "0.10"
[[tariff]]
name = "from-15"
currency = "EUR"
anchor_day = 15
[[tariff.item]]
name = "traffic"
metric = "sum"
unit = "GB"
allowance = "100 GB"
price = "0.10"
[[contract]]
customer = "acme"
tariff = "monthly"
[[contract]]
customer = "globex"
tariff = "monthly"
valid_from = 2026-10-16
[[contract]]
customer = "hooli"
tariff = "from-15"
"#;
    fs::write(&file, tariffs).unwrap();
    let path = file.to_str().unwrap();
    let rows = json(&data, &["forecast", "--tariffs", path, "--until", "2026-10-26"]);
    let of = |customer: &str, item: &str| {
        let mut all = rows.as_array().unwrap().iter();
        all.find(|row| row["customer"] == customer && row["item"] == item).unwrap().clone()
    };
    assert_eq!(of("acme", "traffic")["used_bytes"], 39 * GB);
    assert_eq!(of("acme", "dns")["used_bytes"], 0);
    // 16 of 31 days.
    let globex = of("globex", "traffic");
    assert_eq!(globex["allowance_bytes"], 45 * GB * 16 / 31);
    assert_eq!(globex["period_start"], "2026-10-16T00:00:00.000000Z");
    let hooli = of("hooli", "traffic");
    assert_eq!(hooli["period_end"], "2026-11-15T00:00:00.000000Z");
    assert_eq!((&hooli["used_bytes"], &hooli["allowance_bytes"]), (&0.into(), &(100 * GB).into()));
    assert_eq!(rows.as_array().unwrap().len(), 5);
    let none = data.analyze(&["forecast", "--tariffs", path, "--by", "rule"]);
    assert_eq!(none.code, 66, "{}", none.stderr);
    assert!(
        none.stderr.contains("no contract of a rule that holds on 2026-10-26"),
        "{}",
        none.stderr
    );
    fs::write(&file, tariffs.replace("0.10", "ten")).unwrap();
    let faulty = data.analyze(&["forecast", "--tariffs", path]);
    assert_eq!(faulty.code, 78, "{}", faulty.stderr);
    assert!(faulty.stderr.contains("tariffs.toml:10:9"), "{}", faulty.stderr);
}

#[test]
fn the_cost_of_the_95th_percentile_is_shared_by_the_keys_own() {
    let data = twenty_slots();
    let file = data.path().join("revenue.csv");
    let asked = |price: &str, options: &[&str]| {
        let path = file.to_str().unwrap();
        let asked = ["margin", "--revenue", path, "--cost-per-mbps", price];
        json(&data, &[&asked[..], options].concat())
    };
    fs::write(&file, "key,amount\nacme,47.00\nglobex,1.50\nhooli,5\n").unwrap();
    let rows = asked("2.00", &[]);
    // All traffic: 2 to 21 Mbit/s, the 19th of 20 is 20: 40.00. acme has 19 of its own, globex 1.
    let row = |row: usize| {
        let of = |column: &str| rows[row][column].as_str().unwrap().to_owned();
        [of("customer"), of("revenue"), of("cost"), of("margin")]
    };
    assert_eq!(row(0), ["acme", "47.00", "38.00", "9.00"]);
    assert_eq!(row(1), ["hooli", "5.00", "0.00", "5.00"]);
    assert_eq!(row(2), ["globex", "1.50", "2.00", "-0.50"]);
    assert_eq!(
        (&rows[0]["p95_bps"], &rows[0]["share_percent"]),
        (&19_000_000.into(), &95.0.into())
    );
    assert_eq!(
        (&rows[0]["margin_percent"], &rows[2]["margin_percent"]),
        (&19.15.into(), &(-33.33).into())
    );
    // 20 x 1.333 = 26.66, of which 19/20 are 25.327: rounded once.
    assert_eq!(asked("1.333", &[])[0]["cost"], "25.33");
    let losses = asked("2.00", &["--having", "margin < 0"]);
    assert_eq!(losses.as_array().unwrap().len(), 1);
    // A slot of which nobody knows is not ranked: 19 known ones have their 19th as 95th percentile.
    let first = ["--until", "2026-10-26T13:35:00Z"];
    assert_eq!(asked("2.00", &first)[0]["p95_bps"], 19_000_000);
    fs::write(&file, "key,amount\nacme,47.001\n").unwrap();
    assert_eq!(asked("2.00", &[])[0]["cost"], "38.000");
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let data = twenty_slots();
    let file = data.path().join("revenue.csv");
    let path = file.to_str().unwrap();
    fs::write(&file, "key,amount\nacme,1e3\n").unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["forecast", "--since", "-7d"], "forecast looks at a whole month"),
        (&["forecast", "--allowance", "500 Mbit/s"], "is no size: write '500 GB'"),
        (&["forecast", "--allowance", "0 GB"], "is no size"),
        (&["forecast", "--by", "day"], "forecast looks at whole periods"),
        (
            &["margin", "--revenue", path, "--cost-per-mbps", "1.50"],
            "revenue.csv:2: \"1e3\" is no amount",
        ),
        (&["margin", "--revenue", path, "--cost-per-mbps", "cheap"], "\"cheap\" is no price"),
        (
            &["margin", "--revenue", path, "--cost-per-mbps", "1", "--customer", "acme"],
            "takes no filter",
        ),
        (
            &["margin", "--revenue", path, "--cost-per-mbps", "1", "--by", "rule,service"],
            "margin takes one key",
        ),
    ];
    for (arguments, sentence) in cases {
        let run = data.analyze(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (64, ""), "{}", run.stderr);
        assert!(run.stderr.contains(sentence), "{arguments:?}: {}", run.stderr);
    }
    let run = Data::empty().analyze(&["forecast", "--allowance", "1 GB"]);
    assert_eq!(run.code, 66, "{}", run.stderr);
}
