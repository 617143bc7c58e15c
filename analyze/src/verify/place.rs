//! Where a fault is, exactly: for people as a text, for programs as fields.

use std::fmt;

use crate::cell::Cell;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::sql;

use super::Check;

/// Findings whose parts are looked up; each costs a look into every part of the tables concerned.
const LOCATED: usize = 20;

/// A place in the account. What does not apply is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The place in words.
    pub text: String,
    /// A file, as a path below the data directory.
    pub file: Option<String>,
    /// The forwarder.
    pub node: Option<String>,
    /// Its run.
    pub boot: Option<String>,
    /// First and last session number.
    pub sessions: Option<(i128, i128)>,
    /// First and last row number.
    pub seqs: Option<(i128, i128)>,
    /// Start of the slot, in microseconds since 1970 UTC.
    pub slot_start: Option<i64>,
    /// The slot's pass of the clock.
    pub clock_pass: Option<i128>,
    /// The parts that hold rows of the place, where they were looked for.
    pub parts: Vec<String>,
}

impl Place {
    /// A file below the data directory.
    pub fn file(path: impl Into<String>) -> Self {
        let path = path.into();
        Self { text: path.clone(), file: Some(path), ..Self::default() }
    }

    /// What a question about rows says: place in words, node, boot, sessions, seqs, slot, pass.
    pub(super) fn of_row(cells: &[Cell<'_>]) -> Self {
        let text = |i: usize| match cells.get(i) {
            Some(Cell::Text(text)) => Some(text.to_string()),
            _ => None,
        };
        let int = |i: usize| match cells.get(i) {
            Some(Cell::Int(value)) => Some(*value),
            _ => None,
        };
        let pair = |i: usize| Some((int(i)?, int(i + 1)?));
        Self {
            text: text(0).unwrap_or_default(),
            file: None,
            node: text(1),
            boot: text(2),
            sessions: pair(3),
            seqs: pair(5),
            slot_start: match cells.get(7) {
                Some(Cell::Time(us)) => Some(*us),
                _ => None,
            },
            clock_pass: int(8),
            parts: Vec::new(),
        }
    }

    /// The conditions of rows at this place, per table.
    fn conditions(&self) -> Vec<(&'static str, String)> {
        let (Some(node), Some(boot)) = (&self.node, &self.boot) else { return Vec::new() };
        let of = format!("node = {} AND boot = {}", sql::text(node), sql::text(boot));
        let of_slot = self.slot_start.map_or_else(String::new, |us| {
            let pass = self.clock_pass.unwrap_or_default();
            format!(" AND slot_start = {} AND clock_pass = {pass}", sql::time(us))
        });
        if let Some((first, last)) = self.sessions {
            let of = format!("{of} AND session_no BETWEEN {first} AND {last}");
            return vec![
                ("sessions", of.clone()),
                ("usage", of.clone() + &of_slot),
                ("captures", of),
            ];
        }
        if let Some((first, last)) = self.seqs {
            // Of missing rows the neighbours tell where they were.
            let of = format!("{of} AND seq BETWEEN {} AND {}", first - 1, last + 1);
            return ["sessions", "usage", "slots", "denied", "events"]
                .map(|t| (t, of.clone()))
                .into();
        }
        match self.slot_start {
            Some(_) => {
                let of = of + &of_slot;
                vec![("slots", of.clone()), ("usage", of)]
            }
            None => Vec::new(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text.is_empty() { "data directory" } else { &self.text })
    }
}

/// Names the parts in which the first faults of each check lie.
pub(super) fn find_parts(
    dataset: &Dataset,
    database: &Database,
    checks: &mut [Check],
) -> Result<(), Failure> {
    for check in checks {
        for fault in check.faults.kept.iter_mut().take(LOCATED) {
            let mut found = Vec::new();
            for (table, condition) in fault.place.conditions() {
                found.extend(holding(dataset, database, table, &condition)?);
            }
            fault.place.parts = found;
        }
    }
    Ok(())
}

/// The parts of a table with rows for which the condition holds.
fn holding(
    dataset: &Dataset,
    database: &Database,
    table: &str,
    condition: &str,
) -> Result<Vec<String>, Failure> {
    let Some(source) = dataset.source(table) else { return Ok(Vec::new()) };
    let answer = database.query(
        "look for the part of a fault",
        &format!("SELECT DISTINCT filename FROM {source} WHERE {condition} ORDER BY filename"),
    )?;
    let path = |row: Vec<Cell<'_>>| match row.first() {
        Some(Cell::Text(path)) => Some(dataset.below(path)),
        _ => None,
    };
    Ok(answer.cells().filter_map(path).collect())
}
