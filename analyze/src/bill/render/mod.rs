//! Invoices as documents: for terminals, spreadsheets, programs, and paper.

mod csv;
mod html;
mod markdown;
mod table;
mod view;

use std::str::FromStr;

use serde_json::Value;

use super::invoice::Invoice;

/// How invoices are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BillFormat {
    /// For people at a terminal.
    #[default]
    Table,
    /// A row per line, tax and credit.
    Csv,
    /// An array of invoices, keys sorted.
    Json,
    /// An invoice a line, keys sorted.
    Ndjson,
    /// For documents.
    Markdown,
    /// A page that needs nothing else, an invoice a sheet.
    Html,
}

impl FromStr for BillFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Ndjson),
            "markdown" | "md" => Ok(Self::Markdown),
            "html" => Ok(Self::Html),
            _ => Err("use table, csv, json, ndjson, markdown or html".to_owned()),
        }
    }
}

/// The invoices in a format.
pub fn render(invoices: &[Invoice], format: BillFormat) -> String {
    match format {
        BillFormat::Table => table::text(invoices),
        BillFormat::Csv => csv::text(invoices),
        BillFormat::Json => {
            format!("{:#}\n", Value::Array(invoices.iter().map(Invoice::value).collect()))
        }
        BillFormat::Ndjson => {
            invoices.iter().map(|invoice| format!("{}\n", invoice.value())).collect()
        }
        BillFormat::Markdown => markdown::text(invoices),
        BillFormat::Html => html::text(invoices),
    }
}
