//! Which listeners take clients in.
//!
//! A listener that is paused stays as it is and lets nobody in: TCP clients wait in the kernel's
//! queue until it is resumed, which nobody notices who is patient; datagrams of new UDP clients are
//! dropped. While we drain, TCP clients are refused by the kernel, so that a balancer in front of us
//! sends them elsewhere. What runs goes on in both cases, and no socket is given up: to take clients
//! in again can never fail.

use std::collections::HashSet;

use forwarder_core::config::Listener;

/// What a listener does with new clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// Lets them in.
    Open,
    /// Lets them wait.
    Paused,
    /// Lets the kernel refuse them.
    Draining,
}

/// What every listener does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intakes {
    paused: HashSet<Listener>,
    draining: bool,
}

impl Intakes {
    /// What a listener does.
    pub fn of(&self, listener: &Listener) -> Intake {
        match (self.draining, self.paused.contains(listener)) {
            (true, _) => Intake::Draining,
            (false, true) => Intake::Paused,
            (false, false) => Intake::Open,
        }
    }

    /// Whether a listener is paused, also while we drain.
    pub fn is_paused(&self, listener: &Listener) -> bool {
        self.paused.contains(listener)
    }

    /// Whether no listener lets anybody in.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Pauses a listener or resumes it. Gives whether that made a difference.
    pub fn set_paused(&mut self, listener: Listener, paused: bool) -> bool {
        if paused { self.paused.insert(listener) } else { self.paused.remove(&listener) }
    }

    /// Begins to drain, or takes clients in again. Gives whether that made a difference.
    pub fn set_draining(&mut self, draining: bool) -> bool {
        std::mem::replace(&mut self.draining, draining) != draining
    }

    /// Forgets the listeners that are there no more.
    pub fn keep_only(&mut self, exists: impl Fn(&Listener) -> bool) {
        self.paused.retain(exists);
    }
}
