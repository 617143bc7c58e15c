//! The programs under torture and everything they write, in one directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e_tests::clock::Clock;
use e2e_tests::{binary, wait};
use serde_json::Value;

use crate::answer;
use crate::disk;
use crate::load::Doors;
use crate::program::{PATIENCE, Program};

/// Longest that a question to the account may take.
const ANALYSIS: Duration = Duration::from_secs(600);

fn data(dir: &Path) -> PathBuf {
    disk::paths(dir)[1].join("data")
}

/// The names of all files below a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let below = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => names(&entry.path()),
        _ => vec![entry.file_name().to_string_lossy().into_owned()],
    };
    entries.flat_map(below).collect()
}

/// Both programs, and where they write.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) dir: PathBuf,
    pub(crate) forwarder: Program,
    pub(crate) recorder: Program,
    /// The wall clock of both, where they can be shown one.
    clock: Option<Arc<Clock>>,
    /// How far it was put on, in seconds.
    ahead: i64,
    /// The forwarder's services, as its file has them.
    services: String,
    /// How often the forwarder's file was written.
    revision: u64,
}

impl Stage {
    /// Writes the configurations.
    pub(crate) fn set(dir: &Path, doors: Doors, targets: Doors) -> Result<Self> {
        let at = dir.display();
        let [one, two] = doors.tcp;
        for disk in disk::paths(dir) {
            fs::create_dir_all(&disk).with_context(|| format!("cannot make {}", disk.display()))?;
        }
        let services = [
            ("one", "tcp", one, targets.tcp[0]),
            ("two", "tcp", two, targets.tcp[1]),
            ("dns", "udp", doors.udp, targets.udp),
        ];
        let services = services.map(|(name, scheme, listen, target)| {
            format!("\n[[service]]\nname = \"{name}\"\nlisten = [\"{scheme}://{listen}\"]\ntarget = [\"{target}\"]\n")
        });
        let data = data(dir).display().to_string();
        let recorder = format!(
            "data = \"{data}\"\nlisten = [\"unix:{at}/recorder.sock\"]\n\n\
             [accounting]\npublish_every = \"500ms\"\n\n[admin]\nsocket = \"{at}/recorder-admin.sock\"\n"
        );
        fs::write(dir.join("recorder.toml"), recorder).context("cannot write recorder.toml")?;
        let clock = Clock::make(dir).context("cannot make a clock")?.map(Arc::new);
        if clock.is_none() {
            println!("torture: without a C compiler no hour is over, and nothing is merged");
        }
        let mut stage = Self {
            dir: dir.to_path_buf(),
            forwarder: Program::new("forwarder", dir, clock.clone()),
            recorder: Program::new("recorder", dir, clock.clone()),
            clock,
            ahead: 0,
            services: services.concat(),
            revision: 0,
        };
        stage.revise()?;
        Ok(stage)
    }

    /// The socket that the recorder listens on, and the one where the forwarder looks for it.
    pub(crate) fn sockets(&self) -> [PathBuf; 2] {
        ["recorder.sock", "link.sock"].map(|name| self.dir.join(name))
    }

    /// Writes the forwarder's file with a rule that has a new name.
    pub(crate) fn revise(&mut self) -> Result<()> {
        let (at, revision) = (self.dir.display(), self.revision);
        let spool = disk::paths(&self.dir)[0].join("spool").display().to_string();
        let text = format!(
            "node = \"edge-1\"\n\n[recorder]\nendpoint = \"unix:{at}/link.sock\"\nspool = \"{spool}\"\n\n\
             [accounting]\nslot = \"1s\"\ntable = 4096\n\n[admin]\nsocket = \"{at}/forwarder.sock\"\n\n\
             [timeouts]\nconnect = \"5s\"\nudp_idle = \"1s\"\ndrain = \"200ms\"\n\n\
             [[rule]]\nname = \"everyone-{revision}\"\naction = \"pass\"\n{}",
            self.services
        );
        self.revision += 1;
        // It may be read at this moment.
        let [new, path] = ["forwarder.toml.new", "forwarder.toml"].map(|name| self.dir.join(name));
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// Puts the clock of both programs on.
    pub(crate) fn leap(&mut self, by: Duration) {
        self.ahead = self.ahead.saturating_add_unsigned(by.as_secs());
        self.clock.iter().for_each(|clock| clock.shift(self.ahead));
    }

    /// How many parts others were merged into, and how many were merged: those that are gone from
    /// the tables lie aside for an hour.
    pub(crate) fn merged(&self) -> [u64; 2] {
        let data = data(&self.dir);
        let (here, aside) = (names(&data.join("accounting")), names(&data.join("replaced")));
        let is_made = |name: &&String| ["hour-", "day-"].iter().any(|word| name.starts_with(word));
        let made = here.iter().chain(&aside).filter(is_made).count();
        [made as u64, aside.len() as u64]
    }

    /// Waits until both run and the recorder has and has published everything, and ends both.
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
        drained.with_context(|| {
            format!("the spool is not drained:\n{status}{}", self.forwarder.last_words())
        })?;
        let ended = self.forwarder.terminate()?;
        ensure!(
            ended.success(),
            "the forwarder ended with {ended}; {}",
            self.forwarder.last_words()
        );
        self.recorder.ask(&["flush"])?;
        let ended = self.recorder.terminate()?;
        ensure!(ended.success(), "the recorder ended with {ended}; {}", self.recorder.last_words());
        Ok(())
    }

    /// `analyze` over the data as they are now.
    pub(crate) fn analysis(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary::path("analyze"));
        command.arg("--data").arg(data(&self.dir)).args(arguments).stdin(Stdio::null());
        command
    }

    /// What `analyze` prints, by way of a file of this name.
    pub(crate) fn analyze(&self, arguments: &[&str], file: &str) -> Result<String> {
        answer::of(self.analysis(arguments), &self.dir.join(file), ANALYSIS)
    }
}
