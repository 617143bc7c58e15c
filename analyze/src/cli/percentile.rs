//! What `analyze percentile` is told.

use std::time::Duration;

use clap::Args;
use schemas::config as quantity;

use super::Common;
use crate::tariff::{Missing, Mode, Rank};

/// `analyze percentile`
#[derive(Debug, Args)]
pub struct PercentileArgs {
    /// Which percentile, 1 to 100.
    #[arg(long, default_value_t = 95, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub percent: u8,
    /// What counts of both directions: max_of_p95, p95_of_sum, p95_of_max, in (up), out (down).
    #[arg(long, default_value = "max_of_p95", value_name = "MODE", value_parser = one_of(Mode::ALL, Mode::as_str))]
    pub mode: Mode,
    /// Which of the ranked slots is the figure: ceil, or as others take it: round, half_even, rrd, cacti.
    #[arg(long, default_value = "ceil", value_name = "RANK", value_parser = one_of(Rank::ALL, Rank::as_str))]
    pub rank: Rank,
    /// What a slot counts that was not measured: exclude, zero, hold (as the one before).
    #[arg(long, default_value = "exclude", value_name = "WHAT", value_parser = one_of(Missing::ALL, Missing::as_str))]
    pub missing: Missing,
    /// Length of the ranked slots, a multiple of what was recorded [default: the longest recorded].
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub slot: Option<u32>,
    /// The rate that is paid for in any case: '100 Mbit/s'.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub commit: Option<u64>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub common: Common,
}

/// A parser of the words of `all`.
fn one_of<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    word: fn(T) -> &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        all.iter().copied().find(|value| word(*value) == text).ok_or_else(|| {
            let words: Vec<&str> = all.iter().map(|value| word(*value)).collect();
            format!("use {}", words.join(", "))
        })
    }
}

fn seconds(text: &str) -> Result<u32, String> {
    let duration: Duration = quantity::duration(text)
        .map_err(|refusal| format!("{}; {}", refusal.message, refusal.help))?;
    let whole = (duration.subsec_nanos() == 0).then(|| u32::try_from(duration.as_secs()).ok());
    whole.flatten().filter(|seconds| *seconds > 0).ok_or_else(|| "write whole seconds".to_owned())
}

/// Bits per second.
fn rate(text: &str) -> Result<u64, String> {
    quantity::bandwidth(text).map_err(|refusal| format!("{}; {}", refusal.message, refusal.help))
}
