//! The demonstration: a recorder and a forwarder on loopback, a real web server and a real name
//! server behind them, clients of two customers and a guest who is refused; then the reports.
//!
//! `demo [SECONDS]` runs in the current directory and leaves `demo-data/` there.

#![forbid(unsafe_code)]

mod clients;
mod report;
mod servers;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e_tests::binary;
use e2e_tests::process::Process;
use tempfile::TempDir;

const DATA: &str = "demo-data";
const FORWARDER: &str = "demo-data/forwarder.toml";
const RECORDER: &str = "demo-data/recorder.toml";

#[tokio::main]
async fn main() -> Result<()> {
    let seconds = match std::env::args().nth(1) {
        None => 10,
        Some(text) => {
            text.parse().with_context(|| format!("{text:?} is not a number of seconds"))?
        }
    };
    let run = prepare()?;
    let servers = servers::start().await?;
    let mut recorder = start("recorder", RECORDER)?;
    let mut forwarder = start("forwarder", FORWARDER)?;

    let tally = clients::run(Duration::from_secs(seconds)).await?;
    servers.abort();

    // In this order nothing is left over: the forwarder writes every end and waits until the
    // recorder has it; the recorder publishes what it has when it ends.
    let ended = forwarder.terminate();
    ensure!(ended.success(), "the forwarder ended with {ended}; see {DATA}/forwarder.log");
    report::run("recorder", &["flush", "-c", RECORDER])?;
    let ended = recorder.terminate();
    ensure!(ended.success(), "the recorder ended with {ended}; see {DATA}/recorder.log");

    drop(run);
    println!("{tally}");
    report::print()
}

/// A fresh `demo-data/`; one that is not ours is left alone. What it returns holds the sockets and
/// goes away with the demonstration: their paths must be short, and the one to here may be long.
fn prepare() -> Result<TempDir> {
    let data = Path::new(DATA);
    if data.exists() {
        ensure!(
            Path::new(FORWARDER).is_file(),
            "{DATA}/ is there and not from a demonstration; move it away first"
        );
        fs::remove_dir_all(data).with_context(|| format!("cannot remove the last {DATA}/"))?;
    }
    fs::create_dir(data).with_context(|| format!("cannot create {DATA}/"))?;
    let run = tempfile::Builder::new().prefix("weir-demo-").tempdir()?;
    let [data, sockets] =
        [&data.canonicalize()?, run.path()].map(|path| path.display().to_string());
    for (file, text) in [
        (FORWARDER, include_str!("../../../demo/forwarder.toml")),
        (RECORDER, include_str!("../../../demo/recorder.toml")),
    ] {
        let text = text.replace("/var/lib/weir-demo", &data).replace("/run/weir-demo", &sockets);
        fs::write(file, text).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(run)
}

/// Starts one of the two and waits until it is ready.
fn start(program: &str, config: &str) -> Result<Process> {
    let mut command = Command::new(binary::path(program));
    command.args(["run", "-c", config]);
    println!("$ {program} run -c {config}");
    Ok(Process::ready(program, &mut command, Path::new(DATA).join(program).with_extension("log")))
}

/// Explains the one failure that has an everyday cause.
fn bound<T>(address: &str, result: std::io::Result<T>) -> Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("{address} is in use: does another demonstration run?")
        }
        other => other.with_context(|| format!("cannot listen on {address}")),
    }
}
