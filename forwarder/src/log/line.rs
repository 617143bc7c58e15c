//! How a log line looks.
//!
//! ```text
//! 2026-10-30T12:00:00.123456Z  INFO session ended session=k3f9x2ab-42 service=web bytes_up=512
//! {"time":"2026-10-30T12:00:00.123456Z","level":"info","message":"session ended","session":"k3f9x2ab-42",…}
//! ```
//!
//! One line an event; a message of several lines, as faults of a configuration are told, becomes as
//! many lines of text. Whatever a value holds, no control character leaves: names come from strangers.

use std::fmt::{self, Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Longest line in bytes; what is longer is cut.
pub(super) const MAX_LINE_BYTES: usize = 16 << 10;

/// The shape of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// For people, with the time.
    Text,
    /// For people, where whoever takes the line notes time and level himself.
    Bare,
    /// One JSON object.
    Json,
}

/// The lines of an event that happened at `at`, each without its end.
pub(super) fn lines(shape: Shape, at: jiff::Timestamp, event: &Event<'_>) -> Vec<String> {
    let mut parts = Parts { shape, message: String::new(), fields: String::new() };
    event.record(&mut parts);
    compose(shape, at, *event.metadata().level(), &parts.message, &parts.fields)
}

fn compose(
    shape: Shape,
    at: jiff::Timestamp,
    level: Level,
    message: &str,
    fields: &str,
) -> Vec<String> {
    let time = at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    if shape == Shape::Json {
        let level = level.as_str().to_ascii_lowercase();
        let mut line = format!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"message\":");
        quote_json(&mut line, &message[..floor(message, MAX_LINE_BYTES / 2)]);
        // Cut short, an object would be none: fields that make it too long are left out as a whole.
        if line.len() + fields.len() < MAX_LINE_BYTES {
            line += fields;
        }
        line.push('}');
        return vec![line];
    }
    let head = match shape {
        Shape::Text => format!("{time} {level:>5} "),
        Shape::Bare | Shape::Json => String::new(),
    };
    let mut fields = Some(fields);
    let finished = message.split('\n').map(|part| {
        let mut line = head.clone();
        escape(&mut line, part.trim_end());
        line += fields.take().unwrap_or_default();
        line.truncate(floor(&line, MAX_LINE_BYTES));
        line
    });
    finished.collect()
}

/// The last place at or before `most` where a text may be cut.
fn floor(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// An event taken apart.
struct Parts {
    shape: Shape,
    message: String,
    fields: String,
}

impl Parts {
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        let (out, name) = (&mut self.fields, field.name());
        let written = match self.shape {
            Shape::Json => write!(out, ",\"{name}\":{value}"),
            Shape::Text | Shape::Bare => write!(out, " {name}={value}"),
        };
        written.expect("a String takes any text");
    }

    fn text(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
            return;
        }
        self.plain(field, "");
        match self.shape {
            Shape::Json => quote_json(&mut self.fields, value),
            Shape::Text | Shape::Bare => quote_text(&mut self.fields, value),
        }
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        }
    }
}

/// Whether a terminal would obey a character, or a reader would take it for the end of the line.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match is_unsafe(c) {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
}

/// A value in a line for people: between quotes where it could be misread without.
fn quote_text(out: &mut String, text: &str) {
    let misread = |c: char| is_unsafe(c) || c.is_whitespace() || matches!(c, '"' | '=' | '\\');
    if !text.is_empty() && !text.contains(misread) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_unsafe(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn quote_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            // All of them are in the basic plane.
            c if is_unsafe(c) => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes any text");
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "a\n2026 \u{1b}[2J\"=\\ \u{9b}\u{202e}\u{2028}ä";

    fn at() -> jiff::Timestamp {
        "2026-10-30T12:00:00.123456789Z".parse().unwrap()
    }

    #[test]
    fn what_strangers_write_leaves_one_line_and_no_control_character() {
        let mut text = " sni=".to_owned();
        quote_text(&mut text, EVIL);
        let lines = compose(Shape::Text, at(), Level::INFO, "session begins", &text);
        insta::assert_snapshot!(lines.join("<end>"), @r#"2026-10-30T12:00:00.123456Z  INFO session begins sni="a\u{a}2026 \u{1b}[2J\"=\\ \u{9b}\u{202e}\u{2028}ä""#);
        let mut json = ",\"sni\":".to_owned();
        quote_json(&mut json, EVIL);
        let lines = compose(Shape::Json, at(), Level::INFO, "session begins", &json);
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].contains(is_unsafe), "{}", lines[0]);
        let read: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(read["sni"], EVIL);
        assert_eq!(read["time"], "2026-10-30T12:00:00.123456Z");
    }

    #[test]
    fn a_message_of_several_lines_is_as_many_lines_of_text_and_one_object() {
        let message = "f.toml:1:1: wrong\n  node = 1\u{7}\n  ^";
        let lines = compose(Shape::Text, at(), Level::WARN, message, " revision=1");
        insta::assert_snapshot!(lines.join("\n"), @r"
        2026-10-30T12:00:00.123456Z  WARN f.toml:1:1: wrong revision=1
        2026-10-30T12:00:00.123456Z  WARN   node = 1\u{7}
        2026-10-30T12:00:00.123456Z  WARN   ^
        ");
        assert_eq!(compose(Shape::Bare, at(), Level::WARN, "a", " b=1"), ["a b=1"]);
        let lines = compose(Shape::Json, at(), Level::WARN, message, ",\"revision\":1");
        let read: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((lines.len(), &read["message"]), (1, &message.into()));
    }

    #[test]
    fn values_are_quoted_where_they_could_be_misread() {
        for (value, shown) in [
            ("web", "web"),
            ("[::1]:80", "[::1]:80"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
        ] {
            let mut out = String::new();
            quote_text(&mut out, value);
            assert_eq!(out, shown);
        }
    }

    #[test]
    fn a_line_is_never_longer_than_its_bound() {
        let long = "ä\u{1}".repeat(MAX_LINE_BYTES);
        for shape in [Shape::Text, Shape::Bare, Shape::Json] {
            for fields in ["", &long] {
                let lines = compose(shape, at(), Level::INFO, &long, fields);
                assert!(lines.iter().all(|line| line.len() <= 4 * MAX_LINE_BYTES), "{shape:?}");
            }
        }
        let text = compose(Shape::Text, at(), Level::INFO, &long, "");
        assert!(text[0].len() <= MAX_LINE_BYTES && text[0].len() > MAX_LINE_BYTES - 8);
    }
}
