//! Looks after the targets: checks those that are to be checked, and tells of changes.
//!
//! A check is a TCP connection, closed at once, from the control thread: it waits for no data thread
//! and no data thread waits for it. What dials have shown is looked at once a second, so that a target
//! whose state flickers fills neither the log nor the account.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use forwarder_core::config::{Health, Host, Source};
use forwarder_core::target::Checks;
use schemas::table::Event;
use schemas::vocab::{Severity, Transport};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Key, Known, Registry, TargetState};
use crate::accounting::Account;
use crate::clock::Clock;
use crate::dial;
use crate::names::Names;

/// Checks under way at once; those that are due wait for their turn.
const AT_ONCE: usize = 64;

/// How often what dials have shown is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The first checks are spread over this time, or over `every` if that is shorter.
const FIRST_CHECKS_WITHIN: Duration = Duration::from_secs(1);

/// Checks targets and tells of changes for as long as it is polled.
pub async fn look_after(registry: Arc<Registry>, names: Names, account: Account, clock: Clock) {
    let mut prober = Prober {
        registry,
        names,
        account,
        clock,
        charges: HashMap::new(),
        running: JoinSet::new(),
        look_at: Instant::now(),
    };
    prober.take_over();
    loop {
        let next = prober.begin_checks();
        // All branches are cancel-safe.
        tokio::select! {
            () = prober.registry.changed.notified() => prober.take_over(),
            Some(checked) = prober.running.join_next() => match checked {
                Ok(checked) => prober.checked(checked),
                Err(error) => tracing::error!(%error, "a check of a target broke off"),
            },
            () = sleep_until(next) => prober.look(),
        }
    }
}

struct Prober {
    registry: Arc<Registry>,
    names: Names,
    account: Account,
    clock: Clock,
    charges: HashMap<Key, Charge>,
    running: JoinSet<Checked>,
    look_at: Instant,
}

/// A target that is looked after.
struct Charge {
    known: Known,
    checks: Checks,
    /// When it is checked next.
    due: Instant,
    under_way: bool,
    /// What was told of it last.
    told: TargetState,
    last_failure: String,
}

/// The outcome of one check.
struct Checked {
    key: Key,
    outcome: io::Result<()>,
}

impl Prober {
    /// Looks after the targets that are in force now. Those that were before keep what is known.
    fn take_over(&mut self) {
        let now = Instant::now();
        let in_force = self.registry.in_force.load_full();
        let mut before = std::mem::take(&mut self.charges);
        for (index, known) in in_force.iter().enumerate() {
            let first = || Charge {
                known: known.clone(),
                checks: Checks::default(),
                due: now + first_check(known.check, index, in_force.len()),
                under_way: false,
                told: TargetState::Up,
                last_failure: String::new(),
            };
            let mut charge = before.remove(&known.key).unwrap_or_else(first);
            if charge.known.check != known.check {
                charge.due = now + first_check(known.check, index, in_force.len());
            }
            if known.check.is_none() {
                // A check that was under way may have told after the registry forgot.
                charge.checks = Checks::default();
                known.health.set_checked(None);
            }
            charge.known = known.clone();
            self.charges.insert(known.key.clone(), charge);
        }
    }

    /// Begins the checks that are due, and gives when there is something to do again.
    fn begin_checks(&mut self) -> Instant {
        let now = Instant::now();
        let mut next = self.look_at;
        for charge in self.charges.values_mut() {
            let Some(check) = charge.known.check.filter(|_| !charge.under_way) else { continue };
            if charge.due > now {
                next = next.min(charge.due);
            } else if self.running.len() < AT_ONCE {
                charge.under_way = true;
                // From when it was due, so that checks keep their distance from each other; not to
                // make up for those that were missed.
                charge.due = (charge.due + check.every).max(now);
                self.running.spawn(run(self.names.clone(), charge.known.clone(), check));
            }
        }
        next
    }

    fn checked(&mut self, Checked { key, outcome }: Checked) {
        // The target may have gone since, or its checks.
        let Some(charge) = self.charges.get_mut(&key) else { return };
        charge.under_way = false;
        let Some(check) = charge.known.check else { return };
        match &outcome {
            Ok(()) => charge.known.health.succeeded(Transport::Tcp),
            Err(error) => charge.last_failure = error.to_string(),
        }
        charge.checks.checked(outcome.is_ok(), check.rise, check.fall);
        charge.known.health.set_checked(charge.checks.up());
        tell_of_change(charge, &self.account, &self.clock);
    }

    /// Tells of what dials have changed.
    fn look(&mut self) {
        let now = Instant::now();
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        for charge in self.charges.values_mut() {
            tell_of_change(charge, &self.account, &self.clock);
        }
    }
}

/// How long after the start a target is checked first: not all at once.
fn first_check(check: Option<Health>, index: usize, of: usize) -> Duration {
    let within = check.map_or(Duration::ZERO, |check| check.every.min(FIRST_CHECKS_WITHIN));
    let part = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    within * part(index) / part(of).max(1)
}

async fn run(names: Names, known: Known, check: Health) -> Checked {
    let outcome = match timeout(check.timeout, reach(&names, &known)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    };
    Checked { key: known.key, outcome }
}

/// Reaches one of a target's addresses.
async fn reach(names: &Names, known: &Known) -> io::Result<()> {
    let addresses = match &known.key.host {
        Host::Address(address) => vec![SocketAddr::new(*address, known.key.port)],
        Host::Name(name) => dial::resolve(names, name, known.key.port, None)
            .await
            .map_err(|_| io::Error::other(format!("{name} has no address")))?,
    };
    let mut last = io::Error::other("it has no address of the family of its source");
    for address in addresses {
        let Ok(source) = source(known.source, address.ip()) else { continue };
        match dial::probe(address, source).await {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    if let Host::Name(name) = &known.key.host {
        names.dial_failed(name);
    }
    Err(last)
}

/// The address of ours that a check comes from. No client came to any, so `"same"` is the kernel's
/// choice.
fn source(source: Source, target: IpAddr) -> Result<Option<IpAddr>, ()> {
    match source {
        Source::Kernel | Source::Same => Ok(None),
        Source::Address(_) => source.towards(target, target).map_err(|_| ()),
    }
}

/// Tells log and account if a target is another than it was.
fn tell_of_change(charge: &mut Charge, account: &Account, clock: &Clock) {
    let state = charge.known.state(clock.now());
    if state == charge.told {
        return;
    }
    charge.told = state;
    let (service, target) = (&charge.known.key.service, charge.known.key.target());
    let (severity, kind, message) = match state {
        TargetState::Up => (Severity::Info, "target_up", format!("target {target} is up")),
        TargetState::BackingOff => {
            let text = format!("target {target} fails: sessions go elsewhere while they can");
            (Severity::Warning, "target_down", text)
        }
        TargetState::Down => {
            let why = &charge.last_failure;
            let text = format!("target {target} is down: checks failed, the last one with: {why}");
            (Severity::Warning, "target_down", text)
        }
    };
    match severity {
        Severity::Info => tracing::info!(%service, target, "{message}"),
        _ => tracing::warn!(%service, target, "{message}"),
    }
    account.event(Event {
        ts: clock.wall(clock.now()).0,
        severity: severity.as_str().to_owned(),
        kind: kind.to_owned(),
        service: Some(service.to_string()),
        message,
        ..Event::default()
    });
}
