//! The torture: the real forwarder, recorder and `analyze` under real traffic, killed at random
//! moments; then the tables are held against what every client and server counted.

#![forbid(unsafe_code)]

mod answer;
mod disk;
mod judge;
mod link;
mod load;
mod options;
mod ordeal;
mod plan;
mod program;
mod proof;
mod run;
mod schedule;
mod stage;
mod tcp;
mod truth;
mod udp;

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::Parser;

use disk::Disks;
use options::Options;
use run::Outcome;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if !options.inside {
        if let Some(code) = disk::again_inside() {
            return Ok(code);
        }
        println!("torture: no namespaces for this user on this machine: no disk will be full");
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seed = options.seed.unwrap_or_else(|| now.as_micros().try_into().unwrap_or_default());
    println!("torture for {} s, seed {seed}", options.seconds);
    let dir = tempfile::Builder::new().prefix("weir-torture-").tempdir();
    let dir = dir.context("cannot make a directory for temporary files")?;
    let disks = options.inside.then(|| Disks::mount(dir.path())).transpose()?;
    let outcome = run::run(&options, seed, dir.path(), disks.as_ref());
    if let Ok(outcome) = &outcome {
        print(outcome);
        if outcome.verdict.is_fine() {
            println!("\nnothing lost, nothing twice");
            return Ok(ExitCode::SUCCESS);
        }
        outcome.verdict.differences.iter().for_each(|what| println!("- {what}"));
    }
    for disk in disks.iter().flat_map(|disks| [&disks.spool, &disks.data]) {
        disk.keep();
    }
    drop(disks);
    let kept = dir.keep();
    println!("\nseed {seed}; everything is kept in {}", kept.display());
    outcome.map(|_| ExitCode::FAILURE)
}

fn print(outcome: &Outcome) {
    let verdict = &outcome.verdict;
    let judged = [
        ("rows of sessions", verdict.rows),
        ("whole at both ends", verdict.whole),
        ("cut off by a kill", verdict.cut_off),
        ("lost", verdict.lost),
        ("twice", verdict.twice),
        ("invented", verdict.invented),
        ("not exact", verdict.inexact),
        ("received and not billed, in bytes", verdict.bound),
    ];
    for (what, count) in outcome.counts.iter().chain(&judged) {
        println!("{what:<34} {count:>14}");
    }
}
