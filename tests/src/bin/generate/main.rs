//! A data directory as a recorder leaves it after up to a month, of any size, and beside it what is
//! true of it: sums, percentiles and invoices, computed by other code than `analyze` has.

#![forbid(unsafe_code)]

mod calendar;
mod forwarder;
mod invoice;
mod session;
mod store;
mod truth;
mod world;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;

use calendar::{Calendar, DAY};
use forwarder::{Forwarder, Sinks};
use store::Store;
use truth::Truth;
use world::World;

/// Of five sessions that begin while both forwarders run, the first one's.
const FIRST_OF_FIVE: u64 = 3;

/// Writes a made-up account of October 2026, through the recorder's own writer.
///
/// The same options make the same rows. Beside them it writes truth.json (what must come out) and
/// tariffs.toml (the prices that its invoices are made with).
#[derive(Debug, Parser)]
#[command(name = "generate", version)]
struct Options {
    /// Sessions; with their usage there are about 1.1 times as many rows of `usage`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    sessions: u64,
    /// Customers, of which a few have most of the traffic.
    #[arg(long, value_name = "C", value_parser = clap::value_parser!(u16).range(1..=9999))]
    customers: u16,
    /// Days, from the first of the month on.
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u8).range(1..=31))]
    days: u8,
    /// What everything is drawn from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// The data directory, which must not hold an account yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where the truth goes [default: truth.json in DIR].
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    let calendar = Calendar::new(options.days.into());
    let world = World::new(options.customers.into(), options.sessions);
    let mut truth = Truth::new(&world, &calendar);
    let mut store = Store::create(&options.out, ["edge-1", "edge-2"], options.seed)?;
    let [first, second] = calendar.shifts();
    let mut first = Forwarder::new(&world, 0, first, options.seed);
    let mut second = Forwarder::new(&world, 1, second, options.seed);
    for slot in 0..calendar.slots() {
        let sessions = calendar.sessions(slot, options.sessions);
        let of_first = match [first.runs_in(slot), second.runs_in(slot)] {
            [true, true] => sessions * FIRST_OF_FIVE / 5,
            [true, false] => sessions,
            [false, _] => 0,
        };
        let mut to = Sinks { store: &mut store, truth: &mut truth };
        first.account(slot, of_first, options.seed, &mut to)?;
        second.account(slot, sessions - of_first, options.seed, &mut to)?;
        store.publish((slot + 1) % DAY == 0)?;
    }
    let rows = store.finish()?;

    let path = options.truth.clone().unwrap_or_else(|| options.out.join("truth.json"));
    let mut text = serde_json::to_string_pretty(&truth.json(first.open() + second.open()))?;
    text.push('\n');
    let prices = options.out.join("tariffs.toml");
    for (path, text) in [(&path, text), (&prices, invoice::tariffs(world.names()))] {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("generate: {rows} rows in {seconds:.1} s; the truth is in {}", path.display());
    Ok(())
}
