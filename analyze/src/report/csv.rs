//! CSV as RFC 4180 has it, with `\n` line ends. The header is the column names. NULL is an empty
//! cell, empty text is `""`.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::{escape, time_as_data};
use crate::cell::Cell;

/// A CSV report being written.
pub(super) struct Writer {
    header: String,
}

impl Writer {
    pub(super) fn new(schema: &Schema) -> Self {
        let names: Vec<String> =
            schema.fields().iter().map(|field| quoted(&escape::csv(field.name()))).collect();
        Self { header: names.join(",") }
    }

    pub(super) fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.header)
    }

    pub(super) fn rows(&self, batch: &RecordBatch, out: &mut impl Write) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            for (i, column) in batch.columns().iter().enumerate() {
                if i > 0 {
                    out.write_all(b",")?;
                }
                write_cell(&Cell::at(column.as_ref(), row), out)?;
            }
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

fn write_cell(cell: &Cell<'_>, out: &mut impl Write) -> io::Result<()> {
    match cell {
        Cell::Null => Ok(()),
        Cell::Int(value) => write!(out, "{value}"),
        Cell::Float(value) => write!(out, "{value}"),
        Cell::Bool(value) => write!(out, "{value}"),
        Cell::Time(us) => out.write_all(time_as_data(*us).as_bytes()),
        Cell::Text(text) => out.write_all(quoted(&escape::csv(text)).as_bytes()),
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_a_reader_would_be_misled() {
        let cases = [
            (Cell::Null, ""),
            (Cell::Text("".into()), "\"\""),
            (Cell::Text("a,b".into()), "\"a,b\""),
            (Cell::Text("say \"hi\"".into()), "\"say \"\"hi\"\"\""),
            (Cell::Text("=cmd|' /C calc'!A0".into()), "'=cmd|' /C calc'!A0"),
            (Cell::Int(-5), "-5"),
            (Cell::Time(1_500_000), "1970-01-01T00:00:01.500000Z"),
            (Cell::Bool(true), "true"),
        ];
        for (cell, expected) in cases {
            let mut out = Vec::new();
            write_cell(&cell, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
