//! The tables as a version of the manifest has them.

use std::collections::BTreeMap;

use schemas::manifest::{Checkpoint, Delta, Part, Retired};
use serde::{Deserialize, Serialize};

use super::Marks;

/// What a table consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Parts.
    pub parts: u64,
    /// Rows in them.
    pub rows: u64,
    /// Their size.
    pub bytes: u64,
}

/// The tables after a version.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    pub(super) version: u64,
    pub(super) marks: Marks,
    /// By path.
    pub(super) parts: BTreeMap<String, Part>,
    /// Sums of `parts` by table.
    pub(super) totals: BTreeMap<String, Totals>,
    /// By table: its rows before this time, in microseconds since 1970 UTC, may be gone.
    pub(super) retired: BTreeMap<String, i64>,
}

impl Tables {
    pub(super) fn of(checkpoint: Checkpoint) -> Self {
        let Checkpoint { version, parts, spools, boots, retired, log_through } = checkpoint;
        let mut tables = Self { version, ..Self::default() };
        tables.marks.advance(spools, boots, log_through);
        tables.retire(retired);
        for part in parts {
            tables.add(part);
        }
        tables
    }

    pub(super) fn to_checkpoint(&self) -> Checkpoint {
        let retired =
            |(table, before): (&String, &i64)| Retired { table: table.clone(), before_us: *before };
        Checkpoint {
            version: self.version,
            parts: self.parts.values().cloned().collect(),
            spools: self.marks.spools().cloned().collect(),
            boots: self.marks.boots().cloned().collect(),
            retired: self.retired.iter().map(retired).collect(),
            log_through: self.marks.log_through(),
        }
    }

    pub(super) fn apply(&mut self, delta: Delta) {
        for path in &delta.remove {
            if let Some(part) = self.parts.remove(path)
                && let Some(totals) = self.totals.get_mut(&part.table)
            {
                totals.parts -= 1;
                totals.rows -= part.rows;
                totals.bytes -= part.bytes;
            }
        }
        for part in delta.add {
            self.add(part);
        }
        self.marks.advance(delta.spools, delta.boots, delta.log_through);
        self.retire(delta.retired);
        self.version = delta.version;
    }

    fn add(&mut self, part: Part) {
        let totals = self.totals.entry(part.table.clone()).or_default();
        totals.parts += 1;
        totals.rows += part.rows;
        totals.bytes += part.bytes;
        self.parts.insert(part.path.clone(), part);
    }

    fn retire(&mut self, retired: Vec<Retired>) {
        self.retired.extend(retired.into_iter().map(|retired| (retired.table, retired.before_us)));
    }
}
