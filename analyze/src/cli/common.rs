//! The options that most commands share.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Key;

/// Period, filters, keys, rows and output.
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub period: PeriodArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub filter: FilterArgs,
    /// Group by: service, rule, customer, client, client/24, target, node, transport, hour, day, month.
    #[arg(long, help_heading = "Rows", value_delimiter = ',', value_name = "KEY[,KEY]")]
    pub by: Vec<Key>,
    /// Only rows of the report for which this holds: 'bytes_down > 1 GB and sessions >= 10'.
    #[arg(long, help_heading = "Rows", value_name = "EXPRESSION")]
    pub having: Option<String>,
    /// Only the N largest rows.
    #[arg(short = 'n', long, help_heading = "Rows", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// Include running sessions by their latest usage (`usage` and `top` always do).
    #[arg(long, help_heading = "Rows")]
    pub open: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub output: OutputArgs,
}

/// Which time a report covers.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Period")]
pub struct PeriodArgs {
    /// From this time on: RFC 3339, a date, or so long ago (-90m, -12h, -7d, -2w).
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Up to but not including this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// One year, month or day: 2026, 2026-10, 2026-10-26.
    #[arg(long, value_name = "PERIOD", conflicts_with_all = ["since", "until"])]
    pub period: Option<String>,
    /// Zone of dates, of days and hours in --by, and of times in tables (IANA name).
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    pub tz: String,
}

/// Which rows a report covers. An option given several times means any of its values.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Filters (repeat an option for several values)")]
pub struct FilterArgs {
    /// Only this service.
    #[arg(long, value_name = "NAME")]
    pub service: Vec<String>,
    /// Only clients of this address or network.
    #[arg(long, value_name = "CIDR")]
    pub client: Vec<String>,
    /// Only this customer.
    #[arg(long, value_name = "NAME")]
    pub customer: Vec<String>,
    /// Only this rule.
    #[arg(long, value_name = "NAME")]
    pub rule: Vec<String>,
    /// Only targets of this address or network.
    #[arg(long, value_name = "CIDR")]
    pub target: Vec<String>,
    /// Only this forwarder.
    #[arg(long, value_name = "NAME")]
    pub node: Vec<String>,
    /// Only rows of the table for which this holds: 'target_port in (80, 443) and not client_ip in 10.0.0.0/8'.
    #[arg(long, value_name = "EXPRESSION")]
    pub r#where: Vec<String>,
}

impl FilterArgs {
    /// The filters in words, as in `customer acme, globex; client 10.0.0.0/8`, and what is asked of
    /// the report's rows; `None`: there are none.
    pub fn describe(&self, having: Option<&str>) -> Option<String> {
        let filters = [
            ("service", &self.service),
            ("client", &self.client),
            ("customer", &self.customer),
            ("rule", &self.rule),
            ("target", &self.target),
            ("node", &self.node),
            ("where", &self.r#where),
        ];
        let given = filters.iter().filter(|(_, values)| !values.is_empty());
        let words = given.map(|(name, values)| format!("{name} {}", values.join(", ")));
        let words: Vec<String> = words.chain(having.map(|text| format!("having {text}"))).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// Where a report goes, and how it is written.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// table, csv, json, ndjson, markdown or parquet.
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    pub format: ReportFormat,
    /// Write to this file; it appears complete or not at all.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Table,
    /// RFC 4180 with a header of column names.
    Csv,
    /// An array of objects.
    Json,
    /// One object a line.
    Ndjson,
    /// A table in GitHub's Markdown.
    Markdown,
    /// Apache Parquet, for other programs.
    Parquet,
}

impl FromStr for ReportFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Ndjson),
            "markdown" | "md" => Ok(Self::Markdown),
            "parquet" => Ok(Self::Parquet),
            "html" => {
                Err("only `bill` writes html; use table, csv, json, ndjson, markdown or parquet"
                    .to_owned())
            }
            _ => Err("use table, csv, json, ndjson, markdown or parquet".to_owned()),
        }
    }
}
