//! Invoices: from contracts and tables to documents that can be computed again to the byte.
//!
//! The way of an invoice: [`agenda`] says which contracts are billed for a month and which earlier
//! invoices may need correction, [`quantities`] and [`rates`] measure everything they ask for with few scans,
//! [`issue`] rates and adds up, [`ledger`] keeps what is closed, [`render`] shows it. Nothing here
//! asks a clock, names a path or depends on the order of a hash map: the same tables, tariffs and
//! zones give the same bytes. Money is computed by [`rating`](crate::rating) alone.

pub mod agenda;
pub mod closing;
pub mod invoice;
pub mod issue;
pub mod ledger;
pub mod quantities;
pub mod rates;
pub mod render;
mod zones;

use std::fmt;

use jiff::civil::Date;
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;

/// The month in which billing periods begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    first: Date,
}

impl Month {
    /// The month that `text` spells, as in `2026-10`.
    pub fn parse(text: &str) -> Option<Self> {
        let first = (text.len() == 7).then(|| format!("{text}-01").parse().ok())??;
        Some(Self { first })
    }

    /// The month that the option `--period` names.
    ///
    /// # Errors
    /// 64 when it is none.
    pub fn of_option(text: &str) -> Result<Self, Failure> {
        Self::parse(text).ok_or_else(|| {
            Failure::Usage(format!(
                "--period {text:?} is not a billing period: write the month in which it begins, as in 2026-10"
            ))
        })
    }

    /// Its first day.
    pub const fn first(self) -> Date {
        self.first
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.strftime("%Y-%m").fmt(f)
    }
}

/// The SHA-256 in hexadecimal digits.
pub fn sha256(content: impl AsRef<[u8]>) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_four_digits_and_two() {
        for text in ["2026-10", "0001-01", "9999-12"] {
            assert_eq!(Month::parse(text).map(|month| month.to_string()).as_deref(), Some(text));
        }
        for text in ["2026-13", "2026-00", "2026", "2026-02-30", "2026-1", "-026-01", "octobe", ""]
        {
            assert_eq!(Month::parse(text), None, "{text:?}");
        }
    }
}
