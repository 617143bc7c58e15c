//! Looking up names for many: what is known is not asked again, one question is asked once however
//! many want to know, and only so many questions are under way.
//!
//! Everything here lives on the names thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::cache::{Answer, Cache, ENTRIES, Question, Timed};
use super::counters::NameCounters;
use super::wire::{Servers, Wire};
use crate::clock::Clock;
use crate::relay::{Descriptors, Permit, count};

/// Questions about clients that may be under way. A flood of strangers fills no more than this, and
/// a name server that hangs holds up no more.
pub(crate) const CLIENTS_IN_FLIGHT: usize = 64;

/// Questions about names of the configuration that may be under way besides; more wait in line.
pub(crate) const FOLLOWED_IN_FLIGHT: usize = 32;

/// Descriptors that one question may take: two servers at once, each sent to up to four times.
const DESCRIPTORS: usize = 8;

/// On whose behalf a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// A client's: strangers can make us ask, so it may be refused, and what is known is good enough.
    Client,
    /// The configuration's: it is asked anew, and the caller bounds how many are.
    Configuration,
}

/// Too many questions are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// Everything that is known, and the way to know more.
#[derive(Debug)]
pub(crate) struct Lookups {
    servers: RefCell<Servers>,
    /// `None`: nobody has said yet whom to ask.
    wire: RefCell<Option<Rc<Wire>>>,
    cache: RefCell<Cache>,
    waiting: RefCell<HashMap<Question, Vec<oneshot::Sender<Timed>>>>,
    clients: Cell<usize>,
    clock: Clock,
    counters: Arc<NameCounters>,
    descriptors: Cell<Option<Descriptors>>,
}

impl Lookups {
    /// Nothing is known yet, and nobody to ask.
    pub(crate) fn new(clock: Clock, counters: Arc<NameCounters>) -> Self {
        Self {
            servers: RefCell::default(),
            wire: RefCell::default(),
            cache: RefCell::new(Cache::new(ENTRIES)),
            waiting: RefCell::default(),
            clients: Cell::new(0),
            clock,
            counters,
            descriptors: Cell::default(),
        }
    }

    /// Asks these servers from now on, and forgets everything. The system's lists of servers and
    /// hosts are read again.
    pub(crate) fn ask_anew(&self, servers: &Servers) {
        self.servers.replace(servers.clone());
        self.wire.replace(Some(Rc::new(Wire::new(servers))));
        self.cache.borrow_mut().clear();
    }

    /// Whose descriptors questions take.
    pub(crate) fn take_from(&self, descriptors: Descriptors) {
        self.descriptors.set(Some(descriptors));
    }

    /// What is known about a question, or what the servers say.
    ///
    /// # Errors
    /// It cannot be asked now.
    pub(crate) async fn look_up(
        self: &Rc<Self>,
        question: Question,
        whose: For,
    ) -> Result<Timed, Busy> {
        let now = self.clock.now();
        if whose == For::Client
            && let Some(known) = self.cache.borrow().get(&question, now)
        {
            count(&self.counters.hits);
            return Ok(known.clone());
        }
        let (told, answer) = oneshot::channel();
        let under_way = match self.waiting.borrow_mut().get_mut(&question) {
            Some(others) => {
                // Those who have gone meanwhile make room, before more of it is taken.
                if others.len() == others.capacity() {
                    others.retain(|told| !told.is_closed());
                }
                others.push(told);
                None
            }
            None => Some(told),
        };
        match under_way {
            None => count(&self.counters.hits),
            Some(told) => self.begin(question, told, whose)?,
        }
        // Whoever asks tells, unless it broke.
        answer.await.map_err(|_| Busy)
    }

    fn begin(
        self: &Rc<Self>,
        question: Question,
        told: oneshot::Sender<Timed>,
        whose: For,
    ) -> Result<(), Busy> {
        let permit = match self.descriptors.get() {
            Some(descriptors) => descriptors.take(DESCRIPTORS).map(Some),
            None => Some(None),
        };
        let full = whose == For::Client && self.clients.get() >= CLIENTS_IN_FLIGHT;
        let (Some(permit), false) = (permit, full) else {
            count(&self.counters.refused);
            return Err(Busy);
        };
        count(&self.counters.lookups);
        self.counters.in_flight.fetch_add(1, Ordering::Relaxed);
        self.clients.set(self.clients.get() + usize::from(whose == For::Client));
        self.waiting.borrow_mut().insert(question.clone(), vec![told]);
        let flight = Flight { lookups: Rc::clone(self), question, whose, _permit: permit };
        spawn_local(flight.run());
        Ok(())
    }
}

/// A question under way. Dropped, everybody who waits for it is told, if only by silence.
struct Flight {
    lookups: Rc<Lookups>,
    question: Question,
    whose: For,
    _permit: Option<Permit>,
}

impl Flight {
    async fn run(self) {
        let wire = self.lookups.wire.borrow().clone();
        let patience = self.lookups.servers.borrow().patience;
        let said = match &wire {
            Some(wire) => timeout(patience, wire.ask(&self.question)).await.ok(),
            None => None,
        };
        let (answer, ttl) = said.unwrap_or((Answer::Failed, None));
        let counters = &self.lookups.counters;
        match answer {
            Answer::Nothing => count(&counters.negative),
            Answer::Failed => count(&counters.failures),
            Answer::Addresses(_) | Answer::Names(_) => {}
        }
        let timed = Timed::new(answer, ttl, self.lookups.clock.now());
        // What servers said that are no longer asked is good for those who wait, and no longer.
        let asked = |wire: &Option<Rc<Wire>>| wire.as_ref().map(Rc::as_ptr);
        if asked(&wire) == asked(&self.lookups.wire.borrow()) {
            self.lookups.cache.borrow_mut().put(self.question.clone(), timed.clone());
        }
        let waiting = self.lookups.waiting.borrow_mut().remove(&self.question);
        for told in waiting.into_iter().flatten() {
            // Who has gone does not want to know.
            drop(told.send(timed.clone()));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let lookups = &self.lookups;
        lookups.waiting.borrow_mut().remove(&self.question);
        lookups.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        lookups.clients.set(lookups.clients.get() - usize::from(self.whose == For::Client));
    }
}
