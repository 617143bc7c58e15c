//! The names thread: a runtime of its own, so that no name server holds up anybody else.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use forwarder_core::matching::{Book, Fact, ReverseNames};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::cache::{Answer, Question, Timed};
use super::follow::Followed;
use super::interfaces::{self, Interfaces};
use super::lookups::{Busy, FOLLOWED_IN_FLIGHT, For, Lookups};
use super::reverse;
use super::wanted::Wanted;
use super::{Directory, NameCounters, Shared};
use crate::clock::Clock;
use crate::relay::{Descriptors, count};

/// Clients whose names are found out at once. Most of them wait for an answer that is under way
/// already; beyond this a client's name is unknown.
const MAX_ASKERS: u64 = 16_384;

/// To somebody who waits for the addresses of a host. `None`: not known.
type TellAddresses = oneshot::Sender<Option<Arc<[IpAddr]>>>;

/// What others want of the names thread.
#[derive(Debug)]
pub(crate) enum Ask {
    /// What reverse lookup says about a client.
    Reverse(IpAddr, oneshot::Sender<Fact<ReverseNames>>),
    /// The addresses of a host, once they are known.
    Host(Arc<str>, TellAddresses),
    /// Nobody could be dialled at a host's addresses.
    Hurry(Arc<str>),
    /// Follow these and no others, and look each up now. Answered when that was tried once.
    Follow(Box<Wanted>, oneshot::Sender<()>),
    /// Follow these and no others.
    Only(Box<Wanted>),
    /// Whose descriptors questions take.
    TakeFrom(Descriptors),
}

/// Serves until nobody is left who could ask.
pub(crate) fn run(
    runtime: &tokio::runtime::Runtime,
    mut inbox: mpsc::Receiver<Ask>,
    shared: Arc<Shared>,
    directory: watch::Sender<Arc<Directory>>,
    clock: Clock,
) {
    LocalSet::new().block_on(runtime, async move {
        let desk = Rc::new(Desk::new(shared, directory, clock));
        let mut poll = interval(interfaces::POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            desk.look_up_due();
            let next = desk.followed.borrow().next();
            let due = async {
                match next {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            // All branches are cancel-safe.
            tokio::select! {
                ask = inbox.recv() => match ask {
                    Some(ask) => desk.take(ask),
                    None => return,
                },
                () = due => {}
                () = desk.rescheduled.notified() => {}
                _ = poll.tick() => desk.look_at_interfaces(),
            }
        }
    });
}

/// What the thread's tasks share.
struct Desk {
    lookups: Rc<Lookups>,
    wanted: RefCell<Wanted>,
    followed: RefCell<Followed>,
    interfaces: RefCell<Interfaces>,
    /// Who waits for the addresses of a host.
    for_host: RefCell<HashMap<Arc<str>, Vec<TellAddresses>>>,
    /// Who waits until everything was looked up once.
    for_all: RefCell<Vec<oneshot::Sender<()>>>,
    turns: Semaphore,
    rescheduled: Notify,
    silent: Cell<bool>,
    shared: Arc<Shared>,
    directory: watch::Sender<Arc<Directory>>,
    clock: Clock,
}

impl Desk {
    fn new(shared: Arc<Shared>, directory: watch::Sender<Arc<Directory>>, clock: Clock) -> Self {
        let counters = Arc::clone(&shared.counters);
        Self {
            lookups: Rc::new(Lookups::new(clock, counters)),
            wanted: RefCell::default(),
            followed: RefCell::default(),
            interfaces: RefCell::default(),
            for_host: RefCell::default(),
            for_all: RefCell::default(),
            // Each name is two questions.
            turns: Semaphore::new(FOLLOWED_IN_FLIGHT / 2),
            rescheduled: Notify::new(),
            silent: Cell::new(false),
            shared,
            directory,
            clock,
        }
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn take(self: &Rc<Self>, ask: Ask) {
        match ask {
            Ask::Reverse(client, told) => self.name_client(client, told),
            Ask::Host(name, told) => {
                let known = self.followed.borrow().addresses(&name);
                if known.is_some() {
                    drop(told.send(known));
                    return;
                }
                self.followed.borrow_mut().hurry(&name, self.now());
                let mut waiting = self.for_host.borrow_mut();
                let waiting = waiting.entry(name).or_default();
                waiting.retain(|told| !told.is_closed());
                waiting.push(told);
            }
            Ask::Hurry(name) => self.followed.borrow_mut().hurry(&name, self.now()),
            Ask::Follow(wanted, told) => {
                self.lookups.ask_anew(&wanted.servers);
                self.follow(*wanted);
                self.followed.borrow_mut().ask_all(self.now());
                self.look_up_due();
                self.for_all.borrow_mut().push(told);
                self.tell_if_settled();
            }
            Ask::Only(wanted) => self.follow(*wanted),
            Ask::TakeFrom(descriptors) => self.lookups.take_from(descriptors),
        }
    }

    /// Finds out what a client is called, for as long as somebody wants to know.
    fn name_client(&self, client: IpAddr, mut told: oneshot::Sender<Fact<ReverseNames>>) {
        let Some(asker) = Asker::new(&self.shared.counters) else {
            // Whoever asks sees at once that there is no answer.
            count(&self.shared.counters.refused);
            return;
        };
        let lookups = Rc::clone(&self.lookups);
        spawn_local(async move {
            let _asker = asker;
            // Both branches are cancel-safe: a question that was asked goes on for the others.
            let names = tokio::select! {
                names = reverse::names_of(&lookups, client) => names,
                () = told.closed() => return,
            };
            drop(told.send(names));
        });
    }

    fn follow(&self, wanted: Wanted) {
        let names = wanted.names();
        if wanted.servers != self.wanted.borrow().servers {
            self.lookups.ask_anew(&wanted.servers);
        }
        self.followed.borrow_mut().follow(&names, self.now());
        self.for_host.borrow_mut().retain(|name, _| names.contains(name));
        self.wanted.replace(wanted);
        self.look_at_interfaces();
        self.publish();
    }

    fn look_up_due(self: &Rc<Self>) {
        let due = self.followed.borrow_mut().due(self.now());
        for name in due {
            spawn_local(Rc::clone(self).look_up(name));
        }
    }

    async fn look_up(self: Rc<Self>, name: Arc<str>) {
        let failed = |_: Busy| Timed::new(Answer::Failed, None, self.now());
        let ask = |question| async {
            self.lookups.look_up(question, For::Configuration).await.unwrap_or_else(failed)
        };
        // The semaphore lives as long as we do.
        let turn = self.turns.acquire().await;
        let (v4, v6) = tokio::join!(
            ask(Question::V4(Arc::clone(&name))),
            ask(Question::V6(Arc::clone(&name)))
        );
        drop(turn);
        if self.followed.borrow_mut().answered(&name, &v4, &v6, self.now()) {
            self.publish();
        }
        let known = self.followed.borrow().addresses(&name);
        for told in self.for_host.borrow_mut().remove(&name).into_iter().flatten() {
            drop(told.send(known.clone()));
        }
        self.tell_if_settled();
        self.rescheduled.notify_one();
    }

    fn tell_if_settled(&self) {
        if self.followed.borrow().all_settled() {
            for told in self.for_all.take() {
                told.send(()).unwrap_or_default();
            }
        }
    }

    fn look_at_interfaces(&self) {
        match interfaces::look(&self.wanted.borrow().interfaces) {
            Ok(found) => {
                self.silent.set(false);
                if *self.interfaces.borrow() != found {
                    self.interfaces.replace(found);
                    self.publish();
                }
            }
            Err(error) => {
                // Said once: what was known last is used until the system tells again.
                if !self.silent.replace(true) {
                    tracing::warn!(%error, "cannot ask the system for the interfaces' addresses");
                }
            }
        }
    }

    /// Lets everybody know what is known.
    fn publish(&self) {
        let known = self.followed.borrow().known();
        let wanted = self.wanted.borrow();
        let interfaces = self.interfaces.borrow();
        let in_rules = known.iter().filter(|(name, _)| wanted.in_rules.contains(*name));
        let ips = |(name, addresses): (&String, &Vec<interfaces::InterfaceAddress>)| {
            (name.clone(), addresses.iter().map(|address| address.ip).collect())
        };
        let book = Book {
            names: in_rules.map(|(name, ips)| (name.to_string(), ips.to_vec())).collect(),
            interfaces: interfaces.iter().map(ips).collect(),
        };
        let unknown = self.followed.borrow().unknown();
        let directory = Directory { hosts: known, unknown, book, interfaces: interfaces.clone() };
        let directory = Arc::new(directory);
        self.shared.directory.store(Arc::clone(&directory));
        self.directory.send_if_modified(|old| {
            let changed = **old != *directory;
            *old = directory;
            changed
        });
    }
}

/// One client whose name is found out, counted until it is dropped.
struct Asker(Arc<NameCounters>);

impl Asker {
    /// `None`: there are too many.
    fn new(counters: &Arc<NameCounters>) -> Option<Self> {
        // Nobody else changes it, so nothing comes between the two.
        if counters.askers.load(Ordering::Relaxed) >= MAX_ASKERS {
            return None;
        }
        count(&counters.askers);
        Some(Self(Arc::clone(counters)))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.askers.fetch_sub(1, Ordering::Relaxed);
    }
}
