//! The slots that are expected in a stretch of time, and of which of them all was measured.

use std::collections::BTreeMap;

use crate::cell::Cell;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;
use crate::tariff::Span;

/// Length of slots when nothing was recorded, in seconds.
const USUAL_SLOT_S: u32 = 300;
/// Who told of something so long before a period is expected to tell of it, in microseconds.
const BEFORE_US: i64 = 86_400_000_000;

/// Whose slots are ranked.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The condition for rows of `usage`, in SQL.
    pub usage: &'a str,
    /// The forwarders asked for; none means all.
    pub nodes: &'a [String],
    /// The length of slots that is asked for, in seconds.
    pub slot_s: Option<u32>,
}

/// The slots of a stretch of time.
#[derive(Debug)]
pub struct Grid {
    /// From the first slot to the end of the last one that begins in it.
    pub span: Span,
    /// Length of a slot, in seconds.
    pub slot_s: u32,
    /// Of every slot, whether all of it was measured.
    pub known: Vec<bool>,
}

impl Grid {
    /// The slots of `span`, which begins with one. `refuse` says what it means that slots of the first
    /// length are asked for, and such of the second were recorded, of which it is no multiple.
    ///
    /// # Errors
    /// That of `refuse`, and as [`Database::query`].
    pub fn new(
        (dataset, database): (&Dataset, &Database),
        span: Span,
        selection: Selection<'_>,
        refuse: impl FnOnce(u32, u32) -> Failure,
    ) -> Result<Self, Failure> {
        // Time in which nothing ran may have begun long before.
        let all = Period {
            since: None,
            until: Some(span.until_us),
            zone: jiff::tz::TimeZone::UTC,
            zone_name: String::new(),
        };
        let slots = Database::open(dataset, &[Wanted::of("slots", &all)])?;
        let longest = longest(database, &slots, span, selection)?;
        let slot_s = selection.slot_s.or(longest).unwrap_or(USUAL_SLOT_S);
        if let Some(longest) = longest
            && !slot_s.is_multiple_of(longest)
        {
            return Err(refuse(slot_s, longest));
        }
        let slot_us = i64::from(slot_s) * 1_000_000;
        let count = (span.until_us - span.since_us + slot_us - 1) / slot_us;
        let count = usize::try_from(count).unwrap_or_default();
        let mut grid = Self { span, slot_s, known: vec![true; count] };
        if count == 0 {
            return Ok(grid);
        }
        for gap in unknown(&slots, span, selection.nodes)? {
            let first = grid.index(gap.since_us);
            let last = grid.index(gap.until_us - 1).min(count - 1);
            grid.known[first..=last].fill(false);
        }
        Ok(grid)
    }

    /// Length of a slot, in microseconds.
    pub fn slot_us(&self) -> i64 {
        i64::from(self.slot_s) * 1_000_000
    }

    fn index(&self, at_us: i64) -> usize {
        usize::try_from((at_us - self.span.since_us).div_euclid(self.slot_us())).unwrap_or_default()
    }

    /// Where a slot begins, microseconds since 1970 UTC.
    pub fn start(&self, at: usize) -> i64 {
        self.span.since_us + i64::try_from(at).unwrap_or_default() * self.slot_us()
    }

    /// How many slots are known.
    pub fn measured(&self) -> usize {
        self.known.iter().filter(|known| **known).count()
    }

    /// The stretches of slots that are not known: the first of each, and the first behind it.
    pub fn gaps(&self) -> Vec<(usize, usize)> {
        let mut gaps = Vec::<(usize, usize)>::new();
        for (at, _) in self.known.iter().enumerate().filter(|(_, known)| !**known) {
            match gaps.last_mut() {
                Some((_, behind)) if *behind == at => *behind = at + 1,
                _ => gaps.push((at, at + 1)),
            }
        }
        gaps
    }
}

/// The longest slot recorded, in seconds.
fn longest(
    usage: &Database,
    slots: &Database,
    span: Span,
    selection: Selection<'_>,
) -> Result<Option<u32>, Failure> {
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
    let of_nodes = format!("status <> 'DOWN' AND {}", of_nodes(selection.nodes));
    Ok(ask(usage, "usage", selection.usage)?.max(ask(slots, "slots", &of_nodes)?))
}

fn of_nodes(nodes: &[String]) -> String {
    sql::all(&Vec::from_iter(sql::any_of("node", nodes)))
}

/// The parts of `span` of which some forwarder tells nothing, or not all.
fn unknown(slots: &Database, span: Span, nodes: &[String]) -> Result<Vec<Span>, Failure> {
    let statement = format!(
        "SELECT node, epoch_us(slot_start), epoch_us(slot_start) + slot_len_s * 1000000::BIGINT,
             status IN ('OK', 'NODATA', 'DOWN') AND NOT (status <> 'DOWN'
                 AND min(clock_pass) FILTER (status <> 'DOWN') OVER slot
                     <> max(clock_pass) FILTER (status <> 'DOWN') OVER slot)
         FROM slots
         WHERE slot_start < {} AND slot_start + to_seconds(slot_len_s) > {} AND {}
         WINDOW slot AS (PARTITION BY node, boot, slot_start)
         ORDER BY ALL",
        sql::time(span.until_us),
        sql::time(span.since_us - BEFORE_US),
        of_nodes(nodes)
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
