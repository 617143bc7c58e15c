//! What happens in one cell: a relay is started, every test run against it, its CPU read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e_tests::cpu;
use serde::{Deserialize, Serialize};

use super::load::{Seen, bulk, connect, datagrams, exchange, idle};
use super::namespace;
use super::plan::{Cell, Figure, Relay, Test};
use super::ports::Service;
use super::relays::Running;
use super::targets::Targets;

/// What a cell tells the program that started it, a line each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Report {
    /// A test begins.
    Began(Test),
    /// And is over.
    Measured(Measured),
}

/// What one test showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) test: Test,
    pub(super) figures: BTreeMap<Figure, f64>,
    /// CPU by kind of thread, in the unit of the test's CPU figure.
    pub(super) threads: BTreeMap<String, f64>,
}

/// How long and how many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Extent {
    /// Of each test.
    pub(super) during: Duration,
    /// Sessions of the idle test.
    pub(super) idle: u32,
}

/// Most of a connection test, so that it stays below what the ports give.
const CONN_MOST: Duration = Duration::from_secs(1);
/// Sessions that pass before anything is measured, so that first times are behind it.
const WARM_UP: u64 = 64;
/// Beyond the tests themselves: starts, ends, the account.
const BESIDE: Duration = Duration::from_secs(60);

struct Bench {
    relay: Relay,
    running: Running,
    targets: Arc<Targets>,
    extent: Extent,
    /// Everything that passed, for the account.
    total: Seen,
}

/// Runs a cell in the namespaces that this process was started in.
pub(super) fn run(cell: &Cell, extent: Extent) -> Result<()> {
    let tests = u32::try_from(cell.tests.len()).unwrap_or(u32::MAX);
    namespace::furnish(cell.profile, BESIDE + 4 * tests * extent.during)?;
    let dir = Path::new("/dev/shm/relay");
    fs::create_dir(dir).context("cannot make a directory in our own /dev/shm")?;
    let targets = Targets::start().context("cannot start the targets")?;
    let running = Running::start(cell.relay, dir)?;
    let mut bench = Bench { relay: cell.relay, running, targets, extent, total: Seen::default() };
    let warm_up = connect::up_to(Service::Echo.through(cell.relay), Duration::MAX, WARM_UP)
        .context("the first sessions broke")?;
    bench.add(&warm_up);
    for &test in &cell.tests {
        tell(&Report::Began(test))?;
        let measured = bench.measure(test).with_context(|| format!("{test} broke"))?;
        tell(&Report::Measured(measured))?;
    }
    bench.running.end(&bench.total)
}

fn tell(report: &Report) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    Ok(out.write_all(b"\n").and_then(|()| out.flush())?)
}

impl Bench {
    fn add(&mut self, seen: &Seen) {
        self.total.sessions += seen.sessions;
        self.total.up += seen.up;
        self.total.down += seen.down;
    }

    fn measure(&mut self, test: Test) -> Result<Measured> {
        if test == Test::Idle {
            return self.idle();
        }
        let mut processes = self.running.processes();
        if self.relay == Relay::WeirCapture {
            // Who keeps the payload does part of the work.
            processes.extend(self.running.keepers());
        }
        let before = cpu::when_quiet(&processes);
        let mut seen = self.load(test)?;
        let after = cpu::when_quiet(&processes);
        self.add(&seen);
        let units = match test {
            Test::Bulk1Up | Test::Bulk8Up | Test::Bulk8Down => (seen.up + seen.down) as f64 / 1e9,
            _ => seen.turns as f64 / 1e6,
        };
        ensure!(units > 0.0, "nothing came through");
        let mut figures = throughput(test, &mut seen);
        let mut threads = BTreeMap::new();
        if !processes.is_empty() {
            let per_unit = |ns: u64| ns as f64 / 1e9 / units;
            let cpu = if figures.contains_key(&Figure::GbitPerS) {
                Figure::CpuPerGb
            } else {
                Figure::CpuUs
            };
            figures.insert(cpu, per_unit(after.since(&before)));
            let by_thread = after.by_thread(&before);
            threads = by_thread.into_iter().map(|(name, ns)| (name, per_unit(ns))).collect();
        }
        Ok(Measured { test, figures, threads })
    }

    fn load(&self, test: Test) -> io::Result<Seen> {
        let (relay, during, targets) = (self.relay, self.extent.during, &*self.targets);
        match test {
            Test::Idle => Ok(Seen::default()),
            Test::Conn => connect::run(Service::Echo.through(relay), during.min(CONN_MOST)),
            Test::Rr1 => exchange::run(Service::Echo.through(relay), 1, during),
            Test::Rr32 => exchange::run(Service::Echo.through(relay), 32, during),
            Test::Bulk1Up => bulk::up(Service::Sink.through(relay), 1, during, targets),
            Test::Bulk8Up => bulk::up(Service::Sink.through(relay), 8, during, targets),
            Test::Bulk8Down => bulk::down(Service::Source.through(relay), 8, during, targets),
            Test::Udp => datagrams::run(Service::UdpEcho.through(relay), 32, during),
            Test::UdpW1 => datagrams::run(Service::UdpEcho.through(relay), 1, during),
        }
    }

    fn idle(&mut self) -> Result<Measured> {
        let processes = self.running.processes();
        cpu::when_quiet(&processes);
        let before = Held::by(&processes);
        let count = self.extent.idle;
        let clients = idle::open(Service::Echo.through(self.relay), count)?;
        cpu::when_quiet(&processes);
        let held = Held::by(&processes);
        drop(clients);
        let each = u64::from(count);
        self.add(&Seen { sessions: each, up: each, down: each, ..Seen::default() });
        cpu::when_quiet(&processes);
        let per_session = |after: f64, before: f64| (after - before) / f64::from(count);
        let figures = BTreeMap::from([
            (Figure::KibPerSession, per_session(held.kib, before.kib)),
            (Figure::FdsPerSession, per_session(held.descriptors, before.descriptors)),
        ]);
        Ok(Measured { test: Test::Idle, figures, threads: BTreeMap::new() })
    }
}

fn throughput(test: Test, seen: &mut Seen) -> BTreeMap<Figure, f64> {
    let seconds = seen.took.as_secs_f64();
    let mut figures = BTreeMap::new();
    match test {
        Test::Idle => {}
        Test::Bulk1Up | Test::Bulk8Up | Test::Bulk8Down => {
            let bits = (seen.up + seen.down) as f64 * 8.0;
            figures.insert(Figure::GbitPerS, bits / 1e9 / seconds);
        }
        Test::Conn | Test::Rr1 | Test::Rr32 | Test::Udp | Test::UdpW1 => {
            figures.insert(Figure::PerS, seen.turns as f64 / seconds);
            for (figure, percent) in [(Figure::P50Us, 50), (Figure::P99Us, 99)] {
                figures.extend(seen.latency_us(percent).map(|us| (figure, us)));
            }
        }
    }
    if seen.sent > 0 {
        let lost = seen.sent.saturating_sub(seen.turns) as f64;
        figures.insert(Figure::LossPercent, 100.0 * lost / seen.sent as f64);
    }
    figures
}

/// What the relay holds of the machine.
struct Held {
    kib: f64,
    descriptors: f64,
}

impl Held {
    fn by(processes: &[u32]) -> Self {
        let (mut kib, mut descriptors) = (0.0, 0.0);
        for process in processes {
            let dir = Path::new("/proc").join(process.to_string());
            let status = fs::read_to_string(dir.join("status")).unwrap_or_default();
            let anonymous = status.lines().find_map(|line| {
                line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok()
            });
            kib += anonymous.unwrap_or(0.0);
            descriptors += fs::read_dir(dir.join("fd")).map_or(0, Iterator::count) as f64;
        }
        Self { kib, descriptors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_that_did_not_come_back_are_a_share_of_those_sent() {
        let mut seen = Seen { sent: 200, turns: 199, ..Seen::default() };
        seen.took = Duration::from_secs(1);
        let figures = throughput(Test::Udp, &mut seen);
        assert_eq!(figures.get(&Figure::LossPercent), Some(&0.5));
        assert_eq!(figures.get(&Figure::PerS), Some(&199.0));
    }

    #[test]
    fn a_report_is_a_line_that_reads_back() {
        let figures = BTreeMap::from([(Figure::CpuPerGb, 0.25), (Figure::GbitPerS, 40.0)]);
        let measured = Measured { test: Test::Bulk8Up, figures, threads: BTreeMap::new() };
        let line = serde_json::to_string(&Report::Measured(measured.clone())).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), Report::Measured(measured));
    }
}
