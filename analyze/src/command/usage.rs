//! `analyze usage`

use std::path::Path;

use super::grouping::Grouping;
use super::{ALL, Question, Verdict, answer, filters, period, target_filter};
use crate::cli::{Common, Key};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::sql;

pub(super) fn run(args: &Common, data: &Path) -> Result<Verdict, Failure> {
    let period = period(args)?;
    let mut conditions = filters(args, "usage")?;
    conditions.extend(target_filter(args)?);
    conditions.extend(sql::in_period("slot_start", &period));
    let dataset = Dataset::open(data)?;
    let grouping = Grouping::new(
        &args.by,
        &[Key::Customer],
        &[Key::Reason, Key::Limit],
        ("usage", "slot_start"),
        &dataset,
        &period,
    )?;
    let order = match args.top {
        Some(_) => format!("bytes_up + bytes_down DESC, {}", grouping.names),
        None => grouping.names.clone(),
    };
    let statement = include_str!("../query/usage.sql")
        .replace("{keys}", &grouping.keys)
        .replace("{names}", &grouping.names)
        .replace("{where}", &sql::all(&conditions));
    let database = Database::open(
        &dataset,
        &[Wanted::of("usage", &period), Wanted::of("slots", &coverage::reach(&period))],
    )?;
    let question = Question { what: "add up usage", statement, shown: ALL, order };
    answer((&dataset, &database), &question, args, &period)?;
    Ok(Verdict::Fine)
}
