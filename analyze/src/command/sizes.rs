//! `analyze sizes`

use std::path::Path;

use super::grouping::Grouping;
use super::sessions::{self, Listed};
use super::{ALL, Question, Verdict, answer, period};
use crate::cli::{Key, Of, SizesArgs};
use crate::coverage;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;

/// Where the buckets of bytes begin.
const BYTES: [i64; 14] = {
    let mut bounds = [0; 14];
    let mut power = 1;
    let mut i = 1;
    while i < 14 {
        bounds[i] = power;
        power *= 10;
        i += 1;
    }
    bounds
};
const SECOND_US: i64 = 1_000_000;
/// Where those of durations begin, in microseconds: as people count time.
const DURATIONS: [i64; 12] = [
    0,
    1_000,
    10_000,
    100_000,
    SECOND_US,
    10 * SECOND_US,
    60 * SECOND_US,
    600 * SECOND_US,
    3_600 * SECOND_US,
    6 * 3_600 * SECOND_US,
    86_400 * SECOND_US,
    7 * 86_400 * SECOND_US,
];

pub(super) fn run(args: &SizesArgs, data: &Path) -> Result<Verdict, Failure> {
    let common = &args.common;
    let period = period(common)?;
    let dataset = Dataset::open(data)?;
    let grouping = Grouping::new(
        &common.by,
        &[],
        &[Key::Reason, Key::Limit],
        ("sessions", "ts_end"),
        &dataset,
        &period,
    )?;
    let (value, bounds, of, unit) = match args.of {
        Of::Bytes => ("bytes", &BYTES[..], "bytes_", ""),
        Of::Duration => ("duration_us", &DURATIONS[..], "duration_", "_us"),
    };
    let behind = |list: &str| if list.is_empty() { String::new() } else { format!("{list}, ") };
    let partition = match grouping.names.as_str() {
        "" => String::new(),
        names => format!("PARTITION BY {names}"),
    };
    let listed = Listed::new(common, &dataset, &period)?;
    let statement = include_str!("../query/sizes.sql")
        .replace("{keys}", &behind(&grouping.keys))
        .replace("{names}", &behind(&grouping.names))
        .replace("{only_names}", &grouping.names)
        .replace("{partition}", &partition)
        .replace("{bucket}", &bucket(value, bounds))
        .replace("{bounds}", &list(bounds))
        .replace("{of}", of)
        .replace("{unit}", unit)
        .replace("{sessions}", &listed.statement(common.open));
    let reach = coverage::reach(&period);
    let database = Database::open(&dataset, &sessions::wanted(common.open, &period, &reach))?;
    let order = match common.top {
        Some(_) => format!("sessions DESC, {}{of}from{unit}", behind(&grouping.names)),
        None => format!("{}{of}from{unit} NULLS LAST", behind(&grouping.names)),
    };
    let question = Question { what: "sort sessions by size", statement, shown: ALL, order };
    answer((&dataset, &database), &question, common, &period)?;
    Ok(Verdict::Fine)
}

/// The number of the bucket that a value falls into, from 0.
fn bucket(value: &str, bounds: &[i64]) -> String {
    let whens = bounds
        .iter()
        .enumerate()
        .skip(1)
        .map(|(i, bound)| format!("WHEN {value} < {bound} THEN {} ", i - 1));
    format!("CASE {}ELSE {} END", whens.collect::<String>(), bounds.len() - 1)
}

/// The bounds as a list, in which the last bucket has no upper one.
fn list(bounds: &[i64]) -> String {
    let bounds: Vec<String> = bounds.iter().map(|bound| format!("{bound}::BIGINT")).collect();
    format!("[{}]", bounds.join(", "))
}
