//! A table in GitHub's Markdown, figures as in tables for people.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use jiff::tz::TimeZone;

use super::show;
use super::unit::Unit;
use crate::cell::Cell;

/// A Markdown table being written.
pub(super) struct Writer {
    names: Vec<String>,
    rule: String,
    units: Vec<Unit>,
}

impl Writer {
    pub(super) fn new(schema: &Schema) -> Self {
        let fields = schema.fields();
        let aligned =
            fields.iter().map(|field| if field.data_type().is_numeric() { "---:" } else { "---" });
        Self {
            names: fields.iter().map(|field| escaped(field.name())).collect(),
            rule: line(aligned.map(str::to_owned)),
            units: fields.iter().map(|field| Unit::of(field.name())).collect(),
        }
    }

    pub(super) fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}\n{}", line(self.names.iter().cloned()), self.rule)
    }

    pub(super) fn rows(
        &self,
        batch: &RecordBatch,
        zone: &TimeZone,
        out: &mut impl Write,
    ) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().zip(&self.units);
            let shown = cells
                .map(|(column, unit)| escaped(&show(&Cell::at(column.as_ref(), row), *unit, zone)));
            writeln!(out, "{}", line(shown))?;
        }
        Ok(())
    }
}

/// The footer as a list.
pub(super) fn end(footer: &[String], out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    footer.iter().try_for_each(|text| writeln!(out, "- {}", escaped(text)))
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}

/// Text of strangers says nothing to a renderer of Markdown: no column, link, emphasis or HTML.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut within_a_word = false;
    for char in text.chars() {
        let after_a_letter = std::mem::replace(&mut within_a_word, char.is_alphanumeric());
        match char {
            // Within a word it means nothing, and names of columns read better.
            '_' if after_a_letter => shown.push('_'),
            '<' => shown.push_str("&lt;"),
            '&' => shown.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '~' => shown.extend(['\\', char]),
            '\n' | '\r' => shown.push(' '),
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_stays_text_in_its_cell() {
        assert_eq!(
            escaped("a|b <img src=x> [x](y) `c`\nd"),
            "a\\|b &lt;img src=x> \\[x\\](y) \\`c\\` d"
        );
    }
}
