//! JSON: an array of objects, or one object a line. Names are the column names, integers are
//! numbers, times RFC 3339 text, NULL is `null`.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::time_as_data;
use crate::cell::Cell;

/// How objects stand beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// In one array.
    Array,
    /// Each on its line.
    Lines,
}

/// A JSON report being written.
pub(super) struct Writer {
    names: Vec<String>,
    layout: Layout,
    empty: bool,
}

impl Writer {
    pub(super) fn new(schema: &Schema, layout: Layout) -> Self {
        let names = schema.fields().iter().map(|field| text(field.name())).collect();
        Self { names, layout, empty: true }
    }

    pub(super) fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        match self.layout {
            Layout::Array => out.write_all(b"["),
            Layout::Lines => Ok(()),
        }
    }

    pub(super) fn rows(&mut self, batch: &RecordBatch, out: &mut impl Write) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            if self.layout == Layout::Array && !self.empty {
                out.write_all(b",\n ")?;
            }
            self.empty = false;
            out.write_all(b"{")?;
            for (i, (name, column)) in self.names.iter().zip(batch.columns()).enumerate() {
                let comma = if i > 0 { "," } else { "" };
                write!(out, "{comma}{name}:{}", value(&Cell::at(column.as_ref(), row)))?;
            }
            out.write_all(b"}")?;
            if self.layout == Layout::Lines {
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    pub(super) fn end(&self, out: &mut impl Write) -> io::Result<()> {
        match self.layout {
            Layout::Array => out.write_all(b"]\n"),
            Layout::Lines => Ok(()),
        }
    }
}

fn value(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Int(value) => value.to_string(),
        // JSON has no word for infinity.
        Cell::Float(value) => serde_json::Value::from(*value).to_string(),
        Cell::Bool(value) => value.to_string(),
        Cell::Time(us) => text(&time_as_data(*us)),
        Cell::Text(value) => text(value),
    }
}

fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_whatever_they_hold() {
        assert_eq!(value(&Cell::Text("\x1b\"\n".into())), r#""\u001b\"\n""#);
        assert_eq!(value(&Cell::Int(i128::from(i64::MAX))), "9223372036854775807");
        assert_eq!(value(&Cell::Float(f64::INFINITY)), "null");
        assert_eq!(value(&Cell::Float(1.5)), "1.5");
    }
}
