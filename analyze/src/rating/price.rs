//! The price models: what a quantity comes to, as charges that are not rounded yet.

use num_traits::Zero as _;

use super::line::Share;
use crate::exact::{self, Exact};
use crate::tariff::{Price, Tier, Unit};

/// A quantity at a price; becomes a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Priced {
    /// Which part of the item.
    pub(super) tier: String,
    pub(super) quantity: Exact,
    pub(super) unit: String,
    pub(super) unit_price: Exact,
    pub(super) share: Option<Share>,
}

impl Priced {
    /// What it comes to.
    pub(super) fn exact(&self) -> Exact {
        &self.quantity * &self.unit_price * Share::factor(self.share)
    }
}

/// What a position pays only a part of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    /// Of every charge: rates are paid by the time they are offered.
    pub(super) charge: Option<Share>,
    /// Of the bounds of tiers, which are for a whole period of traffic.
    pub(super) bounds: Option<Share>,
    /// Of what entering a tier costs.
    pub(super) fee: Option<Share>,
}

/// The charges for a quantity.
pub(super) fn priced(quantity: &Exact, unit: Unit, price: &Price, shares: Shares) -> Vec<Priced> {
    match price {
        Price::PerUnit(price) => vec![units("", quantity, unit, price, shares)],
        Price::Package { size, price } => vec![Priced {
            tier: String::new(),
            quantity: (quantity / size).ceil(),
            unit: format!("package of {} {unit}", exact::short(size, 6)),
            unit_price: price.clone(),
            share: shares.charge,
        }],
        Price::Graduated(tiers) => bounds(tiers, shares)
            .enumerate()
            .filter(|(at, (lower, ..))| *at == 0 || quantity > lower)
            .flat_map(|(_, (lower, upper, tier))| {
                let reached = upper.as_ref().map_or(quantity, |upper| upper.min(quantity));
                let name = tier_name(&lower, upper.as_ref(), unit);
                charges_of_tier(&name, &(reached - lower), unit, tier, shares)
            })
            .collect(),
        Price::Volume(tiers) => bounds(tiers, shares)
            .find(|(_, upper, _)| upper.as_ref().is_none_or(|upper| quantity <= upper))
            .map(|(lower, upper, tier)| {
                let name = tier_name(&lower, upper.as_ref(), unit);
                charges_of_tier(&name, quantity, unit, tier, shares)
            })
            .unwrap_or_default(),
    }
}

pub(super) fn units(
    tier: &str,
    quantity: &Exact,
    unit: Unit,
    price: &Exact,
    shares: Shares,
) -> Priced {
    Priced {
        tier: tier.to_owned(),
        quantity: quantity.clone(),
        unit: unit.name().to_owned(),
        unit_price: price.clone(),
        share: shares.charge,
    }
}

fn charges_of_tier(
    name: &str,
    quantity: &Exact,
    unit: Unit,
    tier: &Tier,
    shares: Shares,
) -> Vec<Priced> {
    let fee = (!tier.fee.is_zero()).then(|| Priced {
        tier: name.to_owned(),
        quantity: exact::whole(1),
        unit: "fee".to_owned(),
        unit_price: tier.fee.clone(),
        share: shares.fee,
    });
    fee.into_iter().chain([units(name, quantity, unit, &tier.price, shares)]).collect()
}

/// Every tier with the bounds it has in the part of the period: above the first, up to the second.
fn bounds(tiers: &[Tier], shares: Shares) -> impl Iterator<Item = (Exact, Option<Exact>, &Tier)> {
    let factor = Share::factor(shares.bounds);
    let mut lower = Exact::zero();
    tiers.iter().map(move |tier| {
        let upper = tier.up_to.as_ref().map(|up_to| up_to * &factor);
        let next = upper.clone().unwrap_or_else(|| lower.clone());
        (std::mem::replace(&mut lower, next), upper, tier)
    })
}

fn tier_name(lower: &Exact, upper: Option<&Exact>, unit: Unit) -> String {
    let show = |bound: &Exact| exact::short(bound, 6);
    match upper {
        Some(upper) if lower.is_zero() => format!("up to {} {unit}", show(upper)),
        Some(upper) => format!("over {} up to {} {unit}", show(lower), show(upper)),
        None if lower.is_zero() => String::new(),
        None => format!("over {} {unit}", show(lower)),
    }
}
