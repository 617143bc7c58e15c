//! `analyze quality`

use std::path::Path;

use super::{ALL, Question, Verdict, answer, period};
use crate::cli::Common;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;
use crate::verify::{elsewhere, relation, retired};

/// Rows of one boot are numbered in an order that is not quite that of their times: a session's end
/// lies behind the start of its slot. So far around the period rows are read, in microseconds.
const MARGIN_US: i64 = 86_400_000_000;
/// The length of slots where none was measured, in microseconds: the default of `accounting.slot`.
const SLOT_US: i64 = 300_000_000;

pub(super) fn run(args: &Common, data: &Path) -> Result<Verdict, Failure> {
    refuse_parts_of_rows(args)?;
    let period = period(args)?;
    let dataset = Dataset::open(data)?;
    let around = Period {
        since: period.since.map(|us| us - MARGIN_US),
        until: period.until.map(|us| us + MARGIN_US),
        ..period.clone()
    };
    // Slots and events are few, and the time in which nothing ran may have begun long ago.
    let wanted = [
        Wanted::of("sessions", &around),
        Wanted::of("usage", &around),
        Wanted::of("denied", &around),
        Wanted::all("slots"),
        Wanted::all("events"),
    ];
    let database = Database::open(&dataset, &wanted)?;
    let question = Question {
        what: "judge the account",
        statement: statement(args, &dataset, &period),
        shown: ALL,
        order: "node".to_owned(),
    };
    answer((&dataset, &database), &question, args, &period)?;
    Ok(Verdict::Fine)
}

/// Sequence numbers run through all rows of a forwarder: without some of them there is no answer.
fn refuse_parts_of_rows(args: &Common) -> Result<(), Failure> {
    let filter = &args.filter;
    let others = [
        &filter.service,
        &filter.client,
        &filter.customer,
        &filter.rule,
        &filter.target,
        &filter.r#where,
    ];
    if args.open || !args.by.is_empty() || others.iter().any(|given| !given.is_empty()) {
        return Err(Failure::Usage(
            "quality judges all rows of a forwarder: of filters it takes --node and --having, and no --by"
                .to_owned(),
        ));
    }
    Ok(())
}

fn statement(args: &Common, dataset: &Dataset, period: &Period) -> String {
    let edge = |us: Option<i64>| us.map_or_else(|| "NULL::TIMESTAMP".to_owned(), sql::time);
    let within = |column: &str| sql::all(&sql::in_period(column, period));
    let running = dataset.boots().filter(|mark| mark.end.is_none());
    let running =
        relation("node VARCHAR", running.map(|mark| format!("({})", sql::text(&mark.node))));
    let lost = dataset.boots().filter(|mark| {
        let inexact = mark.end.as_ref().filter(|end| !end.exact);
        inexact.is_some_and(|end| period.touches(end.ended_at, end.ended_at))
    });
    let lost = relation("node VARCHAR", lost.map(|mark| format!("({})", sql::text(&mark.node))));
    let nodes = sql::all(&Vec::from_iter(sql::any_of("node", &args.filter.node)));
    include_str!("../query/quality.sql")
        .replace("{elsewhere}", &elsewhere(dataset))
        .replace("{retired}", &retired(dataset))
        .replace("{lost}", &lost)
        .replace("{running}", &running)
        .replace("{nodes}", &nodes)
        .replace("{since}", &edge(period.since))
        .replace("{until}", &edge(period.until))
        .replace("{slot_us}", &SLOT_US.to_string())
        .replace("{slots}", &within("slot_start"))
        .replace("{gaps}", &within("ts"))
        .replace("{sessions}", &within("ts_end"))
        .replace("{events}", &within("ts"))
}
