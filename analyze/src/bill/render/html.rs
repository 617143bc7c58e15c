//! Invoices as one page of HTML that needs nothing else: a sheet for each when it is printed.

use super::view::{COLUMNS, FIGURES, SUM_COLUMNS, View, totals};
use crate::bill::invoice::{Invoice, Steps};
use crate::report::escape::html as escaped;

/// Nothing is loaded, and nothing runs, whatever stands in a name.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub(super) fn text(invoices: &[Invoice]) -> String {
    let title = match invoices {
        [invoice] => View::of(invoice).title,
        [invoice, ..] => format!("Invoices for {}", invoice.period),
        [] => "Invoices".to_owned(),
    };
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n",
        escaped(&title),
        include_str!("invoice.css")
    );
    for invoice in invoices {
        page.push_str(&article(invoice));
    }
    let sums = totals(invoices);
    if !sums.is_empty() {
        let figures = SUM_COLUMNS.map(|name| name != "currency");
        let rows: Vec<Vec<String>> = sums.iter().map(|sum| sum.cells().to_vec()).collect();
        let table = table(&SUM_COLUMNS, &figures, &rows);
        page.push_str(&format!("<article>\n<h1>All invoices</h1>\n{table}</article>\n"));
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn article(invoice: &Invoice) -> String {
    let view = View::of(invoice);
    let subject = &invoice.subject;
    let mut page = format!(
        "<article>\n<h1>{}</h1>\n<p class=\"lead\">{} {}, {} to {}</p>\n",
        escaped(&format!("Invoice {}", invoice.period)),
        escaped(&subject.kind),
        escaped(&subject.name),
        escaped(&invoice.first_day),
        escaped(&invoice.last_day),
    );
    for note in view.notes.iter().filter(|_| invoice.basis.estimated).take(1) {
        page.push_str(&format!("<p class=\"estimated\">{}</p>\n", escaped(note)));
    }
    let columns: Vec<usize> = (0..COLUMNS.len()).filter(|column| view.shows(*column)).collect();
    let names: Vec<&str> = columns.iter().map(|column| COLUMNS[*column]).collect();
    let figures: Vec<bool> = columns.iter().map(|column| FIGURES[*column]).collect();
    for section in &view.sections {
        if let Some(heading) = &section.heading {
            page.push_str(&format!("<h2>{}</h2>\n", escaped(heading)));
        }
        let row = |row: &[String; 9]| columns.iter().map(|c| row[*c].clone()).collect();
        let rows: Vec<Vec<String>> = section.rows.iter().map(row).collect();
        page.push_str(&table(&names, &figures, &rows));
    }
    page.push_str("<table class=\"sums\">\n");
    for (name, amount) in &view.sums {
        page.push_str(&format!(
            "<tr><td>{}</td><td class=\"figure\">{}</td></tr>\n",
            escaped(name),
            escaped(amount)
        ));
    }
    page.push_str("</table>\n");
    page.push_str(&calculation(&invoice.steps));
    page.push_str(&footer(&view));
    page.push_str("</article>\n");
    page
}

fn table(names: &[&str], figures: &[bool], rows: &[Vec<String>]) -> String {
    let class = |figure: bool| if figure { " class=\"figure\"" } else { "" };
    let row = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells: String = cells
            .zip(figures)
            .map(|(cell, figure)| format!("<{tag}{}>{}</{tag}>", class(*figure), escaped(cell)))
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let header = row("th", &mut names.iter().copied());
    let body: String =
        rows.iter().map(|cells| row("td", &mut cells.iter().map(String::as_str))).collect();
    format!("<table>\n<thead>\n{header}</thead>\n<tbody>\n{body}</tbody>\n</table>\n")
}

/// How the lines came about, for whoever opens it.
fn calculation(steps: &[Steps]) -> String {
    let mut text = "<details>\n<summary>How the lines come about</summary>\n".to_owned();
    for position in steps.iter().filter(|position| !position.steps.is_empty()) {
        let (item, first, last) = (&position.item, &position.first_day, &position.last_day);
        text.push_str(&format!("<h2>{}, {first} to {last}</h2>\n<ol>\n", escaped(item)));
        for step in &position.steps {
            text.push_str(&format!("<li>{}: {}</li>\n", step.step.as_str(), escaped(&step.text)));
        }
        text.push_str("</ol>\n");
    }
    text.push_str("</details>\n");
    text
}

fn footer(view: &View) -> String {
    let facts: String = view
        .facts
        .iter()
        .map(|(name, fact)| format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(fact)))
        .collect();
    let notes: String = view
        .notes
        .iter()
        .map(|note| format!("<dt>note</dt><dd>{}</dd>\n", escaped(note)))
        .collect();
    format!("<footer>\n<dl>\n{facts}{notes}</dl>\n</footer>\n")
}
