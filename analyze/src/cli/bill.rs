//! What `analyze bill` is told.

use std::path::PathBuf;

use clap::Args;

use crate::bill::render::BillFormat;

/// `analyze bill`
#[derive(Debug, Args)]
pub struct BillArgs {
    /// What is charged for, and whom: tariffs.toml.
    #[arg(long, value_name = "FILE")]
    pub tariffs: PathBuf,
    /// The month in which the billing periods begin, as in 2026-10.
    #[arg(long, value_name = "MONTH")]
    pub period: String,
    /// Only this customer; repeat the option for several.
    #[arg(long, value_name = "NAME")]
    pub customer: Vec<String>,
    /// The directory of closed invoices. Those of the period are shown as they were closed; late
    /// data of earlier periods becomes adjustment lines.
    #[arg(long, value_name = "DIR")]
    pub frozen: Option<PathBuf>,
    /// Close the period: keep its invoices below --frozen, never to be changed again.
    #[arg(long, requires = "frozen")]
    pub close: bool,
    /// table, csv, json, ndjson, markdown or html.
    #[arg(long, default_value = "table", value_name = "FORMAT", help_heading = "Output")]
    pub format: BillFormat,
    /// Write to this file; it appears complete or not at all.
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
}
