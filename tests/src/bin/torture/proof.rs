//! `analyze verify` beside the torture, again and again: what is published is whole at any moment.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::stage::Stage;

/// Between the end of one and the begin of the next.
const EVERY: Duration = Duration::from_secs(5);
/// Longest that one may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The running one, if any, and how many there were.
#[derive(Debug)]
pub(crate) struct Proof {
    answer: PathBuf,
    running: Option<(Child, Instant)>,
    ended: Instant,
    /// How many have ended.
    pub(crate) done: u64,
}

impl Proof {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { answer: dir.join("proof.txt"), running: None, ended: Instant::now(), done: 0 }
    }

    /// Starts one when it is time, or looks whether the running one has ended.
    pub(crate) fn go_on(&mut self, stage: &Stage, faults: &mut Vec<String>) {
        if let Some((child, started)) = &mut self.running {
            match child.try_wait() {
                Ok(None) if started.elapsed() < PATIENCE => return,
                Ok(Some(status)) if status.success() => {}
                other => {
                    e2e_tests::process::kill(child);
                    let said = fs::read_to_string(&self.answer).unwrap_or_default();
                    faults.push(format!("verify under way: {other:?}\n{said}"));
                }
            }
            self.running = None;
            self.ended = Instant::now();
            self.done += 1;
        } else if self.ended.elapsed() >= EVERY {
            let begun = File::create(&self.answer).and_then(|out| {
                let errors = out.try_clone()?;
                stage.analysis(&["verify"]).stdout(out).stderr(errors).spawn()
            });
            match begun {
                Ok(child) => self.running = Some((child, Instant::now())),
                Err(error) => faults.push(format!("cannot start analyze verify: {error}")),
            }
        }
    }

    /// Waits for the running one.
    pub(crate) fn finish(mut self, stage: &Stage, faults: &mut Vec<String>) {
        while self.running.is_some() {
            std::thread::sleep(Duration::from_millis(20));
            self.go_on(stage, faults);
        }
    }
}
