//! The options of the reports that judge figures: `compare`, `reconcile`, `forecast`, `margin`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Common;

/// Which bytes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// From clients to targets.
    Up,
    /// From targets to clients.
    Down,
    /// Both together.
    Both,
}

impl Direction {
    /// The bytes of a row of `usage`, `sessions` or `slots`, in SQL.
    pub const fn bytes(self) -> &'static str {
        match self {
            Self::Up => "bytes_up",
            Self::Down => "bytes_down",
            Self::Both => "(bytes_up + bytes_down)",
        }
    }
}

/// `analyze compare`
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Which bytes are compared.
    #[arg(long, value_enum, default_value = "both")]
    pub direction: Direction,
    /// How many equal periods before this one the z-score looks at.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=60))]
    pub earlier: u8,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub common: Common,
}

/// `analyze reconcile`
#[derive(Debug, Args)]
pub struct ReconcileArgs {
    /// Figures of someone else: a CSV file with the header key,bytes; the key is that of --by.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Which bytes are compared.
    #[arg(long, value_enum, default_value = "both")]
    pub direction: Direction,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub common: Common,
}

/// `analyze forecast`
#[derive(Debug, Args)]
pub struct ForecastArgs {
    /// How much is included for each key: '500 GB', '200 GiB'.
    #[arg(long, value_name = "SIZE", conflicts_with = "tariffs")]
    pub allowance: Option<String>,
    /// Take allowances and billing periods from the contracts of this tariffs.toml.
    #[arg(long, value_name = "FILE", conflicts_with = "direction")]
    pub tariffs: Option<PathBuf>,
    /// Which bytes count.
    #[arg(long, value_enum, default_value = "both")]
    pub direction: Direction,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub common: Common,
}

/// `analyze margin`
#[derive(Debug, Args)]
pub struct MarginArgs {
    /// What each key pays: a CSV file with the header key,amount; the key is that of --by.
    #[arg(long, value_name = "FILE")]
    pub revenue: PathBuf,
    /// What a Mbit/s of the 95th percentile of all traffic costs, as in 1.50.
    #[arg(long, value_name = "PRICE")]
    pub cost_per_mbps: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub common: Common,
}
