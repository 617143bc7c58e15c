//! `verify` over what is not a row: the manifest, clocks, other recorders, retention; and the object
//! it writes for programs.

use std::fs;
use std::path::PathBuf;

use schemas::manifest::{Checkpoint, Delta, Retired, SeqRange, checkpoint_file, delta_file};
use schemas::table::Slot;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::Data;
use crate::support::account::{Account, ENDED, RUNNING, at};
use crate::verify::{faults, found, only};

fn whole() -> Data {
    let data = Data::with(&Account::whole());
    data.add_capture();
    data
}

fn object(data: &Data) -> Value {
    let run = data.analyze(&["verify", "--json"]);
    let object: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(run.code, i32::from(object["whole"] == false), "{}", run.stderr);
    object
}

/// The notes of a check that found no fault.
fn notes(data: &Data, check: &str) -> Vec<String> {
    let object = object(data);
    assert_eq!(object["faults"], json!([]), "{object:#}");
    let notes = object["notes"].as_array().unwrap().iter();
    notes
        .filter(|n| n["check"] == check)
        .map(|n| n["message"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_object_for_programs_says_where_a_fault_is_in_fields() {
    let data = Data::with(&{
        let mut account = Account::whole();
        account.denied.remove(0);
        account.slots[0].usage_rows += 1;
        account.sessions.retain(|session| session.session_no != 4);
        account
    });
    data.add_capture();
    let object = object(&data);
    assert_eq!(object["whole"], false);
    let checks: Vec<&str> =
        object["checks"].as_array().unwrap().iter().map(|c| c["check"].as_str().unwrap()).collect();
    assert_eq!(
        checks,
        ["manifest", "parts", "seq", "sessions", "totals", "slots", "values", "captures", "bound"]
    );
    assert_eq!(object["bound"], json!({"sessions": 1, "up": 700, "down": 0}));
    let of = |check: &str| -> Vec<&Value> {
        object["faults"].as_array().unwrap().iter().filter(|f| f["check"] == check).collect()
    };
    let denied = "accounting/denied/date=2026-10-26/00000000000000000001.parquet";
    let missing = of("seq").into_iter().find(|f| f["seq_first"] == 13).unwrap();
    assert_eq!((&missing["node"], &missing["boot"]), (&json!("edge-1"), &json!(ENDED)));
    assert_eq!(missing["seq_last"], 13);
    // The rows beside a missing one tell which part should have it.
    assert!(missing["parts"].as_array().unwrap().contains(&json!(denied)), "{missing:#}");
    assert_eq!(of("sessions")[0]["session_first"], "k3f9x2ab-4");
    assert_eq!(of("sessions")[0]["session_last"], "k3f9x2ab-5");
    assert_eq!(of("slots")[0]["slot_start"], "2026-10-26T12:00:00.000000Z");
    assert_eq!(of("slots")[0]["clock_pass"], 0);
    assert_eq!(of("slots")[0]["file"], Value::Null);
}

#[test]
fn any_flipped_bit_in_any_part_or_file_of_the_manifest_is_found() {
    let mut data = whole();
    data.checkpoint(&data.first_checkpoint());
    data.commit(&Account::default());
    let mut files: Vec<PathBuf> = ["sessions", "usage", "slots", "denied", "captures", "events"]
        .map(|t| data.part_of(t))
        .into();
    let manifest = data.path().join("manifest");
    files
        .extend([delta_file(1), delta_file(2), checkpoint_file(1)].map(|name| manifest.join(name)));
    let mut random = 0x5eed_u64;
    for file in &files {
        let bytes = fs::read(file).unwrap();
        let name = file.strip_prefix(data.path()).unwrap().to_str().unwrap();
        for _ in 0..6 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bit = usize::try_from(random >> 16).unwrap() % (bytes.len() * 8);
            let mut spoilt = bytes.clone();
            spoilt[bit / 8] ^= 1 << (bit % 8);
            fs::write(file, &spoilt).unwrap();
            let report = analyze::verify::run(data.path()).unwrap();
            let faults = report.checks.iter().flat_map(|check| &check.faults.kept);
            let places: Vec<String> = faults.map(|fault| fault.place.to_string()).collect();
            assert!(places.iter().any(|place| place == name), "bit {bit} of {name}: {places:?}");
        }
        fs::write(file, &bytes).unwrap();
    }
    assert!(analyze::verify::run(data.path()).unwrap().is_whole());
}

#[test]
fn a_checkpoint_that_is_not_what_its_versions_lead_to_is_found() {
    let data = whole();
    let place = format!("manifest: manifest/{}", checkpoint_file(1));
    let spoilt = |change: fn(&mut Checkpoint)| {
        let mut checkpoint = data.first_checkpoint();
        change(&mut checkpoint);
        data.checkpoint(&checkpoint);
        // Reports go by it, so that its other consequences show up as well.
        faults(&data).into_iter().next().unwrap_or_default()
    };
    assert_eq!(spoilt(|_| ()), "");
    let usage = "accounting/usage/date=2026-10-26/00000000000000000001.parquet";
    assert_eq!(
        spoilt(|c| c.parts.retain(|part| part.table != "usage")),
        format!("{place}: it lacks the part {usage}")
    );
    assert_eq!(
        spoilt(|c| c.parts.iter_mut().filter(|p| p.table == "usage").for_each(|p| p.rows += 1)),
        format!("{place}: it says of the part {usage} what the versions before it do not")
    );
    assert_eq!(
        spoilt(|c| c.boots[0].last_seq += 1),
        format!(
            "{place}: it says of the boot {ENDED} of edge-1 what the versions before it do not"
        )
    );
    assert_eq!(
        spoilt(|c| c.log_through = 7),
        format!("{place}: it says log_through 7, the versions before it lead to 0")
    );
}

#[test]
fn a_manifest_that_cannot_be_followed_is_a_fault_with_its_place() {
    let mut data = whole();
    data.commit(&Account::default());
    data.commit(&Account::default());
    let second = data.path().join("manifest").join(delta_file(2));
    let name = format!("manifest: manifest/{}", delta_file(2));
    let bytes = fs::read(&second).unwrap();
    fs::write(&second, &bytes[..bytes.len() - 9]).unwrap();
    only(&faults(&data), &format!("{name}: its end is missing"));
    fs::remove_file(&second).unwrap();
    only(&faults(&data), &format!("{name}: it is missing"));
    fs::write(&second, bytes).unwrap();
    data.change(2, |delta| delta.remove.push("accounting/usage/nothing.parquet".to_owned()));
    only(
        &faults(&data),
        &format!(
            "{name}: it removes accounting/usage/nothing.parquet, which was not part of the tables"
        ),
    );
}

#[test]
fn a_part_that_was_replaced_is_found_where_it_was_put() {
    let data = whole();
    let before = data.answer(&["usage", "--format", "csv"]);
    let part = data.part_of("usage");
    let replaced = data.path().join("replaced").join(part.strip_prefix(data.path()).unwrap());
    fs::create_dir_all(replaced.parent().unwrap()).unwrap();
    fs::rename(&part, &replaced).unwrap();
    assert_eq!(data.answer(&["usage", "--format", "csv"]), before);
    assert_eq!(faults(&data), Vec::<String>::new());
}

#[test]
fn a_file_that_only_a_glob_would_find_is_told() {
    let data = whole();
    let part = data.part_of("usage");
    fs::copy(&part, part.with_file_name("copy.parquet")).unwrap();
    assert_eq!(
        notes(&data, "parts"),
        ["the manifest does not name it, a glob over the tables finds it"]
    );
}

#[test]
fn values_that_cannot_be_are_found() {
    let session = |change: fn(&mut schemas::table::Session)| {
        found(|account| change(account.sessions.iter_mut().find(|s| s.session_no == 4).unwrap()))
    };
    only(&session(|s| s.duration_us = -1), "values: session k3f9x2ab-4: it lasted -1 us");
    only(
        &session(|s| s.connect_us = Some(-7)),
        "values: session k3f9x2ab-4: it took -7 us to connect",
    );
    only(
        &session(|s| s.captured_bytes = -1),
        "values: session k3f9x2ab-4: its row has a negative count",
    );
    let usage = |change: fn(&mut schemas::table::Usage)| {
        found(|account| {
            let of = |u: &&mut schemas::table::Usage| u.boot == ENDED && u.session_no == 4;
            change(account.usage.iter_mut().find(of).unwrap());
        })
    };
    only(
        &usage(|u| u.active_us = 300_000_001),
        "values: session k3f9x2ab-4: interval 0 lived 300000001 us of a slot of 300 s",
    );
    let life = |by: i64| {
        found(|account| {
            let session = account.sessions.iter_mut().find(|s| s.session_no == 4).unwrap();
            session.ts_start += by;
            session.ts_end += by;
        })
    };
    let outside =
        "values: session k3f9x2ab-4: interval 0 lies in a slot in which the session did not live";
    only(&life(600_000_000), outside);
    only(&life(-400_000_000), outside);
    assert!(
        found(|account| account.denied[0].count = -1)[0].ends_with("seq 13, has a negative count")
    );
}

#[test]
fn a_session_may_seem_to_end_before_it_begins_when_the_clock_was_set() {
    let found = found(|account| {
        account.events[0].kind = "clock_step".to_owned();
        let session = account.sessions.iter_mut().find(|s| s.session_no == 4).unwrap();
        session.ts_start += 3_600_000_000;
    });
    assert_eq!(found, Vec::<String>::new());
}

/// A row of the time in which nothing ran.
fn down(start: i64, seconds: i32) -> Slot {
    Slot {
        node: "edge-1".to_owned(),
        boot: RUNNING.to_owned(),
        slot_start: start,
        slot_len_s: seconds,
        status: "DOWN".to_owned(),
        ..Slot::default()
    }
}

#[test]
fn a_time_in_which_nothing_ran_and_something_was_measured_is_found() {
    assert_eq!(found(|account| account.slots.push(down(at(1_200), 900))), Vec::<String>::new());
    only(
        &found(|account| account.slots.push(down(at(300), 300))),
        "slots: slot 2026-10-26T12:05:00Z of boot p7q8r9s0 of edge-1: nothing ran for 300 s, and boot k3f9x2ab \
         measured the slot 2026-10-26T12:05:00Z",
    );
    only(
        &found(|account| account.slots.extend([down(at(1_200), 300), down(at(1_200), 600)])),
        "slots: slot 2026-10-26T12:20:00Z of boot p7q8r9s0 of edge-1: the slot has 2 rows",
    );
}

#[test]
fn a_slot_that_does_not_begin_where_slots_do_is_found() {
    let found = found(|account| {
        let mut odd = down(at(1_201), 300);
        (odd.boot, odd.status) = (ENDED.to_owned(), "NODATA".to_owned());
        account.slots.push(odd);
    });
    only(
        &found,
        "slots: slot 2026-10-26T12:20:01Z of boot k3f9x2ab of edge-1: the slot is 300 s long and does not begin \
         at a multiple of that",
    );
}

#[test]
fn a_capture_with_another_checksum_is_found() {
    let account = |digest: String| {
        let mut account = Account::whole();
        account.captures[0].sha256 = Some(digest);
        account
    };
    let digest: String =
        Sha256::digest(vec![0; 5_000]).iter().map(|byte| format!("{byte:02x}")).collect();
    let data = Data::with(&account(digest.clone()));
    data.add_capture();
    assert_eq!(faults(&data), Vec::<String>::new());
    let data = Data::with(&account(digest.replace('0', "1")));
    data.add_capture();
    only(
        &faults(&data),
        "captures: captures/web/2026-10-26.pcapng: its checksum is not that of the index",
    );
}

#[test]
fn rows_that_retention_deleted_are_not_lost_and_later_ones_are() {
    let retired = |tables: &[&str], before_us: i64, spoil: fn(&mut Account)| {
        let mut account = Account::whole();
        spoil(&mut account);
        let data = Data::with(&account);
        data.add_capture();
        data.change(1, |delta: &mut Delta| {
            let retired = |table: &&str| Retired { table: (*table).to_owned(), before_us };
            delta.retired = tables.iter().map(retired).collect();
        });
        data
    };
    // Everything from before 12:05.
    let all = ["sessions", "usage", "slots", "events", "denied"];
    let data = retired(&all, at(300), |account| {
        account.sessions.retain(|row| row.ts_end > at(300));
        account.usage.retain(|row| row.slot_start >= at(300));
        account.slots.retain(|row| row.slot_start >= at(300));
        account.events.retain(|row| row.ts >= at(300) || row.boot == RUNNING);
        account.denied.clear();
        account.boots[0].last_seq = 12;
        account.boots[0].end.as_mut().unwrap().last_seq = 12;
    });
    let seqs = notes(&data, "seq");
    assert_eq!(seqs, ["seq 1 to 5 is missing: retention has deleted rows as old as these"]);
    // A row that is younger than that is missed.
    let data = retired(&all, at(300), |account| {
        account.denied.clear();
        account.boots[0].last_seq = 12;
        account.boots[0].end.as_mut().unwrap().last_seq = 12;
        let last =
            account.usage.iter().position(|row| row.boot == ENDED && row.session_no == 4).unwrap();
        account.usage.remove(last);
    });
    assert!(faults(&data).iter().any(|fault| fault.starts_with("seq: ")), "{:?}", faults(&data));
}

#[test]
fn rows_that_went_to_another_recorder_are_told_with_their_numbers_and_are_no_fault() {
    // The other recorder had the first seven rows: all of the slot from 12:00, and session 1.
    let moved = |spoil: fn(&mut Account)| {
        let mut account = Account::whole();
        let here = |boot: &str, seq: Option<i64>| boot != ENDED || seq > Some(7);
        account.events.retain(|row| here(&row.boot, row.seq));
        account.usage.retain(|row| here(&row.boot, row.seq));
        account.sessions.retain(|row| here(&row.boot, row.seq));
        account.slots.retain(|row| here(&row.boot, row.seq));
        account.captures.clear();
        account.boots[0].elsewhere = vec![SeqRange { first: 1, last: 7 }];
        spoil(&mut account);
        Data::with(&account)
    };
    let data = moved(|_| ());
    assert_eq!(notes(&data, "seq"), ["seq 1 to 7 went to another recorder"]);
    assert_eq!(
        notes(&data, "sessions"),
        [
            "session k3f9x2ab-1 to k3f9x2ab-2 is missing: rows of this boot went to another recorder",
            "session k3f9x2ab-5 is missing: rows of this boot went to another recorder",
        ]
    );
    assert_eq!(notes(&data, "slots").len(), 1, "its first slot is told in part only");
    // What came here after that may not be missing.
    let data = moved(|account| drop(account.denied.remove(0)));
    only(&faults(&data), "seq: boot k3f9x2ab of edge-1: seq 13 is missing");
}
