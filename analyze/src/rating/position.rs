//! A position from what was measured to its lines, step by step.

use num_traits::{Signed as _, Zero as _};
use serde::{Deserialize, Serialize};

use super::line::{Kind, Line, Share};
use super::plan::{Measured, Mismatch, Plan, Position};
use super::price::{Priced, Shares, priced, units};
use super::step::{Step, StepKind, Trace};
use crate::exact::{self, Exact};
use crate::tariff::{Charge, Dimension, Metric, Pricing, Rounding, Usage};

/// Coverage below which a line is marked as estimated, in percent.
const ESTIMATED_BELOW_PERCENT: u128 = 99;

/// Digits behind the point of quantities that no decimal ends, in a trace.
const TRACE_PLACES: u32 = 9;

/// A rated period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rated {
    /// Its positions, in the order of the plan.
    pub positions: Vec<RatedPosition>,
}

/// A rated position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatedPosition {
    /// Its lines, at least one.
    pub lines: Vec<Line>,
    /// How they came about.
    pub trace: Vec<Step>,
}

impl Rated {
    /// All lines.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.positions.iter().flat_map(|position| &position.lines)
    }
}

impl Plan<'_> {
    /// The lines for what was measured, one answer for each of [`Plan::needs`], in their order.
    ///
    /// # Errors
    /// An answer is missing, is one too many, or is of the wrong kind.
    pub fn rate(&self, measured: &[Measured]) -> Result<Rated, Mismatch> {
        let needs = self.needs().count();
        let mut at = 0;
        let mut positions = Vec::new();
        for position in &self.positions {
            let end = at + position.needs.len();
            let answers = measured.get(at..end).ok_or(Mismatch { at: measured.len(), needs })?;
            let rating = Rating { plan: self, position, estimated: is_estimated(answers) };
            let rated = rating.rate(answers).map_err(|wrong| Mismatch { at: at + wrong, needs })?;
            positions.push(rated);
            at = end;
        }
        if at == measured.len() { Ok(Rated { positions }) } else { Err(Mismatch { at, needs }) }
    }
}

/// Whether too little is known of a percentile's slots.
fn is_estimated(answers: &[Measured]) -> bool {
    answers.iter().any(|answer| match answer {
        Measured::Percentile(figure) => {
            u128::from(figure.known) * 100 < u128::from(figure.expected) * ESTIMATED_BELOW_PERCENT
        }
        Measured::Bytes(_) | Measured::Count(_) => false,
    })
}

struct Rating<'p, 't> {
    plan: &'p Plan<'t>,
    position: &'p Position<'t>,
    estimated: bool,
}

impl Rating<'_, '_> {
    /// Fails with the number of an answer of the wrong kind.
    fn rate(&self, answers: &[Measured]) -> Result<RatedPosition, usize> {
        let mut trace = Trace::default();
        let charges = match &self.position.item.charge {
            Charge::Fee(fee) => vec![Priced {
                tier: String::new(),
                quantity: exact::whole(1),
                unit: "fee".to_owned(),
                unit_price: fee.clone(),
                share: self.position.share,
            }],
            Charge::Usage(usage) => self.charges(usage, answers, &mut trace)?,
        };
        let mut lines: Vec<Line> =
            charges.into_iter().map(|priced| self.line(priced, &mut trace)).collect();
        self.keep_to_maximum(&mut lines, &mut trace);
        self.fill_to_minimum(&mut lines, &mut trace);
        Ok(RatedPosition { lines, trace: trace.into_steps() })
    }

    fn charges(
        &self,
        usage: &Usage,
        answers: &[Measured],
        trace: &mut Trace,
    ) -> Result<Vec<Priced>, usize> {
        let mut quantities = Vec::new();
        for (at, answer) in answers.iter().enumerate() {
            let window = match &usage.pricing {
                Pricing::Windows(windows) => windows.list().get(at).map(|window| &*window.name),
                Pricing::Plain { .. } | Pricing::Commit { .. } => None,
            };
            quantities.push(quantity(usage, answer, window, trace).ok_or(at)?);
        }
        let shares = self.shares(usage);
        let Some(quantity) = quantities.first() else { return Err(0) };
        Ok(match &usage.pricing {
            Pricing::Plain { allowance, price } => {
                let left = self.less_allowance(quantity, usage, allowance, shares, trace);
                priced(&left, usage.unit, price, shares)
            }
            Pricing::Windows(windows) => windows
                .list()
                .iter()
                .zip(&quantities)
                .map(|(window, quantity)| {
                    units(&window.name, quantity, usage.unit, &window.price, shares)
                })
                .collect(),
            Pricing::Commit { commit, price, overage } => {
                let above = (quantity - commit).max(Exact::zero());
                vec![
                    units("commit", commit, usage.unit, price, shares),
                    units("overage", &above, usage.unit, overage, shares),
                ]
            }
        })
    }

    /// What is paid only in part. Traffic adds up over a period, so what is free of it and where
    /// its tiers end is for the whole of one; a rate does not, so its price is.
    fn shares(&self, usage: &Usage) -> Shares {
        let share = self.position.share;
        match usage.metric.dimension() {
            Dimension::Rate => Shares { charge: share, bounds: None, fee: share },
            Dimension::Bytes | Dimension::Sessions | Dimension::Datagrams => {
                Shares { charge: None, bounds: share, fee: share }
            }
        }
    }

    fn less_allowance(
        &self,
        quantity: &Exact,
        usage: &Usage,
        allowance: &Exact,
        shares: Shares,
        trace: &mut Trace,
    ) -> Exact {
        if allowance.is_zero() {
            return quantity.clone();
        }
        let free = allowance * Share::factor(shares.bounds);
        let left = (quantity - &free).max(Exact::zero());
        let unit = usage.unit;
        let free = match shares.bounds {
            Some(_) => format!("{}{}", show(allowance), times(shares.bounds)),
            None => show(&free),
        };
        let text = format!("{} - {free} = {} {unit}", show(quantity), show(&left));
        trace.say(StepKind::Allowance, text);
        left
    }

    fn line(&self, priced: Priced, trace: &mut Trace) -> Line {
        let (item, currency) = (self.position.item, self.plan.tariff.currency);
        let gross = priced.exact();
        let calculation = format!(
            "{}{} x {}{} = {} {currency}",
            prefix(&priced.tier),
            show(&priced.quantity),
            show(&priced.unit_price),
            times(priced.share),
            show(&gross)
        );
        trace.say(StepKind::Price, calculation);
        let mut net = gross.clone();
        for percent in [&item.discount_percent, &self.plan.contract.discount_percent] {
            if percent.is_zero() {
                continue;
            }
            let off = &net * percent / exact::whole(100);
            let text = format!("{} x {} % = {}", show(&net), show(percent), show(&off));
            trace.say(StepKind::Discount, format!("{}{text}", prefix(&priced.tier)));
            net -= off;
        }
        let amount = currency.round(&net);
        let text = format!("{} -> {} {currency}", show(&net), currency.text(&amount));
        trace.say(StepKind::Line, format!("{}{text}", prefix(&priced.tier)));
        Line {
            tier: priced.tier,
            quantity: priced.quantity,
            unit: priced.unit,
            unit_price: priced.unit_price,
            share: priced.share,
            discount: gross - net,
            ..self.amount(Kind::Charge, amount)
        }
    }

    /// A line that is an amount of money.
    fn amount(&self, kind: Kind, amount: Exact) -> Line {
        let Position { version, item, days, .. } = self.position;
        let tax = self.plan.contract.tax_percent.as_ref().or(item.tax_percent.as_ref());
        Line {
            item: item.name.clone(),
            tier: String::new(),
            kind,
            first_day: days.first,
            last_day: days.last(),
            quantity: exact::whole(1),
            unit: String::new(),
            unit_price: amount.clone(),
            share: None,
            discount: Exact::zero(),
            amount,
            tax_percent: tax.unwrap_or(&version.tax_percent).clone(),
            estimated: self.estimated,
        }
    }

    fn keep_to_maximum(&self, lines: &mut Vec<Line>, trace: &mut Trace) {
        if let Some(maximum) = &self.position.item.maximum {
            let over = |difference: &Exact| difference.is_negative();
            self.settle(lines, Kind::Maximum, maximum, over, trace);
        }
    }

    fn fill_to_minimum(&self, lines: &mut Vec<Line>, trace: &mut Trace) {
        if let Some(minimum) = &self.position.item.minimum {
            let under = |difference: &Exact| difference.is_positive();
            self.settle(lines, Kind::Minimum, minimum, under, trace);
        }
    }

    /// Adds the line that makes the sum the bound, if `needed` for the difference to it.
    fn settle(
        &self,
        lines: &mut Vec<Line>,
        kind: Kind,
        bound: &Exact,
        needed: impl FnOnce(&Exact) -> bool,
        trace: &mut Trace,
    ) {
        let currency = self.plan.tariff.currency;
        let share = self.position.share;
        let exact_bound = bound * Share::factor(share);
        let rounded = currency.round(&exact_bound);
        let sum: Exact = lines.iter().map(|line| &line.amount).sum();
        let difference = &rounded - &sum;
        if !needed(&difference) {
            return;
        }
        let bound = match share {
            Some(_) => {
                format!("{}{} -> {}", show(bound), times(share), currency.text(&rounded))
            }
            None => currency.text(&rounded),
        };
        let step = if kind == Kind::Maximum { StepKind::Maximum } else { StepKind::Minimum };
        let text = format!(
            "{bound} - {} = {} {currency}",
            currency.text(&sum),
            currency.text(&difference)
        );
        trace.say(step, text);
        lines.push(self.amount(kind, difference));
    }
}

/// The quantity in the item's unit, rounded as the item says. `None`: the answer is of the wrong
/// kind.
fn quantity(
    usage: &Usage,
    answer: &Measured,
    window: Option<&str>,
    trace: &mut Trace,
) -> Option<Exact> {
    let window = prefix(window.unwrap_or_default());
    let (base, text) = measured(&usage.metric, answer)?;
    trace.say(StepKind::Measured, format!("{window}{text}"));
    let unit = usage.unit;
    let converted = &base / unit.base();
    let also = unit
        .counterpart()
        .map(|other| format!(" ({} {other})", exact::short(&(&base / other.base()), 4)));
    let text = format!(
        "{} / {} = {} {unit}{}",
        show(&base),
        show(&unit.base()),
        show(&converted),
        also.unwrap_or_default()
    );
    trace.say(StepKind::Unit, format!("{window}{text}"));
    let (rounded, how) = match usage.rounding {
        Rounding::None => return Some(converted),
        Rounding::Ceil(places) => (exact::scaled(&converted, places, Exact::ceil), "up"),
        Rounding::Floor(places) => (exact::scaled(&converted, places, Exact::floor), "down"),
        Rounding::HalfUp(places) => (exact::rounded(&converted, places), "to the nearest"),
    };
    let text = format!("{} {how} -> {} {unit}", show(&converted), show(&rounded));
    trace.say(StepKind::Rounding, format!("{window}{text}"));
    Some(rounded)
}

/// What counts of an answer, in the base of its units, and the calculation.
fn measured(metric: &Metric, answer: &Measured) -> Option<(Exact, String)> {
    let (base, text) = match (metric, answer) {
        (Metric::Up, Measured::Bytes(bytes)) => (bytes.up, format!("up {} B", bytes.up)),
        (Metric::Down, Measured::Bytes(bytes)) => (bytes.down, format!("down {} B", bytes.down)),
        (Metric::Sum, Measured::Bytes(bytes)) => {
            let sum = bytes.up + bytes.down;
            (sum, format!("up {} + down {} = {sum} B", bytes.up, bytes.down))
        }
        (Metric::Max, Measured::Bytes(bytes)) => {
            let max = bytes.up.max(bytes.down);
            (max, format!("the larger of up {} and down {} = {max} B", bytes.up, bytes.down))
        }
        (Metric::Sessions, Measured::Count(count)) => (*count, format!("{count} sessions")),
        (Metric::Datagrams, Measured::Count(count)) => (*count, format!("{count} datagrams")),
        (Metric::Percentile(contract), Measured::Percentile(figure)) => {
            let rate = exact::fraction(figure.bytes * 8, figure.slot_len_s.max(1));
            let text = format!(
                "p{} {} of {} slots of {}: {} B x 8 / {} s = {} bit/s",
                contract.percent,
                contract.mode.as_str(),
                figure.known,
                figure.expected,
                figure.bytes,
                figure.slot_len_s,
                show(&rate)
            );
            return Some((rate, text));
        }
        (
            Metric::Up
            | Metric::Down
            | Metric::Sum
            | Metric::Max
            | Metric::Sessions
            | Metric::Datagrams
            | Metric::Percentile(_),
            Measured::Bytes(_) | Measured::Count(_) | Measured::Percentile(_),
        ) => return None,
    };
    Some((exact::whole(base), text))
}

/// A number in a trace: in full when that is short, else as the division it is.
fn show(number: &Exact) -> String {
    let full = exact::text(number);
    if full.len() <= 24 {
        return full;
    }
    format!("~{}", exact::short(number, TRACE_PLACES))
}

fn times(share: Option<Share>) -> String {
    share.map(|Share { days, of }| format!(" x {days}/{of} days")).unwrap_or_default()
}

fn prefix(tier: &str) -> String {
    if tier.is_empty() { String::new() } else { format!("{tier}: ") }
}
