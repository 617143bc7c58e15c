//! JSON: an array of objects, or one object a line. Names are the column names, integers are
//! numbers, times RFC 3339 text, NULL is `null`.

use std::io::{self, Write};

use super::time_as_data;
use crate::cell::Cell;
use crate::database::Answer;

/// How objects stand beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// In one array.
    Array,
    /// Each on its line.
    Lines,
}

pub(super) fn write(answer: &Answer, layout: Layout, out: &mut impl Write) -> io::Result<()> {
    let names: Vec<String> =
        answer.schema.fields().iter().map(|field| text(field.name())).collect();
    let (open, between, close) = match layout {
        Layout::Array => ("[", ",\n ", "]\n"),
        Layout::Lines => ("", "\n", "\n"),
    };
    out.write_all(open.as_bytes())?;
    let mut first = true;
    for batch in &answer.batches {
        for row in 0..batch.num_rows() {
            if !first {
                out.write_all(between.as_bytes())?;
            }
            first = false;
            out.write_all(b"{")?;
            for (i, (name, column)) in names.iter().zip(batch.columns()).enumerate() {
                let comma = if i > 0 { "," } else { "" };
                write!(out, "{comma}{name}:{}", value(&Cell::at(column.as_ref(), row)))?;
            }
            out.write_all(b"}")?;
        }
    }
    if layout == Layout::Lines && first {
        return Ok(());
    }
    out.write_all(close.as_bytes())
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
