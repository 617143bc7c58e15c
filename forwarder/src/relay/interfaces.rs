//! Listeners by the name of a network interface: one for each address that it has at the moment, all
//! of one service. An address that is not there yet, or not ready to be bound, is waited for.

use std::collections::{HashMap, HashSet};
use std::io;

use forwarder_core::config::{Config, InterfaceListener, Listener, Tcp};
use schemas::table::Event;
use schemas::vocab::{ServiceName, Severity, Timestamp};

use crate::listener::{BindError, Bound, Group};
use crate::names::Directory;

/// Tries to bind an address of an interface, one each second, before a failure is told: an IPv6 address
/// that has just come cannot be bound while the kernel asks whether somebody else has it.
const TELL_AFTER: u32 = 5;

/// A configuration with a listener for each address of its interfaces.
#[derive(Debug)]
pub(super) struct Expanded {
    pub(super) config: Config,
    by_interface: HashSet<Listener>,
}

/// What is done about an address of an interface that cannot be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unbindable {
    /// It is waited for if the system does not have it, as when an IPv6 address is still being
    /// checked; else nothing is bound.
    Await,
    /// It is tried again, whatever the reason.
    Retry,
}

/// What was bound of what should be.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    pub(super) groups: Vec<Group>,
    /// Addresses of interfaces that are tried again.
    pub(super) failed: Vec<BindError>,
}

impl Expanded {
    /// What `config` means with these addresses.
    pub(super) fn of(config: &Config, directory: &Directory) -> Self {
        let fixed = config.services.iter().flat_map(|service| service.listeners.iter().copied());
        let mut taken: HashSet<Listener> = fixed.collect();
        let mut by_interface = HashSet::new();
        let mut config = config.clone();
        for service in &mut config.services {
            for by_name in &service.interfaces {
                let transport = by_name.transport;
                for address in directory.interfaces.get(&by_name.interface).into_iter().flatten() {
                    let listener = Listener { transport, address: address.with_port(by_name.port) };
                    // Who names the address itself means it.
                    if taken.insert(listener) {
                        service.listeners.push(listener);
                        by_interface.insert(listener);
                    }
                }
            }
        }
        Self { config, by_interface }
    }

    /// Whether a listener is there because of an interface's address.
    pub(super) fn is_by_interface(&self, listener: &Listener) -> bool {
        self.by_interface.contains(listener)
    }

    /// Every listener that is there because of an interface's address.
    pub(super) fn into_by_interface(self) -> HashSet<Listener> {
        self.by_interface
    }

    /// Binds `wanted`, and drops from the configuration what is to be tried again.
    ///
    /// # Errors
    /// A listener cannot be bound that must be.
    pub(super) fn bind(
        &mut self,
        wanted: Vec<(Listener, ServiceName)>,
        threads: usize,
        tcp: &Tcp,
        unbindable: Unbindable,
    ) -> Result<Attempt, BindError> {
        let mut attempt = Attempt::default();
        for (listener, service) in wanted {
            match Group::bind(listener, &service, threads, tcp) {
                Ok(group) => attempt.groups.push(group),
                Err(error) if self.may_wait(&error, unbindable) => attempt.failed.push(error),
                Err(error) => return Err(error),
            }
        }
        for error in &attempt.failed {
            self.by_interface.remove(&error.listener);
            for service in &mut self.config.services {
                service.listeners.retain(|listener| *listener != error.listener);
            }
        }
        Ok(attempt)
    }

    fn may_wait(&self, error: &BindError, unbindable: Unbindable) -> bool {
        let absent = error.cause.kind() == io::ErrorKind::AddrNotAvailable;
        self.is_by_interface(&error.listener) && (absent || unbindable == Unbindable::Retry)
    }
}

/// What happened to listeners by interface name since it was told last.
#[derive(Debug, Default)]
pub struct ListenerNews {
    opened: Vec<Bound>,
    closed: Vec<Listener>,
    failed: Vec<BindError>,
    awaited: Vec<(ServiceName, InterfaceListener)>,
    /// How often binding failed in a row, and why.
    failures: HashMap<(Listener, io::ErrorKind), u32>,
    /// Interfaces without an address that were told, until they have one.
    waiting: HashSet<(ServiceName, InterfaceListener)>,
}

impl ListenerNews {
    pub(super) fn opened(&mut self, bound: Bound) {
        self.opened.push(bound);
    }

    pub(super) fn closed(&mut self, listener: Listener) {
        self.closed.push(listener);
    }

    /// These could not be bound, and no others.
    pub(super) fn failed(&mut self, errors: Vec<BindError>) {
        let before = std::mem::take(&mut self.failures);
        for error in errors {
            let key = (error.listener, error.cause.kind());
            let times = before.get(&key).map_or(1, |times| times.saturating_add(1));
            self.failures.insert(key, times);
            if times == TELL_AFTER {
                self.failed.push(error);
            }
        }
    }

    /// Notes which interfaces have no address.
    pub(super) fn look(&mut self, config: &Config, directory: &Directory) {
        let without = |listener: &&InterfaceListener| {
            directory.interfaces.get(&listener.interface).is_none_or(Vec::is_empty)
        };
        let all: HashSet<_> = config
            .services
            .iter()
            .flat_map(|service| {
                let awaited = service.interfaces.iter().filter(without);
                awaited.map(|listener| (service.name.clone(), listener.clone()))
            })
            .collect();
        self.awaited.extend(all.difference(&self.waiting).cloned());
        self.waiting = all;
    }

    /// Whether something is to be tried again though nothing changed.
    pub(super) fn is_to_be_tried_again(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Writes what was not told yet to the log, and gives it as events.
    pub fn tell(&mut self, now: Timestamp) -> Vec<Event> {
        let mut told = Vec::new();
        for Bound { listener, address } in self.opened.drain(..) {
            let text = format!("listening on {}://{address}", listener.transport);
            told.push((Severity::Info, text));
        }
        for listener in self.closed.drain(..) {
            let text = format!("no longer listening on {listener}: its interface lost the address");
            told.push((Severity::Warning, text));
        }
        for error in self.failed.drain(..) {
            told.push((Severity::Warning, format!("{error}; it is tried again each second")));
        }
        for (service, listener) in self.awaited.drain(..) {
            let interface = &listener.interface;
            let text = format!(
                "nobody reaches {listener} (service {service}): interface {interface} has no \
                 address; it is waited for"
            );
            told.push((Severity::Warning, text));
        }
        let event = |(severity, message): (Severity, String)| {
            match severity {
                Severity::Info => tracing::info!("{message}"),
                _ => tracing::warn!("{message}"),
            }
            Event {
                ts: now.0,
                severity: severity.as_str().to_owned(),
                kind: "listener".to_owned(),
                message,
                ..Event::default()
            }
        };
        told.into_iter().map(event).collect()
    }
}
