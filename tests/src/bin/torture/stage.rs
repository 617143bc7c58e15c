//! The programs under torture and everything they write, in one directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e_tests::process::Process;
use e2e_tests::{binary, wait};
use rustix::process::Signal;
use serde_json::Value;

use crate::load::Doors;

/// Longest that a program may take to end, to be ready or to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest that a question to the account may take.
const ANALYSIS: Duration = Duration::from_secs(600);

/// `forwarder` or `recorder`, which comes and goes.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    dir: PathBuf,
    process: Option<Process>,
    /// How often it was killed.
    pub(crate) kills: u64,
}

impl Program {
    fn new(name: &'static str, dir: &Path) -> Self {
        Self { name, dir: dir.to_path_buf(), process: None, kills: 0 }
    }

    fn config(&self) -> PathBuf {
        self.dir.join(self.name).with_extension("toml")
    }

    fn log(&self) -> PathBuf {
        self.dir.join(self.name).with_extension("log")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::path(self.name));
        command.args(arguments).arg("-c").arg(self.config());
        command.stdin(Stdio::null()).env_remove("RUST_LOG").current_dir(&self.dir);
        command
    }

    /// Starts it, and does not wait until it is ready.
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

    /// Kills it if it was not yet, and waits until it is gone.
    pub(crate) fn bury(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// How it ended, if it did so by itself, and its last words; it is gone then.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.process.as_mut()?.exited()?;
        self.process = None;
        Some(format!("the {} ended by itself ({status}); {}", self.name, self.last_words()))
    }

    /// Asks it to end in order; `None`: it does not run.
    pub(crate) fn terminate(&mut self) -> Result<Option<ExitStatus>> {
        let Some(mut process) = self.process.take() else { return Ok(None) };
        process.signal(Signal::TERM);
        match wait::within(PATIENCE, || process.exited()) {
            Some(status) => Ok(Some(status)),
            None => {
                bail!("the {} does not end after SIGTERM; {}", self.name, self.last_words())
            }
        }
    }

    /// Waits until it answers.
    pub(crate) fn answers(&mut self) -> Result<()> {
        let ready = wait::within(PATIENCE, || {
            let said =
                self.command(&["status"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            said.is_ok_and(|status| status.success()).then_some(())
        });
        ready.with_context(|| format!("the {} does not answer; {}", self.name, self.last_words()))
    }

    /// Runs a command of its to the end and gives what that printed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String> {
        run(self.command(arguments), &self.dir.join("answer"), PATIENCE)
    }

    fn last_words(&self) -> String {
        const LINES: usize = 6;
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].join("\n    ");
        format!("its last words in {}:\n    {last}", self.log().display())
    }
}

/// Both programs, and where they write.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) dir: PathBuf,
    pub(crate) forwarder: Program,
    pub(crate) recorder: Program,
}

impl Stage {
    /// Writes the configurations.
    pub(crate) fn set(dir: &Path, doors: Doors, targets: Doors) -> Result<Self> {
        let at = dir.display();
        let mut forwarder = format!(
            "node = \"edge-1\"\n\n[recorder]\nendpoint = \"unix:{at}/recorder.sock\"\nspool = \"{at}/spool\"\n\n\
             [accounting]\nslot = \"1s\"\ntable = 4096\n\n[admin]\nsocket = \"{at}/forwarder.sock\"\n\n\
             [timeouts]\nconnect = \"5s\"\nudp_idle = \"1s\"\ndrain = \"200ms\"\n\n\
             [[rule]]\nname = \"everyone\"\naction = \"pass\"\n"
        );
        let [one, two] = doors.tcp;
        for (name, scheme, listen, target) in [
            ("one", "tcp", one, targets.tcp[0]),
            ("two", "tcp", two, targets.tcp[1]),
            ("dns", "udp", doors.udp, targets.udp),
        ] {
            forwarder += &format!(
                "\n[[service]]\nname = \"{name}\"\nlisten = [\"{scheme}://{listen}\"]\ntarget = [\"{target}\"]\n"
            );
        }
        let recorder = format!(
            "data = \"{at}/data\"\nlisten = [\"unix:{at}/recorder.sock\"]\n\n\
             [accounting]\npublish_every = \"500ms\"\n\n[admin]\nsocket = \"{at}/recorder-admin.sock\"\n"
        );
        for (name, text) in [("forwarder.toml", forwarder), ("recorder.toml", recorder)] {
            fs::write(dir.join(name), text).with_context(|| format!("cannot write {at}/{name}"))?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            forwarder: Program::new("forwarder", dir),
            recorder: Program::new("recorder", dir),
        })
    }

    /// Starts both, waits until the recorder has everything and has published it, and ends both.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.recorder.start();
        self.recorder.answers()?;
        self.forwarder.start();
        self.forwarder.answers()?;
        let mut status = String::new();
        let drained = wait::within(PATIENCE, || {
            status = self.forwarder.ask(&["status", "--json"]).ok()?;
            let said: Value = serde_json::from_str(&status).ok()?;
            let left = [&said["spool"]["unacknowledged_frames"], &said["sessions"]["current"]];
            left.iter().all(|count| count.as_u64() == Some(0)).then_some(())
        });
        drained.with_context(|| format!("the spool is not drained:\n{status}"))?;
        for program in [&mut self.forwarder, &mut self.recorder] {
            if program.name == "recorder" {
                program.ask(&["flush"])?;
            }
            let status = program.terminate()?.context("it was started above")?;
            ensure!(
                status.success(),
                "the {} ended with {status}; {}",
                program.name,
                program.last_words()
            );
        }
        Ok(())
    }

    /// `analyze` over the data as they are now.
    pub(crate) fn analysis(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::path("analyze"));
        command.arg("--data").arg(self.dir.join("data")).args(arguments).stdin(Stdio::null());
        command
    }

    /// What `analyze` prints, by way of a file of this name.
    pub(crate) fn analyze(&self, arguments: &[&str], answer: &str) -> Result<String> {
        run(self.analysis(arguments), &self.dir.join(answer), ANALYSIS)
    }
}

/// Runs a command to its end, with what it prints in a file: there may be much of it.
fn run(mut command: Command, answer: &Path, patience: Duration) -> Result<String> {
    let open = |path: &Path| {
        File::create(path).with_context(|| format!("cannot write {}", path.display()))
    };
    let errors = answer.with_extension("errors");
    command.stdout(open(answer)?).stderr(open(&errors)?);
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    let ended = wait::within(patience, || child.try_wait().ok().flatten());
    if ended.is_none() {
        e2e_tests::process::kill(&mut child);
    }
    let said = fs::read_to_string(answer).unwrap_or_default();
    match ended {
        Some(status) if status.success() => Ok(said),
        other => {
            let how = other.map_or_else(|| "does not end".to_owned(), |status| status.to_string());
            let errors = fs::read_to_string(errors).unwrap_or_default();
            bail!("{command:?}: {how}\n{said}{errors}")
        }
    }
}
