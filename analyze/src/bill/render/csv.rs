//! Invoices as rows: one for each line, tax and credit, so that the amounts of an invoice add up to
//! what is due.

use num_traits::{Signed as _, Zero as _};

use crate::bill::invoice::Invoice;
use crate::exact;
use crate::rating::{Kind, Line};
use crate::report::escape;

/// The header, a contract.
const HEADER: &str = "period,subject,name,currency,kind,of_period,item,tier,first_day,last_day,\
    quantity,unit,unit_price,part_days,of_days,discount,tax_percent,amount,estimated";

pub(super) fn text(invoices: &[Invoice]) -> String {
    let mut text = format!("{HEADER}\n");
    for invoice in invoices {
        for line in &invoice.lines {
            text.push_str(&line_row(invoice, &invoice.period, line, kind(line)));
        }
        for earlier in &invoice.adjustments {
            for line in &earlier.lines {
                text.push_str(&line_row(invoice, &earlier.period, line, "adjustment"));
            }
        }
        let currency = invoice.currency;
        for tax in &invoice.totals.taxes {
            let percent = exact::text(&tax.percent);
            let amount = currency.text(&tax.amount);
            text.push_str(&sum_row(invoice, "tax", "", [&percent, &amount]));
        }
        for credit in invoice.totals.credits.iter().filter(|credit| credit.used.is_positive()) {
            let amount = currency.text(&-&credit.used);
            text.push_str(&sum_row(invoice, "credit", &credit.name, ["", &amount]));
        }
    }
    text
}

const fn kind(line: &Line) -> &'static str {
    match line.kind {
        Kind::Charge => "charge",
        Kind::Maximum => "maximum",
        Kind::Minimum => "minimum",
    }
}

/// The cells that say whose row it is.
fn head(invoice: &Invoice, kind: &str, of_period: &str) -> String {
    let subject = &invoice.subject;
    let name = cell(&subject.name);
    let (period, currency) = (&invoice.period, invoice.currency);
    format!("{period},{},{name},{currency},{kind},{of_period}", subject.kind)
}

fn line_row(invoice: &Invoice, of_period: &str, line: &Line, kind: &str) -> String {
    let part = |value: Option<u32>| value.map(|days| days.to_string()).unwrap_or_default();
    let discount = match line.discount.is_zero() {
        true => String::new(),
        false => exact::text(&line.discount),
    };
    let cells = [
        head(invoice, kind, of_period),
        cell(&line.item),
        cell(&line.tier),
        line.first_day.to_string(),
        line.last_day.to_string(),
        exact::text(&line.quantity),
        cell(&line.unit),
        exact::text(&line.unit_price),
        part(line.share.map(|share| share.days)),
        part(line.share.map(|share| share.of)),
        discount,
        exact::text(&line.tax_percent),
        invoice.currency.text(&line.amount),
        line.estimated.to_string(),
    ];
    format!("{}\n", cells.join(","))
}

fn sum_row(invoice: &Invoice, kind: &str, item: &str, [percent, amount]: [&str; 2]) -> String {
    let head = head(invoice, kind, &invoice.period);
    let (first, last) = (&invoice.first_day, &invoice.last_day);
    let item = cell(item);
    format!("{head},{item},,{first},{last},,,,,,,{percent},{amount},{}\n", invoice.basis.estimated)
}

/// Text as a cell: quoted where a reader would be misled, and no formula.
fn cell(text: &str) -> String {
    let text = escape::csv(text);
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_items_are_cells_and_no_formulas() {
        assert_eq!(cell("a, \"b\""), "\"a, \"\"b\"\"\"");
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(HEADER.split(',').count(), 19);
    }
}
