//! Answers for people: aligned text, or the JSON object as it came.

mod limits;
mod orders;
mod sessions;
mod status;

use std::fmt::Write as _;
use std::io::{self, Write as _};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::Answer;
use schemas::exit::Failure;

/// Writes an answer to stdout.
///
/// # Errors
/// Stdout takes no more. A pipe that was closed is not an error: who reads has seen enough.
pub fn print(answer: &Answer, json: bool) -> Result<(), Failure> {
    let text = if json { json_of(answer) } else { text_of(answer) };
    write_out(&text)
}

/// Writes text to stdout.
///
/// # Errors
/// Stdout takes no more. A pipe that was closed is not an error: who reads has seen enough.
pub fn write_out(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io(&error, "cannot write to stdout"))
        }
        _ => Ok(()),
    }
}

fn json_of(answer: &Answer) -> String {
    let value = match answer {
        Answer::Status(status) => serde_json::to_string_pretty(status),
        Answer::Sessions(sessions) => serde_json::to_string_pretty(sessions),
        Answer::Session(session) => serde_json::to_string_pretty(session),
        Answer::Kill(killed) => serde_json::to_string_pretty(killed),
        Answer::Limits(limits) => serde_json::to_string_pretty(limits),
        Answer::Intake(intake) => serde_json::to_string_pretty(intake),
        Answer::Drain(draining) => serde_json::to_string_pretty(draining),
        Answer::Reload(reloaded) => serde_json::to_string_pretty(reloaded),
        Answer::Error(complaint) => serde_json::to_string_pretty(complaint),
    };
    value.expect("answers have text keys and no fractions") + "\n"
}

/// An answer as aligned text.
pub fn text_of(answer: &Answer) -> String {
    match answer {
        Answer::Status(status) => status::text(status),
        Answer::Sessions(sessions) => sessions::list(sessions),
        Answer::Session(session) => sessions::one(session),
        Answer::Kill(killed) => orders::killed(*killed),
        Answer::Limits(limits) => limits::text(limits),
        Answer::Intake(intake) => orders::intake(intake),
        Answer::Drain(draining) => orders::draining(*draining),
        Answer::Reload(reloaded) => orders::reloaded(reloaded),
        Answer::Error(complaint) => complaint.message.clone() + "\n",
    }
}

/// Columns from `first_number` on are figures and stand at the right.
pub(crate) fn table(
    head: &[String],
    first_number: usize,
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index >= first_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes any text");
}

/// Text without control characters, which a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A number with a comma between every three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, each called `one`: the word gets an `s` unless there is exactly one.
fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number))
}

/// Bytes with three significant digits, in powers of 1000.
fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 5] = [
        ("PB", 1_000_000_000_000_000),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    scaled(bytes, &UNITS).unwrap_or_else(|| format!("{bytes} B"))
}

/// A figure in the largest unit that it reaches. `None`: it reaches none.
fn scaled(figure: u64, units: &[(&str, u64)]) -> Option<String> {
    let (unit, factor) = units.iter().find(|(_, factor)| figure >= *factor)?;
    let (whole, hundredths) = (figure / factor, figure % factor * 100 / factor);
    Some(match whole {
        0..10 => format!("{whole}.{hundredths:02} {unit}"),
        10..100 => format!("{whole}.{} {unit}", hundredths / 10),
        _ => format!("{} {unit}", grouped(whole)),
    })
}

/// Seconds in the two largest units.
fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

/// A rate with three significant digits, in powers of 1000.
fn rate(bits_per_second: Option<u64>) -> String {
    const UNITS: [(&str, u64); 3] =
        [("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("kbit/s", 1_000)];
    match bits_per_second {
        None => "-".to_owned(),
        Some(rate) => scaled(rate, &UNITS).unwrap_or_else(|| format!("{rate} bit/s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        let shown = [0, 999, 1000, 12_345, 999_999_999, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.00 kB", "12.3 kB", "999 MB", "18,446 PB"]);
        let shown = [None, Some(0), Some(12_345), Some(9_876_543_210)].map(rate);
        assert_eq!(shown, ["-", "0 bit/s", "12.3 kbit/s", "9.87 Gbit/s"]);
        let shown = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 200_000].map(age);
        let expected = ["0s", "59s", "1m 00s", "59m 59s", "1h 00m", "23h 59m", "1d 00h", "2d 07h"];
        assert_eq!(shown, expected);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
