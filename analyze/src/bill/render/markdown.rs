//! Invoices in GitHub's Markdown.

use super::view::{COLUMNS, FIGURES, SUM_COLUMNS, View, totals};
use crate::bill::invoice::Invoice;
use crate::report::{escape, markdown_text};

pub(super) fn text(invoices: &[Invoice]) -> String {
    let mut parts: Vec<String> =
        invoices.iter().map(|invoice| document(&View::of(invoice))).collect();
    let sums = totals(invoices);
    if !sums.is_empty() {
        let figures = SUM_COLUMNS.map(|name| name != "currency");
        let rows = sums.iter().map(|sum| sum.cells().to_vec());
        parts.push(format!("# All invoices\n\n{}", table(&SUM_COLUMNS, &figures, rows)));
    }
    parts.join("\n")
}

fn document(view: &View) -> String {
    let mut text = format!("# {}\n\n", escaped(&view.title));
    let columns: Vec<usize> = (0..COLUMNS.len()).filter(|column| view.shows(*column)).collect();
    let names: Vec<&str> = columns.iter().map(|column| COLUMNS[*column]).collect();
    let figures: Vec<bool> = columns.iter().map(|column| FIGURES[*column]).collect();
    for section in &view.sections {
        if let Some(heading) = &section.heading {
            text.push_str(&format!("## {}\n\n", escaped(heading)));
        }
        let rows = section.rows.iter().map(|row| columns.iter().map(|c| row[*c].clone()).collect());
        text.push_str(&table(&names, &figures, rows));
        text.push('\n');
    }
    let sums = view.sums.iter().map(|(name, amount)| vec![name.clone(), amount.clone()]);
    text.push_str(&table(&["sum", "amount"], &[false, true], sums));
    text.push('\n');
    for (name, fact) in &view.facts {
        text.push_str(&format!("- {name} {}\n", escaped(fact)));
    }
    for note in &view.notes {
        text.push_str(&format!("- {}\n", escaped(note)));
    }
    text
}

fn table(names: &[&str], figures: &[bool], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = figures.iter().map(|figure| if *figure { "---:" } else { "---" }.to_owned());
    let header = names.iter().map(|name| (*name).to_owned()).collect();
    let rows = rows.map(|row| line(row.iter().map(|cell| escaped(cell)).collect()));
    format!("{}{}{}", line(header), line(rule.collect()), rows.collect::<String>())
}

fn escaped(text: &str) -> String {
    markdown_text(&escape::terminal(text))
}
