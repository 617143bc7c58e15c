//! `analyze top`

use std::path::Path;

use super::grouping::Grouping;
use super::moved::Moved;
use super::{Verdict, period};
use crate::cli::{Key, Order, TopArgs};
use crate::dataset::Dataset;
use crate::failure::Failure;

pub(super) fn run(args: &TopArgs, data: &Path) -> Result<Verdict, Failure> {
    let common = &args.common;
    let period = period(common)?;
    let dataset = Dataset::open(data)?;
    let keys = match (&args.keys[..], &common.by[..]) {
        ([], []) => &[Key::Client],
        ([], by) => by,
        (keys, _) => keys,
    };
    let unknown = [Key::Reason, Key::Limit];
    let grouping = Grouping::new(keys, &[], &unknown, ("usage", "slot_start"), &dataset, &period)?;
    let measure = match args.order {
        Order::Up => "bytes_up",
        Order::Down => "bytes_down",
        Order::Both => "bytes_total",
        Order::Sessions => "sessions",
    };
    let report = Moved {
        common,
        extras: &args.extras,
        keys,
        grouping: &grouping,
        dataset: &dataset,
        period: &period,
        what: "look for who moves most",
        select: include_str!("../query/top.sql"),
        measure,
        order: format!("{measure} DESC, {}", grouping.names),
    };
    report.write()?;
    Ok(Verdict::Fine)
}
