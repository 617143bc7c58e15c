//! `analyze ends`

use std::path::Path;

use super::grouping::Grouping;
use super::sessions::{self, Listed};
use super::{ALL, Question, Verdict, answer, period};
use crate::cli::{Common, Key};
use crate::coverage;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;

pub(super) fn run(args: &Common, data: &Path) -> Result<Verdict, Failure> {
    if args.open {
        return Err(Failure::Usage(
            "ends is about sessions that ended; `sessions --open` lists those that run".to_owned(),
        ));
    }
    let period = period(args)?;
    let dataset = Dataset::open(data)?;
    let grouping = Grouping::new(
        &args.by,
        &[Key::Rule],
        &[Key::Reason, Key::Limit],
        ("sessions", "ts_end"),
        &dataset,
        &period,
    )?;
    let listed = Listed::new(args, &dataset, &period)?;
    let statement = include_str!("../query/ends.sql")
        .replace("{keys}", &grouping.keys)
        .replace("{names}", &grouping.names)
        .replace("{sessions}", &listed.statement(false));
    let reach = coverage::reach(&period);
    let database = Database::open(&dataset, &sessions::wanted(false, &period, &reach))?;
    let order = format!("sessions DESC, {}, ended_by, end_reason, end_phase", grouping.names);
    let question = Question { what: "count ends", statement, shown: ALL, order };
    answer((&dataset, &database), &question, args, &period)?;
    Ok(Verdict::Fine)
}
