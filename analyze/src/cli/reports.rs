//! The options that only some reports have.

use std::time::Duration;

use clap::{Args, ValueEnum};
use schemas::config;

use super::{Common, Key};

/// What `top` orders by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Bytes from clients to targets.
    Up,
    /// Bytes from targets to clients.
    Down,
    /// Bytes of both directions.
    Both,
    /// Number of sessions.
    Sessions,
}

/// Further columns of `usage` and `top`.
#[derive(Debug, Args)]
pub struct Extras {
    /// Add previous_bytes_total and change_percent: the same keys in the period before of the same length;
    /// with hour, day or month among the keys, in the hour, day or month before.
    #[arg(long, help_heading = "Rows")]
    pub compare: bool,
    /// Draw the course of each row, also where the table does not go to a terminal.
    #[arg(long, help_heading = "Output", overrides_with = "no_sparkline")]
    pub sparkline: bool,
    /// Draw no course, also on a terminal.
    #[arg(long, help_heading = "Output", overrides_with = "sparkline")]
    pub no_sparkline: bool,
}

/// `analyze usage`
#[derive(Debug, Args)]
pub struct UsageArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub common: Common,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub extras: Extras,
}

/// `analyze top`
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Who: the same as --by.
    #[arg(value_name = "KEY", value_delimiter = ',', conflicts_with = "by")]
    pub keys: Vec<Key>,
    /// What is largest.
    #[arg(long, value_enum, default_value = "both")]
    pub order: Order,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub common: Common,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub extras: Extras,
}

/// `analyze sessions`
#[derive(Debug, Args)]
pub struct SessionsArgs {
    /// Only sessions that lived at least so long, running ones included: 90s, 1h, 1d.
    #[arg(long, help_heading = "Rows", value_name = "DURATION", value_parser = duration)]
    pub long: Option<Duration>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub common: Common,
}

/// What `sizes` sorts sessions by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Of {
    /// Bytes of both directions.
    Bytes,
    /// From start to end.
    Duration,
}

/// `analyze sizes`
#[derive(Debug, Args)]
pub struct SizesArgs {
    /// What the buckets are of.
    #[arg(long, value_enum, default_value = "bytes")]
    pub of: Of,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub common: Common,
}

fn duration(text: &str) -> Result<Duration, String> {
    config::duration(text).map_err(|refusal| format!("{}; {}", refusal.message, refusal.help))
}
