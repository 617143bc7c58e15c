//! Invoices at a terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::view::{COLUMNS, FIGURES, SUM_COLUMNS, Section, View, totals};
use crate::bill::invoice::Invoice;
use crate::report::escape;

pub(super) fn text(invoices: &[Invoice]) -> String {
    let mut parts: Vec<String> =
        invoices.iter().map(|invoice| document(&View::of(invoice))).collect();
    let sums = totals(invoices);
    if !sums.is_empty() {
        let rows = sums.iter().map(|sum| sum.cells().to_vec());
        let figures = SUM_COLUMNS.map(|name| name != "currency");
        parts.push(format!("All invoices\n\n{}", table(&SUM_COLUMNS, &figures, rows)));
    }
    parts.join("\n\n")
}

fn document(view: &View) -> String {
    let mut text = format!("{}\n\n", escape::terminal(&view.title));
    let columns: Vec<usize> = (0..COLUMNS.len()).filter(|column| view.shows(*column)).collect();
    for Section { heading, rows } in &view.sections {
        if let Some(heading) = heading {
            text.push_str(&format!("{heading}\n\n"));
        }
        let names: Vec<&str> = columns.iter().map(|column| COLUMNS[*column]).collect();
        let figures: Vec<bool> = columns.iter().map(|column| FIGURES[*column]).collect();
        let rows = rows.iter().map(|row| columns.iter().map(|c| row[*c].clone()).collect());
        text.push_str(&table(&names, &figures, rows));
        text.push('\n');
    }
    let width = |cells: &mut dyn Iterator<Item = &String>| {
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let names = width(&mut view.sums.iter().map(|(name, _)| name));
    let amounts = width(&mut view.sums.iter().map(|(_, amount)| amount));
    for (name, amount) in &view.sums {
        let name = escape::terminal(name);
        text.push_str(&format!("{name:names$}  {amount:>amounts$}\n"));
    }
    text.push('\n');
    for (name, fact) in &view.facts {
        text.push_str(&format!("{name} {}\n", escape::terminal(fact)));
    }
    for note in &view.notes {
        text.push_str(&format!("{}\n", escape::terminal(note)));
    }
    text
}

fn table(names: &[&str], figures: &[bool], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    // An invoice is the same whatever the width of the terminal is.
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(names);
    for row in rows {
        table.add_row(row.iter().map(|cell| escape::terminal(cell).into_owned()));
    }
    for (figure, column) in figures.iter().zip(table.column_iter_mut()) {
        column.set_padding((0, 2));
        if *figure {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
