//! From a plan and what was measured to an invoice.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Month;
use super::agenda::Entry;
use super::invoice::{Adjustment, Basis, FORMAT, Invoice, Quantity, Ranked, Steps, Whose, hash};
use super::zones;
use crate::coverage::Shares;
use crate::exact::Exact;
use crate::failure::Failure;
use crate::rating::{Line, Measure, Measured, Plan, Position, Totals, adjustments};
use crate::tariff::{Charge, Pricing, Span};

/// What the figures of all invoices of a run rest on.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The month.
    pub month: Month,
    /// SHA-256 of the file of tariffs.
    pub tariffs: &'a str,
}

/// What a plan comes to.
struct RatedPlan {
    lines: Vec<Line>,
    steps: Vec<Steps>,
    quantities: Vec<Quantity>,
}

/// The invoice of an entry: `measured` answers its needs in their order, `shares` are of the time it
/// bills, `used` is what was taken of each credit.
///
/// # Errors
/// 70 when an answer does not fit, or a count fits no number.
pub fn issue(
    ground: &Ground<'_>,
    entry: &Entry<'_>,
    measured: &[Measured],
    shares: &Shares,
    used: &BTreeMap<String, Exact>,
) -> Result<Invoice, Failure> {
    let plan = &entry.plan;
    let (mine, mut rest) = measured.split_at_checked(plan.needs().count()).ok_or_else(bug)?;
    let mut rated = rate(plan, mine)?;
    let estimated = shares.is_estimated();
    for (line, measures) in rated.lines.iter_mut().zip(measures(plan, mine)?) {
        line.estimated |= measures && estimated;
    }
    let mut earlier = Vec::new();
    for again in &entry.earlier {
        let (its, others) = rest.split_at_checked(again.plan.needs().count()).ok_or_else(bug)?;
        rest = others;
        let now = rate(&again.plan, its)?;
        let lines = adjustments(&again.billed, &now.lines);
        if !lines.is_empty() {
            earlier.push(Adjustment {
                period: again.month.to_string(),
                file: again.file.clone(),
                lines,
                rated: now.lines,
                data: hash(&now.quantities),
            });
        }
    }
    let all = rated.lines.iter().chain(earlier.iter().flat_map(|earlier| &earlier.lines));
    let credits = &plan.contract.credits;
    let totals = Totals::of(plan.tariff.currency, plan.period, all, credits, used);
    let Span { since_us, until_us } = span(plan)?;
    Ok(Invoice {
        format: FORMAT,
        subject: Whose::of(&plan.contract.subject),
        tariff: plan.tariff.name.clone(),
        currency: plan.tariff.currency,
        period: ground.month.to_string(),
        first_day: plan.active.first.to_string(),
        last_day: plan.active.last().to_string(),
        tz: plan.tariff.tz.clone(),
        since: instant(since_us),
        until: instant(until_us),
        basis: Basis {
            tariffs: ground.tariffs.to_owned(),
            data: hash(&rated.quantities),
            zones: (plan.tariff.tz != "UTC").then(zones::version),
            coverage: shares.words(),
            estimated: estimated || rated.lines.iter().any(|line| line.estimated),
        },
        lines: rated.lines,
        steps: rated.steps,
        quantities: rated.quantities,
        adjustments: earlier,
        totals,
    })
}

/// The time that a plan bills.
///
/// # Errors
/// 70: the plan is of days that no zone has.
pub fn span(plan: &Plan<'_>) -> Result<Span, Failure> {
    plan.active.span(&plan.tariff.zone).ok_or_else(bug)
}

fn bug() -> Failure {
    Failure::Internal("cannot rate what was measured: it does not answer the plan".to_owned())
}

fn rate(plan: &Plan<'_>, measured: &[Measured]) -> Result<RatedPlan, Failure> {
    let rated = plan.rate(measured).map_err(|mismatch| {
        Failure::Internal(format!("cannot rate what was measured: {mismatch}"))
    })?;
    let mut quantities = Vec::new();
    let mut answers = measured.iter();
    for position in &plan.positions {
        for (at, need) in position.needs.iter().enumerate() {
            let answer = answers.next().ok_or_else(bug)?;
            quantities.push(quantity(position, at, need.measure, answer).ok_or_else(bug)?);
        }
    }
    let lines = rated.lines().cloned().collect();
    let steps = plan.positions.iter().zip(rated.positions);
    let steps = steps.map(|(position, rated)| Steps {
        item: position.item.name.clone(),
        first_day: position.days.first.to_string(),
        last_day: position.days.last().to_string(),
        steps: rated.trace,
    });
    Ok(RatedPlan { lines, steps: steps.collect(), quantities })
}

/// For every line of a plan, whether it rests on something that was measured.
fn measures(plan: &Plan<'_>, measured: &[Measured]) -> Result<Vec<bool>, Failure> {
    let rated = plan.rate(measured).map_err(|_| bug())?;
    let positions = plan.positions.iter().zip(&rated.positions);
    let of_position = |(position, rated): (&Position<'_>, &crate::rating::RatedPosition)| {
        vec![!position.needs.is_empty(); rated.lines.len()]
    };
    Ok(positions.flat_map(of_position).collect())
}

/// What an invoice says was measured; `None` when it fits no number or is no answer.
fn quantity(
    position: &Position<'_>,
    at: usize,
    measure: Measure<'_>,
    answer: &Measured,
) -> Option<Quantity> {
    let window = match &position.item.charge {
        Charge::Usage(usage) => match &usage.pricing {
            Pricing::Windows(windows) => windows.list().get(at).map(|window| window.name.clone()),
            Pricing::Plain { .. } | Pricing::Commit { .. } => None,
        },
        Charge::Fee(_) => None,
    };
    let quantity = Quantity {
        item: position.item.name.clone(),
        window: window.unwrap_or_default(),
        first_day: position.days.first.to_string(),
        last_day: position.days.last().to_string(),
        ..Quantity::default()
    };
    let number = |count: i128| i64::try_from(count).ok();
    Some(match answer {
        Measured::Bytes(bytes) => Quantity {
            bytes_up: Some(number(bytes.up)?),
            bytes_down: Some(number(bytes.down)?),
            ..quantity
        },
        Measured::Count(count) if measure == Measure::Sessions => {
            Quantity { sessions: Some(number(*count)?), ..quantity }
        }
        Measured::Count(count) => Quantity { datagrams: Some(number(*count)?), ..quantity },
        Measured::Percentile(figure) => Quantity {
            percentile: Some(Ranked {
                bytes: number(figure.bytes)?,
                slot_len_s: figure.slot_len_s,
                slot_start: figure.slot_start_us.map(instant),
                slots_expected: figure.expected,
                slots_known: figure.known,
            }),
            ..quantity
        },
    })
}

fn instant(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |time| time.to_string())
}
