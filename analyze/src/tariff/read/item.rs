//! `[[tariff.item]]`: one thing that is charged for.

use num_traits::Zero as _;
use schemas::config::{Section, Value};

use super::{Reader, optional, pricing, value};
use crate::exact::Exact;
use crate::tariff::{
    Charge, Filter, Item, Metric, Missing, Mode, Percentile, Prorate, Rank, Rounding, Unit, Usage,
};

/// Most digits behind the point that a quantity is rounded to.
const MAX_PLACES: u64 = 18;

/// Lengths of slots that may be asked for, in seconds.
const SLOT_S: std::ops::RangeInclusive<u64> = 1..=86_400;

/// Keys that say something about what is measured, and nothing about a fee.
const USAGE_KEYS: [&str; 14] = [
    "metric",
    "unit",
    "services",
    "rules",
    "rounding",
    "allowance",
    "price",
    "model",
    "tiers",
    "package",
    "windows",
    "percentile",
    "commit",
    "overage",
];

/// Metrics that need no contract of their own.
#[derive(Clone, Copy)]
enum Word {
    Up,
    Down,
    Sum,
    Max,
    Sessions,
    Datagrams,
    P95,
}

const METRICS: [(&str, Word); 7] = [
    ("up", Word::Up),
    ("down", Word::Down),
    ("sum", Word::Sum),
    ("max", Word::Max),
    ("sessions", Word::Sessions),
    ("datagrams", Word::Datagrams),
    ("p95", Word::P95),
];

/// The item, and its name with its place. Either is `None` when something is wrong with it.
pub(super) fn read<'d>(
    place: &Value<'d>,
    mut section: Section<'d>,
    reader: &mut Reader<'_>,
) -> (Option<(Value<'d>, String)>, Option<Item>) {
    const NAME_HELP: &str = "write what the invoice is to call it: name = \"traffic\"";
    let name = section.require("name", NAME_HELP, &mut reader.findings);
    let name = name.and_then(|place| Some((place.clone(), value::title(&place, reader)?)));
    let charge = charge(place, &mut section, reader);
    let none = Exact::zero();
    let discount = optional(&mut section, "discount", none, |off| value::percent(off, reader));
    let bounds = bounds(&mut section, reader);
    let prorate = optional(&mut section, "prorate", Prorate::Days, |word| {
        value::word(word, &[("days", Prorate::Days), ("none", Prorate::None)], reader)
    });
    let tax = optional(&mut section, "tax", None, |tax| value::percent(tax, reader).map(Some));
    section.finish(&mut reader.findings);
    let item = || {
        let (minimum, maximum) = bounds?;
        Some(Item {
            name: name.as_ref()?.1.clone(),
            charge: charge?,
            discount_percent: discount?,
            maximum,
            minimum,
            prorate: prorate?,
            tax_percent: tax?,
        })
    };
    let item = item();
    (name, item)
}

/// `minimum` and `maximum`. The outer `None` is for a fault.
fn bounds(
    section: &mut Section<'_>,
    reader: &mut Reader<'_>,
) -> Option<(Option<Exact>, Option<Exact>)> {
    let place = section.get("minimum");
    let minimum = match &place {
        Some(value) => value::amount(value, reader).map(Some),
        None => Some(None),
    };
    let maximum =
        optional(section, "maximum", None, |value| value::amount(value, reader).map(Some));
    let bounds = (minimum?, maximum?);
    if let ((Some(minimum), Some(maximum)), Some(place)) = (&bounds, place)
        && minimum > maximum
    {
        reader.fault(
            &place,
            "the minimum is above the maximum",
            "write less, or remove one of them",
        );
        return None;
    }
    Some(bounds)
}

fn charge(place: &Value<'_>, section: &mut Section<'_>, reader: &mut Reader<'_>) -> Option<Charge> {
    let Some(fee) = section.get("fee") else {
        return usage(place, section, reader).map(|usage| Charge::Usage(Box::new(usage)));
    };
    let mut alone = true;
    for value in USAGE_KEYS.into_iter().filter_map(|key| section.get(key)) {
        let help = "remove it, or remove fee; an item charges either a fee or for what passed";
        reader.fault(&value, "it says nothing about a fee", help);
        alone = false;
    }
    let fee = value::amount(&fee, reader)?;
    alone.then_some(Charge::Fee(fee))
}

fn usage(place: &Value<'_>, section: &mut Section<'_>, reader: &mut Reader<'_>) -> Option<Usage> {
    const METRIC_HELP: &str = "write what is measured, as in metric = \"sum\", or a fee";
    let metric = section.require("metric", METRIC_HELP, &mut reader.findings);
    let metric = metric.and_then(|word| value::word(&word, &METRICS, reader));
    let metric = metric_of(metric, section, reader);
    let services = optional(section, "services", Vec::new(), |list| value::names(list, reader));
    let rules = optional(section, "rules", Vec::new(), |list| value::names(list, reader));
    let rounding = optional(section, "rounding", Rounding::None, |value| rounding(value, reader));
    let unit = unit(metric.as_ref(), section, reader);
    let pricing = pricing::read(place, metric.as_ref(), unit, section, reader);
    Some(Usage {
        metric: metric?,
        filter: Filter { services: services?, rules: rules? },
        unit: unit?,
        rounding: rounding?,
        pricing: pricing?,
    })
}

/// The metric with what `percentile` says of it.
fn metric_of(
    word: Option<Word>,
    section: &mut Section<'_>,
    reader: &mut Reader<'_>,
) -> Option<Metric> {
    let contract = section.get("percentile");
    if let Some(Word::P95) | None = word {
        let percentile = percentile(contract.as_ref(), reader)?;
        return word.map(|_| Metric::Percentile(percentile));
    }
    if let Some(contract) = contract {
        let help = "write metric = \"p95\", or remove it";
        reader.fault(&contract, "nothing of this item is a percentile", help);
        return None;
    }
    Some(match word? {
        Word::Up => Metric::Up,
        Word::Down => Metric::Down,
        Word::Sum => Metric::Sum,
        Word::Max => Metric::Max,
        Word::Sessions => Metric::Sessions,
        Word::Datagrams => Metric::Datagrams,
        Word::P95 => return None,
    })
}

fn percentile(value: Option<&Value<'_>>, reader: &mut Reader<'_>) -> Option<Percentile> {
    let default = Percentile {
        percent: 95,
        mode: Mode::MaxOfP95,
        rank: Rank::Ceil,
        missing: Missing::Exclude,
        slot_s: None,
    };
    let Some(value) = value else { return Some(default) };
    let mut section = value.section(&mut reader.findings)?;
    let percent = optional(&mut section, "percent", default.percent, |percent| {
        u8::try_from(percent.integer(1..=100, &mut reader.findings)?).ok()
    });
    let mode = optional(&mut section, "mode", default.mode, |word| {
        value::word(
            word,
            &Mode::ALL.iter().map(|mode| (mode.as_str(), *mode)).collect::<Vec<_>>(),
            reader,
        )
    });
    let rank = optional(&mut section, "rank", default.rank, |word| {
        value::word(
            word,
            &Rank::ALL.iter().map(|rank| (rank.as_str(), *rank)).collect::<Vec<_>>(),
            reader,
        )
    });
    let missing = optional(&mut section, "missing", default.missing, |word| {
        let words: Vec<_> = Missing::ALL.iter().map(|word| (word.as_str(), *word)).collect();
        value::word(word, &words, reader)
    });
    let slot_s = optional(&mut section, "slot", None, |slot| slot_s(slot, reader).map(Some));
    section.finish(&mut reader.findings);
    Some(Percentile {
        percent: percent?,
        mode: mode?,
        rank: rank?,
        missing: missing?,
        slot_s: slot_s?,
    })
}

fn slot_s(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<u32> {
    let duration = value.duration(&mut reader.findings)?;
    let seconds = duration.as_secs();
    let whole = duration.subsec_nanos() == 0;
    let divides = SLOT_S.contains(&seconds) && SLOT_S.end().is_multiple_of(seconds);
    if !whole || !divides {
        reader.fault(
            value,
            "no day has a whole number of such slots",
            "write \"300s\" or the like",
        );
        return None;
    }
    u32::try_from(seconds).ok()
}

fn rounding(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Rounding> {
    const MODE_HELP: &str = "write rounding = { mode = \"ceil\", places = 0 }";
    let mut section = value.section(&mut reader.findings)?;
    let mode = section.require("mode", MODE_HELP, &mut reader.findings);
    let places = optional(&mut section, "places", 0, |places| {
        u32::try_from(places.integer(0..=MAX_PLACES, &mut reader.findings)?).ok()
    });
    section.finish(&mut reader.findings);
    let words = [
        ("none", Rounding::None),
        ("ceil", Rounding::Ceil(places.unwrap_or(0))),
        ("floor", Rounding::Floor(places.unwrap_or(0))),
        ("half_up", Rounding::HalfUp(places.unwrap_or(0))),
    ];
    let mode = value::word(&mode?, &words, reader)?;
    places.map(|_| mode)
}

/// The unit; where a metric has only one, it may be left out.
fn unit(
    metric: Option<&Metric>,
    section: &mut Section<'_>,
    reader: &mut Reader<'_>,
) -> Option<Unit> {
    let dimension = metric.map(Metric::dimension);
    let value = match (section.get("unit"), dimension) {
        (Some(value), _) => value,
        (None, Some(dimension)) if dimension.units().count() == 1 => {
            return dimension.units().next();
        }
        (None, _) => {
            const HELP: &str = "write what prices are for: unit = \"GB\" (10⁹ bytes), \"GiB\" \
                                (2³⁰ bytes), \"Mbit/s\" or the like";
            section.require("unit", HELP, &mut reader.findings);
            return None;
        }
    };
    let text = value.text("write the name of a unit, as in unit = \"GB\"", &mut reader.findings)?;
    let Some(unit) = Unit::of(text) else {
        let near = match text {
            "Mbps" => Some("Mbit/s"),
            "Gbps" => Some("Gbit/s"),
            "kbps" => Some("kbit/s"),
            "KB" => Some("kB"),
            _ => None,
        };
        let help = match (near, dimension) {
            (Some(near), _) => format!("write {near:?}"),
            (None, Some(dimension)) => value::one_of(dimension.units().map(Unit::name)),
            (None, None) => "write \"GB\", \"GiB\", \"Mbit/s\", \"session\" or the like".to_owned(),
        };
        let shown: String = text.chars().take(40).collect();
        reader.fault(&value, format!("there is no unit {shown:?}"), help);
        return None;
    };
    if let Some(dimension) = dimension
        && unit.dimension() != dimension
    {
        let help = value::one_of(dimension.units().map(Unit::name));
        reader.fault(&value, format!("{unit} is not what the metric is measured in"), help);
        return None;
    }
    Some(unit)
}
