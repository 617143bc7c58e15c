//! The worked examples, from rows to money, and how an invoice reads.

use schemas::table::Usage;

use super::scene::{GB, Office, amounts, due, item, known, tariffs, us, usage};

fn office(rows: Vec<Usage>, head: &str, items: &str, contract: &str) -> Office {
    Office::new(&known(rows), &tariffs(head, items, contract))
}

/// What so many bytes down in October cost.
fn cost(bytes: i64, rest: &str) -> String {
    let rows = vec![usage("acme", 1, "2026-10-07T10:00:00Z", bytes)];
    due(&office(rows, "", &item(rest), "").invoice("2026-10")).to_owned()
}

#[test]
fn tiers_allowances_and_binary_units_come_to_the_cent() {
    let tiers = "tiers = [{ up_to = \"1000\", price = \"0.10\" }, { up_to = \"10000\", price = \"0.05\" }, { price = \"0.01\" }]";
    assert_eq!(cost(15_000 * GB, &format!("model = \"graduated\"\n{tiers}")), "600.00");
    assert_eq!(cost(15_000 * GB, &format!("model = \"volume\"\n{tiers}")), "150.00");
    assert_eq!(cost(1_000 * GB + GB / 2, &format!("model = \"graduated\"\n{tiers}")), "100.03");
    let binary = "[[tariff.item]]\nname = \"traffic\"\nmetric = \"down\"\nunit = \"GiB\"\nallowance = \"500\"\nprice = \"0.02\"";
    let rows = vec![usage("acme", 1, "2026-10-07T10:00:00Z", 750 * GB)];
    assert_eq!(due(&office(rows, "", binary, "").invoice("2026-10")), "3.97");
}

#[test]
fn a_credit_pays_first_and_what_is_left_of_it_pays_the_next_invoice() {
    let credit = "[[contract.credit]]\nname = \"welcome\"\namount = \"60\"";
    let fee = "[[tariff.item]]\nname = \"port\"\nfee = \"47.00\"";
    let office = office(Vec::new(), "", fee, credit);
    let first = office.frozen("2026-09", &["--close"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let second: serde_json::Value =
        serde_json::from_str(&office.frozen("2026-10", &[]).stdout).unwrap();
    let totals = &second[0]["totals"];
    assert_eq!((&totals["gross"], &totals["due"]), (&"47.00".into(), &"34.00".into()));
    assert_eq!(totals["credits"][0]["left"], "0.00");
    office.write_tariffs(&tariffs("", fee, &credit.replace("60", "20")));
    assert_eq!(due(&office.invoice("2026-10")), "27.00");
}

const WINDOWS: &str = "windows = [{ name = \"peak\", hours = [\"08:00-20:00\"], price = \"0.05\" }, { name = \"off-peak\", price = \"0.02\" }]";

#[test]
fn slots_have_the_price_of_their_local_time() {
    let rows = |zone_offset: &str| {
        [("19:55", 3), ("20:00", 5), ("20:05", 2)]
            .map(|(time, gb)| {
                usage("acme", gb, &format!("2026-10-07T{time}:00{zone_offset}"), gb * GB)
            })
            .to_vec()
    };
    for (zone, offset) in [("UTC", "Z"), ("Europe/Berlin", "+02:00"), ("Asia/Kolkata", "+05:30")] {
        let head = format!("tz = \"{zone}\"");
        let invoice = office(rows(offset), &head, &item(WINDOWS), "").invoice("2026-10");
        assert_eq!(amounts(&invoice["lines"]), ["0.15", "0.14"], "{zone}");
        assert_eq!(due(&invoice), "0.29");
    }
}

#[test]
fn days_on_which_clocks_change_are_billed_by_the_wall_clock() {
    // A GB in every slot of the day and of the hours around it.
    let day = |first: &str, last: &str| -> Vec<Usage> {
        let (first, last) = (us(first), us(last));
        (0..(last - first) / 300_000_000)
            .map(|slot| Usage {
                slot_start: first + slot * 300_000_000,
                ..usage("acme", slot + 1, "2025-01-01T00:00:00Z", GB)
            })
            .collect()
    };
    for (zone, month, first, last, peak, off_peak) in [
        // 23, 25 and 24 hours, of which 12 are peak; a slot at either side is of another month.
        ("Europe/Berlin", "2025-03", "2025-03-29T23:00:00Z", "2025-03-30T22:00:00Z", 144, 132),
        ("Europe/Berlin", "2025-10", "2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z", 144, 156),
        ("Asia/Kolkata", "2025-10", "2025-10-25T18:30:00Z", "2025-10-26T18:30:00Z", 144, 144),
        // Months begin at local midnight: half of the slots around it are in.
        ("Asia/Kolkata", "2025-11", "2025-10-31T18:00:00Z", "2025-10-31T19:00:00Z", 0, 6),
    ] {
        let head = format!("tz = \"{zone}\"");
        let invoice = office(day(first, last), &head, &item(WINDOWS), "").invoice(month);
        let gb = |window: usize| invoice["quantities"][window]["bytes_down"].as_i64().unwrap() / GB;
        assert_eq!((gb(0), gb(1)), (peak, off_peak), "{zone} {month}");
    }
}

#[test]
fn a_session_over_two_months_is_charged_once() {
    let rows = vec![
        Usage { is_final: false, ..usage("acme", 1, "2026-10-31T23:55:00Z", 10) },
        Usage { is_first: false, interval_seq: 1, ..usage("acme", 1, "2026-11-01T00:00:00Z", 10) },
    ];
    let sessions = "[[tariff.item]]\nname = \"sessions\"\nmetric = \"sessions\"\nprice = \"0.50\"";
    let office = office(rows, "", sessions, "");
    assert_eq!(due(&office.invoice("2026-10")), "0.50");
    assert_eq!(due(&office.invoice("2026-11")), "0.00");
}

/// Two customers and a service, in two currencies, with everything a line can have.
fn everything() -> Office {
    let tariffs = r#"
[[tariff]]
name     = "hosting"
currency = "EUR"
tax      = "19%"
valid_to = 2026-10-15
[[tariff.item]]
name = "port <b>"
fee  = "310.00"
[[tariff.item]]
name    = "traffic"
metric  = "sum"
unit    = "GB"
model   = "graduated"
tiers   = [{ up_to = "100", price = "0.10", fee = "1" }, { price = "0.035" }]
minimum = "20.00"
discount = "10%"

[[tariff]]
name       = "hosting"
currency   = "EUR"
tax        = "7%"
valid_from = 2026-10-16
[[tariff.item]]
name   = "traffic"
metric = "sum"
unit   = "GB"
price  = "0.02"
maximum = "1.00"

[[tariff]]
name     = "queries"
currency = "USD"
[[tariff.item]]
name    = "datagrams"
metric  = "datagrams"
package = { size = "1000", price = "9" }

[[contract]]
customer = "acme"
tariff   = "hosting"
[[contract.credit]]
name   = "welcome"
amount = "20.00"

[[contract]]
customer = "globex"
tariff   = "hosting"
valid_to = 2026-10-10

[[contract]]
service = "dns"
tariff  = "queries"
"#;
    let dns = Usage {
        service: "dns".to_owned(),
        transport: "udp".to_owned(),
        datagrams_up: 700,
        datagrams_down: 301,
        ..usage("initech", 3, "2026-10-09T10:00:00Z", 5)
    };
    let rows = vec![
        Usage { bytes_up: GB, ..usage("acme", 1, "2026-10-07T10:00:00Z", 250 * GB) },
        usage("acme", 2, "2026-10-16T00:00:00Z", 100 * GB),
        usage("globex", 4, "2026-10-07T10:00:00Z", GB),
        dns,
    ];
    Office::new(&known(rows), tariffs)
}

#[test]
fn an_invoice_reads_well_on_every_medium() {
    let office = everything();
    for format in ["table", "markdown", "html", "csv"] {
        insta::assert_snapshot!(
            format!("bill_{format}"),
            office.answer("2026-10", &["--format", format])
        );
    }
    let acme = office.answer("2026-10", &["--format", "json", "--customer", "acme"]);
    insta::assert_snapshot!("bill_json", acme);
    let note = office.run("2026-10", &[]).stderr;
    assert_eq!(note, "not billed: traffic of initech, who have no contract\n");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let office = everything();
    for format in ["table", "markdown", "html", "csv", "json", "ndjson"] {
        let bill = || office.answer("2026-10", &["--format", format]);
        assert_eq!(bill(), bill(), "{format}");
    }
    let page = office.answer("2026-10", &["--format", "html"]);
    for outside in ["http:", "https:", "src=", "href=", "url(", "<script", "@import", "<b>"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_rows_of_an_invoice_add_up_to_what_is_due() {
    let office = everything();
    let csv = office.answer("2026-10", &["--format", "csv"]);
    let column =
        |name: &str| csv.lines().next().unwrap().split(',').position(|c| c == name).unwrap();
    let (name, amount) = (column("name"), column("amount"));
    for invoice in office.invoices("2026-10") {
        let its = invoice["subject"]["name"].as_str().unwrap();
        let rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let cents: i64 = rows
            .filter(|row| row[name] == its)
            .map(|row| row[amount].replace('.', "").parse::<i64>().unwrap())
            .sum();
        assert_eq!(cents, due(&invoice).replace('.', "").parse::<i64>().unwrap(), "{its}");
    }
}

#[test]
fn an_invoice_on_too_little_data_says_that_it_is_estimated() {
    let mut account = known(vec![usage("acme", 1, "2026-10-07T10:00:00Z", GB)]);
    let fee = "[[tariff.item]]\nname = \"port\"\nfee = \"1.00\"\n";
    let text = tariffs("", &(item("price = \"1\"") + fee), "");
    assert_eq!(Office::new(&account, &text).invoice("2026-10")["basis"]["estimated"], false);
    account.slots[0].slot_len_s -= 86_400 * (365 + 31 + 30 + 1);
    let office = Office::new(&account, &text);
    let invoice = office.invoice("2026-10");
    assert_eq!(invoice["basis"]["estimated"], true);
    assert_eq!(
        invoice["basis"]["coverage"],
        "coverage 0.0 % of the period's slots, 96.7 % down, 3.2 % unknown"
    );
    let lines: Vec<bool> = invoice["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["estimated"].as_bool().unwrap())
        .collect();
    assert_eq!(lines, [true, false]);
    assert!(office.answer("2026-10", &[]).contains("traffic (estimated)"));
}

#[test]
fn an_invoice_names_the_zones_it_rests_on_and_its_data_whatever_the_parts() {
    let row = |no| usage("acme", no, "2026-10-07T10:00:00Z", GB);
    let text = tariffs("tz = \"Europe/Berlin\"", &item("price = \"1\""), "");
    let one = Office::new(&known(vec![row(1), row(2)]), &text);
    let mut two = Office::new(&known(vec![row(1)]), &text);
    let rest = crate::support::account::Account { usage: vec![row(2)], ..Default::default() };
    two.data.commit(&rest);
    assert_eq!(one.invoice("2026-10"), two.invoice("2026-10"));
    let basis = &one.invoice("2026-10")["basis"];
    assert!(basis["zones"].as_str().unwrap().starts_with("20"), "{basis}");
    assert_eq!(basis["tariffs"].as_str().unwrap().len(), 64);
}

/// A slot of so many Mbit/s down, counted from local midnight in Berlin.
fn mbit(no: i64, mbit: i64) -> Usage {
    let slot_start = us("2026-09-30T22:00:00Z") + (no - 1) * 300_000_000;
    Usage { slot_start, ..usage("acme", no, "2026-10-01T00:00:00Z", mbit * 1_000_000 * 300 / 8) }
}

const COMMIT: &str = "[[tariff.item]]\nname = \"transit\"\nmetric = \"p95\"\nunit = \"Mbit/s\"\ncommit = \"10\"\nprice = \"2.00\"\noverage = \"3.00\"\n";

#[test]
fn a_percentile_is_billed_by_its_commit_and_names_the_slot_that_decides() {
    // 8940 slots of a month with 25 hours in a day: the 8493rd decides, which 447 exceed.
    let rows: Vec<Usage> = (1..=450).map(|no| mbit(no, if no > 3 { 30 } else { 19 })).collect();
    let credit = "[[contract.credit]]\nname = \"welcome\"\namount = \"20\"";
    let office = office(rows, "tz = \"Europe/Berlin\"", COMMIT, credit);
    let invoice = office.invoice("2026-10");
    assert_eq!(amounts(&invoice["lines"]), ["20.00", "27.00"]);
    assert_eq!((&invoice["totals"]["gross"], due(&invoice)), (&"47.00".into(), "27.00"));
    let percentile = &invoice["quantities"][0]["percentile"];
    assert_eq!(percentile["slot_start"], "2026-09-30T22:00:00Z");
    assert_eq!(
        (&percentile["slots_expected"], &percentile["slots_known"]),
        (&8940.into(), &8940.into())
    );
    let table = office.answer("2026-10", &[]);
    let note = "transit: decided by the slot 2026-09-30T22:00:00Z with 712,500,000 bytes, 8940 of 8940 slots known";
    assert!(table.contains(note), "{table}");
}

#[test]
fn traffic_of_one_slot_is_added_up_before_it_is_ranked() {
    // Two rules take turns: 10 and 0, 0 and 10.
    let rows: Vec<Usage> =
        (1..=500).map(|no| Usage { rule: format!("r{}", no % 2), ..mbit(no, 10) }).collect();
    let items = COMMIT.replace("commit = \"10\"\n", "").replace("overage = \"3.00\"\n", "");
    let of_one = items.replace("transit", "one").replace("metric", "rules = [\"r1\"]\nmetric");
    let office = office(rows, "tz = \"Europe/Berlin\"", &(items + &of_one), "");
    assert_eq!(amounts(&office.invoice("2026-10")["lines"]), ["20.00", "0.00"]);
}

#[test]
fn slots_that_nobody_measured_are_not_ranked_and_make_an_estimate() {
    let rows: Vec<Usage> = (1..=450).map(|no| mbit(no, 19)).collect();
    let mut account = known(rows);
    account.slots[0].slot_len_s -= 86_400 * (365 + 31 + 30 + 1);
    let text = tariffs("", COMMIT, "");
    let invoice = Office::new(&account, &text).invoice("2026-10");
    let percentile = &invoice["quantities"][0]["percentile"];
    assert_eq!(
        (&percentile["slots_expected"], &percentile["slots_known"]),
        (&8928.into(), &8640.into())
    );
    assert_eq!(invoice["lines"][0]["estimated"], true);
    let slot = COMMIT.to_owned() + "percentile = { slot = \"450s\" }\n";
    let run = Office::new(&account, &tariffs("", &slot, "")).run("2026-10", &[]);
    assert_eq!(run.code, 78, "{}", run.stderr);
    assert!(run.stderr.contains("slots of 300 s were recorded"), "{}", run.stderr);
}
