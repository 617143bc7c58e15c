//! What is promised for which time: allowances, as typed or from tariffs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::tz::TimeZone;
use num_traits::{ToPrimitive as _, Zero as _};

use super::calendar::local;
use crate::cli::{Direction, ForecastArgs, Key};
use crate::exact;
use crate::failure::Failure;
use crate::period::Period;
use crate::rating::{Plan as Bill, Position};
use crate::sql;
use crate::tariff::{
    Charge, Contract, Days, Dimension, Metric, Pricing, Subject, Tariff, Tariffs, Unit,
    billing_period,
};
use crate::verify::relation;

/// An allowance, or none, for some keys and a period.
#[derive(Debug)]
pub(super) struct Plan {
    /// The first microsecond of the period.
    pub(super) since: i64,
    /// The moment of the forecast.
    pub(super) now: i64,
    /// The first microsecond behind the period.
    pub(super) until: i64,
    /// The zone of its days.
    pub(super) zone: TimeZone,
    /// The bytes that count.
    pub(super) direction: Counted,
    /// How much is included, in bytes.
    pub(super) allowance: Option<i64>,
    /// The item of the tariff.
    pub(super) item: Option<String>,
    /// Which rows of `usage` it is about.
    pub(super) conditions: Vec<String>,
    /// The keys that it is promised to; none: every key that has traffic.
    promised: Vec<String>,
}

/// Which bytes count against an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counted {
    Up,
    Down,
    Sum,
    Max,
}

impl Counted {
    /// The bytes that count of two SQL expressions.
    pub(super) fn of(self, up: &str, down: &str) -> String {
        match self {
            Self::Up => format!("({up})"),
            Self::Down => format!("({down})"),
            Self::Sum => format!("(({up}) + ({down}))"),
            Self::Max => format!("greatest({up}, {down})"),
        }
    }

    fn metric(metric: &Metric) -> Option<Self> {
        match metric {
            Metric::Up => Some(Self::Up),
            Metric::Down => Some(Self::Down),
            Metric::Sum => Some(Self::Sum),
            Metric::Max => Some(Self::Max),
            Metric::Sessions | Metric::Datagrams | Metric::Percentile(_) => None,
        }
    }
}

impl Plan {
    /// Those it is promised to, as a relation with the key's column.
    pub(super) fn subjects(&self, column: &str) -> String {
        let rows = self.promised.iter().map(|key| format!("({})", sql::text(key)));
        relation(&format!("{column} VARCHAR"), rows)
    }
}

/// The plans that the options ask for, at the moment `now`.
pub(super) fn plans(args: &ForecastArgs, period: &Period, now: i64) -> Result<Vec<Plan>, Failure> {
    match &args.tariffs {
        Some(file) => of_tariffs(args, file, period, now),
        None => Ok(vec![of_option(args, period, now)?]),
    }
}

fn of_option(args: &ForecastArgs, period: &Period, now: i64) -> Result<Plan, Failure> {
    let (since, until) = match (period.since, period.until) {
        (Some(since), Some(until)) => (since, until),
        _ => month(now, &period.zone).ok_or_else(no_month)?,
    };
    let direction = match args.direction {
        Direction::Up => Counted::Up,
        Direction::Down => Counted::Down,
        Direction::Both => Counted::Sum,
    };
    let allowance = args.allowance.as_deref().map(size).transpose()?;
    let zone = period.zone.clone();
    let conditions = Vec::new();
    Ok(Plan {
        since,
        now,
        until,
        zone,
        direction,
        allowance,
        item: None,
        conditions,
        promised: Vec::new(),
    })
}

fn no_month() -> Failure {
    Failure::Usage("the month of the forecast lies beyond the calendar".to_owned())
}

/// A size with its unit, in whole bytes.
fn size(text: &str) -> Result<i64, Failure> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = if unit.trim().is_empty() { "B" } else { unit.trim() };
    let unit = Unit::of(unit).filter(|unit| unit.dimension() == Dimension::Bytes);
    let bytes = unit.and_then(|unit| Some(exact::decimal(number)? * unit.base()));
    bytes.and_then(|bytes| bytes.to_integer().to_i64()).filter(|bytes| *bytes > 0).ok_or_else(
        || {
            Failure::Usage(format!(
                "--allowance {text:?} is no size: write '500 GB', '1.5 TB' or '200 GiB'"
            ))
        },
    )
}

/// The calendar month in which the moment before `now` lies.
fn month(now: i64, zone: &TimeZone) -> Option<(i64, i64)> {
    let span = billing_period(local(now - 1, zone)?, 1)?.span(zone)?;
    Some((span.since_us, span.until_us))
}

fn of_tariffs(
    args: &ForecastArgs,
    file: &Path,
    period: &Period,
    now: i64,
) -> Result<Vec<Plan>, Failure> {
    if args.common.period.period.is_some() {
        return Err(Failure::Usage(
            "--tariffs: periods begin on the anchor day of each tariff; leave --period out, --until is the moment of the forecast"
                .to_owned(),
        ));
    }
    let key = *args.common.by.first().unwrap_or(&Key::Customer);
    if args.common.by.len() > 1 || !matches!(key, Key::Customer | Key::Rule | Key::Service) {
        return Err(Failure::Usage(
            "--tariffs: contracts are of customers, rules or services; name one of these with --by"
                .to_owned(),
        ));
    }
    let text = fs::read_to_string(file).map_err(|error| Failure::file("read", file, &error))?;
    let tariffs = Tariffs::parse(&file.display().to_string(), &text)
        .map_err(|faults| Failure::Format(faults.to_string()))?;
    // Contracts that are alike share a plan: it is one pass over the rows.
    let mut plans: BTreeMap<(usize, String, Days), Plan> = BTreeMap::new();
    for contract in &tariffs.contracts {
        let Some(subject) = subject(&contract.subject, key) else { continue };
        for promise in promises(&tariffs, contract, now)? {
            let alike = (contract.tariff, promise.item.clone().unwrap_or_default(), promise.days);
            plans.entry(alike).or_insert(promise.plan).promised.push(subject.clone());
        }
    }
    if plans.is_empty() {
        let today = local(now - 1, &period.zone).ok_or_else(no_month)?;
        return Err(Failure::NoData(format!(
            "{}: no contract of a {} that holds on {today} includes an allowance of bytes; committed rates are the business of `percentile`",
            file.display(),
            key.column(),
        )));
    }
    let column = sql::name(key.column());
    let whose = |mut plan: Plan| {
        plan.conditions.extend(sql::any_of(&column, &plan.promised));
        plan
    };
    Ok(plans.into_values().map(whose).collect())
}

/// The name of a contract's subject, if it is one of the key.
fn subject(subject: &Subject, key: Key) -> Option<String> {
    match (subject, key) {
        (Subject::Customer(name), Key::Customer) => Some(name.to_string()),
        (Subject::Rule(name), Key::Rule) => Some(name.to_string()),
        (Subject::Service(name), Key::Service) => Some(name.to_string()),
        _ => None,
    }
}

/// An item that includes some bytes.
struct Promise {
    item: Option<String>,
    days: Days,
    plan: Plan,
}

/// The items of a contract that include some bytes at the moment before `now`.
fn promises(tariffs: &Tariffs, contract: &Contract, now: i64) -> Result<Vec<Promise>, Failure> {
    let tariff = &tariffs.tariffs[contract.tariff];
    let today = local(now - 1, &tariff.zone).ok_or_else(no_month)?;
    if !contract.validity.holds(today) {
        return Ok(Vec::new());
    }
    // A period that begins on an anchor day later in the month began in the month before.
    let this = billing_period(today, tariff.anchor_day).filter(|days| days.first <= today);
    let month = match this {
        Some(_) => today,
        None => today.first_of_month().yesterday().map_err(|_| no_month())?,
    };
    let bill = Bill::new(tariffs, contract, month)
        .map_err(|unpriced| Failure::Format(unpriced.to_string()))?;
    let positions = bill.map_or_else(Vec::new, |bill| bill.positions);
    let running = positions.into_iter().filter(|at| at.days.first <= today && today < at.days.end);
    running.filter_map(|position| promise(&position, tariff, now).transpose()).collect()
}

/// What a position includes; `None`: no bytes.
fn promise(position: &Position<'_>, tariff: &Tariff, now: i64) -> Result<Option<Promise>, Failure> {
    let Charge::Usage(usage) = &position.item.charge else { return Ok(None) };
    let Pricing::Plain { allowance, .. } = &usage.pricing else { return Ok(None) };
    let Some(direction) = Counted::metric(&usage.metric) else { return Ok(None) };
    if allowance.is_zero() {
        return Ok(None);
    }
    let share = position
        .share
        .map_or_else(|| exact::whole(1), |share| exact::fraction(share.days, share.of.max(1)));
    let bytes = (allowance * usage.unit.base() * share).to_integer();
    let span = position.days.span(&tariff.zone).ok_or_else(no_month)?;
    let services: Vec<String> = usage.filter.services.iter().map(ToString::to_string).collect();
    let rules: Vec<String> = usage.filter.rules.iter().map(ToString::to_string).collect();
    let filters = [sql::any_of("service", &services), sql::any_of("rule", &rules)];
    Ok(Some(Promise {
        item: Some(position.item.name.clone()),
        days: position.days,
        plan: Plan {
            since: span.since_us,
            now,
            until: span.until_us,
            zone: tariff.zone.clone(),
            direction,
            allowance: Some(bytes.to_i64().unwrap_or(i64::MAX)),
            item: Some(position.item.name.clone()),
            conditions: filters.into_iter().flatten().collect(),
            promised: Vec::new(),
        },
    }))
}
