//! What a person reads in an invoice, whatever it is written on.

use std::collections::BTreeMap;

use num_traits::{Signed as _, Zero as _};

use crate::bill::invoice::Invoice;
use crate::exact::{self, Exact};
use crate::rating::{Kind, Line};
use crate::report::unit::counted;
use crate::tariff::Currency;

/// Digits behind the point of quantities.
const QUANTITY_PLACES: u32 = 6;
/// Digits behind the point of prices that no decimal ends.
const PRICE_PLACES: u32 = 9;
/// Digits of a hash that are shown.
const HASH_DIGITS: usize = 16;

/// The names of the columns.
pub(super) const COLUMNS: [&str; 9] =
    ["item", "days", "quantity", "unit", "unit price", "part", "discount", "tax", "amount"];
/// The columns whose cells stand on the right.
pub(super) const FIGURES: [bool; 9] = [false, false, true, false, true, true, true, true, true];

/// An invoice as text.
pub(super) struct View {
    pub(super) title: String,
    /// Facts below the title.
    pub(super) facts: Vec<(&'static str, String)>,
    /// Lines under their headings; the first has none.
    pub(super) sections: Vec<Section>,
    /// Sums with their names; the last is what is due.
    pub(super) sums: Vec<(String, String)>,
    /// What has to be known of the figures.
    pub(super) notes: Vec<String>,
}

/// Lines under a heading.
pub(super) struct Section {
    pub(super) heading: Option<String>,
    pub(super) rows: Vec<[String; 9]>,
}

impl View {
    pub(super) fn of(invoice: &Invoice) -> Self {
        let currency = invoice.currency;
        let section = |heading, lines: &[Line]| Section {
            heading,
            rows: lines.iter().map(|line| row(line, currency)).collect(),
        };
        let adjusted = invoice.adjustments.iter().map(|earlier| {
            section(Some(format!("Adjustment of {}", earlier.period)), &earlier.lines)
        });
        let subject = &invoice.subject;
        Self {
            title: format!("Invoice of {} {} for {}", subject.kind, subject.name, invoice.period),
            facts: facts(invoice),
            sections: std::iter::once(section(None, &invoice.lines)).chain(adjusted).collect(),
            sums: sums(invoice),
            notes: notes(invoice),
        }
    }

    /// Whether some line has something in a column.
    pub(super) fn shows(&self, column: usize) -> bool {
        self.sections.iter().flat_map(|section| &section.rows).any(|row| !row[column].is_empty())
    }
}

fn facts(invoice: &Invoice) -> Vec<(&'static str, String)> {
    let days = format!("{} to {} ({})", invoice.first_day, invoice.last_day, invoice.tz);
    let short = |hash: &str| hash.get(..HASH_DIGITS).unwrap_or(hash).to_owned();
    let basis = &invoice.basis;
    let zones = basis.zones.clone().unwrap_or_else(|| "none used".to_owned());
    let coverage = basis.coverage.strip_prefix("coverage ").unwrap_or(&basis.coverage);
    vec![
        ("period", days),
        ("tariff", format!("{}, in {}", invoice.tariff, invoice.currency)),
        ("coverage", coverage.to_owned()),
        ("data", format!("{} (hash of the quantities)", short(&basis.data))),
        ("tariffs", format!("{} (hash of the file)", short(&basis.tariffs))),
        ("zones", zones),
    ]
}

fn row(line: &Line, currency: Currency) -> [String; 9] {
    let is_amount = line.kind != Kind::Charge;
    let unless = |hidden: bool, text: String| if hidden { String::new() } else { text };
    [
        name(line),
        format!("{} to {}", line.first_day, line.last_day),
        unless(is_amount, exact::short(&line.quantity, QUANTITY_PLACES)),
        line.unit.clone(),
        unless(is_amount, price(&line.unit_price, currency)),
        line.share.map(|share| format!("{}/{}", share.days, share.of)).unwrap_or_default(),
        unless(line.discount.is_zero(), price(&-&line.discount, currency)),
        unless(line.tax_percent.is_zero(), percent(&line.tax_percent)),
        currency.text(&line.amount),
    ]
}

/// The item and which part of it, and whether that is sure.
fn name(line: &Line) -> String {
    let part = match line.kind {
        Kind::Charge => line.tier.as_str(),
        Kind::Maximum => "maximum",
        Kind::Minimum => "minimum",
    };
    let part = if part.is_empty() { String::new() } else { format!(": {part}") };
    let sure = if line.estimated { " (estimated)" } else { "" };
    format!("{}{part}{sure}", line.item)
}

/// A price with at least the digits of the currency.
fn price(price: &Exact, currency: Currency) -> String {
    let short = exact::short(price, PRICE_PLACES);
    let places = short.split_once('.').map_or(0, |(_, places)| places.len());
    if places < currency.places() as usize { currency.text(price) } else { short }
}

fn percent(percent: &Exact) -> String {
    format!("{} %", exact::short(percent, QUANTITY_PLACES))
}

fn sums(invoice: &Invoice) -> Vec<(String, String)> {
    let (totals, currency) = (&invoice.totals, invoice.currency);
    let mut sums = vec![("net".to_owned(), currency.text(&totals.net))];
    for tax in &totals.taxes {
        let name = format!("tax {} of {}", percent(&tax.percent), currency.text(&tax.net));
        sums.push((name, currency.text(&tax.amount)));
    }
    if !totals.taxes.is_empty() {
        sums.push(("gross".to_owned(), currency.text(&totals.gross)));
    }
    for credit in totals.credits.iter().filter(|credit| credit.used.is_positive()) {
        let left = currency.text(&credit.left);
        let name = format!("credit {} ({left} left)", credit.name);
        sums.push((name, currency.text(&-&credit.used)));
    }
    sums.push((format!("due in {currency}"), currency.text(&totals.due)));
    sums
}

fn notes(invoice: &Invoice) -> Vec<String> {
    let mut notes = Vec::new();
    if invoice.basis.estimated {
        let note = "estimated: less than 99 % of what this invoice rests on was measured";
        notes.push(note.to_owned());
    }
    for quantity in &invoice.quantities {
        let Some(ranked) = &quantity.percentile else { continue };
        let known = format!("{} of {} slots known", ranked.slots_known, ranked.slots_expected);
        notes.push(match &ranked.slot_start {
            Some(start) => {
                let bytes = counted(i128::from(ranked.bytes), "byte");
                format!("{}: decided by the slot {start} with {bytes}, {known}", quantity.item)
            }
            None => format!("{}: {known}", quantity.item),
        });
    }
    notes
}

/// What the invoices of a currency come to.
pub(super) struct Sum {
    pub(super) currency: Currency,
    pub(super) invoices: usize,
    pub(super) net: Exact,
    pub(super) gross: Exact,
    pub(super) credits: Exact,
    pub(super) due: Exact,
}

/// The names of what a [`Sum`] shows.
pub(super) const SUM_COLUMNS: [&str; 7] =
    ["currency", "invoices", "net", "tax", "gross", "credits", "due"];

impl Sum {
    pub(super) fn cells(&self) -> [String; 7] {
        let text = |amount: &Exact| self.currency.text(amount);
        [
            self.currency.to_string(),
            self.invoices.to_string(),
            text(&self.net),
            text(&(&self.gross - &self.net)),
            text(&self.gross),
            text(&-&self.credits),
            text(&self.due),
        ]
    }
}

/// The sums by currency, in the order of their codes; none for a single invoice.
pub(super) fn totals(invoices: &[Invoice]) -> Vec<Sum> {
    let mut by_currency = BTreeMap::<Currency, Sum>::new();
    for invoice in invoices {
        let currency = invoice.currency;
        let zero = || Sum {
            currency,
            invoices: 0,
            net: Exact::zero(),
            gross: Exact::zero(),
            credits: Exact::zero(),
            due: Exact::zero(),
        };
        let sum = by_currency.entry(currency).or_insert_with(zero);
        sum.invoices += 1;
        sum.net += &invoice.totals.net;
        sum.gross += &invoice.totals.gross;
        sum.credits += invoice.totals.credits.iter().map(|credit| &credit.used).sum::<Exact>();
        sum.due += &invoice.totals.due;
    }
    if invoices.len() < 2 { Vec::new() } else { by_currency.into_values().collect() }
}
