//! The part of a run in which things are done to the programs and the link.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::disk::Disks;
use crate::link::Link;
use crate::options::Options;
use crate::program::Program;
use crate::proof::Proof;
use crate::schedule::{Act, Action, Schedule, Whom};
use crate::stage::Stage;
use crate::truth::Truth;

/// How often what is due is done.
const TICK: Duration = Duration::from_millis(4);
/// Flushes at a time; one that finds its recorder away or stopped may take a while.
const FLUSHES: usize = 4;

/// Programs, link, and what is done to them at the moment.
#[derive(Debug)]
pub(crate) struct Ordeal<'a> {
    stage: Stage,
    link: Arc<Link>,
    disks: Option<&'a Disks>,
    full: Option<Instant>,
    stalled: Option<Instant>,
    refused: Option<Instant>,
    /// Flushes under way; whether they succeed depends on what happens to the recorder meanwhile.
    flushes: Vec<Child>,
    proof: Proof,
    faults: Vec<String>,
    done: [(&'static str, u64); 7],
}

impl<'a> Ordeal<'a> {
    pub(crate) fn new(stage: Stage, link: Arc<Link>, disks: Option<&'a Disks>) -> Self {
        let proof = Proof::new(&stage.dir);
        let done = [
            "stops",
            "reloads",
            "flushes",
            "stalls of the link",
            "refusals of the link",
            "full disks",
            "leaps of the clock",
        ];
        Self {
            stage,
            link,
            disks,
            full: None,
            stalled: None,
            refused: None,
            flushes: Vec::new(),
            proof,
            faults: Vec::new(),
            done: done.map(|name| (name, 0)),
        }
    }

    /// Does what the seed says for as long as the options say.
    pub(crate) fn endure(&mut self, options: &Options, seed: u64, truth: &Truth) -> Result<()> {
        let started = Instant::now();
        let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        progress
            .set_style(ProgressStyle::with_template("{msg}").expect("a placeholder that exists"));
        for Action { after, act } in Schedule::new(seed) {
            self.pass(after);
            let kills = self.stage.forwarder.kills + self.stage.recorder.kills;
            if started.elapsed() >= options.duration() || kills >= options.kills {
                break;
            }
            progress.set_message(format!(
                "{} s, {kills} kills, {} sessions, {} MiB, {} proofs: {act}",
                started.elapsed().as_secs(),
                truth.count(),
                truth.bytes.load(Ordering::Relaxed) >> 20,
                self.proof.done
            ));
            self.carry_out(act)?;
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// Lets time pass, and does what is due meanwhile.
    fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            self.tend();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(TICK));
        }
    }

    fn tend(&mut self) {
        let now = Instant::now();
        if self.full.take_if(|until| now >= *until).is_some() {
            self.make_room();
        }
        if self.stalled.take_if(|until| now >= *until).is_some() {
            self.link.stall(false);
        }
        if self.refused.take_if(|until| now >= *until).is_some() {
            self.link.refuse(false);
        }
        for program in [&mut self.stage.forwarder, &mut self.stage.recorder] {
            self.faults.extend(program.tend());
        }
        self.flushes.retain_mut(|flush| flush.try_wait().is_ok_and(|status| status.is_none()));
        self.proof.go_on(&self.stage, &mut self.faults);
    }

    fn carry_out(&mut self, act: Act) -> Result<()> {
        let now = Instant::now();
        match act {
            Act::Kill { whom, away } => {
                let mut victims = self.victims(whom);
                victims.iter_mut().for_each(|victim| victim.strike());
                victims.iter_mut().for_each(|victim| victim.bury(away));
            }
            Act::End { whom, grace } => {
                self.victims(whom).iter_mut().for_each(|victim| victim.ask_to_end(grace));
            }
            Act::Stop { whom, lasts } => {
                self.victims(whom).iter_mut().for_each(|victim| victim.stop(lasts));
                self.done[0].1 += 1;
            }
            Act::Hup { whom } => {
                self.stage.revise()?;
                self.victims(whom).iter().for_each(|victim| victim.hup());
                self.done[1].1 += 1;
            }
            Act::Flush => self.flush()?,
            Act::Cut { after } => self.link.cut_after(after),
            Act::Stall { lasts } => {
                self.link.stall(true);
                self.stalled = Some(now + lasts);
                self.done[3].1 += 1;
            }
            Act::Refuse { lasts } => {
                self.link.refuse(true);
                self.refused = Some(now + lasts);
                self.done[4].1 += 1;
            }
            Act::Fill { whose, room, lasts } => self.fill(whose, room, lasts)?,
            Act::Leap { by } => {
                self.stage.leap(by);
                self.done[6].1 += 1;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.flushes.len() < FLUSHES {
            let mut command = self.stage.recorder.command(&["flush"]);
            self.flushes.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
            self.done[2].1 += 1;
        }
        Ok(())
    }

    /// Without small disks there is nothing to fill.
    fn fill(&mut self, whose: Whom, room: u64, lasts: Duration) -> Result<()> {
        let Some(disks) = self.disks else { return Ok(()) };
        if whose != Whom::Recorder {
            disks.spool.fill(room)?;
            self.stage.forwarder.starve(lasts);
        }
        if whose != Whom::Forwarder {
            disks.data.fill(room)?;
            self.stage.recorder.starve(lasts);
        }
        self.full = self.full.max(Some(Instant::now() + lasts));
        self.done[5].1 += 1;
        Ok(())
    }

    fn make_room(&mut self) {
        for disk in self.disks.iter().flat_map(|disks| [&disks.spool, &disks.data]) {
            self.faults.extend(disk.empty().err().map(|error| format!("{error:#}")));
        }
    }

    fn victims(&mut self, whom: Whom) -> Vec<&mut Program> {
        let Stage { forwarder, recorder, .. } = &mut self.stage;
        match whom {
            Whom::Forwarder => vec![forwarder],
            Whom::Recorder => vec![recorder],
            Whom::Both => vec![forwarder, recorder],
        }
    }

    /// Ends everything that lasts; both programs run again soon.
    pub(crate) fn relent(&mut self) {
        self.link.stall(false);
        self.link.refuse(false);
        (self.stalled, self.refused, self.full) = (None, None, None);
        self.make_room();
        for program in [&mut self.stage.forwarder, &mut self.stage.recorder] {
            program.go_on();
            program.strike();
            program.bury(Duration::ZERO);
            program.start();
        }
    }

    /// What was done, by name.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let Stage { forwarder, recorder, .. } = &self.stage;
        let mut counts = vec![
            ("kills of the forwarder", forwarder.kills),
            ("kills of the recorder", recorder.kills),
            ("ends of the forwarder", forwarder.ends),
            ("ends of the recorder", recorder.ends),
            ("starts with a full disk", forwarder.failures + recorder.failures),
        ];
        counts.extend(self.done);
        counts.push(("cuts of the link", self.link.cut.load(Ordering::Relaxed)));
        counts.push(("runs of verify under way", self.proof.done));
        counts
    }

    /// Waits until everything is published and both programs have ended; what was wrong so far.
    pub(crate) fn end(mut self) -> Result<(Stage, Vec<String>)> {
        self.proof.finish(&self.stage, &mut self.faults);
        for mut flush in self.flushes {
            e2e_tests::process::kill(&mut flush);
        }
        self.stage.settle()?;
        Ok((self.stage, self.faults))
    }
}
