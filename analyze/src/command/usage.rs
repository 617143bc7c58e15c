//! `analyze usage`

use std::path::Path;

use super::grouping::Grouping;
use super::moved::Moved;
use super::{Verdict, period};
use crate::cli::{Key, UsageArgs};
use crate::dataset::Dataset;
use crate::failure::Failure;

pub(super) fn run(args: &UsageArgs, data: &Path) -> Result<Verdict, Failure> {
    let common = &args.common;
    let period = period(common)?;
    let dataset = Dataset::open(data)?;
    let keys = if common.by.is_empty() { &[Key::Customer][..] } else { &common.by };
    let unknown = [Key::Reason, Key::Limit];
    let grouping = Grouping::new(keys, &[], &unknown, ("usage", "slot_start"), &dataset, &period)?;
    let order = match common.top {
        Some(_) => format!("bytes_total DESC, {}", grouping.names),
        None => grouping.names.clone(),
    };
    let report = Moved {
        common,
        extras: &args.extras,
        keys,
        grouping: &grouping,
        dataset: &dataset,
        period: &period,
        what: "add up usage",
        select: include_str!("../query/usage.sql"),
        measure: "bytes_total",
        order,
    };
    report.write()?;
    Ok(Verdict::Fine)
}
