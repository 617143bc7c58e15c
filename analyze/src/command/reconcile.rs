//! `analyze reconcile`

use std::path::Path;

use super::grouping::{Grouping, refuse_times};
use super::{ALL, Question, Verdict, answer, filters, target_filter};
use crate::cli::{Direction, FilterArgs, Key, ReconcileArgs};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::figures;
use crate::period::Period;
use crate::sql;
use crate::verify::relation;

/// The longest slot, in microseconds: a session's first slot begins at most so long before it.
const LONGEST_SLOT_US: i64 = 300_000_000;

pub(super) fn run(args: &ReconcileArgs, data: &Path) -> Result<Verdict, Failure> {
    let common = &args.common;
    let period = super::period(common)?;
    refuse_times("reconcile", &common.by)?;
    if args.against.is_some() && common.by.len() > 1 {
        return Err(Failure::Usage(
            "--against: the file has one key, so name one key with --by".to_owned(),
        ));
    }
    let against = args.against.as_deref().map(figures::bytes_per_key).transpose()?;
    let target = target_filter(common)?;
    let mut of_usage = filters(common, "usage")?;
    of_usage.extend(target.clone());
    of_usage.extend(sql::in_period("slot_start", &period));
    let mut of_sessions = filters(common, "sessions")?;
    of_sessions.extend(target);
    let later = Period { until: None, ..period.clone() };
    of_sessions.extend(sql::in_period("ts_end", &later));
    let dataset = Dataset::open(data)?;
    let grouping = Grouping::new(
        &common.by,
        &[Key::Customer],
        &[Key::Reason, Key::Limit],
        ("usage", "slot_start"),
        &dataset,
        &period,
    )?;
    let measure = args.direction.bytes();
    let statement = shape(&grouping, measure, &period, common.by.as_slice(), &common.filter)
        .replace("{where_usage}", &sql::all(&of_usage))
        .replace("{where_sessions}", &sql::all(&of_sessions))
        .replace("{both}", &(args.direction == Direction::Both).to_string())
        .replace("{has_against}", &against.is_some().to_string())
        .replace("{against}", &relation("key VARCHAR, bytes HUGEINT", rows(against)));
    let reach = coverage::reach(&period);
    let wanted =
        [Wanted::of("usage", &period), Wanted::of("sessions", &later), Wanted::of("slots", &reach)];
    let database = Database::open(&dataset, &wanted)?;
    let order = match common.top {
        Some(_) => format!("abs(difference_bytes) DESC NULLS LAST, {}", grouping.names),
        None => grouping.names.clone(),
    };
    let question = Question { what: "reconcile the account", statement, shown: ALL, order };
    answer((&dataset, &database), &question, common, &period)?;
    Ok(Verdict::Fine)
}

fn rows(against: Option<Vec<(String, i64)>>) -> impl Iterator<Item = String> {
    against.into_iter().flatten().map(|(key, bytes)| format!("({}, {bytes})", sql::text(&key)))
}

/// The statement with everything that keys and period decide.
fn shape(
    grouping: &Grouping,
    measure: &str,
    period: &Period,
    by: &[Key],
    filter: &FilterArgs,
) -> String {
    let names = &grouping.columns;
    let of_both = |name: &String| format!("coalesce(used.{name}, ended.{name}) AS {name}");
    let compared = match &names[..] {
        [name] => format!("coalesce(per_key.{name}::VARCHAR, nullif(against.key, '')) AS {name}"),
        several => several.iter().map(|n| format!("per_key.{n}")).collect::<Vec<_>>().join(", "),
    };
    // Slots know nodes and nothing else.
    let chosen = [&filter.service, &filter.client, &filter.customer, &filter.rule, &filter.target];
    let plain = chosen.iter().all(|given| given.is_empty()) && filter.r#where.is_empty();
    let slots = if by == [Key::Node] && plain {
        let mut of_slots = sql::in_period("slot_start", period);
        of_slots.extend(sql::any_of("node", &filter.node));
        format!(
            "SELECT node AS key, sum({measure}) AS slots_bytes FROM slots WHERE {} GROUP BY node",
            sql::all(&of_slots)
        )
    } else {
        "SELECT NULL::VARCHAR AS key, NULL::HUGEINT AS slots_bytes WHERE false".to_owned()
    };
    let edge = |us: i64| sql::time(us + LONGEST_SLOT_US);
    let reaches_in =
        period.since.map_or_else(|| "false".to_owned(), |us| format!("ts_start < {}", edge(us)));
    let in_period = sql::all(&sql::in_period("ts_end", period));
    include_str!("../query/reconcile.sql")
        .replace("{keys}", &grouping.keys)
        .replace("{names}", &grouping.names)
        .replace("{both_names}", &names.iter().map(of_both).collect::<Vec<_>>().join(", "))
        .replace("{compared_names}", &compared)
        .replace("{key}", &names[0])
        .replace("{slots}", &slots)
        .replace("{measure}", measure)
        .replace("{in_period}", &in_period)
        .replace("{reaches_in}", &reaches_in)
}
