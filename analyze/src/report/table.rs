//! Tables for people: decimal units, figures to the right, times to the second, `–` for NULL.

use std::io::{self, Write};

use arrow::datatypes::DataType;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use jiff::tz::TimeZone;

use super::unit::Unit;
use super::{Style, escape};
use crate::cell::Cell;
use crate::database::Answer;
use crate::period::time_text;

/// NULL.
pub(super) const NOTHING: &str = "–";

pub(super) fn write(
    answer: &Answer,
    style: &Style<'_>,
    count: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    if count > 0 {
        writeln!(out, "{}\n", text(answer, style.zone))?;
    }
    for line in style.footer(count) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn table(answer: &Answer, zone: &TimeZone) -> Table {
    let mut table = Table::new();
    // Without a terminal there is no width, and nothing is wrapped.
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let fields = answer.schema.fields();
    table.set_header(fields.iter().map(|field| escape::terminal(field.name()).into_owned()));
    let units: Vec<Unit> = fields.iter().map(|field| Unit::of(field.name())).collect();
    for batch in &answer.batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().zip(&units);
            table.add_row(
                cells.map(|(column, unit)| show(&Cell::at(column.as_ref(), row), *unit, zone)),
            );
        }
    }
    for (field, column) in fields.iter().zip(table.column_iter_mut()) {
        let figures = field.data_type().is_numeric() || *field.data_type() == DataType::Boolean;
        column.set_padding((0, 2));
        if figures {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The rows, without blanks at the ends of lines.
pub(super) fn text(answer: &Answer, zone: &TimeZone) -> String {
    let table = table(answer, zone).to_string();
    table.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// One value for people.
pub(crate) fn show(cell: &Cell<'_>, unit: Unit, zone: &TimeZone) -> String {
    match cell {
        Cell::Null => NOTHING.to_owned(),
        Cell::Int(value) => unit.show(*value),
        Cell::Float(value) if unit == Unit::Percent => format!("{value:.1} %"),
        Cell::Float(value) => value.to_string(),
        Cell::Bool(true) => "yes".to_owned(),
        Cell::Bool(false) => "no".to_owned(),
        Cell::Time(us) => time_text(*us, zone),
        Cell::Text(text) => escape::terminal(text).into_owned(),
    }
}
