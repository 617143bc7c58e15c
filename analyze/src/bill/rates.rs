//! The slots that percentiles are ranked over.
//!
//! The traffic of a slot is summed first, over all sessions, rules and forwarders of the subject, by
//! DuckDB; then it is ranked. A slot is known when every forwarder tells of all of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use schemas::vocab::PerDirection;

use super::quantities::{lies_in, passes};
use crate::cell::Cell;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::percentile::grid::{Grid, Selection};
use crate::percentile::ranking::{self, Ranked};
use crate::rating::{Figure, Measure, Need};
use crate::sql;
use crate::tariff::{Span, Subject};

/// Percentiles by what asked for them.
pub type Figures<'t> = HashMap<Need<'t>, Figure>;

/// The figures of all needs for percentiles among `needs`.
///
/// # Errors
/// 78 when a contract ranks slots that are no multiple of what was recorded, and as
/// [`Database::query`].
pub fn figures<'n, 't: 'n>(
    dataset: &Dataset,
    database: &Database,
    needs: impl IntoIterator<Item = &'n Need<'t>>,
) -> Result<Figures<'t>, Failure> {
    let mut by_span = BTreeMap::<(Span, Option<u32>), HashSet<&Need<'t>>>::new();
    for need in needs {
        if let (Measure::Percentile(contract), [first, ..]) = (need.measure, &need.spans[..]) {
            let until_us = need.spans.last().map_or(first.until_us, |last| last.until_us);
            let span = Span { until_us, ..*first };
            by_span.entry((span, contract.slot_s)).or_default().insert(need);
        }
    }
    let mut figures = Figures::new();
    for ((span, slot_s), needs) in by_span {
        let selection = Selection { usage: "true", nodes: &[], slot_s };
        let grid = Grid::new((dataset, database), span, selection, |slot_s, longest| {
            Failure::Config(format!(
                "a percentile is to be ranked over slots of {slot_s} s, and slots of {longest} s were recorded: write percentile.slot as a multiple of that, or leave it out"
            ))
        })?;
        let needs: Vec<&Need<'t>> = needs.into_iter().collect();
        let bytes = bytes(&grid, database, &needs)?;
        for (need, bytes) in needs.into_iter().zip(bytes) {
            let Measure::Percentile(contract) = need.measure else { continue };
            let slots: Vec<Ranked> = grid
                .known
                .iter()
                .zip(bytes)
                .enumerate()
                .map(|(at, (known, bytes))| Ranked {
                    start_us: grid.start(at),
                    bytes,
                    known: *known,
                })
                .filter(|slot| lies_in(&need.spans, slot.start_us))
                .collect();
            figures.insert(need.clone(), ranking::figure(contract, &slots, grid.slot_s));
        }
    }
    Ok(figures)
}

/// What passed in each slot, for each need.
fn bytes(
    grid: &Grid,
    database: &Database,
    needs: &[&Need<'_>],
) -> Result<Vec<Vec<PerDirection<i64>>>, Failure> {
    let mut by_subject = HashMap::<(usize, String), Vec<usize>>::new();
    for (at, need) in needs.iter().enumerate() {
        by_subject.entry(key(need.subject)).or_default().push(at);
    }
    let zero = PerDirection { up: 0, down: 0 };
    let mut bytes = vec![vec![zero; grid.known.len()]; needs.len()];
    for batch in database.stream("add up slots", &statement(grid, needs))? {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let cell = |column: usize| Cell::at(batch.column(column).as_ref(), row);
            let text = |column| match cell(column) {
                Cell::Text(text) => Some(text.into_owned()),
                _ => None,
            };
            let number = |column| match cell(column) {
                Cell::Int(number) => i64::try_from(number).unwrap_or(i64::MAX),
                _ => 0,
            };
            let names = [text(0), text(1), text(2)];
            let slot = usize::try_from(number(3)).unwrap_or(usize::MAX);
            for (kind, name) in names.iter().enumerate() {
                let Some(name) = name else { continue };
                let of_subject = by_subject.get(&(kind, name.clone()));
                for at in of_subject.into_iter().flatten() {
                    let passed = passes(needs[*at].filter, &names[1], &names[2]);
                    if let (true, Some(sum)) = (passed, bytes[*at].get_mut(slot)) {
                        sum.up += number(4);
                        sum.down += number(5);
                    }
                }
            }
        }
    }
    Ok(bytes)
}

fn statement(grid: &Grid, needs: &[&Need<'_>]) -> String {
    let any = |kind, filtered: &dyn Fn(&Need<'_>) -> bool| {
        needs.iter().any(|need| key(need.subject).0 == kind || filtered(need))
    };
    let columns = [
        (any(0, &|_| false), "customer"),
        (any(1, &|need| !need.filter.rules.is_empty()), "rule"),
        (any(2, &|need| !need.filter.services.is_empty()), "service"),
    ];
    let column = |(wanted, name): (bool, &str)| {
        if wanted { name.to_owned() } else { format!("NULL::VARCHAR AS {name}") }
    };
    let Span { since_us, until_us } = grid.span;
    format!(
        "SELECT {}, (epoch_us(slot_start) - {since_us}) // {} AS slot,
             sum(bytes_up)::BIGINT AS bytes_up, sum(bytes_down)::BIGINT AS bytes_down
         FROM usage WHERE slot_start >= {} AND slot_start < {} GROUP BY ALL",
        columns.map(column).join(", "),
        grid.slot_us(),
        sql::time(since_us),
        sql::time(until_us)
    )
}

/// The column that names a subject, and its name.
fn key(subject: &Subject) -> (usize, String) {
    match subject {
        Subject::Customer(name) => (0, name.to_string()),
        Subject::Rule(name) => (1, name.to_string()),
        Subject::Service(name) => (2, name.to_string()),
    }
}
