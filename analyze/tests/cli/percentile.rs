//! `percentile`: the worked figures, and a plain second calculation.

use analyze::percentile::ranking::{self, Ranked};
use analyze::tariff::{Missing, Mode, Percentile, Rank};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use schemas::table::{Slot, Usage};
use schemas::vocab::PerDirection;
use serde_json::{Value, json};

use crate::support::Data;
use crate::support::account::{Account, RUNNING, at};

/// Bytes of a slot of 300 s at 1 Mbit/s.
const MBIT: i64 = 37_500_000;
/// From noon on, twenty slots.
const TWENTY: [&str; 4] = ["--since", "2026-10-26T12:00:00Z", "--until", "2026-10-26T13:40:00Z"];

/// One row of `usage`: customer, rule, slot, bytes up and down.
type Row = (&'static str, &'static str, i64, (i64, i64));

/// An account of these rows, in whose slots from noon on these are the words.
fn account(rows: &[Row], statuses: &[&str]) -> Data {
    let whole = Account::whole();
    let (usage, slot) = (whole.usage[0].clone(), whole.slots[0].clone());
    let usage = rows.iter().zip(1..).map(|((customer, rule, number, (up, down)), session)| Usage {
        boot: RUNNING.to_owned(),
        session_no: session,
        seq: Some(session),
        customer: Some((*customer).to_owned()),
        rule: (*rule).to_owned(),
        slot_start: at(300 * number),
        bytes_up: *up,
        bytes_down: *down,
        ..usage.clone()
    });
    let slots = statuses.iter().zip(0..).filter(|(status, _)| !status.is_empty());
    let slots = slots.map(|(status, number)| Slot {
        boot: RUNNING.to_owned(),
        slot_start: at(300 * number),
        slot_len_s: 300,
        status: (*status).to_owned(),
        clock_pass: 0,
        ..slot.clone()
    });
    let (usage, slots) = (usage.collect(), slots.collect());
    Data::with(&Account { usage, slots, ..Account::default() })
}

fn rows(data: &Data, arguments: &[&str]) -> Vec<Value> {
    let asked = [&["percentile", "--format", "json"], arguments].concat();
    serde_json::from_str(&data.answer(&asked)).unwrap()
}

fn one(data: &Data, arguments: &[&str]) -> Value {
    let mut rows = rows(data, arguments);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

/// Twenty slots: 1 to 20 Mbit/s up; 100 down in the first and 5 in the others.
fn example() -> Data {
    let down = |number| if number == 0 { 100 } else { 5 };
    let row = |number: i64| ("acme", "web", number, ((number + 1) * MBIT, down(number) * MBIT));
    account(&(0..20).map(row).collect::<Vec<_>>(), &["OK"; 20])
}

#[test]
fn each_mode_has_its_figure_and_names_the_slot_that_set_it() {
    let data = example();
    for (mode, mbit, slot) in [
        ("in", 19, "2026-10-26T13:30:00.000000Z"),
        ("out", 5, "2026-10-26T12:05:00.000000Z"),
        ("max_of_p95", 19, "2026-10-26T13:30:00.000000Z"),
        ("p95_of_max", 20, "2026-10-26T13:35:00.000000Z"),
        ("p95_of_sum", 25, "2026-10-26T13:35:00.000000Z"),
    ] {
        let row = one(&data, &[&["--mode", mode][..], &TWENTY].concat());
        assert_eq!(row["percentile_bps"], mbit * 1_000_000, "{mode}");
        assert_eq!(row["deciding_slot"], slot, "{mode}");
        assert_eq!(
            (&row["percentile_up_bps"], &row["percentile_down_bps"]),
            (&json!(19_000_000), &json!(5_000_000))
        );
        assert_eq!((&row["slots_expected"], &row["slots_measured"]), (&json!(20), &json!(20)));
        assert_eq!((&row["measured_percent"], &row["estimated"]), (&json!(100.0), &json!(false)));
    }
}

#[test]
fn a_commit_tells_what_is_over_and_how_many_slots_are_left() {
    let data = example();
    let commit = |rate| one(&data, &[&["--commit", rate][..], &TWENTY].concat());
    let row = commit("10 Mbit/s");
    assert_eq!(
        (&row["overage_bps"], &row["billable_bps"]),
        (&json!(9_000_000), &json!(19_000_000))
    );
    // Ten slots are above, and one may be.
    assert_eq!((&row["slots_above"], &row["slots_left"]), (&json!(10), &json!(0)));
    let row = commit("20 Mbit/s");
    assert_eq!((&row["overage_bps"], &row["billable_bps"]), (&json!(0), &json!(20_000_000)));
    // The slot of 100 Mbit/s down is the one.
    assert_eq!((&row["slots_above"], &row["slots_left"]), (&json!(1), &json!(0)));
    let row = commit("100 Mbit/s");
    assert_eq!((&row["slots_above"], &row["slots_left"]), (&json!(0), &json!(1)));
    let row = one(&data, &TWENTY);
    assert_eq!((&row["commit_bps"], &row["slots_left"]), (&Value::Null, &Value::Null));
}

#[test]
fn slots_that_nobody_measured_count_as_asked() {
    let row = |number: i64| ("acme", "web", number, ((number + 1) * MBIT, 0));
    let seen: Vec<Row> = (0..16).map(row).collect();
    let of = |statuses: &[&str], missing| {
        one(
            &account(&seen, statuses),
            &[&["--missing", missing, "--mode", "in"][..], &TWENTY].concat(),
        )
    };
    let gap = [["OK"; 16].as_slice(), &[""; 4]].concat();
    let row = of(&gap, "exclude");
    assert_eq!(row["percentile_bps"], 16_000_000);
    assert_eq!((&row["slots_measured"], &row["measured_percent"]), (&json!(16), &json!(80.0)));
    assert_eq!(row["estimated"], true);
    assert_eq!(of(&gap, "zero")["percentile_bps"], 15_000_000);
    assert_eq!(of(&gap, "hold")["percentile_bps"], 16_000_000);
    let quiet = [["OK"; 16].as_slice(), &["NODATA"; 4]].concat();
    let row = of(&quiet, "exclude");
    assert_eq!(
        (&row["percentile_bps"], &row["measured_percent"]),
        (&json!(15_000_000), &json!(100.0))
    );
    // Of nothing there is no figure.
    let row = of(&[""; 20], "exclude");
    assert_eq!((&row["percentile_bps"], &row["deciding_slot"]), (&Value::Null, &Value::Null));
}

#[test]
fn rules_of_one_customer_are_summed_before_they_are_ranked() {
    let row = |number: i64| {
        let rule = if number % 2 == 0 { "a" } else { "b" };
        ("acme", rule, number, (10 * MBIT, 0))
    };
    let data = account(&(0..20).map(row).collect::<Vec<_>>(), &["OK"; 20]);
    assert_eq!(one(&data, &TWENTY)["percentile_bps"], 10_000_000);
    let apart = rows(&data, &[&["--by", "rule"][..], &TWENTY].concat());
    let sum: i64 = apart.iter().map(|row| row["percentile_bps"].as_i64().unwrap()).sum();
    assert_eq!(sum, 20_000_000);
}

#[test]
fn the_expected_slots_are_those_of_the_month_in_the_zone() {
    for (day, period, zone, slots) in [
        ("2026-04-15", "2026-04", "UTC", 8640),
        ("2026-10-15", "2026-10", "UTC", 8928),
        ("2026-02-15", "2026-02", "UTC", 8064),
        ("2028-02-15", "2028-02", "UTC", 8352),
        ("2026-03-15", "2026-03", "Europe/Berlin", 8916),
        ("2026-10-15", "2026-10", "Europe/Berlin", 8940),
        ("2026-11-15", "2026-11", "America/New_York", 8652),
        ("2026-10-15", "2026-10", "Asia/Kolkata", 8928),
    ] {
        let day: jiff::Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
        let number = (day.as_microsecond() - at(0)) / 300_000_000;
        let data = account(&[("acme", "web", number, (MBIT, 0))], &["OK"]);
        let row = one(&data, &["--period", period, "--tz", zone, "--missing", "zero"]);
        assert_eq!(
            (&row["slots_expected"], &row["mean_bps"]),
            (&json!(slots), &json!(0)),
            "{period} {zone}"
        );
    }
    let data = account(&[("acme", "web", 0, (1_125_000_000, 0))], &["OK"]);
    // One slot is its own percentile.
    let slot = ["--since", "2026-10-26T12:00:00Z", "--until", "2026-10-26T12:05:00Z"];
    assert_eq!(one(&data, &slot)["percentile_bps"], 30_000_000);
}

#[test]
fn longer_slots_hold_what_shorter_ones_add_up_to() {
    let data = example();
    // Two slots at a time: 1.5, 3.5 … 19.5 Mbit/s up.
    let row = one(&data, &[&["--slot", "10m", "--mode", "in"][..], &TWENTY].concat());
    assert_eq!((&row["percentile_bps"], &row["slots_expected"]), (&json!(19_500_000), &json!(10)));
    let run = data.analyze(&[&["percentile", "--slot", "7m"][..], &TWENTY].concat());
    assert_eq!(run.code, 64);
    assert!(
        run.stderr
            .contains("--slot 420s is no multiple of the slots recorded, which are 300 s long"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_cannot_be_ranked_is_refused() {
    let data = example();
    for (arguments, sentence) in [
        (["--by", "day"], "percentile looks at whole periods"),
        (["--mode", "both"], "use max_of_p95, p95_of_sum, p95_of_max, in, out"),
        (["--rank", "floor"], "use ceil, round, half_even, rrd, cacti"),
        (["--missing", "guess"], "use exclude, zero, hold"),
        (["--percent", "101"], "101 is not in 1..=100"),
        (["--commit", "fast"], "\"fast\" is not a bandwidth"),
        (["--slot", "0s"], "write whole seconds"),
    ] {
        let run = data.analyze(&[&["percentile"][..], &arguments].concat());
        assert!(run.stderr.contains(sentence), "{sentence:?} is not in {}", run.stderr);
        assert_eq!((run.code, run.stdout.as_str()), (64, ""));
    }
}

#[test]
fn an_account_without_anything_has_no_rows() {
    assert_eq!(rows(&Data::empty(), &[]), Vec::<Value>::new());
    assert_eq!(rows(&Data::empty(), &["--period", "2026-10"]), Vec::<Value>::new());
}

#[test]
fn the_report_can_be_read() {
    insta::assert_snapshot!(
        example().answer(&[&["percentile", "--commit", "15 Mbit/s"][..], &TWENTY].concat())
    );
    insta::assert_snapshot!("help_percentile", Data::empty().answer(&["percentile", "--help"]));
}

#[test]
fn the_database_ranks_as_a_plain_calculation_does() {
    let slot = (
        0..4_u8,
        0..6_i64,
        0..6_i64,
        prop::sample::select(vec!["OK", "NODATA", "SKIPDATA", "", "DOWN"]),
    );
    let choice = (0..5_usize, 0..5_usize, 0..3_usize, 1..=100_u8);
    let strategy = (prop::collection::vec(slot, 20), choice);
    let mut runner = TestRunner::new(Config { cases: 48, ..Config::default() });
    runner
        .run(&strategy, |(slots, (mode, rank, missing, percent))| {
            let contract = Percentile {
                percent,
                mode: Mode::ALL[mode],
                rank: Rank::ALL[rank],
                missing: Missing::ALL[missing],
                slot_s: None,
            };
            let statuses: Vec<&str> = slots.iter().map(|slot| slot.3).collect();
            let mut usage = vec![("acme", "web", 0, (0, 0))];
            let mut expected = Vec::new();
            for (number, (rows, up, down, status)) in (0..).zip(&slots) {
                let times = i64::from(*rows);
                usage.extend((0..times).map(|_| ("acme", "web", number, (*up * 300, *down * 300))));
                expected.push(Ranked {
                    start_us: at(300 * number),
                    bytes: PerDirection { up: times * up * 300, down: times * down * 300 },
                    known: matches!(*status, "OK" | "NODATA" | "DOWN"),
                });
            }
            let data = account(&usage, &statuses);
            let percent = percent.to_string();
            let asked = [
                &["--mode", contract.mode.as_str(), "--rank", contract.rank.as_str()][..],
                &["--missing", contract.missing.as_str(), "--percent", &percent],
                &TWENTY,
            ]
            .concat();
            let row = one(&data, &asked);
            let figure = ranking::figure(&contract, &expected, 300);
            let bps = row["percentile_bps"].as_i64();
            prop_assert_eq!(i128::from(bps.unwrap_or(0)), figure.bytes * 8 / 300, "{:?}", row);
            prop_assert_eq!(row["slots_measured"].as_u64(), Some(figure.known));
            if figure.bytes > 0 {
                let start: jiff::Timestamp =
                    row["deciding_slot"].as_str().unwrap().parse().unwrap();
                prop_assert_eq!(Some(start.as_microsecond()), figure.slot_start_us, "{:?}", row);
            }
            Ok(())
        })
        .unwrap();
}
