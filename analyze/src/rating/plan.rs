//! What has to be measured before a contract's period can be rated.

use std::fmt;

use jiff::civil::Date;
use schemas::vocab::PerDirection;

use super::line::Share;
use crate::tariff::{
    Charge, Contract, Days, Filter, Item, Metric, Percentile, Pricing, Prorate, Span, Subject,
    Tariff, Tariffs, Validity, Version, Windows, billing_period,
};

/// One contract over one billing period.
#[derive(Debug, Clone)]
pub struct Plan<'t> {
    /// The contract.
    pub contract: &'t Contract,
    /// Its tariff.
    pub tariff: &'t Tariff,
    /// The period, whether the contract holds for all of it or not.
    pub period: Days,
    /// The days of the period for which the contract holds.
    pub active: Days,
    /// What is charged, part by part of the period, in the order of the file.
    pub positions: Vec<Position<'t>>,
}

/// An item over a part of the period in which prices and contract stay as they are.
#[derive(Debug, Clone)]
pub struct Position<'t> {
    /// The prices.
    pub version: &'t Version,
    /// The item.
    pub item: &'t Item,
    /// The part.
    pub days: Days,
    /// The part of what is for a whole period; `None`: all of it.
    pub share: Option<Share>,
    /// What has to be measured: nothing for a fee, one per window, else one.
    pub needs: Vec<Need<'t>>,
}

/// Something that has to be measured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Need<'t> {
    /// Whose traffic.
    pub subject: &'t Subject,
    /// What part of it.
    pub filter: &'t Filter,
    /// What of it.
    pub measure: Measure<'t>,
    /// When, ascending; a slot belongs to the span that its start is in.
    pub spans: Vec<Span>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure<'t> {
    /// `bytes_up` and `bytes_down`.
    Bytes,
    /// Sessions that began.
    Sessions,
    /// Datagrams of both directions.
    Datagrams,
    /// A percentile.
    Percentile(&'t Percentile),
}

/// The answer to a [`Need`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    /// To [`Measure::Bytes`]; never negative.
    Bytes(PerDirection<i128>),
    /// To [`Measure::Sessions`] and [`Measure::Datagrams`]; never negative.
    Count(i128),
    /// To [`Measure::Percentile`].
    Percentile(Figure),
}

/// A percentile as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The bytes of the deciding slot; 0 when no slot was known.
    pub bytes: i128,
    /// The length of a slot in seconds, at least 1.
    pub slot_len_s: u32,
    /// The start of the deciding slot, microseconds since 1970 UTC; `None` without one.
    pub slot_start_us: Option<i64>,
    /// Slots that were to be ranked.
    pub expected: u64,
    /// Slots of which something is known.
    pub known: u64,
}

/// Why a contract's period has no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    /// The contract holds where its tariff does not.
    #[error(
        "{subject} has a contract for {days}, but its tariff {tariff} has prices {validity}: \
         give the contract a valid_from and valid_to within that, or the tariff prices for those days"
    )]
    NoPrices {
        /// Whose contract.
        subject: Subject,
        /// The tariff's name.
        tariff: String,
        /// The contract's days in the period.
        days: Days,
        /// How long the tariff has prices.
        validity: Validity,
    },
    /// The month is at the edge of the calendar.
    #[error("no billing period begins in {0}: the calendar ends there")]
    Calendar(Date),
}

/// What was measured does not answer what was asked: a bug of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("need {at} of {needs} was answered with something else, or not at all")]
pub struct Mismatch {
    /// The need, from 0.
    pub at: usize,
    /// How many there are.
    pub needs: usize,
}

impl<'t> Plan<'t> {
    /// The plan of `contract` for the period that begins in the month of `month`; `None` when the
    /// contract holds on none of its days.
    ///
    /// # Errors
    /// The tariff has no prices for some of the days, or the calendar ends.
    pub fn new(
        tariffs: &'t Tariffs,
        contract: &'t Contract,
        month: Date,
    ) -> Result<Option<Self>, Unpriced> {
        let tariff = &tariffs.tariffs[contract.tariff];
        let period = billing_period(month, tariff.anchor_day).ok_or(Unpriced::Calendar(month))?;
        let Some(active) = period.intersect(contract.validity) else { return Ok(None) };
        let parts: Vec<(&Version, Days)> = tariff
            .versions
            .iter()
            .filter_map(|version| Some((version, active.intersect(version.validity)?)))
            .collect();
        if parts.iter().map(|(_, days)| days.count()).sum::<u32>() != active.count() {
            return Err(Unpriced::NoPrices {
                subject: contract.subject.clone(),
                tariff: tariff.name.clone(),
                days: active,
                validity: tariff.validity(),
            });
        }
        let mut positions = Vec::new();
        for (version, days) in parts {
            let span = days.span(&tariff.zone).ok_or(Unpriced::Calendar(month))?;
            for item in &version.items {
                let whole = match item.prorate {
                    Prorate::Days => period,
                    Prorate::None => active,
                };
                let share = Share { days: days.count(), of: whole.count() };
                let share = (share.days != share.of).then_some(share);
                let needs = needs(contract, tariff, item, span);
                positions.push(Position { version, item, days, share, needs });
            }
        }
        Ok(Some(Self { contract, tariff, period, active, positions }))
    }

    /// Everything that has to be measured, in the order in which [`Plan::rate`] takes the answers.
    pub fn needs(&self) -> impl Iterator<Item = &Need<'t>> {
        self.positions.iter().flat_map(|position| &position.needs)
    }
}

fn needs<'t>(
    contract: &'t Contract,
    tariff: &'t Tariff,
    item: &'t Item,
    span: Span,
) -> Vec<Need<'t>> {
    let Charge::Usage(usage) = &item.charge else { return Vec::new() };
    let measure = match &usage.metric {
        Metric::Up | Metric::Down | Metric::Sum | Metric::Max => Measure::Bytes,
        Metric::Sessions => Measure::Sessions,
        Metric::Datagrams => Measure::Datagrams,
        Metric::Percentile(percentile) => Measure::Percentile(percentile),
    };
    let spans = match &usage.pricing {
        Pricing::Windows(windows) => Windows::spans(windows, span, &tariff.zone),
        Pricing::Plain { .. } | Pricing::Commit { .. } => vec![vec![span]],
    };
    let need = |spans| Need { subject: &contract.subject, filter: &usage.filter, measure, spans };
    spans.into_iter().map(need).collect()
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Customer(name) => write!(f, "customer {name}"),
            Self::Rule(name) => write!(f, "rule {name}"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}
