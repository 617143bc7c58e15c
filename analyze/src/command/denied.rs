//! `analyze denied`

use std::path::Path;

use super::grouping::Grouping;
use super::{ALL, Question, Verdict, answer, filters, period};
use crate::cli::{Common, Key};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;

pub(super) fn run(args: &Common, data: &Path) -> Result<Verdict, Failure> {
    if !args.filter.target.is_empty() {
        return Err(Failure::Usage(
            "--target: a refused attempt has no target; leave it out".to_owned(),
        ));
    }
    let period = period(args)?;
    let mut conditions = filters(args, "denied")?;
    conditions.extend(sql::in_period("ts_last", &period));
    let dataset = Dataset::open(data)?;
    let grouping = Grouping::new(
        &args.by,
        &[Key::Service, Key::Rule, Key::Reason, Key::Client],
        &[Key::Target],
        ("denied", "ts_last"),
        &dataset,
        &period,
    )?;
    let statement = include_str!("../query/denied.sql")
        .replace("{keys}", &grouping.keys)
        .replace("{names}", &grouping.names)
        .replace("{where}", &sql::all(&conditions));
    // Who was let in later may have come after the period.
    let on = Period { until: None, ..period.clone() };
    let database = Database::open(
        &dataset,
        &[
            Wanted::of("denied", &period),
            Wanted::of("sessions", &on),
            Wanted::of("usage", &on),
            Wanted::of("slots", &coverage::reach(&period)),
        ],
    )?;
    let order = format!("count DESC, {}", grouping.names);
    let question = Question { what: "count refused attempts", statement, shown: ALL, order };
    answer((&dataset, &database), &question, args, &period)?;
    Ok(Verdict::Fine)
}
