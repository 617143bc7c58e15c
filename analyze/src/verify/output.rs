//! How the result of `verify` is written: lines for people, rows or one object for programs.

use std::io;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{Check, Finding, Findings, Report};
use crate::cli::{ReportFormat, VerifyArgs};
use crate::database::Answer;
use crate::failure::Failure;
use crate::report::unit::counted;
use crate::report::{self, Sink, Style, escape, time_as_data};

/// Faults and notes that people are shown per check; further ones are counted.
const SHOWN: usize = 20;

/// Writes what the checks say as `args` ask: a table is a line per check; `--json` is one object;
/// the other formats have one row (check, verdict, place, message) per finding, and one per check
/// without any.
///
/// # Errors
/// 74 or 77 when the destination cannot be written.
pub fn write(report: &Report, args: &VerifyArgs) -> Result<(), Failure> {
    let output = &args.output;
    if !args.json && output.format != ReportFormat::Table {
        let answer = answer(&report.checks)?;
        let style = Style { output, zone: &TimeZone::UTC, basis: None };
        return report::write(answer.into(), &style);
    }
    let mut sink = Sink::open(output.output.as_deref())?;
    let written = if args.json {
        io::Write::write_all(&mut sink, format!("{:#}\n", object(report)).as_bytes())
    } else {
        lines(report, &mut sink)
    };
    written.map_err(|error| Failure::writing(&sink.name(), &error))?;
    sink.complete()
}

fn lines(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    for check in &report.checks {
        let name = check.name;
        match check.faults.total {
            0 => writeln!(out, "OK     {name:<9} {}", check.examined)?,
            total => writeln!(out, "FAULT  {name:<9} {}", counted_findings(total, "fault"))?,
        }
        for (kind, findings) in [("", &check.faults), ("note: ", &check.notes)] {
            for finding in findings.kept.iter().take(SHOWN) {
                line(kind, finding, out)?;
            }
        }
        let more = [&check.faults, &check.notes].map(|found| found.total.saturating_sub(SHOWN));
        if more != [0, 0] {
            writeln!(out, "       and {} more", more[0] + more[1])?;
        }
    }
    let faulty = report.checks.iter().filter(|check| check.faults.total > 0).count();
    match faulty {
        0 => writeln!(out, "\nthe account is whole"),
        _ => writeln!(out, "\n{} found faults", counted_findings(faulty, "check")),
    }
}

fn line(kind: &str, finding: &Finding, out: &mut impl io::Write) -> io::Result<()> {
    let place = finding.place.to_string();
    let (place, message) = (escape::terminal(&place), escape::terminal(&finding.message));
    writeln!(out, "       {kind}{place}: {message}")?;
    let parts = finding.place.parts.iter();
    parts.take(SHOWN).try_for_each(|part| writeln!(out, "         in {}", escape::terminal(part)))
}

fn counted_findings(count: usize, thing: &str) -> String {
    counted(i128::try_from(count).unwrap_or_default(), thing)
}

/// Everything as one object. Its fields are a contract; what does not apply is null.
fn object(report: &Report) -> Value {
    let findings = |of: fn(&Check) -> &Findings| -> Vec<Value> {
        let each = |check: &'_ Check| -> Vec<Value> {
            of(check).kept.iter().map(|finding| placed(check.name, finding)).collect()
        };
        report.checks.iter().flat_map(each).collect()
    };
    json!({
        "whole": report.is_whole(),
        "checks": report.checks.iter().map(|check| json!({
            "check": check.name,
            "whole": check.faults.total == 0,
            "examined": check.examined,
            "faults": check.faults.total,
            "notes": check.notes.total,
        })).collect::<Vec<_>>(),
        "faults": findings(|check| &check.faults),
        "notes": findings(|check| &check.notes),
        "bound": report.bound.map(|bound| json!({
            "sessions": number(bound.sessions),
            "up": number(bound.up),
            "down": number(bound.down),
        })),
    })
}

fn placed(check: &str, finding: &Finding) -> Value {
    let place = &finding.place;
    let session = |number: Option<i128>| Some(format!("{}-{}", place.boot.as_ref()?, number?));
    json!({
        "check": check,
        "place": place.to_string(),
        "message": finding.message,
        "file": place.file,
        "node": place.node,
        "boot": place.boot,
        "session_first": session(place.sessions.map(|range| range.0)),
        "session_last": session(place.sessions.map(|range| range.1)),
        "seq_first": place.seqs.map(|range| number(range.0)),
        "seq_last": place.seqs.map(|range| number(range.1)),
        "slot_start": place.slot_start.map(time_as_data),
        "clock_pass": place.clock_pass.map(number),
        "parts": place.parts,
    })
}

/// An integer as JSON has it; sums beyond 64 bits do not fit into any counter of ours.
fn number(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn answer(checks: &[Check]) -> Result<Answer, Failure> {
    let mut rows: Vec<[Option<String>; 4]> = Vec::new();
    for check in checks {
        let name = || Some(check.name.to_owned());
        for (verdict, findings) in [("FAULT", &check.faults), ("NOTE", &check.notes)] {
            rows.extend(findings.kept.iter().map(|finding| {
                let place = Some(finding.place.to_string());
                [name(), Some(verdict.to_owned()), place, Some(finding.message.clone())]
            }));
        }
        if check.faults.total == 0 {
            rows.push([name(), Some("OK".to_owned()), None, Some(check.examined.clone())]);
        }
    }
    let column = |i: usize| -> ArrayRef {
        Arc::new(rows.iter().map(|row| row[i].as_deref()).collect::<StringArray>())
    };
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("check", column(0), false),
        ("verdict", column(1), false),
        ("place", column(2), true),
        ("message", column(3), false),
    ])
    .map_err(|error| Failure::Internal(format!("cannot list the findings: {error}")))?;
    Ok(Answer { schema: batch.schema(), batches: vec![batch] })
}
