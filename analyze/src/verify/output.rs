//! How the result of `verify` is written: lines for people, rows for programs.

use std::io;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use jiff::tz::TimeZone;

use super::{Check, Finding};
use crate::cli::{OutputArgs, ReportFormat};
use crate::database::Answer;
use crate::failure::Failure;
use crate::report::unit::counted;
use crate::report::{self, Sink, Style, escape};

/// Writes the checks as `output` asks: a table is a line per check, the other formats have one row
/// (check, verdict, place, message) per finding, and one per check without any.
///
/// # Errors
/// 74 or 77 when the destination cannot be written.
pub fn write(checks: &[Check], output: &OutputArgs) -> Result<(), Failure> {
    if output.format != ReportFormat::Table {
        let answer = answer(checks)?;
        let style = Style { output, zone: &TimeZone::UTC, covers: None, coverage: None };
        return report::write(answer.into(), &style);
    }
    let mut sink = Sink::open(output.output.as_deref())?;
    lines(checks, &mut sink).map_err(|error| Failure::writing(&sink.name(), &error))?;
    sink.complete()
}

fn lines(checks: &[Check], out: &mut impl io::Write) -> io::Result<()> {
    for check in checks {
        let name = check.name;
        match check.faults.total {
            0 => writeln!(out, "OK     {name:<9} {}", check.examined)?,
            total => writeln!(out, "FAULT  {name:<9} {}", counted_findings(total, "fault"))?,
        }
        let mut show = |kind: &str, finding: &Finding| {
            let (place, message) =
                (escape::terminal(&finding.place), escape::terminal(&finding.message));
            writeln!(out, "       {kind}{place}: {message}")
        };
        check.faults.listed.iter().try_for_each(|finding| show("", finding))?;
        check.notes.listed.iter().try_for_each(|finding| show("note: ", finding))?;
        let more = check.faults.unlisted() + check.notes.unlisted();
        if more > 0 {
            writeln!(out, "       and {more} more")?;
        }
    }
    let faulty = checks.iter().filter(|check| check.faults.total > 0).count();
    match faulty {
        0 => writeln!(out, "\nthe account is whole"),
        _ => writeln!(out, "\n{} found faults", counted_findings(faulty, "check")),
    }
}

fn counted_findings(count: usize, thing: &str) -> String {
    counted(i128::try_from(count).unwrap_or_default(), thing)
}

fn answer(checks: &[Check]) -> Result<Answer, Failure> {
    let mut rows: Vec<[Option<&str>; 4]> = Vec::new();
    for check in checks {
        let findings = [("FAULT", &check.faults.listed), ("NOTE", &check.notes.listed)];
        for (verdict, list) in findings {
            rows.extend(list.iter().map(|finding| {
                [
                    Some(check.name),
                    Some(verdict),
                    Some(finding.place.as_str()),
                    Some(finding.message.as_str()),
                ]
            }));
        }
        if check.faults.total == 0 {
            rows.push([Some(check.name), Some("OK"), None, Some(check.examined.as_str())]);
        }
    }
    let column =
        |i: usize| -> ArrayRef { Arc::new(rows.iter().map(|row| row[i]).collect::<StringArray>()) };
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("check", column(0), false),
        ("verdict", column(1), false),
        ("place", column(2), true),
        ("message", column(3), false),
    ])
    .map_err(|error| Failure::Internal(format!("cannot list the findings: {error}")))?;
    Ok(Answer { schema: batch.schema(), batches: vec![batch] })
}
