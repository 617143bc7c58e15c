//! One run from the first start to the verdict.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e_tests::{address, wait};
use tokio::runtime::Runtime;

use crate::disk::Disks;
use crate::judge::{Verdict, judge};
use crate::link::Link;
use crate::load::{Doors, Load};
use crate::options::Options;
use crate::ordeal::Ordeal;
use crate::stage::Stage;
use crate::truth::Truth;
use crate::{tcp, udp};

/// Longest that sessions may take to end once nobody is killed any more.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// What was done and what moved, in the order in which it is told.
    pub(crate) counts: Vec<(&'static str, u64)>,
}

/// Tortures for as long as `options` say, in `dir`.
pub(crate) fn run(
    options: &Options,
    seed: u64,
    dir: &Path,
    disks: Option<&Disks>,
) -> Result<Outcome> {
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
    let [recorder, between] = stage.sockets();
    let link = runtime.block_on(async { Link::start(&between, &recorder) });
    let link = link.context("cannot listen between forwarder and recorder")?;
    stage.recorder.start();
    stage.forwarder.start();
    stage.forwarder.answers()?;

    let started = Instant::now();
    let load = runtime.block_on(async { Load::start(options.clients, seed, doors, &truth) });
    let mut ordeal = Ordeal::new(stage, link, disks);
    ordeal.endure(options, seed, &truth)?;
    ordeal.relent();
    runtime.block_on(load.stop());
    let idle = wait::within(PATIENCE, || (busy.load(Ordering::Relaxed) == 0).then_some(()));
    idle.context("servers wait for clients that are gone")?;
    let took = started.elapsed();

    let mut counts = ordeal.counts();
    let (stage, faults) = ordeal.end()?;
    let proven = stage.analyze(&["verify"], "verify.txt");
    let mut verdict = judge(&stage, &truth)?;
    verdict.differences.splice(0..0, faults);
    verdict.differences.extend(proven.err().map(|error| format!("verify at the end: {error}")));
    counts.insert(0, ("seconds", took.as_secs()));
    let [made, merged] = stage.merged();
    counts.push(("parts that were merged", merged));
    counts.push(("parts they were merged into", made));
    counts.push(("sessions begun by clients", truth.count() as u64));
    counts.push(("bytes that arrived", truth.bytes.load(Ordering::Relaxed)));
    Ok(Outcome { verdict, counts })
}
