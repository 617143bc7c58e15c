//! What the reports print, over an account whose numbers are known.

use std::fs;

use schemas::table::TABLES;
use serde_json::Value;

use crate::support::Data;
use crate::support::account::Account;

fn whole() -> Data {
    let data = Data::with(&Account::whole());
    data.add_capture();
    data
}

fn json(data: &Data, arguments: &[&str]) -> Value {
    serde_json::from_str(&data.answer(&[arguments, &["--format", "json"]].concat())).unwrap()
}

#[test]
fn tables_read_well() {
    let data = whole();
    let cases: &[(&str, &[&str])] = &[
        ("usage", &["usage"]),
        ("usage_by_service_and_hour", &["usage", "--by", "service,hour", "--tz", "Asia/Kolkata"]),
        ("top", &["top"]),
        ("top_by_network", &["top", "--by", "client/16", "-n", "2", "--order", "sessions"]),
        ("sessions", &["sessions"]),
        ("sessions_open", &["sessions", "--open", "--customer", "acme"]),
        ("session", &["session", "k3f9x2ab-1"]),
        ("session_running", &["session", "p7q8r9s0-1"]),
        ("sessions_long", &["sessions", "--long", "5m"]),
        ("top_drawn", &["top", "service", "--sparkline"]),
        ("traffic", &["traffic"]),
        ("sizes", &["sizes"]),
        ("ends", &["ends"]),
        ("targets", &["targets"]),
        ("denied", &["denied"]),
        ("nothing", &["usage", "--customer", "nobody"]),
        ("verify", &["verify"]),
    ];
    for (name, arguments) in cases {
        insta::assert_snapshot!(*name, data.answer(arguments));
    }
}

#[test]
fn help_reads_like_a_manual_page() {
    let data = Data::empty();
    insta::assert_snapshot!("help", data.answer(&["--help"]));
    for command in [
        "usage",
        "top",
        "sessions",
        "session",
        "traffic",
        "sizes",
        "ends",
        "targets",
        "denied",
        "pcap",
        "wireshark",
        "sql",
        "bill",
        "verify",
    ] {
        let help = data.answer(&[command, "--help"]);
        assert!(help.contains("Example"), "{command} --help has no example:\n{help}");
        insta::assert_snapshot!(format!("help_{command}"), help);
    }
}

#[test]
fn the_header_of_sessions_is_session_and_the_columns_of_its_table() {
    let columns = TABLES.iter().find(|table| table.name == "sessions").unwrap().columns;
    let expected: Vec<&str> =
        std::iter::once("session").chain(columns.iter().map(|column| column.name)).collect();
    for data in [whole(), Data::empty()] {
        for options in [&["sessions"][..], &["sessions", "--open"]] {
            let csv = data.answer(&[options, &["--format", "csv"]].concat());
            assert_eq!(csv.lines().next().unwrap(), expected.join(","), "{options:?}");
        }
    }
}

#[test]
fn the_headers_of_the_other_reports_are_a_contract() {
    let data = whole();
    let header = |arguments: &[&str]| {
        let csv = data.answer(&[arguments, &["--format", "csv"]].concat());
        csv.lines().next().unwrap().to_owned()
    };
    assert_eq!(
        header(&["usage"]),
        "customer,sessions,bytes_up,bytes_down,datagrams_up,datagrams_down,quality,bytes_total,active_us,peak_bps"
    );
    assert_eq!(
        header(&["top"]),
        "client_ip,sessions,bytes_up,bytes_down,share_percent,peak_bps,first_slot,last_slot,bytes_total,\
         cumulative_percent,mean_bps"
    );
    assert_eq!(
        header(&["denied"]),
        "service,rule,reason,client_ip,count,bytes_up,ts_first,ts_last,clients,allowed_later"
    );
    for report in ["usage", "top"] {
        let compared = header(&[report, "--compare", "--period", "2026-10-26"]);
        assert_eq!(compared, format!("{},previous_bytes_total,change_percent", header(&[report])));
    }
    assert_eq!(
        header(&["sessions", "--long", "1s"]),
        "session,node,service,rule,customer,transport,client_ip,target_ip,ts_start,duration_us,bytes_up,\
         bytes_down,bytes_total,last_bps,idle_us,end_reason"
    );
    assert_eq!(
        header(&["traffic"]),
        "slot_start,up_bps,down_bps,open_sessions,new_sessions,new_per_s,denied,denied_per_s,status,quality"
    );
    let sizes = "sessions,share_percent,bytes_total,bytes_percent,bytes_p50,bytes_p90,bytes_p99,\
                 duration_p50_us,duration_p90_us,duration_p99_us";
    assert_eq!(header(&["sizes"]), format!("bytes_from,bytes_below,{sizes}"));
    assert_eq!(
        header(&["sizes", "--of", "duration", "--by", "service"]),
        format!("service,duration_from_us,duration_below_us,{sizes}")
    );
    assert_eq!(
        header(&["ends"]),
        "rule,ended_by,end_reason,end_phase,sessions,share_percent,duration_p50_us,bytes_up,bytes_down"
    );
    assert_eq!(
        header(&["targets"]),
        "target_ip,sessions,failed,failed_percent,refused,timeouts,unreachable,resets,connect_p50_us,\
         connect_p95_us,connect_p99_us,rtt_p50_us,retrans_target,retrans_percent,bytes_up,bytes_down,share_percent"
    );
}

#[test]
fn usage_adds_up_what_the_rows_say() {
    let rows = json(&whole(), &["usage"]);
    let customers: Vec<&Value> = rows.as_array().unwrap().iter().map(|r| &r["customer"]).collect();
    assert_eq!(customers, [&Value::from("acme"), &Value::from("globex"), &Value::Null]);
    let acme = &rows[0];
    assert_eq!(acme["sessions"], 3);
    assert_eq!(acme["bytes_up"], 1_000 + 2_000 + 300 + 5_000 + 1_000);
    assert_eq!(acme["bytes_down"], 1_210_000_000 + 40_000 + 79_000);
    assert_eq!(rows[1]["datagrams_down"], 34);
}

#[test]
fn a_period_takes_the_slots_that_start_in_it() {
    let data = whole();
    let of = |since: &str, until: &str| {
        let rows = json(&data, &["usage", "--by", "node", "--since", since, "--until", until]);
        rows[0]["bytes_down"].as_i64()
    };
    assert_eq!(of("2026-10-26T12:00:00Z", "2026-10-26T12:05:00Z"), Some(600_002_048));
    assert_eq!(of("2026-10-26T12:00:01Z", "2026-10-26T12:05:01Z"), Some(610_040_000));
    assert_eq!(of("2026-10-27", "2026-10-28"), None);
}

#[test]
fn a_month_is_cut_in_the_zone_of_the_reader() {
    let data = whole();
    let day = json(&data, &["usage", "--by", "day", "--tz", "Pacific/Kiritimati"]);
    assert_eq!(day[0]["day"], "2026-10-27");
    let month = json(&data, &["usage", "--by", "month", "--period", "2026-10"]);
    assert_eq!(month[0]["month"], "2026-10");
    assert_eq!(month.as_array().unwrap().len(), 1);
}

#[test]
fn the_hour_that_comes_twice_is_two_hours() {
    let mut account = Account::whole();
    let fold: jiff::Timestamp = "2026-10-25T00:30:00Z".parse().unwrap();
    account.usage.truncate(2);
    account.usage[0].slot_start = fold.as_microsecond();
    account.usage[1].slot_start = fold.as_microsecond() + 3_600_000_000;
    let rows = json(&Data::with(&account), &["usage", "--by", "hour", "--tz", "Europe/Berlin"]);
    let hours: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["hour"].as_str().unwrap()).collect();
    assert_eq!(hours, ["2026-10-25T02:00+01:00", "2026-10-25T02:00+02:00"]);
}

#[test]
fn filters_choose_by_name_and_by_network() {
    let data = whole();
    let sessions = |filter: &[&str]| {
        let rows = json(&data, &[&["sessions"], filter].concat());
        rows.as_array()
            .unwrap()
            .iter()
            .map(|r| r["session"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(sessions(&["--client", "10.1.0.0/16"]), ["k3f9x2ab-1", "k3f9x2ab-3"]);
    assert_eq!(sessions(&["--client", "2001:db8::/32"]), ["k3f9x2ab-4"]);
    assert_eq!(
        sessions(&["--service", "dns", "--target", "10.0.0.53"]),
        ["k3f9x2ab-2", "p7q8r9s0-2"]
    );
    assert_eq!(sessions(&["--customer", "acme", "--customer", "globex"]).len(), 4);
    assert!(sessions(&["--rule", "it's"]).is_empty());
}

#[test]
fn top_gives_share_and_peak() {
    let rows = json(&whole(), &["top", "--by", "service", "--order", "down"]);
    assert_eq!(rows[0]["service"], "web");
    assert_eq!(rows[0]["share_percent"], 100.0);
    // The second slot: session 1 and session 3.
    assert_eq!(rows[0]["peak_bps"], (610_002_000_i64 + 40_300) * 8 / 300);
    let clients = json(&whole(), &["top", "-n", "1"]);
    assert_eq!(clients.as_array().unwrap().len(), 1);
    assert_eq!(clients[0]["client_ip"], "10.1.0.7");
}

#[test]
fn footers_leave_data_alone() {
    let data = whole();
    let run = data.analyze(&["usage", "--format", "csv"]);
    assert_eq!(run.stdout.lines().count(), 4);
    assert!(run.stderr.contains("coverage "), "{}", run.stderr);
    let run = data.analyze(&["usage"]);
    assert!(run.stdout.contains("coverage ") && run.stderr.is_empty(), "{}", run.stderr);
}

#[test]
fn a_report_in_a_file_is_the_report() {
    let data = whole();
    let file = data.path().join("usage.json");
    let run = data.analyze(&["usage", "--format", "json", "-o", file.to_str().unwrap()]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
    let rows: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(rows, json(&data, &["usage"]));
}

#[test]
fn ndjson_is_one_object_a_line() {
    let text = whole().answer(&["sessions", "--format", "ndjson"]);
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[0]["ts_start"], "2026-10-26T12:02:30.000000Z");
    assert_eq!(rows[0]["proxied_client_ip"], Value::Null);
}

#[test]
fn text_of_strangers_is_harmless_in_every_format() {
    let mut account = Account::whole();
    account.sessions[0].target_name = Some("=cmd()\x1b[2J".to_owned());
    let data = Data::with(&account);
    let id = format!("{}-{}", account.sessions[0].boot, account.sessions[0].session_no);
    assert!(data.answer(&["session", &id]).contains("=cmd()\\u{1b}[2J"));
    assert!(data.answer(&["sessions", "--format", "csv"]).contains(",'=cmd()\\u{1b}[2J,"));
    assert!(data.answer(&["sessions", "--format", "json"]).contains(r#""=cmd()\u001b[2J""#));
}

#[test]
fn a_directory_without_parts_answers_with_nothing() {
    let data = Data::empty();
    for command in ["usage", "top", "sessions", "traffic", "sizes", "ends", "targets", "denied"] {
        assert_eq!(json(&data, &[command]), Value::Array(Vec::new()), "{command}");
    }
    assert_eq!(data.analyze(&["verify"]).code, 0);
}

#[test]
fn a_part_is_found_while_its_commit_renames_it() {
    let data = whole();
    let before = data.answer(&["usage", "--format", "csv"]);
    for table in ["usage", "sessions", "slots"] {
        let part = data.part_of(table);
        fs::rename(&part, part.with_extension("parquet.new")).unwrap();
    }
    assert_eq!(data.answer(&["usage", "--format", "csv"]), before);
    assert_eq!(data.analyze(&["verify"]).code, 0);
}

#[test]
fn parts_of_several_versions_are_one_table_and_removed_ones_are_none() {
    let mut data = whole();
    let mut later = Account::whole();
    later.usage.truncate(1);
    data.commit(&Account { usage: later.usage, ..Account::default() });
    assert_eq!(json(&data, &["sql", "select count(*) as n from usage"])[0]["n"], 9);
    data.manifest(&schemas::manifest::Delta {
        version: 3,
        remove: vec![format!("accounting/usage/date=2026-10-26/{:020}.parquet", 2)],
        ..Default::default()
    });
    assert_eq!(json(&data, &["sql", "select count(*) as n from usage"])[0]["n"], 8);
}
