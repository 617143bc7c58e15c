//! What a quantity costs: `price`, `tiers`, `package`, `windows`, `commit`.

use num_traits::Zero as _;
use schemas::config::{Section, Value};

use super::{Reader, optional, value, window};
use crate::exact::{self, Exact};
use crate::tariff::{Metric, Price, Pricing, Tier, Unit};

/// Most tiers of an item.
const MAX_TIERS: usize = 64;

const PRICE_HELP: &str = "write price = \"0.02\" (of a unit), or tiers, a package or windows";

/// The keys of an item that say what it costs.
struct Keys<'d> {
    price: Option<Value<'d>>,
    model: Option<Value<'d>>,
    tiers: Option<Value<'d>>,
    package: Option<Value<'d>>,
    windows: Option<Value<'d>>,
    allowance: Option<Value<'d>>,
    commit: Option<Value<'d>>,
    overage: Option<Value<'d>>,
}

/// The pricing of an item at `place`. What depends on a metric or a unit that is wrong is not
/// judged.
pub(super) fn read(
    place: &Value<'_>,
    metric: Option<&Metric>,
    unit: Option<Unit>,
    section: &mut Section<'_>,
    reader: &mut Reader<'_>,
) -> Option<Pricing> {
    let keys = Keys {
        price: section.get("price"),
        model: section.get("model"),
        tiers: section.get("tiers"),
        package: section.get("package"),
        windows: section.get("windows"),
        allowance: section.get("allowance"),
        commit: section.get("commit"),
        overage: section.get("overage"),
    };
    if !fit_together(place, metric, &keys, reader) {
        return None;
    }
    let allowance = match &keys.allowance {
        Some(value) => unit.and_then(|unit| value::quantity(value, unit, reader)),
        None => Some(Exact::zero()),
    };
    let pricing = match &keys {
        Keys { windows: Some(windows), .. } => Pricing::Windows(window::read(windows, reader)?),
        Keys { commit: Some(commit), price: Some(price), .. } => {
            let price = value::amount(price, reader);
            let overage = match &keys.overage {
                Some(value) => value::amount(value, reader),
                None => price.clone(),
            };
            let commit = value::quantity(commit, unit?, reader);
            Pricing::Commit { commit: commit?, price: price?, overage: overage? }
        }
        _ => {
            let price = price(&keys, unit, reader);
            Pricing::Plain { allowance: allowance?, price: price? }
        }
    };
    Some(pricing)
}

fn price(keys: &Keys<'_>, unit: Option<Unit>, reader: &mut Reader<'_>) -> Option<Price> {
    if let Some(price) = &keys.price {
        return value::amount(price, reader).map(Price::PerUnit);
    }
    if let Some(package_of) = &keys.package {
        return package(package_of, unit, reader);
    }
    let value = keys.tiers.as_ref()?;
    let words = [("graduated", true), ("volume", false)];
    let Some(model) = &keys.model else {
        let help = "write model = \"graduated\" (each unit at the price of its tier) or \
                    \"volume\" (all units at the price of the tier that is reached)";
        reader.fault(value, "how the tiers are meant is not said", help);
        return None;
    };
    let graduated = value::word(model, &words, reader);
    let tiers = tiers(value, unit, reader);
    Some(if graduated? { Price::Graduated(tiers?) } else { Price::Volume(tiers?) })
}

/// Whether the keys are there that need each other, and no others.
fn fit_together(
    place: &Value<'_>,
    metric: Option<&Metric>,
    keys: &Keys<'_>,
    reader: &mut Reader<'_>,
) -> bool {
    let ways = [&keys.price, &keys.tiers, &keys.package, &keys.windows];
    let mut fit = true;
    let mut wrong = |reader: &mut Reader<'_>, value: &Value<'_>, message: &str, help: &str| {
        reader.fault(value, message, help);
        fit = false;
    };
    let mut given = ways.into_iter().flatten();
    match given.next() {
        None => wrong(reader, place, "the item has no price", PRICE_HELP),
        Some(first) => {
            let name = value::last(first).to_owned();
            for second in given {
                let message = format!("the item has a price already, by {name}");
                wrong(reader, second, &message, "remove one of them, or make two items of it");
            }
        }
    }
    if let (Some(model), None) = (&keys.model, &keys.tiers) {
        wrong(reader, model, "there are no tiers that it could be about", "remove it");
    }
    if let (Some(overage), None) = (&keys.overage, &keys.commit) {
        let help = "write commit too, the rate that is paid whether used or not";
        wrong(reader, overage, "there is no commit that could be exceeded", help);
    }
    if let (Some(allowance), Some(_)) = (&keys.allowance, &keys.windows) {
        let help = "remove it: which window's traffic were free would not be said";
        wrong(reader, allowance, "an item with windows has no allowance", help);
    }
    let Some(commit) = &keys.commit else { return fit };
    if metric.is_some_and(|metric| !matches!(metric, Metric::Percentile(_))) {
        wrong(reader, commit, "only a percentile has a commit", "write minimum, in money");
    }
    if keys.price.is_none() && ways.into_iter().any(Option::is_some) {
        wrong(reader, commit, "a commit needs a price of a unit", "write price = \"2.00\"");
    }
    if let Some(allowance) = &keys.allowance {
        let help = "remove one of them: both say what is paid beforehand";
        wrong(reader, allowance, "an item with a commit has no allowance", help);
    }
    fit
}

fn package(value: &Value<'_>, unit: Option<Unit>, reader: &mut Reader<'_>) -> Option<Price> {
    let mut section = value.section(&mut reader.findings)?;
    const SIZE_HELP: &str = "write how much is in one, as in { size = \"100\", price = \"9\" }";
    const PRICE_HELP: &str = "write what one costs, as in { size = \"100\", price = \"9\" }";
    let size = section.require("size", SIZE_HELP, &mut reader.findings);
    let price = section.require("price", PRICE_HELP, &mut reader.findings);
    section.finish(&mut reader.findings);
    let price = price.and_then(|price| value::amount(&price, reader));
    let size = size.and_then(|place| {
        let size = value::quantity(&place, unit?, reader);
        value::positive(&place, size, reader)
    });
    Some(Price::Package { size: size?, price: price? })
}

fn tiers(value: &Value<'_>, unit: Option<Unit>, reader: &mut Reader<'_>) -> Option<Vec<Tier>> {
    const HELP: &str =
        "write tiers = [{ up_to = \"1000\", price = \"0.10\" }, { price = \"0.05\" }]";
    let tables = reader.tables_of(value, HELP, MAX_TIERS);
    let count = tables.len();
    if count == 0 && value.is_array() {
        reader.fault(value, "there are no tiers", HELP);
    }
    let mut good = count > 0;
    let mut last = Exact::zero();
    let mut tiers = Vec::new();
    for (at, (place, section)) in tables.into_iter().enumerate() {
        let tier = tier(section, unit, reader);
        let Some((bound, tier)) = tier else {
            good = false;
            continue;
        };
        let is_last = at + 1 == count;
        match (&tier.up_to, is_last) {
            (Some(up_to), _) if *up_to <= last => {
                let begin = exact::short(&last, 6);
                let message = format!("the tier ends where it begins, at {begin}, or before");
                let help = format!(
                    "write more than {begin}: tiers ascend, each from where the one before it ends"
                );
                reader.fault(bound.as_ref().unwrap_or(&place), message, help);
                good = false;
            }
            (Some(up_to), true) => {
                let end = exact::short(up_to, 6);
                let help =
                    format!("remove up_to = \"{end}\", or add a tier without one for the rest");
                reader.fault(&place, format!("what is above {end} has no price"), help);
                good = false;
            }
            (None, false) => {
                let help = "write up_to, the last quantity in it, or remove the tiers after it";
                reader.fault(&place, "the tier has no end, but others follow it", help);
                good = false;
            }
            (Some(_), false) | (None, true) => {}
        }
        last = tier.up_to.clone().unwrap_or(last);
        tiers.push(tier);
    }
    good.then_some(tiers)
}

/// A tier, and the place of its end.
fn tier<'d>(
    mut section: Section<'d>,
    unit: Option<Unit>,
    reader: &mut Reader<'_>,
) -> Option<(Option<Value<'d>>, Tier)> {
    const HELP: &str = "write what a unit costs in this tier, as in price = \"0.05\"; price = \"0\" \
                        when its fee is all";
    let bound = section.get("up_to");
    let up_to = match &bound {
        Some(value) => unit.and_then(|unit| value::quantity(value, unit, reader)).map(Some),
        None => Some(None),
    };
    let price = section.require("price", HELP, &mut reader.findings);
    let price = price.and_then(|price| value::amount(&price, reader));
    let fee = optional(&mut section, "fee", Exact::zero(), |fee| value::amount(fee, reader));
    section.finish(&mut reader.findings);
    Some((bound, Tier { up_to: up_to?, price: price?, fee: fee? }))
}
