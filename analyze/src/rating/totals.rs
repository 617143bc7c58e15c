//! What an invoice comes to: tax on its lines, and the credits that pay it.

use std::collections::BTreeMap;

use num_traits::{Signed as _, Zero as _};
use serde::{Deserialize, Serialize};

use super::line::Line;
use crate::exact::{self, Exact};
use crate::tariff::{Credit, Currency, Days};

/// The sums of an invoice, all in whole smallest coins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The sum of the lines.
    #[serde(with = "exact::as_text")]
    pub net: Exact,
    /// The tax, one entry for each rate in use, the lowest first; none for a rate of 0.
    pub taxes: Vec<Tax>,
    /// Lines and tax.
    #[serde(with = "exact::as_text")]
    pub gross: Exact,
    /// What credits paid, those first that expire soonest; only those that could pay.
    pub credits: Vec<CreditUse>,
    /// What is left to pay; negative when earlier invoices asked for too much.
    #[serde(with = "exact::as_text")]
    pub due: Exact,
}

/// The tax of one rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tax {
    /// The rate.
    #[serde(with = "exact::as_text")]
    pub percent: Exact,
    /// The sum of the lines it is on.
    #[serde(with = "exact::as_text")]
    pub net: Exact,
    /// The tax, rounded once.
    #[serde(with = "exact::as_text")]
    pub amount: Exact,
}

/// What a credit paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditUse {
    /// Its name.
    pub name: String,
    /// How much it paid of this invoice.
    #[serde(with = "exact::as_text")]
    pub used: Exact,
    /// How much of it is left for later ones.
    #[serde(with = "exact::as_text")]
    pub left: Exact,
}

impl Totals {
    /// The sums of `lines`, adjustments of earlier periods among them, and what of them `credits`
    /// pay; `used` says by their names how much of them earlier invoices took.
    pub fn of<'l>(
        currency: Currency,
        period: Days,
        lines: impl IntoIterator<Item = &'l Line>,
        credits: &[Credit],
        used: &BTreeMap<String, Exact>,
    ) -> Self {
        let mut by_rate = BTreeMap::<Exact, Exact>::new();
        for line in lines {
            *by_rate.entry(line.tax_percent.clone()).or_insert_with(Exact::zero) += &line.amount;
        }
        let net: Exact = by_rate.values().sum();
        let taxes: Vec<Tax> = by_rate
            .into_iter()
            .filter(|(percent, _)| !percent.is_zero())
            .map(|(percent, net)| {
                let amount = currency.round(&(&net * &percent / exact::whole(100)));
                Tax { percent, net, amount }
            })
            .collect();
        let gross = &net + taxes.iter().map(|tax| &tax.amount).sum::<Exact>();
        let credits = pay(&gross, period, credits, used);
        let due = &gross - credits.iter().map(|credit| &credit.used).sum::<Exact>();
        Self { net, taxes, gross, credits, due }
    }
}

/// What each credit pays of `gross`: never more than there is to pay, or than it has.
fn pay(
    gross: &Exact,
    period: Days,
    credits: &[Credit],
    used: &BTreeMap<String, Exact>,
) -> Vec<CreditUse> {
    let holds = |credit: &&Credit| {
        let last = period.last();
        credit.valid_from.is_none_or(|from| from <= last)
            && credit.expires.is_none_or(|expires| last <= expires)
    };
    let mut usable: Vec<&Credit> = credits.iter().filter(holds).collect();
    usable.sort_by_key(|credit| (credit.expires.is_none(), credit.expires));
    let mut to_pay = gross.clone();
    let mut uses = Vec::new();
    for credit in usable {
        let before = used.get(&credit.name).cloned().unwrap_or_else(Exact::zero);
        let left = &credit.amount - before;
        let pays = left.clone().min(to_pay.clone()).max(Exact::zero());
        to_pay -= &pays;
        if left.is_positive() {
            uses.push(CreditUse { name: credit.name.clone(), left: left - &pays, used: pays });
        }
    }
    uses
}
