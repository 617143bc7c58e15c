//! `verify` finds every fault that is put into a whole account, and names its place.

use std::fs;

use schemas::manifest::{Delta, Part, delta_file};
use serde_json::Value;

use crate::support::Data;
use crate::support::account::{Account, ENDED, RUNNING, at};

/// What a check says about an account after `spoil` has been at it: lines `VERDICT place: message`
/// of every check that is not fine.
pub(crate) fn found(spoil: impl FnOnce(&mut Account)) -> Vec<String> {
    let mut account = Account::whole();
    spoil(&mut account);
    let data = Data::with(&account);
    data.add_capture();
    faults(&data)
}

pub(crate) fn faults(data: &Data) -> Vec<String> {
    let run = data.analyze(&["verify", "--format", "json"]);
    let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let faults: Vec<String> = rows
        .iter()
        .filter(|row| row["verdict"] == "FAULT")
        .map(|row| {
            format!("{}: {}: {}", text(row, "check"), text(row, "place"), text(row, "message"))
        })
        .collect();
    assert_eq!(run.code, i32::from(!faults.is_empty()), "{}{}", run.stdout, run.stderr);
    faults
}

/// Asserts that exactly one fault is found, and that it says this.
#[track_caller]
pub(crate) fn only(faults: &[String], expected: &str) {
    assert_eq!(faults, [expected]);
}

#[test]
fn a_whole_account_has_no_fault() {
    assert_eq!(found(|_| ()), Vec::<String>::new());
}

#[test]
fn a_missing_row_is_found_by_its_number() {
    let faults = found(|account| {
        account.denied.remove(0);
    });
    only(&faults, "seq: boot k3f9x2ab of edge-1: seq 13 is missing");
}

#[test]
fn a_missing_last_row_is_found_by_the_manifest_and_by_the_end_of_the_boot() {
    let faults = found(|account| {
        account.denied.pop();
    });
    assert_eq!(
        faults,
        [
            "seq: boot k3f9x2ab of edge-1: the boot ended with seq 14, the tables end with 13",
            "seq: boot k3f9x2ab of edge-1: the tables end with seq 13, the manifest says 14",
        ]
    );
}

#[test]
fn a_row_of_a_running_boot_may_not_be_missing_either() {
    let faults = found(|account| account.events.retain(|event| event.boot != RUNNING));
    only(&faults, "seq: boot p7q8r9s0 of edge-1: seq 1 is missing");
}

#[test]
fn a_row_that_is_there_twice_is_found() {
    let faults = found(|account| account.denied.push(account.denied[0].clone()));
    only(&faults, "seq: boot k3f9x2ab of edge-1: seq 13 is there twice");
}

#[test]
fn a_boot_that_the_manifest_does_not_know_is_found() {
    let faults = found(|account| account.boots.retain(|mark| mark.boot != RUNNING));
    only(&faults, "seq: boot p7q8r9s0 of edge-1: the manifest does not know this boot");
}

#[test]
fn a_missing_session_is_found() {
    let faults = found(|account| {
        account.boots[0].end.as_mut().unwrap().last_session_no = 6;
    });
    only(&faults, "sessions: boot k3f9x2ab of edge-1: session k3f9x2ab-5 to k3f9x2ab-6 is missing");
}

#[test]
fn numbers_taken_at_the_instant_of_a_kill_are_no_fault() {
    let faults = found(|account| {
        let end = account.boots[0].end.as_mut().unwrap();
        (end.last_session_no, end.unopened) = (6, 2);
    });
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn an_inexact_end_is_reported_and_passes() {
    let mut account = Account::whole();
    account.boots[0].end.as_mut().unwrap().exact = false;
    account.boots[0].end.as_mut().unwrap().last_session_no = 50;
    let data = Data::with(&account);
    data.add_capture();
    assert!(faults(&data).is_empty());
    let text = data.answer(&["verify"]);
    assert!(
        text.contains("k3f9x2ab-5 to k3f9x2ab-50 is missing: the account of this boot was lost")
    );
}

#[test]
fn a_session_with_two_rows_is_found() {
    let faults = found(|account| {
        let mut twin = account.sessions[0].clone();
        twin.seq = None;
        account.sessions.push(twin);
    });
    let twin = "session k3f9x2ab-2 is there twice";
    only(&faults, &format!("sessions: boot k3f9x2ab of edge-1: {twin}"));
}

#[test]
fn a_session_beyond_the_last_is_found() {
    let faults = found(|account| {
        let end = account.boots[0].end.as_mut().unwrap();
        (end.last_session_no, end.unopened) = (3, 0);
    });
    only(
        &faults,
        "sessions: boot k3f9x2ab of edge-1: session k3f9x2ab-4 is beyond the last one, 3",
    );
}

/// The two intervals of the first session.
fn intervals_of_the_first(account: &Account) -> (usize, usize) {
    let of = |i| {
        let is = |row: &schemas::table::Usage| {
            row.boot == ENDED && row.session_no == 1 && row.interval_seq == i
        };
        account.usage.iter().position(is).unwrap()
    };
    (of(0), of(1))
}

#[test]
fn a_difference_that_does_not_lead_to_the_total_is_found_in_every_sum() {
    let faults = found(|account| {
        let (_, second) = intervals_of_the_first(account);
        account.usage[second].bytes_up += 1;
    });
    assert_eq!(
        faults,
        [
            "totals: session k3f9x2ab-1: interval 1 adds 2001 to a total_up of 1000 and says 3000",
            "totals: session k3f9x2ab-1: usage adds up to 3001 bytes_up, its row says 3000",
            "slots: slot 2026-10-26T12:05:00Z of boot k3f9x2ab of edge-1: usage has 3 rows, 2301 bytes up \
             and 610040000 down; the slot says 3, 2300 and 610040000",
        ]
    );
}

#[test]
fn a_running_total_that_is_wrong_is_found() {
    let faults = found(|account| {
        let (first, _) = intervals_of_the_first(account);
        account.usage[first].total_down -= 5;
    });
    assert_eq!(
        faults,
        [
            "totals: session k3f9x2ab-1: interval 0 adds 600000000 to a total_down of 0 and says 599999995",
            "totals: session k3f9x2ab-1: interval 1 adds 610000000 to a total_down of 599999995 and says 1210000000",
        ]
    );
}

#[test]
fn the_row_of_a_session_that_says_something_else_is_found() {
    let change = |change: fn(&mut schemas::table::Session)| {
        found(|account| {
            let first = account.sessions.iter_mut().find(|s| s.session_no == 2).unwrap();
            change(first);
        })
    };
    only(
        &change(|s| s.bytes_down -= 1),
        "totals: session k3f9x2ab-2: usage adds up to 2048 bytes_down, its row says 2047",
    );
    only(
        &change(|s| s.datagrams_up += 1),
        "totals: session k3f9x2ab-2: usage adds up to 8 datagrams_up, its row says 9",
    );
    only(
        &change(|s| s.datagrams_down += 1),
        "totals: session k3f9x2ab-2: usage adds up to 32 datagrams_down, its row says 33",
    );
    only(
        &change(|s| s.intervals = 3),
        "totals: session k3f9x2ab-2: it has 1 rows of usage, intervals says 3",
    );
    only(
        &change(|s| s.received_up -= 1),
        "totals: session k3f9x2ab-2: bytes exceeds received: more was delivered than was read",
    );
}

#[test]
fn marks_of_first_and_final_intervals_are_checked() {
    let faults = found(|account| {
        let (first, second) = intervals_of_the_first(account);
        account.usage[first].is_first = false;
        account.usage[first].is_final = true;
        account.usage[second].is_final = false;
    });
    assert_eq!(
        faults,
        [
            "totals: session k3f9x2ab-1: interval 0 is final, and interval 1 follows",
            "totals: session k3f9x2ab-1: is_first is wrong at interval 0",
        ]
    );
    let faults = found(|account| {
        let (_, second) = intervals_of_the_first(account);
        account.usage[second].is_final = false;
    });
    only(&faults, "totals: session k3f9x2ab-1: it ended, and no interval is final");
}

#[test]
fn a_gap_in_the_intervals_is_found() {
    let faults = found(|account| {
        let (_, second) = intervals_of_the_first(account);
        account.usage[second].interval_seq = 2;
    });
    only(&faults, "totals: session k3f9x2ab-1: interval_seq 1 is missing");
}

#[test]
fn a_final_interval_without_the_row_of_its_session_is_found() {
    let faults = found(|account| {
        let running = account.usage.iter_mut().rfind(|row| row.session_no == 1).unwrap();
        running.is_final = true;
    });
    only(
        &faults,
        "totals: session p7q8r9s0-1: its final usage is there, its row in sessions is not",
    );
}

#[test]
fn a_slot_that_disagrees_with_its_usage_is_found() {
    let faults = found(|account| account.slots[0].usage_rows += 1);
    only(
        &faults,
        "slots: slot 2026-10-26T12:00:00Z of boot k3f9x2ab of edge-1: usage has 2 rows, 1512 bytes up \
         and 600002048 down; the slot says 3, 1512 and 600002048",
    );
}

#[test]
fn usage_in_a_slot_without_a_row_is_found() {
    let faults = found(|account| {
        let slot = account.slots.iter_mut().find(|slot| slot.slot_start == at(300)).unwrap();
        slot.status = "DOWN".to_owned();
    });
    only(
        &faults,
        "slots: slot 2026-10-26T12:05:00Z of boot k3f9x2ab of edge-1: it has 3 rows of usage and no row in slots",
    );
}

#[test]
fn a_slot_with_two_rows_is_found() {
    let faults = found(|account| {
        let mut twin = account.slots[0].clone();
        (twin.seq, twin.usage_rows, twin.bytes_up, twin.bytes_down) = (None, 0, 0, 0);
        account.slots.push(twin);
    });
    only(
        &faults,
        "slots: slot 2026-10-26T12:00:00Z of boot k3f9x2ab of edge-1: the slot has 2 rows",
    );
}

#[test]
fn a_missing_or_changed_part_is_found() {
    let data = Data::with(&Account::whole());
    data.add_capture();
    let part = data.part_of("events");
    let name = "accounting/events/date=2026-10-26/00000000000000000001.parquet";
    let bytes = fs::read(&part).unwrap();

    let mut changed = bytes.clone();
    changed[100] ^= 1;
    fs::write(&part, &changed).unwrap();
    let its_checksum = format!("parts: {name}: its checksum is not that of the manifest");
    assert_eq!(faults(&data)[0], its_checksum);

    fs::write(&part, &bytes[..bytes.len() - 1]).unwrap();
    let short = format!(
        "parts: {name}: it has {} bytes, the manifest says {}",
        bytes.len() - 1,
        bytes.len()
    );
    assert_eq!(faults(&data)[0], short);

    fs::remove_file(&part).unwrap();
    assert_eq!(faults(&data)[0], format!("parts: {name}: it is missing"));
}

#[test]
fn a_part_with_other_rows_than_promised_is_found() {
    let data = Data::with(&Account::whole());
    data.add_capture();
    let path = data.path().join(format!("manifest/{:020}.json", 1));
    let promise = |change: fn(&mut Part)| {
        let mut delta = Delta::decode(&fs::read(&path).unwrap(), 1).unwrap();
        let whole = delta.clone();
        change(delta.add.iter_mut().find(|part| part.table == "denied").unwrap());
        data.manifest(&delta);
        let found = faults(&data);
        data.manifest(&whole);
        found
    };
    let part = "parts: accounting/denied/date=2026-10-26/00000000000000000001.parquet";
    only(&promise(|part| part.rows = 9), &format!("{part}: it has 2 rows, the manifest says 9"));
    let time = at(290);
    only(
        &promise(|part| part.max_time_us += 1),
        &format!(
            "{part}: its times go from {time} to {time} us, the manifest says from {time} to {}",
            time + 1
        ),
    );
}

#[test]
fn a_capture_that_is_missing_or_short_is_found_and_a_deleted_one_is_not() {
    let data = Data::with(&Account::whole());
    only(&faults(&data), "captures: captures/web/2026-10-26.pcapng: it is missing");
    data.add_capture();
    fs::write(data.path().join("captures/web/2026-10-26.pcapng"), vec![0; 4_095]).unwrap();
    only(
        &faults(&data),
        "captures: captures/web/2026-10-26.pcapng: it has 4095 bytes, the index goes up to 4096",
    );
    assert!(found(|account| account.captures[0].file = None).is_empty());
}

#[test]
fn a_file_that_was_indexed_twice_is_no_fault() {
    // A recorder that died between indexing a file and naming it indexes it again.
    assert!(found(|account| account.captures.push(account.captures[0].clone())).is_empty());
}

#[test]
fn an_index_of_captures_that_makes_no_sense_is_found() {
    let change = |change: fn(&mut schemas::table::Capture)| {
        found(|account| change(&mut account.captures[0]))
    };
    only(
        &change(|c| c.offset_last = 100),
        "captures: session k3f9x2ab-1: extent 0 goes from offset 128 to 100",
    );
    only(&change(|c| c.extent = 1), "captures: session k3f9x2ab-1: extent 0 is missing");
    only(
        &change(|c| c.session_no = 77),
        "captures: session k3f9x2ab-77: it was captured and is not in sessions, though its boot has ended",
    );
    only(
        &change(|c| c.file = Some("../../etc/passwd".to_owned())),
        "captures: capture \"../../etc/passwd\": the index names a file outside of the data directory",
    );
}

#[test]
fn many_faults_are_counted_and_not_all_listed() {
    let data = Data::with(&{
        let mut account = Account::whole();
        for number in 0..50 {
            let mut row = account.denied[1].clone();
            row.seq = Some(1_000 + 2 * number);
            account.denied.push(row);
        }
        account.boots[0].last_seq = 1_098;
        account.boots[0].end.as_mut().unwrap().last_seq = 1_098;
        account
    });
    data.add_capture();
    let run = data.analyze(&["verify"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("FAULT  seq       50 faults\n"), "{}", run.stdout);
    assert!(run.stdout.contains("and 30 more"), "{}", run.stdout);
}

#[test]
fn a_manifest_made_again_from_the_parts_has_no_fault() {
    for lost in [false, true] {
        let data = Data::with(&Account::whole());
        data.add_capture();
        if lost {
            fs::remove_file(data.path().join("manifest").join(delta_file(1))).unwrap();
        }
        let config = data.path().join("recorder.toml");
        fs::write(&config, format!("data = {:?}\n", data.path())).unwrap();
        recorder::recover::recover(&config).unwrap();
        assert_eq!(faults(&data), Vec::<String>::new(), "lost: {lost}");
    }
}
