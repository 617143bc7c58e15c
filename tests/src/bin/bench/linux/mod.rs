//! The comparison: a cell per relay and round, one after the other, and a table of it all.
//!
//! Two things spoil such figures and are kept out: connections in TIME_WAIT (a namespace per cell,
//! all ports, at most a second of connecting) and a host that paces loopback (reno or BBR, by name).

mod cell;
mod goals;
mod load;
mod machine;
mod namespace;
mod options;
mod peers;
mod plan;
mod ports;
mod relays;
mod results;
mod table;
mod targets;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use cell::Report;
use machine::Machine;
use options::Options;
use plan::Cell;
use results::Results;

/// What a cell takes beside its tests, for the announcement: starting, the account, ending.
const CELL_S: f64 = 1.5;
/// What a test takes beside its time: waiting until the relay is quiet, before and after.
const TEST_S: f64 = 0.3;

/// The exit code of all our programs for what this user may not do.
const PERMISSION: u8 = 77;

pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    if !options.cell && !rustix::process::geteuid().is_root() {
        // What sudo calls PATH often lacks cargo, and so `sudo make bench` would end there.
        let own = env::current_exe().unwrap_or_else(|_| "bench".into());
        eprintln!(
            "bench: it needs root, for network namespaces. Please type: sudo {}",
            own.display()
        );
        return ExitCode::from(PERMISSION);
    }
    let done = if options.cell { one_cell(&options) } else { all(&options) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn one_cell(options: &Options) -> Result<()> {
    let ([relay], [profile]) = (&options.relay[..], &options.profile[..]) else {
        bail!("a cell is one relay and one profile");
    };
    let tests = options.only.clone();
    let cell = Cell { round: 0, relay: *relay, profile: *profile, tests };
    cell::run(&cell, options.extent()?).with_context(|| format!("{relay}, {profile}"))
}

fn all(options: &Options) -> Result<()> {
    options.extent()?;
    let relays = peers::present(chosen(&options.relay), !options.no_install)?;
    let profiles = namespace::available(chosen(&options.profile))?;
    let cells = plan::cells(options.rounds, &relays, &chosen(&options.only), &profiles);
    ensure!(!cells.is_empty(), "none of these relays takes any of these tests");
    let tests: usize = cells.iter().map(|cell| cell.tests.len()).sum();
    let seconds = tests as f64 * (options.seconds + TEST_S) + cells.len() as f64 * CELL_S;
    eprintln!("bench: {tests} tests in {} cells, about {:.0} s", cells.len(), seconds);

    let (results, broken) = run(options, &cells, tests)?;
    let machine = Machine::here(&relays);
    let text = table::report(&results, &machine, options.rounds, options.seconds);
    let out = options.out.clone().map_or_else(beside_the_build, Ok)?;
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let json = serde_json::to_vec_pretty(&results.json(&machine, options.rounds, options.seconds))?;
    for (name, contents) in [("bench.md", text.as_bytes()), ("bench.json", &json)] {
        let path = out.join(name);
        fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{text}");
    eprintln!("bench: written to {}", out.display());
    ensure!(broken.is_empty(), "not everything ran:\n  {}", broken.join("\n  "));
    Ok(())
}

/// Everything when nothing was chosen.
fn chosen<T: ValueEnum>(given: &[T]) -> Vec<T> {
    if given.is_empty() { T::value_variants().to_vec() } else { given.to_vec() }
}

/// `bench/` in the directory that holds the one of this program.
fn beside_the_build() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program's own file")?;
    let target = own.ancestors().nth(2).context("this program lies in no directory")?;
    Ok(target.join("bench"))
}

/// Runs the cells; what broke is told at the end, and the rest goes on.
fn run(options: &Options, cells: &[Cell], tests: usize) -> Result<(Results, Vec<String>)> {
    let progress = ProgressBar::new(tests as u64);
    let style = ProgressStyle::with_template("[{elapsed_precise}] {wide_bar} {pos}/{len} {msg}")
        .context("the progress bar's template is wrong")?;
    progress.set_style(style);
    let (mut results, mut broken) = (Results::default(), Vec::new());
    for cell in cells {
        let name = format!("round {}, {}, {}", cell.round + 1, cell.relay, cell.profile);
        progress.set_message(name.clone());
        let arguments = options.of_cell(cell.relay, cell.profile, &cell.tests);
        let told = |report| match report {
            Report::Began(test) => progress.set_message(format!("{name}, {test}")),
            Report::Measured(measured) => {
                results.add(cell, measured);
                progress.inc(1);
            }
        };
        if let Err(error) = namespace::start(&arguments).and_then(|child| listen(child, told)) {
            broken.push(format!("{name}: {error:#}"));
        }
    }
    progress.finish_and_clear();
    Ok((results, broken))
}

/// Passes on what a cell says until it has ended.
fn listen(mut child: Child, told: impl FnMut(Report)) -> Result<()> {
    let out = child.stdout.take().context("a cell's standard output is piped")?;
    let said = each_report(BufReader::new(out), told);
    let status = child.wait().context("cannot wait for a cell")?;
    ensure!(status.success(), "{status}");
    said
}

/// A line that is no report is an error once all lines are read: the others count, and the cell
/// never writes in vain.
fn each_report(lines: impl BufRead, mut told: impl FnMut(Report)) -> Result<()> {
    let mut done = Ok(());
    for line in lines.lines() {
        let line = line.context("cannot read what a cell says")?;
        match serde_json::from_str(&line) {
            Ok(report) => told(report),
            Err(error) => done = Err(error).with_context(|| format!("a cell said {line:?}")),
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::Test;

    #[test]
    fn a_bad_line_costs_no_other() {
        let mut told = Vec::new();
        let lines = "{\"began\":\"conn\"}\n{\"measured\":null}\n{\"began\":\"udp\"}\n";
        let error = each_report(lines.as_bytes(), |report| told.push(report)).unwrap_err();
        assert_eq!(told, [Report::Began(Test::Conn), Report::Began(Test::Udp)]);
        assert!(error.to_string().contains("measured"), "{error}");
    }
}
