//! Finding a running session from outside its task: to see how it is doing, and to end it.
//!
//! A data thread keeps a leash for each of its sessions and finds them by number. Pulling one notes
//! the reason and stops the session's task, whatever that waits for; the task's end is then the
//! session's, in order and for that reason. A session that nobody ends pays nothing on its way.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use schemas::vocab::{Direction, EndReason, PerDirection, Timestamp};
use slab::Slab;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::admit::Admitted;
use crate::limits::Grant;

/// What is known of one session outside its task, and what pulls at it. Clones are of the same.
#[derive(Debug, Clone)]
pub(crate) struct Leash {
    tether: Rc<Tether>,
}

#[derive(Debug)]
struct Tether {
    last_moved: Cell<Instant>,
    held_by: PerDirection<Cell<Option<Holder>>>,
    pulled: Cell<Option<EndReason>>,
    task: OnceCell<AbortHandle>,
    /// What it has of its rule's limits, if those are any.
    grant: Option<Weak<Grant>>,
}

/// What makes a session wait though payload is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Its capture is behind, and its rule says that it is to wait for it.
    Capture,
    /// A bandwidth of its rule.
    Limit,
}

/// How a session is doing, as its thread sees it.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// When payload was last received or delivered, or else when the session began.
    pub last_moved: Instant,
    /// What makes it wait, if anything does.
    pub held_by: Option<Holder>,
}

impl Leash {
    /// Of a session that begins at `started`.
    pub(crate) fn new(started: Instant, grant: Option<&Rc<Grant>>) -> Self {
        let tether = Tether {
            last_moved: Cell::new(started),
            held_by: PerDirection::default(),
            pulled: Cell::default(),
            task: OnceCell::new(),
            grant: grant.map(Rc::downgrade),
        };
        Self { tether: Rc::new(tether) }
    }

    /// Payload was received or delivered.
    pub(crate) fn moved(&self, at: Instant) {
        self.tether.last_moved.set(at);
    }

    /// When payload was last received or delivered, or else when the session began.
    pub(crate) fn last_moved(&self) -> Instant {
        self.tether.last_moved.get()
    }

    /// Payload of the direction is made to wait by this, or by nothing.
    pub(crate) fn set_held(&self, direction: Direction, by: Option<Holder>) {
        self.tether.held_by[direction].set(by);
    }

    fn sight(&self) -> Sight {
        let PerDirection { up, down } = &self.tether.held_by;
        Sight { last_moved: self.last_moved(), held_by: up.get().or(down.get()) }
    }

    /// Ends the session, for the first reason that it is given; after its end this does nothing.
    /// May be called by the session itself: it ends when it next waits.
    pub(crate) fn pull(&self, reason: EndReason) {
        if self.tether.pulled.get().is_none() {
            self.tether.pulled.set(Some(reason));
            if let Some(task) = self.tether.task.get() {
                task.abort();
            }
        }
    }

    /// Whether a quota of the session is used up.
    fn is_used_up(&self, wall: Timestamp) -> bool {
        let grant = self.tether.grant.as_ref().and_then(Weak::upgrade);
        grant.is_some_and(|grant| grant.is_used_up(wall))
    }

    /// Why the session was told to end, if it was.
    pub(crate) fn pulled(&self) -> Option<EndReason> {
        self.tether.pulled.get()
    }

    /// Says which task carries the session; one that was told to end before it had one ends now.
    pub(crate) fn tie(&self, task: AbortHandle) {
        let task = self.tether.task.get_or_init(|| task);
        if self.pulled().is_some() {
            task.abort();
        }
    }
}

/// The sessions of one thread.
#[derive(Debug, Default)]
pub(crate) struct Leashes {
    held: RefCell<Slab<Held>>,
}

#[derive(Debug)]
struct Held {
    session: Rc<Admitted>,
    leash: Leash,
    /// The client's connection and the target's, of TCP.
    streams: [Weak<TcpStream>; 2],
}

impl Leashes {
    /// Takes a session in, until the hold is dropped.
    pub(crate) fn hold(self: &Rc<Self>, session: &Rc<Admitted>, leash: &Leash) -> Hold {
        let held = Held {
            session: Rc::clone(session),
            leash: leash.clone(),
            streams: [Weak::new(), Weak::new()],
        };
        let key = self.held.borrow_mut().insert(held);
        Hold { leash: leash.clone(), leashes: Rc::clone(self), key }
    }

    /// Ends the sessions that `which` names, and says how many are.
    pub(crate) fn end(&self, which: &Selection, reason: EndReason) -> usize {
        let held = self.held.borrow();
        let chosen = held
            .iter()
            .map(|(_, held)| held)
            .filter(|held| held.leash.pulled().is_none() && which.contains(held.session.id.number));
        chosen.map(|held| held.leash.pull(reason)).count()
    }

    /// Looks at every session that was not told to end.
    pub(crate) fn each(&self, mut look: impl FnMut(&Admitted, &Leash)) {
        let held = self.held.borrow();
        let running = held.iter().filter(|(_, held)| held.leash.pulled().is_none());
        running.for_each(|(_, held)| look(&held.session, &held.leash));
    }

    /// Ends the sessions with a quota that is used up, also those that are silent at the moment.
    pub(crate) fn end_used_up(&self, wall: Timestamp) {
        let held = self.held.borrow();
        for (_, Held { leash, .. }) in held.iter() {
            if leash.is_used_up(wall) {
                leash.pull(EndReason::Quota);
            }
        }
    }

    /// How each session is doing, by number.
    pub(crate) fn sights(&self) -> Vec<(u64, Sight)> {
        let held = self.held.borrow();
        let each = held.iter().map(|(_, held)| (held.session.id.number, held.leash.sight()));
        each.collect()
    }

    /// The connections of a TCP session: the client's and the target's, as far as there are any.
    /// `None`: it is not one of this thread's.
    pub(crate) fn streams(&self, number: u64) -> Option<[Option<Rc<TcpStream>>; 2]> {
        let held = self.held.borrow();
        let (_, held) = held.iter().find(|(_, held)| held.session.id.number == number)?;
        Some(held.streams.each_ref().map(Weak::upgrade))
    }
}

/// A session's place among those of its thread. Dropped, it is free.
#[derive(Debug)]
pub(crate) struct Hold {
    leash: Leash,
    leashes: Rc<Leashes>,
    key: usize,
}

impl Hold {
    /// What a session takes elsewhere for this, in bytes.
    #[cfg(test)]
    pub(crate) const SIZE: usize = size_of::<Tether>() + size_of::<(usize, Held)>();

    /// The session's leash.
    pub(crate) fn leash(&self) -> &Leash {
        &self.leash
    }

    /// These are the client's connection and the target's.
    pub(crate) fn show(&self, streams: [Weak<TcpStream>; 2]) {
        if let Some(held) = self.leashes.held.borrow_mut().get_mut(self.key) {
            held.streams = streams;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.leashes.held.borrow_mut().remove(self.key);
    }
}

/// Some of the running sessions.
#[derive(Debug, Clone)]
pub enum Selection {
    /// Every one.
    All,
    /// Those with these numbers, in ascending order.
    Numbers(Arc<[u64]>),
}

impl Selection {
    /// Whether a session's number is among them.
    pub fn contains(&self, number: u64) -> bool {
        match self {
            Self::All => true,
            Self::Numbers(numbers) => numbers.binary_search(&number).is_ok(),
        }
    }
}
