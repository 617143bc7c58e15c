//! Lines of an invoice.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::exact::{self, Exact};
use crate::tariff::Days;

/// One line. Its amount is quantity × unit price × share − discount, rounded once.
///
/// Written as JSON, numbers are text, so that no reader makes floats of them; a number that no
/// decimal ends is a fraction, `26/31`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The item's name.
    pub item: String,
    /// Which part of it: a tier, a window, `commit`, `overage`; empty when it has one part.
    pub tier: String,
    /// Why it is there.
    pub kind: Kind,
    /// The first day it is about.
    #[serde(with = "day")]
    pub first_day: Date,
    /// The last day it is about.
    #[serde(with = "day")]
    pub last_day: Date,
    /// How much.
    #[serde(with = "exact::as_text")]
    pub quantity: Exact,
    /// Of what; empty for an amount of money.
    pub unit: String,
    /// What one costs.
    #[serde(with = "exact::as_text")]
    pub unit_price: Exact,
    /// The part of the period that is paid for; `None`: all of it.
    pub share: Option<Share>,
    /// Taken off, before rounding.
    #[serde(with = "exact::as_text")]
    pub discount: Exact,
    /// What it comes to, in whole smallest coins.
    #[serde(with = "exact::as_text")]
    pub amount: Exact,
    /// The tax that is added to it, in percent.
    #[serde(with = "exact::as_text")]
    pub tax_percent: Exact,
    /// Whether less than 99 % of what it rests on was measured.
    pub estimated: bool,
}

impl Line {
    /// The days it is about.
    pub fn days(&self) -> Option<Days> {
        Days::new(self.first_day, self.last_day.tomorrow().ok()?)
    }

    /// The line that takes this one back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            quantity: -&self.quantity,
            discount: -&self.discount,
            amount: -&self.amount,
            ..self.clone()
        }
    }
}

/// Why a line is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something is charged.
    Charge,
    /// The item's lines came to more than its maximum.
    Maximum,
    /// The item's lines came to less than its minimum.
    Minimum,
}

/// The part of a period that is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Share {
    /// Days that are paid for.
    pub days: u32,
    /// Days that the whole price is for.
    pub of: u32,
}

impl Share {
    /// The share as a number; 1 when nothing is left out.
    pub(super) fn factor(share: Option<Self>) -> Exact {
        share.map_or_else(|| exact::whole(1), |Self { days, of }| exact::fraction(days, of.max(1)))
    }
}

/// How serde writes a day: `2026-10-26`.
mod day {
    use jiff::civil::Date;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(day: &Date, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(day)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Date, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
