//! Closed periods: frozen to the byte, and put right by later ones.

use std::fs;

use schemas::manifest::BootMark;
use serde_json::Value;

use super::scene::{GB, Office, amounts, due, files, item, known, tariffs, usage};
use crate::support::account::Account;

const VOLUME: &str =
    "model = \"volume\"\ntiers = [{ up_to = \"15\", price = \"10\" }, { price = \"5\" }]";

fn office() -> Office {
    let rows = vec![usage("acme", 1, "2026-08-07T10:00:00Z", 15 * GB)];
    let other = "[[contract]]\nrule = \"office\"\ntariff = \"t\"\nvalid_to = 2026-08-20";
    Office::new(&known(rows), &tariffs("", &item(VOLUME), other))
}

fn late(office: &mut Office, time: &str) {
    let usage = vec![usage("acme", 2, time, GB)];
    office.data.commit(&Account { usage, ..Account::default() });
}

fn close(office: &Office, month: &str) -> Value {
    let run = office.frozen(month, &["--close"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

#[test]
fn a_closed_period_stays_as_it_is_to_the_byte() {
    let mut office = office();
    let closed = office.frozen("2026-08", &["--close"]);
    assert_eq!(closed.code, 0, "{}", closed.stderr);
    assert_eq!(files(&office.frozen), ["2026-08/acme.json", "2026-08/rule/office.json"]);
    let kept = fs::read_to_string(office.frozen.join("2026-08/acme.json")).unwrap();
    let alone = office.frozen("2026-08", &["--customer", "acme"]).stdout;
    let array: Vec<Value> = serde_json::from_str(&alone).unwrap();
    assert_eq!(array[0], serde_json::from_str::<Value>(&kept).unwrap());
    // Closing again changes nothing, and neither do late rows and other prices.
    assert_eq!(office.frozen("2026-08", &["--close"]).stdout, closed.stdout);
    late(&mut office, "2026-08-07T10:00:00Z");
    office.write_tariffs(&tariffs("", &item("price = \"7\""), ""));
    let again = office.frozen("2026-08", &["--customer", "acme"]);
    assert_eq!((again.code, again.stdout), (0, alone));
    let refused = office.frozen("2026-08", &["--close", "--customer", "acme"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (64, ""));
    assert!(refused.stderr.contains("2026-08/acme.json is closed with other figures"));
    assert_eq!(fs::read_to_string(office.frozen.join("2026-08/acme.json")).unwrap(), kept);
}

#[test]
fn late_data_is_taken_back_and_added_by_the_next_invoice_and_only_once() {
    let mut office = office();
    close(&office, "2026-08");
    late(&mut office, "2026-08-31T23:55:00Z");
    let next = close(&office, "2026-09");
    let adjusted = &next[0]["adjustments"];
    assert_eq!(adjusted.as_array().unwrap().len(), 1);
    assert_eq!(adjusted[0]["period"], "2026-08");
    assert_eq!(amounts(&adjusted[0]["lines"]), ["-150.00", "80.00"]);
    assert_eq!(due(&next[0]), "-70.00");
    let after = close(&office, "2026-10");
    assert_eq!(after[0]["adjustments"], Value::Array(Vec::new()));
    late(&mut office, "2026-09-01T00:00:00Z");
    late(&mut office, "2026-08-01T00:00:00Z");
    let last: Vec<Value> = serde_json::from_str(&office.frozen("2026-11", &[]).stdout).unwrap();
    let adjusted = &last[0]["adjustments"];
    assert_eq!(amounts(&adjusted[0]["lines"]), ["-80.00", "85.00"]);
    assert_eq!(
        (&adjusted[1]["period"], amounts(&adjusted[1]["lines"])),
        (&"2026-09".into(), vec!["0.00", "10.00"])
    );
    for format in ["table", "markdown", "html", "csv"] {
        let frozen = office.frozen.to_str().unwrap();
        let shown = office.answer("2026-11", &["--frozen", frozen, "--format", format]);
        assert!(shown.contains("-80.00") && shown.to_lowercase().contains("adjustment"), "{shown}");
    }
}

#[test]
fn a_period_is_closed_when_it_has_ended_and_everything_is_there() {
    let text = tariffs("", &item(VOLUME), "");
    let office = Office::new(&known(Vec::new()), &text);
    let future = office.frozen("2125-01", &["--close"]);
    assert_eq!(future.code, 66);
    assert!(
        future
            .stderr
            .contains("the period ends on 2125-02-01 00:00:00 (UTC) and cannot be closed before")
    );
    // A forwarder runs that has not told of the last slot.
    let mut account = known(Vec::new());
    account.boots.push(BootMark {
        node: "edge-2".to_owned(),
        boot: "p7q8r9s0".to_owned(),
        last_seq: 1,
        ..BootMark::default()
    });
    let slot = |time| schemas::table::Slot {
        node: "edge-2".to_owned(),
        boot: "p7q8r9s0".to_owned(),
        slot_start: super::scene::us(time),
        slot_len_s: 300,
        status: "OK".to_owned(),
        ..Default::default()
    };
    account.slots.push(slot("2026-09-30T23:50:00Z"));
    let mut office = Office::new(&account, &text);
    let early = office.frozen("2026-09", &["--close"]);
    assert_eq!((early.code, early.stdout.as_str()), (66, ""));
    assert!(early.stderr.contains(
        "forwarder edge-2 (boot p7q8r9s0) has not told of its slots up to 2026-10-01 00:00:00 (UTC)"
    ));
    assert!(files(&office.frozen).is_empty());
    let slots = vec![slot("2026-09-30T23:55:00Z")];
    office.data.commit(&Account { slots, ..Account::default() });
    close(&office, "2026-09");
}

#[test]
fn periods_are_closed_in_their_order_and_keep_their_contracts() {
    let office = office();
    close(&office, "2026-09");
    let earlier = office.frozen("2026-08", &["--close"]);
    assert_eq!(earlier.code, 64);
    assert!(earlier.stderr.contains("2026-09 is closed already"), "{}", earlier.stderr);
    office.write_tariffs(&tariffs("", &item(VOLUME), "valid_from = 2026-10-01"));
    let gone = office.frozen("2026-10", &[]);
    assert_eq!(gone.code, 78);
    assert!(gone.stderr.contains("keep the contracts of closed periods"), "{}", gone.stderr);
}

#[test]
fn a_closed_invoice_that_was_changed_is_refused() {
    let office = office();
    close(&office, "2026-08");
    let path = office.frozen.join("2026-08/acme.json");
    let text = fs::read_to_string(&path).unwrap();
    for (bad, code, sentence) in [
        (text.replace("150.00", "150.0"), 74, "it is not as it was written"),
        (text[..100].to_owned(), 74, "cannot understand the closed invoice"),
        (text.replace("\"format\": 1", "\"format\": 2"), 78, "is an invoice of format 2"),
    ] {
        fs::write(&path, bad).unwrap();
        let run = office.frozen("2026-09", &[]);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{}", run.stderr);
        assert!(
            run.stderr.contains(sentence) && run.stderr.contains("acme.json"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn contracts_that_follow_one_another_in_a_month_have_an_invoice_each() {
    let rows = vec![usage("acme", 1, "2026-08-07T10:00:00Z", GB)];
    let second = "valid_to = 2026-08-20\n[[contract.credit]]\nname = \"c\"\namount = \"15\"\n\
        [[contract]]\ncustomer = \"acme\"\ntariff = \"t\"\nvalid_from = 2026-08-21\n\
        [[contract]]\ncustomer = \"acme.x\"\ntariff = \"t\"";
    let office = Office::new(&known(rows), &tariffs("", &item("price = \"10\""), second));
    let invoices = close(&office, "2026-08");
    let dues: Vec<&str> = invoices.as_array().unwrap().iter().map(due).collect();
    assert_eq!(dues, ["0.00", "0.00", "0.00"]);
    let expected = ["2026-08/acme.json", "2026-08/acme.x.json", "2026-08/acme@2026-08-21.json"];
    assert_eq!(files(&office.frozen), expected);
    assert_eq!(close(&office, "2026-08"), invoices);
}
