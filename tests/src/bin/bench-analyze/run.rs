//! One run of a program: its time, its processor time and its memory.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// How often it is looked at its memory, and whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// When the waiting ends at the latest.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a run took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Took {
    pub(crate) wall_s: f64,
    pub(crate) processor_s: f64,
    pub(crate) peak_mib: f64,
}

/// Runs a program, which must succeed; gives what it printed, too.
pub(crate) fn run(command: &mut Command) -> Result<(Took, String)> {
    let mut took = Took::default();
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let id = child.id();
    let pid = Pid::from_raw(id.cast_signed()).context("a process has an id")?;
    // It stays a zombie, so that the system can still be asked what it took.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(pid), look)?.is_none() {
        took.peak_mib = peak_mib(id).unwrap_or(took.peak_mib);
        if began.elapsed() > PATIENCE {
            child.kill()?;
        }
        thread::sleep(LOOK_EVERY);
    }
    took.wall_s = began.elapsed().as_secs_f64();
    took.processor_s = processor_s(id).context("a zombie has no stat")?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
    Ok((took, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// The most memory it has had so far.
fn peak_mib(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Fields 14 and 15 of proc_pid_stat(5), in steps of 10 ms.
fn processor_s(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields = stat.rsplit(')').next()?.split_whitespace().skip(11).take(2);
    Some(fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0)
}
