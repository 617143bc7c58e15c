//! `analyze top`

use std::path::Path;

use super::grouping::Grouping;
use super::{ALL, Question, Verdict, answer, filters, period, target_filter};
use crate::cli::{Key, Order, TopArgs};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::sql;

pub(super) fn run(args: &TopArgs, data: &Path) -> Result<Verdict, Failure> {
    let common = &args.common;
    let period = period(common)?;
    let mut conditions = filters(common, "usage")?;
    conditions.extend(target_filter(common)?);
    conditions.extend(sql::in_period("slot_start", &period));
    let dataset = Dataset::open(data)?;
    let grouping = Grouping::new(
        &common.by,
        &[Key::Client],
        &[Key::Reason, Key::Limit],
        ("usage", "slot_start"),
        &dataset,
        &period,
    )?;
    let measure = match args.order {
        Order::Up => "bytes_up",
        Order::Down => "bytes_down",
        Order::Both => "(bytes_up + bytes_down)",
        Order::Sessions => "sessions",
    };
    let order = format!("{measure} DESC, {}", grouping.names);
    let largest = match common.top {
        // What is asked of the report's own columns may ask the rate.
        Some(rows) if common.having.is_none() => format!("ORDER BY {order} LIMIT {rows}"),
        _ => String::new(),
    };
    // NULL is a key like any other, as for traffic without a customer.
    let same = |left: &str, right: &str| {
        let same = |name: &String| format!("{left}.{name} IS NOT DISTINCT FROM {right}.{name}");
        grouping.columns.iter().map(same).collect::<Vec<_>>().join(" AND ")
    };
    let key_names = grouping.columns.iter().map(|name| format!("shown.{name}")).collect::<Vec<_>>();
    let statement = include_str!("../query/top.sql")
        .replace("{keys}", &grouping.keys)
        .replace("{names}", &grouping.names)
        .replace("{key_names}", &key_names.join(", "))
        .replace("{same_in_shown}", &same("chosen", "shown"))
        .replace("{same_in_peak}", &same("shown", "peak"))
        .replace("{largest}", &largest)
        .replace("{measure}", measure)
        .replace("{where}", &sql::all(&conditions));
    let database = Database::open(
        &dataset,
        &[Wanted::of("usage", &period), Wanted::of("slots", &coverage::reach(&period))],
    )?;
    let question = Question { what: "look for who moves most", statement, shown: ALL, order };
    answer((&dataset, &database), &question, common, &period)?;
    Ok(Verdict::Fine)
}
