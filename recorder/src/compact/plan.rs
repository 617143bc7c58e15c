//! Which parts are merged next: a function of the manifest's parts and the time, without I/O.
//!
//! Parts of one table and day lie in one directory, and only those are ever merged. What `log-`
//! parts a closed hour has become `hour-` parts; once its day is closed, everything becomes `day-`
//! parts. An hour or a day is closed [`GRACE_US`] after its end, and what comes for it later is
//! merged too. Three rules keep that from becoming work without end:
//! - a part of [`BIG_BYTES`] or more is left alone;
//! - where a day has `day-` parts, a part is rewritten only for others that come to a quarter of it;
//! - every output but the last of a step is big, so each step leaves fewer small parts than before.

use std::collections::BTreeMap;

use schemas::manifest::Part;
use schemas::table::{TABLES, Table};

use crate::publish::LOST;

#[cfg(test)]
mod tests;

/// Largest part that a step makes.
pub const MAX_PART_BYTES: u64 = 256 << 20;
/// A part of this size is not merged any more.
const BIG_BYTES: u64 = MAX_PART_BYTES / 2;
/// How much larger than the smaller parts together a part may be to be rewritten with them.
const TIER: u64 = 4;
/// A part is never too large to be rewritten below this size.
const SMALL_BYTES: u64 = 1 << 20;
/// Most parts that a step merges; each may be an open file.
pub const MAX_INPUTS: usize = 256;
/// Most bytes that a step merges: the room that it needs on the disk, and the work that is lost when
/// it is cut off.
pub const MAX_INPUT_BYTES: u64 = 1 << 30;
/// Most decoded rows that the inputs of a step need in memory at once.
const MAX_OPEN_ROWS: u64 = 512 << 10;
/// Decoded rows that an open input needs at most: those of a page.
const PAGE_ROWS: u64 = 20_000;
/// Most steps of one plan. A further plan finds the rest.
pub const MAX_STEPS: usize = 64;

const HOUR_US: i64 = 3_600_000_000;
/// How long rows of an hour or day are expected after its end: two slots.
const GRACE_US: i64 = 600_000_000;

/// How often parts are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// After each hour and after each day.
    Hourly,
    /// After each day.
    Daily,
}

/// What a step makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Parts of an hour.
    Hour,
    /// Parts of a day.
    Day,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// Parts that become fewer parts by one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Their table.
    pub table: &'static Table,
    /// Their directory below the data directory: table and day.
    pub directory: String,
    /// What is made.
    pub level: Level,
    /// The version of the manifest that has them.
    pub version: u64,
    /// Number of the step among those planned at that version.
    pub number: usize,
    /// Two at least, in the order of their first rows.
    pub inputs: Vec<Part>,
    /// Largest part that it makes, in bytes.
    pub max_part_bytes: u64,
}

impl Step {
    /// The path of the `nth` part it makes, from 0 on: a function of the version and the inputs.
    pub fn output(&self, nth: usize) -> String {
        let Self { directory, level, version, number, .. } = self;
        format!("{directory}/{}-{version:020}-{number:02}-{nth:02}.parquet", level.as_str())
    }

    /// The size of all inputs together.
    pub fn input_bytes(&self) -> u64 {
        self.inputs.iter().map(|part| part.bytes).sum()
    }
}

/// The steps to be done at `now_us`, at most [`MAX_STEPS`], oldest days first. `parts` are those of
/// the manifest's `version`, without the ones that are to be left alone.
pub fn plan<'p>(
    parts: impl Iterator<Item = &'p Part>,
    version: u64,
    rhythm: Rhythm,
    now_us: i64,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for ((date, directory), (table, parts)) in by_day(parts) {
        let merges = of_day(parts, rhythm, end_of(date), now_us);
        for (level, inputs) in merges {
            if steps.len() == MAX_STEPS {
                return steps;
            }
            steps.push(Step {
                table,
                directory: directory.to_owned(),
                level,
                version,
                number: steps.len(),
                inputs: inputs.into_iter().cloned().collect(),
                max_part_bytes: MAX_PART_BYTES,
            });
        }
    }
    steps
}

type Day<'p> = (jiff::civil::Date, &'p str);

/// The small parts of each table and day.
fn by_day<'p>(
    parts: impl Iterator<Item = &'p Part>,
) -> BTreeMap<Day<'p>, (&'static Table, Vec<&'p Part>)> {
    let mut days: BTreeMap<Day<'p>, (&'static Table, Vec<&'p Part>)> = BTreeMap::new();
    for part in parts.filter(|part| part.bytes < BIG_BYTES) {
        // A table of a newer version is not ours to rewrite.
        let Some(table) = TABLES.into_iter().find(|table| table.name == part.table) else {
            continue;
        };
        let Some((directory, name)) = part.path.rsplit_once('/') else { continue };
        // They may have to leave the tables again, and nothing else with them.
        if name.starts_with(LOST) {
            continue;
        }
        let Some(date) = directory.rsplit_once("/date=").and_then(|(_, date)| date.parse().ok())
        else {
            continue;
        };
        days.entry((date, directory)).or_insert((table, Vec::new())).1.push(part);
    }
    days
}

/// When the day is over, in microseconds since 1970 UTC.
fn end_of(date: jiff::civil::Date) -> i64 {
    let midnight = date.tomorrow().and_then(|next| next.to_zoned(jiff::tz::TimeZone::UTC));
    midnight.map_or(i64::MAX, |midnight| midnight.timestamp().as_microsecond())
}

fn of_day(parts: Vec<&Part>, rhythm: Rhythm, end_us: i64, now_us: i64) -> Vec<(Level, Vec<&Part>)> {
    let is_closed = |end_us: i64| end_us.saturating_add(GRACE_US) <= now_us;
    let day_is_closed = is_closed(end_us);
    // What fits into one step needs no hours on the way.
    if day_is_closed && parts.len() <= MAX_INPUTS {
        return day_steps(parts);
    }
    if !day_is_closed && rhythm == Rhythm::Daily {
        return Vec::new();
    }
    let mut hours: BTreeMap<i64, Vec<&Part>> = BTreeMap::new();
    for part in parts.iter().filter(|part| is_named(part, "log")) {
        hours.entry(part.max_time_us.div_euclid(HOUR_US)).or_default().push(part);
    }
    let hours = hours.into_iter().filter(|(hour, _)| {
        is_closed(hour.saturating_add(1).saturating_mul(HOUR_US)) || day_is_closed
    });
    let merges: Vec<_> = hours.flat_map(|(_, parts)| steps_of(Level::Hour, parts)).collect();
    // Hours of single parts only: many, and nothing to be done for each.
    if merges.is_empty() && day_is_closed {
        return day_steps(parts);
    }
    merges
}

fn is_named(part: &Part, level: &str) -> bool {
    let name = part.path.rsplit('/').next().unwrap_or_default();
    name.strip_prefix(level).is_some_and(|rest| rest.starts_with('-'))
}

/// The parts of a closed day that are worth rewriting together.
fn whole_day(mut parts: Vec<&Part>) -> Vec<Vec<&Part>> {
    if !parts.iter().any(|part| is_named(part, Level::Day.as_str())) {
        return vec![parts];
    }
    parts.sort_by(|a, b| (a.bytes, &a.path).cmp(&(b.bytes, &b.path)));
    let mut together: Vec<Vec<&Part>> = Vec::new();
    let mut smaller = 0_u64;
    for part in parts {
        match together.last_mut() {
            Some(parts) if part.bytes <= smaller.max(SMALL_BYTES / TIER).saturating_mul(TIER) => {
                parts.push(part);
            }
            _ => {
                smaller = 0;
                together.push(vec![part]);
            }
        }
        smaller += part.bytes;
    }
    together
}

/// The steps of a closed day.
fn day_steps(parts: Vec<&Part>) -> Vec<(Level, Vec<&Part>)> {
    whole_day(parts).into_iter().flat_map(|parts| steps_of(Level::Day, parts)).collect()
}

/// Cuts parts into runs that a step may merge, in the order of their times.
fn steps_of(level: Level, mut parts: Vec<&Part>) -> Vec<(Level, Vec<&Part>)> {
    parts.sort_by(|a, b| (a.min_time_us, &a.path).cmp(&(b.min_time_us, &b.path)));
    let mut runs = Vec::new();
    let mut run = Run::default();
    for part in parts {
        if !run.has_room_for(part) {
            runs.push(std::mem::take(&mut run).parts);
        }
        run.push(part);
    }
    runs.push(run.parts);
    runs.into_iter().filter(|run| run.len() > 1).map(|run| (level, run)).collect()
}

/// Inputs of a step.
#[derive(Default)]
struct Run<'p> {
    parts: Vec<&'p Part>,
    bytes: u64,
    /// Largest time and decoded rows of the inputs that are open when the next one is opened.
    open: Vec<(i64, u64)>,
}

impl<'p> Run<'p> {
    fn has_room_for(&self, part: &Part) -> bool {
        let beside = self.open.iter().filter(|(max_time_us, _)| *max_time_us >= part.min_time_us);
        let rows: u64 = beside.map(|(_, rows)| rows).sum();
        self.parts.is_empty()
            || (self.parts.len() < MAX_INPUTS
                && self.bytes + part.bytes <= MAX_INPUT_BYTES
                && rows + page_rows(part) <= MAX_OPEN_ROWS)
    }

    fn push(&mut self, part: &'p Part) {
        self.open.retain(|(max_time_us, _)| *max_time_us >= part.min_time_us);
        self.open.push((part.max_time_us, page_rows(part)));
        self.bytes += part.bytes;
        self.parts.push(part);
    }
}

fn page_rows(part: &Part) -> u64 {
    part.rows.min(PAGE_ROWS)
}
