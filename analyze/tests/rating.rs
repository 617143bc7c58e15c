//! The worked examples of tariffs, from the text of a file to the money.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::collections::BTreeMap;

use analyze::exact::{self, Exact};
use analyze::rating::{
    Figure, Kind, Line, Measure, Measured, Plan, Rated, StepKind, Totals, Unpriced, adjustments,
};
use analyze::tariff::Tariffs;
use jiff::civil::{Date, date};
use schemas::vocab::PerDirection;

/// A month of 31 days.
const OCTOBER: Date = date(2026, 10, 1);

fn tariffs(item: &str, contract: &str) -> Tariffs {
    let text = format!(
        "[[tariff]]\nname = \"t\"\ncurrency = \"EUR\"\n[[tariff.item]]\nname = \"traffic\"\n{item}\n\
         [[contract]]\ncustomer = \"acme\"\ntariff = \"t\"\n{contract}\n"
    );
    Tariffs::parse("tariffs.toml", &text).unwrap_or_else(|faults| panic!("{faults}"))
}

/// As many base units as `text` says, of a unit that has `base` of them.
fn whole_of(text: &str, base: i64) -> i128 {
    let amount = exact::decimal(text).unwrap() * exact::whole(base);
    assert!(amount.is_integer(), "{text}");
    amount.to_integer().try_into().unwrap()
}

fn rate(tariffs: &Tariffs, month: Date, measured: &[Measured]) -> Rated {
    let plan = Plan::new(tariffs, &tariffs.contracts[0], month).unwrap().unwrap();
    plan.rate(measured).unwrap()
}

fn sum<'l>(lines: impl IntoIterator<Item = &'l Line>) -> String {
    exact::fixed(&lines.into_iter().map(|line| &line.amount).sum::<Exact>(), 2)
}

fn gigabytes(amount: &str) -> Measured {
    Measured::Bytes(PerDirection { up: 0, down: whole_of(amount, 1_000_000_000) })
}

/// What so many GB (10⁹ bytes) down cost.
fn cost(item: &str, gb: &str) -> String {
    let item = format!("metric = \"down\"\nunit = \"GB\"\n{item}");
    sum(rate(&tariffs(&item, ""), OCTOBER, &[gigabytes(gb)]).lines())
}

const TIERS: &str = r#"tiers = [
    { up_to = "1000", price = "0.10" }, { up_to = "10000", price = "0.05" }, { price = "0.01" },
]"#;
const TIERS_WITH_FEES: &str = r#"tiers = [
    { up_to = "100", price = "0", fee = "10" },
    { up_to = "200", price = "0.50", fee = "5" },
    { price = "0.10" },
]"#;

#[test]
fn flat_fee_and_price_per_unit() {
    assert_eq!(cost("price = \"0.02\"", "750"), "15.00");
    let rated = rate(&tariffs("fee = \"310.00\"", ""), OCTOBER, &[]);
    assert_eq!(sum(rated.lines()), "310.00");
}

#[test]
fn graduated_tiers_price_each_unit_at_its_tier() {
    let item = format!("model = \"graduated\"\n{TIERS}");
    for (gb, expected) in
        [("0", "0.00"), ("1000", "100.00"), ("1001", "100.05"), ("15000", "600.00")]
    {
        assert_eq!(cost(&item, gb), expected, "{gb}");
    }
}

#[test]
fn half_a_cent_goes_away_from_zero() {
    assert_eq!(cost(&format!("model = \"graduated\"\n{TIERS}"), "1000.5"), "100.03");
    // Half to the even would be 0.02.
    assert_eq!(cost("price = \"0.10\"", "0.25"), "0.03");
}

#[test]
fn volume_prices_all_units_at_the_tier_reached() {
    let item = format!("model = \"volume\"\n{TIERS}");
    for (gb, expected) in [("1000", "100.00"), ("1001", "50.05"), ("15000", "150.00")] {
        assert_eq!(cost(&item, gb), expected, "{gb}");
    }
}

#[test]
fn a_tiers_fee_is_paid_when_it_is_entered_and_the_first_always() {
    let graduated = format!("model = \"graduated\"\n{TIERS_WITH_FEES}");
    for (gb, expected) in [("0", "10.00"), ("100", "10.00"), ("101", "15.50"), ("250", "70.00")] {
        assert_eq!(cost(&graduated, gb), expected, "{gb}");
    }
    let volume = format!("model = \"volume\"\n{TIERS_WITH_FEES}");
    assert_eq!(cost(&volume, "250"), "25.00");
}

#[test]
fn a_begun_package_is_paid_whole() {
    let package = "package = { size = \"100\", price = \"9\" }";
    for (gb, expected) in
        [("0", "0.00"), ("100", "9.00"), ("100.000001", "18.00"), ("200", "18.00")]
    {
        assert_eq!(cost(package, gb), expected, "{gb}");
    }
    let free = format!("allowance = \"50\"\n{package}");
    for (gb, expected) in [("50", "0.00"), ("150", "9.00"), ("151", "18.00")] {
        assert_eq!(cost(&free, gb), expected, "{gb}");
    }
}

#[test]
fn what_is_free_is_taken_off_before_the_price() {
    assert_eq!(cost("allowance = \"500 GB\"\nprice = \"0.02\"", "750"), "5.00");
    let binary = "metric = \"down\"\nunit = \"GiB\"\nallowance = \"500\"\nprice = \"0.02\"";
    let rated = rate(&tariffs(binary, ""), OCTOBER, &[gigabytes("750")]);
    assert_eq!(sum(rated.lines()), "3.97");
    let unit = rated.positions[0].trace.iter().find(|step| step.step == StepKind::Unit).unwrap();
    assert!(unit.text.ends_with("GiB (750 GB)"), "{}", unit.text);
}

#[test]
fn a_minimum_is_filled_up_and_a_maximum_is_kept_by_one_line() {
    for (bound, kind, line, total) in [
        ("minimum = \"50\"", Kind::Minimum, "12.50", "50.00"),
        ("maximum = \"30\"", Kind::Maximum, "-7.50", "30.00"),
    ] {
        let item = format!("metric = \"down\"\nunit = \"GB\"\nprice = \"0.05\"\n{bound}");
        let rated = rate(&tariffs(&item, ""), OCTOBER, &[gigabytes("750")]);
        let lines: Vec<&Line> = rated.lines().collect();
        assert_eq!(sum([lines[0]]), "37.50");
        assert_eq!((lines[1].kind, sum([lines[1]])), (kind, line.to_owned()));
        assert_eq!(sum(lines), total);
    }
}

#[test]
fn no_invoice_is_a_cent_above_its_maximum() {
    // Each line goes up to a cent, so that the lines would come to two.
    let windows = r#"windows = [
        { name = "day", hours = ["08:00-20:00"], price = "0.005" }, { name = "night", price = "0.005" },
    ]"#;
    let item = format!("metric = \"down\"\nunit = \"GB\"\nmaximum = \"0.01\"\n{windows}");
    let rated = rate(&tariffs(&item, ""), OCTOBER, &[gigabytes("1"), gigabytes("1")]);
    let lines: Vec<&Line> = rated.lines().collect();
    assert_eq!(
        (sum([lines[0]]), sum([lines[1]]), sum(lines)),
        ("0.01".into(), "0.01".into(), "0.01".into())
    );
}

#[test]
fn slots_have_the_price_of_the_local_time_they_begin_at() {
    let item = r#"metric = "down"
        unit = "GB"
        windows = [
            { name = "peak", hours = ["08:00-20:00"], price = "0.05" }, { name = "off-peak", price = "0.02" },
        ]"#;
    let tariffs = tariffs(item, "");
    let plan = Plan::new(&tariffs, &tariffs.contracts[0], OCTOBER).unwrap().unwrap();
    let slots = [("19:55", 3), ("20:00", 5), ("20:05", 2)].map(|(time, gb)| {
        let start: jiff::Timestamp = format!("2026-10-07T{time}:00Z").parse().unwrap();
        (start.as_microsecond(), gb)
    });
    let measured: Vec<Measured> = plan
        .needs()
        .map(|need| {
            let within =
                |at: i64| need.spans.iter().any(|s| (s.since_us..s.until_us).contains(&at));
            let gb: i128 = slots.iter().filter(|(at, _)| within(*at)).map(|(_, gb)| gb).sum();
            gigabytes(&gb.to_string())
        })
        .collect();
    let rated = plan.rate(&measured).unwrap();
    let amounts: Vec<String> = rated.lines().map(|line| sum([line])).collect();
    assert_eq!(amounts, ["0.15", "0.14"]);
    assert_eq!(sum(rated.lines()), "0.29");
}

#[test]
fn money_is_never_rounded_by_session() {
    // A million sessions of 1000 bytes are a gigabyte.
    assert_eq!(cost("price = \"0.09\"", "1"), "0.09");
}

#[test]
fn sessions_are_charged_by_their_count() {
    let rated = rate(
        &tariffs("metric = \"sessions\"\nprice = \"0.001\"", ""),
        OCTOBER,
        &[Measured::Count(12_345)],
    );
    assert_eq!(sum(rated.lines()), "12.35");
    assert_eq!(rated.lines().next().unwrap().unit, "session");
}

fn p95(mbit: i128, known: u64) -> Measured {
    let bytes = mbit * 1_000_000 * 300 / 8;
    Measured::Percentile(Figure {
        bytes,
        slot_len_s: 300,
        slot_start_us: Some(0),
        expected: 8928,
        known,
    })
}

const COMMIT: &str =
    "metric = \"p95\"\nunit = \"Mbit/s\"\ncommit = \"10\"\nprice = \"2.00\"\noverage = \"3.00\"";

#[test]
fn a_commit_is_paid_and_what_is_above_it() {
    let amounts = |mbit| {
        let rated = rate(&tariffs(COMMIT, ""), OCTOBER, &[p95(mbit, 8928)]);
        rated.lines().map(|line| (line.tier.clone(), sum([line]))).collect::<Vec<_>>()
    };
    let line = |tier: &str, amount: &str| (tier.to_owned(), amount.to_owned());
    assert_eq!(amounts(19), [line("commit", "20.00"), line("overage", "27.00")]);
    assert_eq!(amounts(4), [line("commit", "20.00"), line("overage", "0.00")]);
}

#[test]
fn a_line_on_too_few_slots_is_marked_as_estimated() {
    for (known, estimated) in [(8928, false), (8839, false), (8838, true)] {
        let rated = rate(&tariffs(COMMIT, ""), OCTOBER, &[p95(19, known)]);
        assert!(rated.lines().all(|line| line.estimated == estimated), "{known}");
    }
}

#[test]
fn a_fee_is_paid_for_the_days_of_a_contract() {
    let tariffs = |item: &str| tariffs(item, "valid_from = 2026-01-06\nvalid_to = 2026-01-31");
    let january = |item: &str| sum(rate(&tariffs(item), date(2026, 1, 1), &[]).lines());
    assert_eq!(january("fee = \"310.00\""), "260.00");
    assert_eq!(january("fee = \"310.00\"\nprorate = \"none\""), "310.00");
    let tariffs = tariffs("fee = \"310.00\"");
    assert!(Plan::new(&tariffs, &tariffs.contracts[0], date(2026, 2, 1)).unwrap().is_none());
}

#[test]
fn a_price_change_splits_the_period_at_local_midnight() {
    let version = |validity: &str, price: &str| {
        format!(
            "[[tariff]]\nname = \"t\"\ncurrency = \"EUR\"\ntz = \"Europe/Berlin\"\n{validity}\n\
             [[tariff.item]]\nname = \"traffic\"\nmetric = \"down\"\nunit = \"GB\"\nprice = \"{price}\"\n"
        )
    };
    let text = version("valid_to = 2026-10-15", "0.02")
        + &version("valid_from = 2026-10-16\nvalid_to = 2026-12-31", "0.03")
        + "[[contract]]\ncustomer = \"acme\"\ntariff = \"t\"\n";
    let tariffs = Tariffs::parse("f", &text).unwrap_or_else(|faults| panic!("{faults}"));
    let plan = Plan::new(&tariffs, &tariffs.contracts[0], OCTOBER).unwrap().unwrap();
    let ends: Vec<i64> = plan.needs().map(|need| need.spans[0].until_us).collect();
    let midnight: jiff::Timestamp = "2026-10-15T22:00:00Z".parse().unwrap();
    assert_eq!(ends[0], midnight.as_microsecond());
    let rated = plan.rate(&[gigabytes("100"), gigabytes("100")]).unwrap();
    assert_eq!(sum(rated.lines()), "5.00");
    let last = rated.lines().last().unwrap();
    assert_eq!((last.first_day, last.last_day), (date(2026, 10, 16), date(2026, 10, 31)));
    let late = Plan::new(&tariffs, &tariffs.contracts[0], date(2027, 1, 1)).unwrap_err();
    assert!(matches!(late, Unpriced::NoPrices { .. }));
    assert!(late.to_string().contains("customer acme"), "{late}");
}

#[test]
fn what_is_for_a_period_is_shared_by_its_parts() {
    // The same prices in two versions come to what they come to in one, for even traffic.
    let item = "[[tariff.item]]\nname = \"a\"\nmetric = \"down\"\nunit = \"GB\"\nallowance = \"310\"\n\
         model = \"graduated\"\ntiers = [{ up_to = \"620\", price = \"0.10\", fee = \"31\" }, { price = \"0.01\" }]\n\
         [[tariff.item]]\nname = \"b\"\nmetric = \"p95\"\nunit = \"Mbit/s\"\ncommit = \"31\"\nprice = \"2\"\noverage = \"3\"\n\
         [[tariff.item]]\nname = \"c\"\nfee = \"93\"\n\
         [[tariff.item]]\nname = \"d\"\nfee = \"0\"\nminimum = \"62\"\n";
    let head = "[[tariff]]\nname = \"t\"\ncurrency = \"EUR\"\n";
    let contract = "[[contract]]\ncustomer = \"acme\"\ntariff = \"t\"\n";
    let one = format!("{head}{item}{contract}");
    let two = format!(
        "{head}valid_to = 2026-10-10\n{item}{head}valid_from = 2026-10-11\n{item}{contract}"
    );
    let total = |text: &str, measured: &[Measured]| {
        let tariffs = Tariffs::parse("f", text).unwrap_or_else(|faults| panic!("{faults}"));
        sum(rate(&tariffs, OCTOBER, measured).lines())
    };
    let whole = total(&one, &[gigabytes("1550"), p95(40, 8928)]);
    let parts = [gigabytes("500"), p95(40, 2880), gigabytes("1050"), p95(40, 6048)];
    assert_eq!(whole, total(&two, &parts));
}

#[test]
fn discounts_come_one_after_the_other_and_before_the_cent() {
    let item = "metric = \"down\"\nunit = \"GB\"\nprice = \"1\"\ndiscount = \"10%\"";
    let rated = rate(&tariffs(item, "discount = \"5%\""), OCTOBER, &[gigabytes("100")]);
    let line = rated.lines().next().unwrap();
    assert_eq!((sum([line]), exact::text(&line.discount)), ("85.50".into(), "14.5".into()));
}

#[test]
fn tax_is_taken_once_from_the_lines_of_a_rate() {
    let item = "metric = \"down\"\nunit = \"GB\"\nprice = \"0.03\"\ntax = \"7%\"\n\
                [[tariff.item]]\nname = \"port\"\nfee = \"10.00\"\ntax = \"19%\"\n\
                [[tariff.item]]\nname = \"rack\"\nfee = \"0.03\"\ntax = \"19%\"";
    let tariffs_ = tariffs(item, "");
    let rated = rate(&tariffs_, OCTOBER, &[gigabytes("1")]);
    let totals = totals(&tariffs_, rated.lines(), &BTreeMap::new());
    let taxes: Vec<String> = totals.taxes.iter().map(|tax| exact::fixed(&tax.amount, 2)).collect();
    assert_eq!(taxes, ["0.00", "1.91"]);
    assert_eq!(
        (exact::fixed(&totals.net, 2), exact::fixed(&totals.due, 2)),
        ("10.06".into(), "11.97".into())
    );
    let reverse_charge = tariffs(item, "tax = \"0%\"");
    let rated = rate(&reverse_charge, OCTOBER, &[gigabytes("1")]);
    assert!(totals_of(&reverse_charge, &rated).taxes.is_empty());
}

fn totals_of(tariffs: &Tariffs, rated: &Rated) -> Totals {
    totals(tariffs, rated.lines(), &BTreeMap::new())
}

fn totals<'l>(
    tariffs: &Tariffs,
    lines: impl IntoIterator<Item = &'l Line>,
    used: &BTreeMap<String, Exact>,
) -> Totals {
    let contract = &tariffs.contracts[0];
    let plan = Plan::new(tariffs, contract, OCTOBER).unwrap().unwrap();
    Totals::of(plan.tariff.currency, plan.period, lines, &contract.credits, used)
}

fn paid(totals: &Totals) -> Vec<String> {
    let show = |amount: &Exact| exact::fixed(amount, 2);
    let uses = totals.credits.iter();
    uses.map(|u| format!("{} {} left {}", u.name, show(&u.used), show(&u.left))).collect()
}

#[test]
fn a_credit_pays_before_anything_is_due() {
    let credit = "[[contract.credit]]\nname = \"welcome\"\namount = \"20\"";
    let tariffs = tariffs(COMMIT, credit);
    let rated = rate(&tariffs, OCTOBER, &[p95(19, 8928)]);
    let totals = totals_of(&tariffs, &rated);
    assert_eq!(
        (exact::fixed(&totals.gross, 2), exact::fixed(&totals.due, 2)),
        ("47.00".into(), "27.00".into())
    );
    assert_eq!(paid(&totals), ["welcome 20.00 left 0.00"]);
}

#[test]
fn the_credit_that_expires_first_pays_first_and_the_rest_is_carried() {
    let credits = "[[contract.credit]]\nname = \"for ever\"\namount = \"100\"\n\
         [[contract.credit]]\nname = \"late\"\namount = \"30\"\nexpires = 2026-12-31\n\
         [[contract.credit]]\nname = \"soon\"\namount = \"30\"\nexpires = 2026-10-31\n\
         [[contract.credit]]\nname = \"gone\"\namount = \"30\"\nexpires = 2026-10-30\n\
         [[contract.credit]]\nname = \"not yet\"\namount = \"30\"\nvalid_from = 2026-11-01";
    let tariffs = tariffs(COMMIT, credits);
    let rated = rate(&tariffs, OCTOBER, &[p95(19, 8928)]);
    let used = BTreeMap::from([("soon".to_owned(), exact::whole(25))]);
    let first = totals(&tariffs, rated.lines(), &used);
    assert_eq!(
        paid(&first),
        ["soon 5.00 left 0.00", "late 30.00 left 0.00", "for ever 12.00 left 88.00"]
    );
    assert_eq!(exact::fixed(&first.due, 2), "0.00");
    // What is to be paid back is not paid by a credit.
    let back: Vec<Line> = rated.lines().map(Line::reversed).collect();
    let negative = totals(&tariffs, &back, &used);
    assert_eq!(exact::fixed(&negative.due, 2), "-47.00");
    assert!(negative.credits.iter().all(|credit| credit.used == exact::whole(0)));
}

#[test]
fn late_data_rates_the_whole_period_again() {
    let item = "metric = \"down\"\nunit = \"GB\"\nmodel = \"volume\"\n\
                tiers = [{ up_to = \"15\", price = \"10\" }, { price = \"5\" }]\n\
                [[tariff.item]]\nname = \"port\"\nfee = \"7\"";
    let tariffs = tariffs(item, "");
    let rated = |gb| rate(&tariffs, OCTOBER, &[gigabytes(gb)]).lines().cloned().collect::<Vec<_>>();
    let (billed, now) = (rated("15"), rated("16"));
    let late = adjustments(&billed, &now);
    assert_eq!(late.iter().map(|line| sum([line])).collect::<Vec<_>>(), ["-150.00", "80.00"]);
    assert!(adjustments(&now, &rated("16")).is_empty());
    assert_eq!(sum(billed.iter().chain(&late)), sum(&now));
    let frozen = serde_json::to_string(&billed).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Line>>(&frozen).unwrap(), billed);
}

#[test]
fn the_trace_can_be_followed_with_pen_and_paper() {
    let item = "metric = \"sum\"\nunit = \"GB\"\nrounding = { mode = \"ceil\", places = 0 }\n\
        allowance = \"500\"\ndiscount = \"10%\"\nmaximum = \"3\"\nmodel = \"graduated\"\n\
        tiers = [{ up_to = \"200\", price = \"0.02\" }, { price = \"0.01\" }]";
    let tariffs = tariffs(item, "valid_to = 2026-10-30");
    let measured = Measured::Bytes(PerDirection { up: 249_999_999_999, down: 500_000_000_000 });
    let rated = rate(&tariffs, OCTOBER, &[measured]);
    let trace: Vec<String> = rated.positions[0]
        .trace
        .iter()
        .map(|step| format!("{:9} {}", step.step.as_str(), step.text))
        .collect();
    insta::assert_snapshot!(trace.join("\n"));
}

#[test]
fn an_answer_of_the_wrong_kind_is_refused() {
    let tariffs = tariffs("metric = \"down\"\nunit = \"GB\"\nprice = \"1\"", "");
    let plan = Plan::new(&tariffs, &tariffs.contracts[0], OCTOBER).unwrap().unwrap();
    assert_eq!(plan.needs().map(|need| need.measure).collect::<Vec<_>>(), [Measure::Bytes]);
    for wrong in [vec![], vec![Measured::Count(1)], vec![gigabytes("1"), gigabytes("1")]] {
        assert!(plan.rate(&wrong).is_err(), "{wrong:?}");
    }
}
