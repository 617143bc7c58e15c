//! `analyze forecast`

mod calendar;
mod plan;

use std::path::Path;

use super::grouping::{Grouping, refuse_times};
use super::{ALL, Question, Verdict, answer, filters, newest, target_filter};
use crate::cli::{ForecastArgs, Key};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;
use calendar::Calendar;
use plan::Plan;

pub(super) fn run(args: &ForecastArgs, data: &Path) -> Result<Verdict, Failure> {
    let common = &args.common;
    refuse_times("forecast", &common.by)?;
    if common.period.since.is_some() {
        return Err(Failure::Usage(
            "forecast looks at a whole month, or at --period: leave --since out; --until is the moment it is made"
                .to_owned(),
        ));
    }
    let period = super::period(common)?;
    let dataset = Dataset::open(data)?;
    let now = now(&period, &dataset)?;
    let plans = plan::plans(args, &period, now)?;
    let since = plans.iter().map(|plan| plan.since).min().unwrap_or(now);
    let first = dataset.time_range("slots").map_or(now, |(min, _)| min);
    let statements = plans
        .iter()
        .map(|plan| statement(args, &dataset, plan, &Calendar::new(plan, first)))
        .collect::<Result<Vec<_>, _>>()?;
    let covered = Period { since: Some(since), until: Some(now), ..period };
    let read = Period { since: Some(calendar::reach(since)), ..covered.clone() };
    let database = Database::open(
        &dataset,
        &[Wanted::of("usage", &read), Wanted::of("slots", &coverage::reach(&covered))],
    )?;
    let key = sql::name(common.by.first().unwrap_or(&Key::Customer).column());
    let order = match common.top {
        Some(_) => format!("used_percent DESC NULLS LAST, used_bytes DESC, {key}, item"),
        None => "ALL".to_owned(),
    };
    let statement = statements.join(" UNION ALL ");
    let question = Question { what: "look ahead", statement, shown: ALL, order };
    answer((&dataset, &database), &question, common, &covered)?;
    Ok(Verdict::Fine)
}

/// The moment of the forecast: the end of what is known, or what was typed.
fn now(period: &Period, dataset: &Dataset) -> Result<i64, Failure> {
    let newest = newest::slot_end(dataset)?;
    let now = match (newest, period.until) {
        (Some(newest), Some(until)) => Some(newest.min(until)),
        (newest, until) => newest.or(until),
    };
    let now = now.filter(|now| period.since.is_none_or(|since| since < *now));
    now.ok_or_else(|| {
        Failure::NoData(
            "there is no slot in the period yet, so there is nothing to go by".to_owned(),
        )
    })
}

fn statement(
    args: &ForecastArgs,
    dataset: &Dataset,
    plan: &Plan,
    calendar: &Calendar,
) -> Result<String, Failure> {
    let common = &args.common;
    let read = Period {
        since: Some(calendar.since.min(plan.since)),
        until: Some(plan.now),
        zone: plan.zone.clone(),
        zone_name: String::new(),
    };
    let mut conditions = filters(common, "usage")?;
    conditions.extend(target_filter(common)?);
    conditions.extend(plan.conditions.clone());
    conditions.extend(sql::in_period("slot_start", &read));
    let grouping = Grouping::new(
        &common.by,
        &[Key::Customer],
        &[Key::Reason, Key::Limit],
        ("usage", "slot_start"),
        dataset,
        &read,
    )?;
    let range = dataset.time_range("usage").unwrap_or_default();
    let bytes = |of: &str| plan.direction.of(&format!("{of}_up"), &format!("{of}_down"));
    let null = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    Ok(include_str!("../query/forecast.sql")
        .replace("{keys}", &grouping.keys)
        .replace("{names}", &grouping.names)
        .replace("{day}", &sql::key(Key::Day, "slot_start", &read, range))
        .replace("{where}", &sql::all(&conditions))
        .replace("{subjects}", &plan.subjects(&grouping.columns[0]))
        .replace("{days}", &calendar.days())
        .replace("{weekdays}", &calendar.weekdays())
        .replace("{has_weekdays}", &calendar.is_enough().to_string())
        .replace("{sofar}", &bytes("sofar"))
        .replace("{used}", &bytes("used"))
        .replace("{ahead}", &plan.direction.of("used_up + ahead_up", "used_down + ahead_down"))
        .replace("{item}", &null(plan.item.as_deref().map(sql::text)))
        .replace("{allowance}", &null(plan.allowance.map(|bytes| bytes.to_string())))
        .replace("{since}", &plan.since.to_string())
        .replace("{now}", &plan.now.to_string())
        .replace("{until}", &plan.until.to_string()))
}
