//! What is known of the targets, for as long as one is known at all.
//!
//! A target of a service is the same target in every configuration that names its host and port: what
//! was learned of it, and its sessions, live on across reloads. Data threads hold what concerns them
//! and ask no lock; the [`Registry`] is asked when a configuration is put in force, and by people.

mod prober;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use forwarder_core::config::{Health, Host, Source, Target};
use forwarder_core::target::{Fitness, TargetHealth};
use schemas::vocab::{ServiceName, Transport};
use tokio::sync::Notify;

pub use prober::look_after;

/// Which target of which service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The service: targets that two services share are two, each with its own checks.
    pub service: ServiceName,
    /// The machine.
    pub host: Host,
    /// The port that is dialled.
    pub port: u16,
}

impl Key {
    /// The target as people write it: `10.0.0.5:80`.
    pub fn target(&self) -> String {
        Target { host: self.host.clone(), port: Some(self.port) }.to_string()
    }
}

/// A target of the configuration in force.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) key: Key,
    pub(crate) health: Arc<TargetHealth>,
    /// How sessions come to it.
    pub(crate) transports: Vec<Transport>,
    /// How it is checked, if it is.
    pub(crate) check: Option<Health>,
    /// The address of ours that checks come from, where it is fixed.
    pub(crate) source: Source,
}

/// What people are told of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetView {
    /// The service.
    pub service: ServiceName,
    /// As it is written: `10.0.0.5:80`.
    pub target: String,
    /// Sessions of ours there, those that still dial included.
    pub sessions: u64,
    /// Sessions that could not reach it since it is known.
    pub failed_dials: u64,
    /// Whether new sessions go there.
    pub state: TargetState,
}

/// Whether new sessions go to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// They do.
    Up,
    /// Dials failed: they do while there is no other.
    BackingOff,
    /// Checks failed: they do not.
    Down,
}

impl TargetState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::BackingOff => "backing-off",
            Self::Down => "down",
        }
    }
}

impl Known {
    /// What it is good for; of two transports the worse counts.
    pub(crate) fn state(&self, now: Instant) -> TargetState {
        let state = |transport: &Transport| match self.health.fitness(*transport, now) {
            Fitness::Fit => TargetState::Up,
            Fitness::DueForTrial | Fitness::Resting { .. } => TargetState::BackingOff,
            Fitness::Down => TargetState::Down,
        };
        let worse = |one: TargetState, other: TargetState| match (one, other) {
            (TargetState::Up, other) => other,
            (one, _) => one,
        };
        self.transports.iter().map(state).fold(TargetState::Up, worse)
    }
}

/// All targets.
#[derive(Debug)]
pub struct Registry {
    origin: Instant,
    healths: Mutex<HashMap<Key, Weak<TargetHealth>>>,
    in_force: ArcSwap<Vec<Known>>,
    /// Told when the targets in force have changed.
    changed: Notify,
}

impl Registry {
    /// No targets yet. `now`: no later than any time that is told.
    pub fn new(now: Instant) -> Self {
        Self {
            origin: now,
            healths: Mutex::default(),
            in_force: ArcSwap::default(),
            changed: Notify::new(),
        }
    }

    /// What is known of a target.
    pub(crate) fn health(&self, key: &Key) -> Arc<TargetHealth> {
        let mut healths = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = healths.get(key).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(TargetHealth::new(self.origin));
        healths.insert(key.clone(), Arc::downgrade(&new));
        new
    }

    /// These targets are in force from now on; what nobody knows any more is forgotten.
    pub(crate) fn put_in_force(&self, targets: &Arc<Vec<Known>>) {
        for known in targets.iter().filter(|known| known.check.is_none()) {
            known.health.set_checked(None);
        }
        self.in_force.store(Arc::clone(targets));
        let mut healths = self.healths.lock().unwrap_or_else(PoisonError::into_inner);
        healths.retain(|_, health| health.strong_count() > 0);
        drop(healths);
        self.changed.notify_one();
    }

    /// Every target in force, by service in the order of the file.
    pub fn snapshot(&self, now: Instant) -> Vec<TargetView> {
        let view = |known: &Known| TargetView {
            service: known.key.service.clone(),
            target: known.key.target(),
            sessions: known.health.sessions(),
            failed_dials: known.health.failed_dials(),
            state: known.state(now),
        };
        self.in_force.load().iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> Key {
        let host = Host::Name("web.internal".to_owned());
        Key { service: "web".parse().unwrap(), host, port }
    }

    fn known(registry: &Registry, port: u16, check: Option<Health>) -> Known {
        let (key, transports) = (key(port), vec![Transport::Tcp, Transport::Udp]);
        Known { health: registry.health(&key), key, transports, check, source: Source::Kernel }
    }

    #[test]
    fn what_is_known_of_a_target_outlives_the_configuration_but_not_its_last_user() {
        let registry = Registry::new(Instant::now());
        let first = known(&registry, 80, None);
        registry.put_in_force(&Arc::new(vec![first.clone()]));
        registry.put_in_force(&Arc::new(vec![known(&registry, 80, None)]));
        assert!(Arc::ptr_eq(&registry.health(&key(80)), &first.health));
        registry.put_in_force(&Arc::default());
        drop(first);
        registry.put_in_force(&Arc::default());
        assert!(registry.healths.lock().unwrap().is_empty());
    }

    #[test]
    fn without_checks_what_they_said_is_forgotten() {
        let registry = Registry::new(Instant::now());
        let target = known(&registry, 80, None);
        target.health.set_checked(Some(false));
        assert_eq!(target.state(Instant::now()), TargetState::Down);
        registry.put_in_force(&Arc::new(vec![target]));
        let [view] = &registry.snapshot(Instant::now())[..] else { panic!("one target") };
        assert_eq!((view.target.as_str(), view.state), ("web.internal:80", TargetState::Up));
    }
}
