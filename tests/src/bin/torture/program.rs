//! `forwarder` or `recorder`, which comes and goes.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e_tests::clock::Clock;
use e2e_tests::process::Process;
use e2e_tests::{binary, wait};
use rustix::process::Signal;

use crate::answer;

/// Longest that it may take to end, to be ready or to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between the moment in which a disk has room again and the last end for want of it.
const NOTICED: Duration = Duration::from_secs(2);
/// How soon a program that found no room is started again.
const AGAIN: Duration = Duration::from_millis(100);
/// Lines of its log that are shown when something is wrong with it.
const LAST_LINES: usize = 8;

/// One of the two programs.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    dir: PathBuf,
    /// The clock it is shown.
    clock: Option<Arc<Clock>>,
    process: Option<Process>,
    /// When it comes back, if it is away.
    back: Instant,
    /// It was asked to end; killed if it has not by then.
    ending: Option<Ending>,
    /// Stopped until then.
    stopped: Option<Instant>,
    /// Until then it may end with 74, for want of room on its disk.
    full: Instant,
    /// How often it was killed.
    pub(crate) kills: u64,
    /// How often it ended because its disk was full.
    pub(crate) failures: u64,
    /// How often it ended when asked.
    pub(crate) ends: u64,
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    until: Instant,
    /// That it has not ended by then is a fault.
    must: bool,
}

impl Program {
    pub(crate) fn new(name: &'static str, dir: &Path, clock: Option<Arc<Clock>>) -> Self {
        Self {
            name,
            dir: dir.to_path_buf(),
            clock,
            process: None,
            back: Instant::now(),
            ending: None,
            stopped: None,
            full: Instant::now(),
            kills: 0,
            failures: 0,
            ends: 0,
        }
    }

    fn config(&self) -> PathBuf {
        self.dir.join(self.name).with_extension("toml")
    }

    fn log(&self) -> PathBuf {
        self.dir.join(self.name).with_extension("log")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::path(self.name));
        command.args(arguments).arg("-c").arg(self.config());
        command.stdin(Stdio::null()).env_remove("RUST_LOG").current_dir(&self.dir);
        command.envs(self.clock.iter().flat_map(|clock| clock.environment()));
        command
    }

    /// Starts it unless it runs, and does not wait until it is ready.
    pub(crate) fn start(&mut self) {
        if self.process.is_none() {
            let mut command = self.command(&["run"]);
            self.process = Some(Process::start(self.name, &mut command, self.log()));
        }
    }

    /// Sends SIGKILL, without waiting for the end.
    pub(crate) fn strike(&mut self) {
        if let Some(process) = &self.process {
            process.signal(Signal::KILL);
            self.kills += 1;
        }
    }

    /// Waits until what was struck is gone; it comes back after `away`.
    pub(crate) fn bury(&mut self, away: Duration) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
        self.ending = None;
        self.back = Instant::now() + away;
    }

    /// Sends SIGTERM; with `grace` SIGKILL when that is over.
    pub(crate) fn ask_to_end(&mut self, grace: Option<Duration>) {
        if let Some(process) = &self.process {
            process.signal(Signal::TERM);
            let until = Instant::now() + grace.unwrap_or(PATIENCE);
            self.ending = Some(Ending { until, must: grace.is_none() });
        }
    }

    /// Sends SIGSTOP, and SIGCONT later.
    pub(crate) fn stop(&mut self, lasts: Duration) {
        if let Some(process) = &self.process {
            process.signal(Signal::STOP);
            self.stopped = Some(Instant::now() + lasts);
        }
    }

    /// For so long, and a while in which it may notice, its disk is full.
    pub(crate) fn starve(&mut self, lasts: Duration) {
        self.full = self.full.max(Instant::now() + lasts + NOTICED);
    }

    /// Sends SIGHUP.
    pub(crate) fn hup(&self) {
        if let Some(process) = &self.process {
            process.signal(Signal::HUP);
        }
    }

    /// Does what is due: goes on, comes back, is killed. Says what is wrong.
    pub(crate) fn tend(&mut self) -> Option<String> {
        let now = Instant::now();
        if self.stopped.is_some_and(|until| now >= until) {
            self.go_on();
        }
        let fault = self.exited();
        let overdue = self.ending.filter(|ending| now >= ending.until);
        if let Some(ending) = overdue {
            self.strike();
            self.bury(Duration::ZERO);
            if ending.must {
                return Some(format!("the {} does not end; {}", self.name, self.last_words()));
            }
        }
        if now >= self.back {
            self.start();
        }
        fault
    }

    /// Ends a stop.
    pub(crate) fn go_on(&mut self) {
        self.stopped = None;
        if let Some(process) = &self.process {
            process.signal(Signal::CONT);
        }
    }

    /// Takes note of its end; says so if that was not asked for, or not in order.
    fn exited(&mut self) -> Option<String> {
        let status = self.process.as_mut()?.exited()?;
        self.process = None;
        let asked = self.ending.take().is_some();
        self.ends += u64::from(asked && status.success());
        // A signal that comes before the program listens for it ends it, as it would any other.
        let signal = status.signal().and_then(Signal::from_named_raw);
        let early = matches!(signal, Some(Signal::TERM | Signal::HUP));
        let full = Instant::now() < self.full && status.code() == Some(74);
        if full {
            self.back = Instant::now() + AGAIN;
            self.failures += 1;
        }
        let fine = early || full || (asked && status.success());
        (!fine).then(|| format!("the {} ended with {status}; {}", self.name, self.last_words()))
    }

    /// Ends it in order, now.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("it was started before")?;
        process.signal(Signal::TERM);
        match wait::within(PATIENCE, || process.exited()) {
            Some(status) => Ok(status),
            None => bail!("the {} does not end; {}", self.name, self.last_words()),
        }
    }

    /// Waits until it answers.
    pub(crate) fn answers(&mut self) -> Result<()> {
        let ready = wait::within(PATIENCE, || {
            let mut command = self.command(&["status"]);
            let said = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            said.is_ok_and(|status| status.success()).then_some(())
        });
        ready.with_context(|| format!("the {} does not answer; {}", self.name, self.last_words()))
    }

    /// Runs a command of its to the end and gives what that printed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String> {
        answer::of(self.command(arguments), &self.dir.join("answer"), PATIENCE)
    }

    /// The end of its log, and where it is.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n    ");
        format!("its last words in {}:\n    {last}", self.log().display())
    }
}
