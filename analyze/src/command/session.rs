//! `analyze session`

use std::io::Write as _;
use std::path::Path;

use jiff::tz::TimeZone;
use schemas::vocab::{InvalidId, SessionId};

use super::Verdict;
use super::sessions::running;
use crate::cell::Cell;
use crate::cli::{ReportFormat, SessionArgs};
use crate::database::{Answer, Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::{self, instant_text};
use crate::progress::Progress;
use crate::report::unit::{Unit, thousands};
use crate::report::{self, Sink, Style, escape};

/// Intervals that are shown: the latest of a session that lives for weeks.
const INTERVALS: usize = 24;

/// What is shown, in sections. A name that is no column stands for the pair `<name>_ip` and
/// `<name>_port`.
const SECTIONS: [(&str, &[&str]); 6] = [
    ("identity", &["node", "service", "rule", "customer", "transport", "config_rev"]),
    ("addresses", &["client", "proxied_client", "listen", "egress", "target", "target_name"]),
    (
        "times",
        &[
            "ts_start",
            "ts_connected",
            "ts_first_up",
            "ts_first_down",
            "ts_end",
            "duration_us",
            "connect_us",
            "rtt_client_us",
            "rtt_target_us",
        ],
    ),
    (
        "bytes",
        &[
            "bytes_up",
            "bytes_down",
            "received_up",
            "received_down",
            "unacked_up",
            "unacked_down",
            "datagrams_up",
            "datagrams_down",
            "retrans_client",
            "retrans_target",
            "captured_bytes",
            "capture_dropped_bytes",
        ],
    ),
    ("end", &["end_reason", "end_phase", "first_fin", "client_close", "target_close", "errno"]),
    ("account", &["intervals", "quality", "attributes"]),
];

pub(super) fn run(args: &SessionArgs, data: &Path) -> Result<Verdict, Failure> {
    let zone = period::zone(&args.tz)?;
    let id = parse(&args.session)?;
    let dataset = Dataset::open(data)?;
    let progress = Progress::start("looking for the session");
    let database = Database::open(&dataset, &["sessions", "usage", "captures"].map(Wanted::all))?;
    let of = |prefix: &str| {
        format!("{prefix}boot = '{}' AND {prefix}session_no = {}", id.boot, id.number)
    };
    let answer = database.query(
        "look for the session",
        &format!(
            "SELECT * FROM sessions WHERE {} UNION ALL BY NAME SELECT * FROM ({}) LIMIT 1",
            of(""),
            running(&of("u."), "true")
        ),
    )?;
    if answer.rows() == 0 {
        return Err(no_such_session(id, data));
    }
    if args.output.format != ReportFormat::Table {
        drop(progress);
        let style = Style { output: &args.output, zone: &zone, basis: None };
        report::write(answer.into(), &style)?;
        return Ok(Verdict::Fine);
    }
    let intervals = database.query(
        "list the session's intervals",
        &format!(
            "SELECT interval_seq, slot_start, bytes_up, bytes_down, total_up, total_down, active_us, quality
             FROM usage WHERE {} ORDER BY interval_seq DESC LIMIT {INTERVALS}",
            of("")
        ),
    )?;
    let captures = database.query(
        "list the session's captures",
        &format!(
            "SELECT DISTINCT ON (extent)
                 extent, file, packets, captured_bytes, dropped_bytes, ts_first, ts_last
             FROM captures WHERE {} ORDER BY extent",
            of("")
        ),
    )?;
    drop(progress);
    let text = describe(id, &answer, &intervals, &captures, &zone);
    let mut sink = Sink::open(args.output.output.as_deref())?;
    sink.write_all(text.as_bytes()).map_err(|error| Failure::writing(&sink.name(), &error))?;
    sink.complete()?;
    Ok(Verdict::Fine)
}

/// The session that was typed.
pub(super) fn parse(text: &str) -> Result<SessionId, Failure> {
    text.parse().map_err(|error: InvalidId| Failure::Usage(error.to_string()))
}

pub(super) fn no_such_session(id: SessionId, data: &Path) -> Failure {
    Failure::NoData(format!(
        "there is no session {id} in {}: it never was, its row is older than retention keeps, or not published yet",
        data.display()
    ))
}

fn describe(
    id: SessionId,
    answer: &Answer,
    intervals: &Answer,
    captures: &Answer,
    zone: &TimeZone,
) -> String {
    let ended = cell(answer, "ts_end") != Cell::Null;
    let state = if ended { "" } else { ", running: as far as its latest usage tells" };
    let mut text = format!("session {id}{state}\n");
    for (section, names) in SECTIONS {
        let mut lines = String::new();
        for name in names {
            if let Some(value) = value(answer, name, zone) {
                lines.push_str(&format!("  {name:<22}{value}\n"));
            }
        }
        if !lines.is_empty() {
            text.push_str(&format!("\n{section}\n{lines}"));
        }
    }
    if intervals.rows() > 0 {
        let shown = if intervals.rows() == INTERVALS { ", the latest" } else { ", latest first" };
        text.push_str(&format!("\nusage{shown}\n{}\n", report::table_text(intervals, zone)));
    }
    if captures.rows() > 0 {
        text.push_str(&format!("\ncaptures\n{}\n", report::table_text(captures, zone)));
        text.push_str(&format!("\nopen it with: analyze wireshark {id}\n"));
    } else if matches!(cell(answer, "captured_bytes"), Cell::Int(1..)) {
        text.push_str(
            "\ncaptures\nin a file that the recorder has not closed yet (recorder flush), or lost on \
             the way to a recorder that was away\n",
        );
    }
    text
}

/// The value of a column or address pair for people; `None` for NULL.
fn value(answer: &Answer, name: &str, zone: &TimeZone) -> Option<String> {
    if answer.schema.column_with_name(name).is_none() {
        let Cell::Text(ip) = cell(answer, &format!("{name}_ip")) else { return None };
        let ip = escape::terminal(&ip).into_owned();
        return Some(match cell(answer, &format!("{name}_port")) {
            Cell::Int(port) if ip.contains(':') => format!("[{ip}]:{port}"),
            Cell::Int(port) => format!("{ip}:{port}"),
            _ => ip,
        });
    }
    match cell(answer, name) {
        Cell::Null => None,
        Cell::Int(value) if name == "quality" => Some(quality(value)),
        Cell::Int(value) => {
            let unit = Unit::of(name);
            let exact = unit == Unit::Bytes && value >= 1000;
            let raw = if exact { format!(" ({})", thousands(value)) } else { String::new() };
            Some(unit.show(value) + &raw)
        }
        Cell::Time(us) => Some(instant_text(us, zone)),
        other => Some(report::show(&other, Unit::Plain, zone)),
    }
}

fn quality(value: i128) -> String {
    let word = match value {
        0 => "exact",
        1 => "recovered after a crash",
        2 => "spread over time",
        3 => "partly lost",
        _ => "unknown to this version",
    };
    format!("{value} ({word})")
}

fn cell<'a>(answer: &'a Answer, name: &str) -> Cell<'a> {
    let batch = answer.batches.iter().find(|batch| batch.num_rows() > 0);
    match batch.and_then(|batch| batch.column_by_name(name)) {
        Some(column) => Cell::at(column.as_ref(), 0),
        None => Cell::Null,
    }
}
