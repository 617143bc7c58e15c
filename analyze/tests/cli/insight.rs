//! Reports that judge figures: what the account is worth, what changed, whether sums agree.

use schemas::table::{Event, Slot};
use serde_json::Value;

use crate::support::Data;
use crate::support::account::{Account, ENDED, RUNNING, at};

fn json(data: &Data, arguments: &[&str]) -> Value {
    serde_json::from_str(&data.answer(&[arguments, &["--format", "json"]].concat())).unwrap()
}

fn with(change: impl FnOnce(&mut Account)) -> Data {
    let mut account = Account::whole();
    change(&mut account);
    Data::with(&account)
}

fn header(data: &Data, arguments: &[&str]) -> String {
    let csv = data.answer(&[arguments, &["--format", "csv"]].concat());
    csv.lines().next().unwrap().to_owned()
}

fn event(kind: &str, value: f64) -> Event {
    Event {
        node: "edge-1".to_owned(),
        boot: RUNNING.to_owned(),
        ts: at(700),
        severity: "warning".to_owned(),
        kind: kind.to_owned(),
        value: Some(value),
        message: kind.to_owned(),
        ..Event::default()
    }
}

#[test]
fn helps_have_examples() {
    let data = Data::empty();
    for command in ["quality", "captures", "compare", "reconcile"] {
        let help = data.answer(&[command, "--help"]);
        assert!(help.contains("Example"), "{command} --help has no example:\n{help}");
        insta::assert_snapshot!(format!("help_{command}"), help);
    }
}

#[test]
fn headers_are_a_contract() {
    let data = with(|_| ());
    assert_eq!(
        header(&data, &["quality"]),
        "node,slots_ok,slots_nodata,slots_skipdata,slots_down,slots_missing,seq_missing,boots_lost,\
         sessions_recovered,rows_inexact,clock_steps,spool_peak_bytes,capture_dropped_bytes,datagrams_dropped"
    );
    assert_eq!(
        header(&data, &["captures"]),
        "session,service,rule,customer,client_ip,extent,file,offset_first,offset_last,packets,\
         captured_bytes,original_bytes,dropped_bytes,direction,truncated,ts_first,ts_last,sha256,key_id"
    );
    let hour = ["--since", "2026-10-26T12:00:00Z", "--until", "2026-10-26T13:00:00Z"];
    let compare = [&["compare", "--by", "service"][..], &hour].concat();
    assert_eq!(
        header(&data, &compare),
        "service,bytes_up,bytes_down,previous_bytes_up,previous_bytes_down,change_bytes,\
         change_percent,mean_bytes,z_score,state"
    );
    assert_eq!(
        header(&data, &["reconcile"]),
        "customer,usage_bytes,sessions_bytes,slots_bytes,running_bytes,edge_bytes,against_bytes,\
         difference_bytes,difference_percent,cause"
    );
    let nothing = Data::empty();
    for report in [&["quality"][..], &["captures"], &compare, &["reconcile"]] {
        assert_eq!(header(&nothing, report), header(&data, report));
    }
}

#[test]
fn a_whole_account_has_one_recovered_session_and_no_gap() {
    let rows = json(&with(|_| ()), &["quality"]);
    assert_eq!(rows.as_array().unwrap().len(), 1);
    let row = &rows[0];
    // 12:00, 12:05 and 12:10; session 3 was cut off by the kill, its only row of usage is inexact.
    assert_eq!(row["slots_ok"], 3);
    assert_eq!((&row["sessions_recovered"], &row["rows_inexact"]), (&1.into(), &1.into()));
    for zero in ["slots_nodata", "slots_skipdata", "slots_down", "slots_missing", "seq_missing"] {
        assert_eq!(row[zero], 0, "{zero}");
    }
    assert_eq!(row["spool_peak_bytes"], Value::Null);
}

#[test]
fn what_is_missing_or_went_wrong_is_counted() {
    let data = with(|account| {
        // The slot of 12:05 is gone with its number; 12:10 was partly shed.
        account.slots.retain(|slot| slot.slot_start != at(300));
        account.slots[1].status = "SKIPDATA".to_owned();
        account.slots[1].capture_dropped_bytes = 4_321;
        account.slots[1].datagrams_dropped = Some(7);
        // Nothing ran from 12:15 to 12:26.
        account.slots.push(Slot {
            node: "edge-1".to_owned(),
            boot: RUNNING.to_owned(),
            slot_start: at(900),
            slot_len_s: 660,
            status: "DOWN".to_owned(),
            ..Slot::default()
        });
        account.events.extend([
            event("clock_step", 3.5),
            event("spool_80", 8_000_000_000.0),
            event("spool_full", 10_000_000_000.0),
        ]);
        let end = account.boots.iter_mut().find_map(|mark| mark.end.as_mut()).unwrap();
        end.exact = false;
    });
    let row = &json(&data, &["quality"])[0];
    let figures = [
        ("slots_ok", 1_i64),
        ("slots_skipdata", 1),
        // 660 s are two slots and a begun one.
        ("slots_down", 3),
        ("slots_missing", 1),
        ("seq_missing", 1),
        ("boots_lost", 1),
        ("clock_steps", 1),
        ("spool_peak_bytes", 10_000_000_000),
        ("capture_dropped_bytes", 4_321),
        ("datagrams_dropped", 7),
    ];
    for (column, expected) in figures {
        assert_eq!(row[column], expected, "{column}");
    }
    // A gap lies where the row behind it does: here it is the refused attempt of 12:04:50.
    let later = ["quality", "--since", "2026-10-26T12:10:00Z"];
    assert_eq!(json(&data, &later)[0]["slots_ok"], 0);
    let until = ["quality", "--until", "2026-10-26T12:04:00Z"];
    let before = &json(&data, &until)[0];
    assert_eq!((&before["slots_ok"], &before["seq_missing"]), (&1.into(), &0.into()));
    // A forwarder of which there is nothing at all is not measured.
    let asked = ["quality", "--node", "edge-2"];
    assert_eq!(json(&data, &asked), Value::Array(Vec::new()));
}

#[test]
fn rows_that_went_to_another_recorder_or_that_retention_deleted_are_not_missing() {
    let data = with(|account| {
        account.slots.retain(|slot| slot.slot_start != at(300));
        let gone: Vec<i64> = (1..).take(20).collect();
        let there = |seq: &i64| {
            let of = |boot: &str, row: Option<i64>| boot == ENDED && row == Some(*seq);
            account.usage.iter().any(|row| of(&row.boot, row.seq))
                || account.sessions.iter().any(|row| of(&row.boot, row.seq))
                || account.slots.iter().any(|row| of(&row.boot, row.seq))
                || account.denied.iter().any(|row| of(&row.boot, row.seq))
                || account.events.iter().any(|row| of(&row.boot, row.seq))
        };
        let first = *gone.iter().find(|seq| !there(seq)).unwrap();
        let mark = account.boots.iter_mut().find(|mark| mark.boot == ENDED).unwrap();
        mark.elsewhere = vec![schemas::manifest::SeqRange { first, last: first }];
    });
    assert_eq!(json(&data, &["quality"])[0]["seq_missing"], 0);
}

#[test]
fn quality_takes_no_part_of_the_rows() {
    let data = with(|_| ());
    for arguments in [&["quality", "--service", "web"][..], &["quality", "--by", "node"]] {
        let run = data.analyze(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (64, ""), "{}", run.stderr);
        assert!(run.stderr.contains("it takes --node and --having"), "{}", run.stderr);
    }
}

#[test]
fn captures_are_found_by_whose_session_they_are() {
    let data = with(|_| ());
    let of =
        |filter: &[&str]| json(&data, &[&["captures"], filter].concat()).as_array().unwrap().len();
    assert_eq!(of(&[]), 1);
    assert_eq!(of(&["--service", "web", "--customer", "acme", "--client", "10.1.0.0/16"]), 1);
    assert_eq!(of(&["--target", "10.0.0.5", "--rule", "office"]), 1);
    assert_eq!(of(&["--customer", "globex"]), 0);
    assert_eq!(of(&["--where", "captured_bytes >= 3 kB and not truncated = true"]), 1);
    assert_eq!(of(&["--having", "packets > 21"]), 0);
    // It began at 12:02:30.
    assert_eq!(of(&["--until", "2026-10-26T12:02:30Z"]), 0);
    assert_eq!(of(&["--since", "2026-10-26T12:02:30Z"]), 1);
    let row = &json(&data, &["captures"])[0];
    assert_eq!(row["session"], "k3f9x2ab-1");
    assert_eq!((&row["offset_first"], &row["offset_last"]), (&128.into(), &4_096.into()));
    assert_eq!((&row["service"], &row["client_ip"]), (&"web".into(), &"10.1.0.7".into()));
    assert_eq!(data.analyze(&["captures", "--by", "service"]).code, 64);
}

#[test]
fn a_period_is_compared_with_the_ones_before_it() {
    let data = with(|_| ());
    let slot = ["--since", "2026-10-26T12:10:00Z", "--until", "2026-10-26T12:15:00Z"];
    let rows = json(&data, &[&["compare", "--earlier", "2"][..], &slot].concat());
    let acme = &rows[0];
    assert_eq!(acme["customer"], "acme");
    assert_eq!((&acme["bytes_up"], &acme["bytes_down"]), (&5_000.into(), &70_000.into()));
    assert_eq!(acme["previous_bytes_down"], 610_040_000);
    assert_eq!(acme["change_bytes"], 75_000 - 610_042_300);
    assert_eq!(acme["change_percent"], -99.99);
    // 600,001,000 at 12:00 and 610,042,300 at 12:05: the deviation is 10,041,300 / sqrt(2).
    assert_eq!(acme["mean_bytes"], (600_001_000 + 610_042_300) / 2);
    let deviation = 10_041_300.0 / 2.0_f64.sqrt();
    let z = (75_000.0 - 605_021_650.0) / deviation;
    assert!((acme["z_score"].as_f64().unwrap() - z).abs() < 0.006, "{acme} {z}");
    // globex had nothing at 12:05: no share of nothing, but not new either.
    let globex = &rows[1];
    assert_eq!((&globex["change_bytes"], &globex["change_percent"]), (&192.into(), &Value::Null));
    assert_eq!((&globex["state"], &globex["mean_bytes"]), (&"known".into(), &1_280.into()));
    assert_eq!(rows[2]["state"], "vanished");
}

#[test]
fn keys_that_are_new_or_vanished_are_named() {
    let data = with(|_| ());
    let of = |state: &str| {
        let having = format!("state = {state}");
        let slot = ["--since", "2026-10-26T12:10:00Z", "--until", "2026-10-26T12:15:00Z"];
        let asked = ["compare", "--by", "client", "--having", &having];
        let rows = json(&data, &[&asked[..], &slot].concat());
        let names = rows.as_array().unwrap().iter().map(|row| row["client_ip"].clone());
        let mut names: Vec<String> = names.map(|name| name.as_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(of("new"), ["10.2.0.10"]);
    assert_eq!(of("vanished"), ["10.1.4.8", "2001:db8::7"]);
    assert_eq!(of("known"), ["10.1.0.7"]);
    // Before the first slot nothing is known, so there is no mean to differ from.
    let first = ["compare", "--since", "2026-10-26T12:05:00Z", "--until", "2026-10-26T12:10:00Z"];
    let rows = json(&data, &first);
    assert_eq!((&rows[0]["z_score"], &rows[0]["mean_bytes"]), (&Value::Null, &600_001_000.into()));
}

#[test]
fn compare_needs_a_beginning_and_ends_with_the_newest_slot() {
    let data = with(|_| ());
    let run = data.analyze(&["compare"]);
    assert_eq!((run.code, run.stdout.as_str()), (64, ""));
    assert!(run.stderr.contains("compare needs the beginning of a period"), "{}", run.stderr);
    let run = data.analyze(&["compare", "--since", "2026-10-27"]);
    assert!(run.code == 64 && run.stderr.contains("name its end with --until"), "{}", run.stderr);
    let run = data.analyze(&["compare", "--period", "2026-10", "--by", "day"]);
    assert!(run.code == 64 && run.stderr.contains("compare looks at whole periods"));
    let open = data.answer(&["compare", "--since", "2026-10-26T12:05:00Z"]);
    assert!(open.contains("period 2026-10-26 12:05:00 to 2026-10-26 12:15:00 (UTC)"), "{open}");
}

#[test]
fn what_sessions_and_usage_differ_by_is_explained() {
    let data = with(|_| ());
    let rows = json(&data, &["reconcile"]);
    let acme = &rows[0];
    assert_eq!(acme["usage_bytes"], 600_001_000 + 610_042_300 + 75_000 + 10_000);
    assert_eq!(acme["sessions_bytes"], 1_210_003_000 + 40_300);
    assert_eq!((&acme["running_bytes"], &acme["edge_bytes"]), (&(-85_000).into(), &0.into()));
    assert_eq!(
        (&acme["difference_bytes"], &acme["difference_percent"]),
        (&(-85_000).into(), &(-0.01).into())
    );
    assert_eq!(acme["cause"], "sessions are still running");
    assert_eq!((&rows[1]["usage_bytes"], &rows[1]["cause"]), (&2_752.into(), &"none".into()));
    // The session from 12:02:30 to 12:07:30 belongs with all its bytes to where it ended.
    let before = json(&data, &["reconcile", "--until", "2026-10-26T12:05:00Z"]);
    assert_eq!(before[0]["edge_bytes"], -600_001_000);
    let after = &json(&data, &["reconcile", "--since", "2026-10-26T12:05:00Z"])[0];
    assert_eq!(
        (&after["edge_bytes"], &after["running_bytes"]),
        (&600_001_000.into(), &(-85_000).into())
    );
    assert_eq!(after["difference_bytes"], 600_001_000 - 85_000);
    assert_eq!(
        after["cause"],
        "sessions are still running; sessions reach over the edge of the period"
    );
}

#[test]
fn rows_that_are_missing_are_no_edge() {
    let data = with(|account| account.usage.retain(|row| row.client_ip != "10.2.0.9"));
    let globex = &json(&data, &["reconcile", "--customer", "globex"])[0];
    assert_eq!((&globex["usage_bytes"], &globex["difference_bytes"]), (&192.into(), &2_560.into()));
    assert_eq!(globex["cause"], "rows are missing: analyze verify");
    // Slots know nodes; the slot that runs has no row.
    let node = &json(&with(|_| ()), &["reconcile", "--by", "node"])[0];
    assert_eq!(node["slots_bytes"], 600_003_560 + 610_042_300 + 75_192);
    assert_eq!(
        node["usage_bytes"].as_i64(),
        node["slots_bytes"].as_i64().map(|bytes| bytes + 10_000)
    );
    let cause = "sessions are still running; some slots have no row: the one that runs, or see analyze verify";
    assert_eq!(node["cause"], cause);
}

#[test]
fn figures_of_someone_else_stand_beside_ours_with_a_likely_cause() {
    let data = with(|_| ());
    let file = data.path().join("provider.csv");
    let against = |text: &str, options: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap();
        data.analyze(&[&["reconcile", "--against", path, "--format", "json"], options].concat())
    };
    let run = against("key,bytes\nacme,1240000000\n\"globex\",2752\nhooli,5\n", &[]);
    let rows: Value = serde_json::from_str(&run.stdout).unwrap();
    let cause = |row: usize| rows[row]["cause"].as_str().unwrap();
    assert_eq!(rows[0]["difference_bytes"], 1_240_000_000 - 1_210_128_300);
    // 29,871,700 of 1,210,128,300.
    assert_eq!(rows[0]["difference_percent"], 2.47);
    assert!(cause(0).contains("bytes of the wire"), "{}", cause(0));
    assert_eq!((cause(1), &rows[1]["against_bytes"]), ("none", &2_752.into()));
    assert_eq!(
        (&rows[2]["customer"], cause(2)),
        (&"hooli".into(), "the account does not know the key")
    );
    assert_eq!(cause(3), "the file does not have the key");
    let globex = ["--customer", "globex"];
    // Down are 2,048 + 128 bytes.
    let run = against("key,bytes\nglobex,2176\n", &globex);
    assert!(run.stdout.contains("the file counts down only"), "{}", run.stdout);
    let run = against("key,bytes\nglobex,5504\n", &globex);
    assert!(run.stdout.contains("both sides of the forwarder"), "{}", run.stdout);
    for (text, sentence) in [
        ("customer,bytes\n", "provider.csv:1: the file begins with the header key,bytes"),
        ("key,bytes\nacme,1.5\n", "provider.csv:2: \"1.5\" is no number of bytes"),
        ("key,bytes\nacme,1\n\nacme,2\n", "provider.csv:4: \"acme\" is there twice"),
        ("key,bytes\nacme,1,2\n", "provider.csv:2: a line has two cells"),
    ] {
        let run = against(text, &[]);
        assert_eq!((run.code, run.stdout.as_str()), (64, ""), "{text}");
        assert!(run.stderr.contains(sentence), "{}", run.stderr);
    }
}
