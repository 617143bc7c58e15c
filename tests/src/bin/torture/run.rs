//! One run from the first start to the verdict.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e_tests::{address, wait};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::runtime::Runtime;

use crate::judge::{Verdict, judge};
use crate::load::{Doors, Load};
use crate::options::Options;
use crate::proof::Proof;
use crate::schedule::{Act, Action, Schedule, Whom};
use crate::stage::{Program, Stage};
use crate::truth::Truth;
use crate::{tcp, udp};

/// Longest that sessions may take to end once nobody is killed any more.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) kills_forwarder: u64,
    pub(crate) kills_recorder: u64,
    pub(crate) sessions: usize,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    pub(crate) proofs: u64,
}

/// Tortures for as long as `options` say, in `dir`.
pub(crate) fn run(options: &Options, seed: u64, dir: &Path) -> Result<Outcome> {
    let runtime = Runtime::new().context("cannot start threads for clients and servers")?;
    let (truth, busy) = (Arc::<Truth>::default(), Arc::<AtomicU64>::default());
    let ip = address::own();
    let targets = runtime.block_on(async {
        let tcp = [tcp::serve(ip, &truth, &busy)?, tcp::serve(ip, &truth, &busy)?];
        anyhow::Ok(Doors { tcp, udp: udp::serve(ip, &truth).await? })
    })?;
    let ip = address::own();
    let doors = Doors { tcp: [address::free(ip), address::free(ip)], udp: address::free(ip) };
    let mut stage = Stage::set(dir, doors, targets)?;
    stage.recorder.start();
    stage.forwarder.start();
    stage.forwarder.answers()?;
    let started = Instant::now();
    let load = runtime.block_on(async { Load::start(options.clients, seed, doors, &truth) });
    let mut torture = Torture { stage, faults: Vec::new(), proof: Proof::new(dir) };
    torture.until(options, seed, &truth);
    let Torture { mut stage, mut faults, proof } = torture;
    stage.recorder.start();
    stage.forwarder.start();
    runtime.block_on(load.stop());
    let idle = wait::within(PATIENCE, || (busy.load(Ordering::Relaxed) == 0).then_some(()));
    idle.context("servers wait for clients that are gone")?;
    let took = started.elapsed();
    let proofs = proof.finish(&stage, &mut faults);
    stage.settle()?;
    stage.analyze(&["verify"], "verify.txt").unwrap_or_else(|error| {
        faults.push(format!("verify at the end: {error}"));
        String::new()
    });
    let mut verdict = judge(&stage, &truth)?;
    verdict.differences.splice(0..0, faults);
    Ok(Outcome {
        verdict,
        kills_forwarder: stage.forwarder.kills,
        kills_recorder: stage.recorder.kills,
        sessions: truth.count(),
        bytes: truth.bytes.load(Ordering::Relaxed),
        took,
        proofs: proofs + 1,
    })
}

/// The part in which things are done to the programs.
struct Torture {
    stage: Stage,
    faults: Vec<String>,
    proof: Proof,
}

impl Torture {
    fn until(&mut self, options: &Options, seed: u64, truth: &Truth) {
        let started = Instant::now();
        let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        progress
            .set_style(ProgressStyle::with_template("{msg}").expect("a placeholder that exists"));
        for Action { after, act } in Schedule::new(seed) {
            thread::sleep(after);
            let kills = self.stage.forwarder.kills + self.stage.recorder.kills;
            if started.elapsed() >= options.duration() || kills >= options.kills {
                break;
            }
            let sessions = truth.count();
            let mib = truth.bytes.load(Ordering::Relaxed) >> 20;
            progress.set_message(format!(
                "{} s, {kills} kills, {sessions} sessions, {mib} MiB, {} proofs: {act}",
                started.elapsed().as_secs(),
                self.proof.done
            ));
            self.look();
            self.carry_out(act);
            self.proof.go_on(&self.stage, &mut self.faults);
        }
        progress.finish_and_clear();
    }

    /// Nobody ends by itself.
    fn look(&mut self) {
        for program in [&mut self.stage.forwarder, &mut self.stage.recorder] {
            self.faults.extend(program.ended());
            program.start();
        }
    }

    fn carry_out(&mut self, act: Act) {
        match act {
            Act::Kill { whom, away } => {
                let mut victims = self.victims(whom);
                victims.iter_mut().for_each(|victim| victim.strike());
                victims.iter_mut().for_each(|victim| victim.bury());
                thread::sleep(away);
                victims.iter_mut().for_each(|victim| victim.start());
            }
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
}
