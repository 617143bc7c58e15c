//! The slots that percentiles are ranked over.
//!
//! The traffic of a slot is summed first, over all sessions, rules and forwarders of the subject, by
//! DuckDB; then it is ranked. A slot is known when every forwarder tells of all of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use schemas::vocab::PerDirection;

use super::quantities::{lies_in, passes};
use super::ranking::{self, Ranked};
use crate::cell::Cell;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::rating::{Figure, Measure, Need};
use crate::sql;
use crate::tariff::{Span, Subject};

/// Length of slots when nothing was recorded, in seconds.
const USUAL_SLOT_S: u32 = 300;
/// Who told of something so long before a period is expected to tell of it, in microseconds.
const BEFORE_US: i64 = 86_400_000_000;

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
        let grid = Grid::new(dataset, database, span, slot_s)?;
        let needs: Vec<&Need<'t>> = needs.into_iter().collect();
        let bytes = grid.bytes(database, &needs)?;
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

/// The slots of a stretch of time.
struct Grid {
    span: Span,
    slot_s: u32,
    /// Of every slot, whether all of it was measured.
    known: Vec<bool>,
}

impl Grid {
    fn new(
        dataset: &Dataset,
        database: &Database,
        span: Span,
        slot_s: Option<u32>,
    ) -> Result<Self, Failure> {
        // Time in which nothing ran may have begun long before.
        let all = Period {
            since: None,
            until: Some(span.until_us),
            zone: jiff::tz::TimeZone::UTC,
            zone_name: String::new(),
        };
        let slots = Database::open(dataset, &[Wanted::of("slots", &all)])?;
        let longest = longest(database, &slots, span)?;
        let slot_s = slot_s.or(longest).unwrap_or(USUAL_SLOT_S);
        if let Some(longest) = longest
            && !slot_s.is_multiple_of(longest)
        {
            return Err(Failure::Config(format!(
                "a percentile is to be ranked over slots of {slot_s} s, and slots of {longest} s were recorded: write percentile.slot as a multiple of that, or leave it out"
            )));
        }
        let slot_us = i64::from(slot_s) * 1_000_000;
        let count = (span.until_us - span.since_us + slot_us - 1) / slot_us;
        let count = usize::try_from(count).unwrap_or_default();
        let mut grid = Self { span, slot_s, known: vec![true; count] };
        for gap in unknown(&slots, span)? {
            let first = grid.index(gap.since_us);
            let last = grid.index(gap.until_us - 1).min(count.saturating_sub(1));
            grid.known[first..=last].fill(false);
        }
        Ok(grid)
    }

    fn slot_us(&self) -> i64 {
        i64::from(self.slot_s) * 1_000_000
    }

    fn index(&self, at_us: i64) -> usize {
        usize::try_from((at_us - self.span.since_us).div_euclid(self.slot_us())).unwrap_or_default()
    }

    fn start(&self, at: usize) -> i64 {
        self.span.since_us + i64::try_from(at).unwrap_or_default() * self.slot_us()
    }

    /// What passed in each slot, for each need.
    fn bytes(
        &self,
        database: &Database,
        needs: &[&Need<'_>],
    ) -> Result<Vec<Vec<PerDirection<i64>>>, Failure> {
        let mut by_subject = HashMap::<(usize, String), Vec<usize>>::new();
        for (at, need) in needs.iter().enumerate() {
            by_subject.entry(key(need.subject)).or_default().push(at);
        }
        let zero = PerDirection { up: 0, down: 0 };
        let mut bytes = vec![vec![zero; self.known.len()]; needs.len()];
        for batch in database.stream("add up slots", &self.statement(needs))? {
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

    fn statement(&self, needs: &[&Need<'_>]) -> String {
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
        let Span { since_us, until_us } = self.span;
        format!(
            "SELECT {}, (epoch_us(slot_start) - {since_us}) // {} AS slot,
                 sum(bytes_up)::BIGINT AS bytes_up, sum(bytes_down)::BIGINT AS bytes_down
             FROM usage WHERE slot_start >= {} AND slot_start < {} GROUP BY ALL",
            columns.map(column).join(", "),
            self.slot_us(),
            sql::time(since_us),
            sql::time(until_us)
        )
    }
}

/// The column that names a subject, and its name.
fn key(subject: &Subject) -> (usize, String) {
    match subject {
        Subject::Customer(name) => (0, name.to_string()),
        Subject::Rule(name) => (1, name.to_string()),
        Subject::Service(name) => (2, name.to_string()),
    }
}

/// The longest slot recorded, in seconds.
fn longest(usage: &Database, slots: &Database, span: Span) -> Result<Option<u32>, Failure> {
    let ask = |database: &Database, table: &str, condition: &str| {
        let statement = format!(
            "SELECT max(slot_len_s) FROM {table} WHERE {condition} AND slot_start >= {} AND slot_start < {}",
            sql::time(span.since_us),
            sql::time(span.until_us)
        );
        let answer = database.query("look for the longest slot", &statement)?;
        let cells = answer.cells().next().unwrap_or_default();
        Ok::<_, Failure>(match cells.first() {
            Some(Cell::Int(seconds)) => u32::try_from(*seconds).ok().filter(|s| *s > 0),
            _ => None,
        })
    };
    Ok(ask(usage, "usage", "true")?.max(ask(slots, "slots", "status <> 'DOWN'")?))
}

/// The parts of `span` of which some forwarder tells nothing, or not all.
fn unknown(slots: &Database, span: Span) -> Result<Vec<Span>, Failure> {
    let statement = format!(
        "SELECT node, epoch_us(slot_start), epoch_us(slot_start) + slot_len_s * 1000000::BIGINT,
             status IN ('OK', 'NODATA', 'DOWN') AND NOT (status <> 'DOWN'
                 AND min(clock_pass) FILTER (status <> 'DOWN') OVER slot
                     <> max(clock_pass) FILTER (status <> 'DOWN') OVER slot)
         FROM slots
         WHERE slot_start < {} AND slot_start + to_seconds(slot_len_s) > {}
         WINDOW slot AS (PARTITION BY node, boot, slot_start)
         ORDER BY ALL",
        sql::time(span.until_us),
        sql::time(span.since_us - BEFORE_US)
    );
    let answer = slots.query("look for slots that are not known", &statement)?;
    let mut nodes = BTreeMap::<String, Vec<(Span, bool)>>::new();
    for row in answer.cells() {
        if let [Cell::Text(node), Cell::Int(since), Cell::Int(until), Cell::Bool(good)] = &row[..] {
            let instant = |us: i128| i64::try_from(us).unwrap_or(i64::MAX);
            let told = Span { since_us: instant(*since), until_us: instant(*until) };
            nodes.entry(node.clone().into_owned()).or_default().push((told, *good));
        }
    }
    if nodes.is_empty() {
        return Ok(vec![span]);
    }
    Ok(nodes.into_values().flat_map(|told| gaps(told, span)).collect())
}

/// What of `span` is not told, or not told well; `told` ascends.
fn gaps(told: Vec<(Span, bool)>, span: Span) -> Vec<Span> {
    let mut gaps = Vec::new();
    let mut gap = |since: i64, until: i64| {
        let (since_us, until_us) = (since.max(span.since_us), until.min(span.until_us));
        if since_us < until_us {
            gaps.push(Span { since_us, until_us });
        }
    };
    let mut end = span.since_us;
    for (Span { since_us, until_us }, good) in told {
        gap(end, since_us);
        if !good {
            gap(since_us, until_us);
        }
        end = end.max(until_us);
    }
    gap(end, span.until_us);
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_or_told_badly_is_a_gap() {
        let span = |since_us, until_us| Span { since_us, until_us };
        let told = vec![
            (span(-10, 5), true),
            (span(5, 10), false),
            (span(7, 20), true),
            (span(30, 40), true),
        ];
        assert_eq!(gaps(told, span(0, 50)), [span(5, 10), span(20, 30), span(40, 50)]);
        assert_eq!(gaps(Vec::new(), span(0, 5)), [span(0, 5)]);
    }
}
