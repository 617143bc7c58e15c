//! Relaying datagrams: one listener's desk on one thread, and the associations it keeps.
//!
//! An association is keyed by the local address the client spoke to and the client; each talks to
//! its target over a connected socket of its own, so that replies find their way back and ICMP
//! errors find the right association.
//!
//! The desk takes datagrams in by the batch, sorts each batch by association, in order, and gives
//! each association its share at once: one look into the table, one look at the clock, and as few
//! system calls as it takes ([`Volley`]).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use forwarder_core::matching::{Fact, Question};
use forwarder_sys::datagram::{BATCH, Batch, Local};
use schemas::vocab::{ClientAddr, DenyReason, EndPhase, ListenAddr};
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::{AbortHandle, spawn_local, yield_now};

use super::Permit;
use super::admit::{Arrival, Door, Facts};
use super::asking::Asker;
use super::association::{Association, Carrier};
use super::counters::{count, count_many};
use super::drops::Drops;
use super::newcomers::Newcomers;
use super::outlet::Outlet;
use super::seats::Seat;
use super::thread::DataThread;
use super::volley::Volley;
use super::waiting::Waiting;
use super::watch::watch;
use crate::limits::Hit;
use crate::listener::{Bound, Opened};

/// Batches taken from a listener that is being closed: more than its queue holds.
const LAST_BATCHES: usize = 1024;

/// Descriptors of an association: the socket to its target.
const ASSOCIATION_DESCRIPTORS: usize = 1;

/// Who speaks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The client's end.
    pub(crate) peer: SocketAddr,
    /// Our end, as the client addressed it. `None`: the listener has only one.
    pub(crate) local: Option<Local>,
}

/// Where one listener's datagrams arrive on one thread.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) thread: Rc<DataThread>,
    pub(crate) outlet: Outlet,
    bound: Bound,
    socket: AsyncFd<Socket>,
    drops: Drops,
    newcomers: Newcomers,
    /// Whether new clients are let in.
    is_open: Cell<bool>,
    clients: RefCell<HashMap<Key, Client>>,
}

#[derive(Debug)]
enum Client {
    /// In line, with what it has sent: in a box, since almost all are known.
    New(Box<Waiting>),
    /// Its name is looked up, which the task does; with what it has sent.
    Asking { waiting: Box<Waiting>, task: AbortHandle },
    /// Let in.
    Known { association: Rc<Association>, task: AbortHandle },
}

/// What becomes of a new client.
enum Outcome {
    /// It is let in.
    In(Rc<Association>),
    /// It is turned away, and the account knows.
    Refused,
    /// Its name has to be known first.
    Asks(Asker),
}

impl Desk {
    /// A desk without associations.
    pub(crate) fn new(thread: Rc<DataThread>, opened: Opened) -> Self {
        let socket = watch(opened.socket, Interest::READABLE)
            .expect("a non-blocking socket on a running runtime registers");
        Self {
            thread,
            outlet: Outlet::default(),
            bound: opened.bound,
            socket,
            drops: Drops::default(),
            newcomers: Newcomers::default(),
            is_open: Cell::new(true),
            clients: RefCell::default(),
        }
    }

    /// Lets new clients in from now on, or drops what they send.
    pub(crate) fn let_in_new_clients(&self, is_open: bool) {
        self.is_open.set(is_open);
    }

    /// The listener's socket.
    pub(crate) fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }

    /// Receives datagrams for ever. Cancel-safe.
    pub(crate) async fn receive(self: &Rc<Self>) {
        loop {
            let mut ready = match self.socket.readable().await {
                Ok(ready) => ready,
                Err(error) => {
                    let listener = self.bound.address;
                    tracing::error!(%listener, %error, "cannot wait for datagrams");
                    return;
                }
            };
            let drained = self.receive_batch();
            self.let_newcomers_in();
            // With somebody in line the next turn comes also without another datagram.
            if drained && self.newcomers.is_empty() {
                ready.clear_ready();
            } else {
                yield_now().await;
            }
        }
    }

    /// Takes in what waits, and ends every association, as when the listener is removed.
    pub(crate) fn close(self: &Rc<Self>) {
        for _ in 0..LAST_BATCHES {
            if self.receive_batch() {
                break;
            }
        }
        while let Some(key) = self.newcomers.any() {
            self.let_in(key);
        }
        self.drops.ask(self.socket(), &self.thread.shared.account);
        for client in self.clients.borrow().values() {
            match client {
                Client::Known { task, .. } => task.abort(),
                Client::Asking { waiting, task } => {
                    task.abort();
                    self.drop_unheard(waiting.take().len());
                }
                Client::New(_) => {}
            }
        }
    }

    /// Receives and relays a batch. Gives whether no datagram was left then.
    fn receive_batch(self: &Rc<Self>) -> bool {
        let mut batch = self.thread.batches.lend();
        match batch.receive_from(self.socket()) {
            Ok(received) => {
                let at = self.thread.shared.clock.now();
                self.drops.look(self.socket(), at, &self.thread.shared.account);
                self.sort(&batch, at);
                received < BATCH
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            // An ICMP error about a reply, or a shortage: the next datagram may do better.
            Err(_) => {
                count(&self.thread.shared.counters.icmp_errors);
                false
            }
        }
    }

    /// Gives each client's datagrams of a batch to its association.
    fn sort(self: &Rc<Self>, batch: &Batch, at: Instant) {
        let len = batch.len();
        let keys: [Option<Key>; BATCH] =
            std::array::from_fn(|index| if index < len { key(batch, index) } else { None });
        let mut left = first_bits(len);
        while left != 0 {
            let key = keys[left.trailing_zeros() as usize];
            let alike = |index: &usize| left & 1 << index != 0 && keys[*index] == key;
            let members = (0..len).filter(alike).fold(0, |members, index| members | 1 << index);
            left &= !members;
            match key {
                Some(key) => self.arrived(key, Volley::of(batch, members), at),
                None => {
                    let unreadable = members.count_ones() as usize;
                    count_many(&self.thread.shared.counters.datagrams_undeliverable, unreadable);
                }
            }
        }
    }

    /// Datagrams came from one client.
    fn arrived(self: &Rc<Self>, key: Key, volley: Volley<'_>, at: Instant) {
        let mut clients = self.clients.borrow_mut();
        match clients.entry(key) {
            Entry::Occupied(client) => match client.get() {
                Client::Known { association, .. } => association.up(&self.thread, volley, at),
                Client::New(waiting) | Client::Asking { waiting, .. } => {
                    self.keep_waiting(waiting, &volley);
                }
            },
            Entry::Vacant(_) if !self.is_open.get() => {
                let paused = &self.thread.shared.counters.datagrams_paused;
                count_many(paused, volley.left().len());
            }
            // Without waiting in line, which would keep what they sent for nothing.
            Entry::Vacant(vacant) if self.newcomers.may_enter() || self.is_full() => {
                if let Some(client) = self.enter(key, volley, at, &Facts::default()) {
                    vacant.insert(client);
                }
            }
            Entry::Vacant(vacant) if self.newcomers.join(key) => {
                let waiting = Waiting::new(&self.thread.waiting_room);
                self.keep_waiting(&waiting, &volley);
                vacant.insert(Client::New(Box::new(waiting)));
            }
            Entry::Vacant(_) => self.drop_unheard(volley.left().len()),
        }
    }

    fn keep_waiting(&self, waiting: &Waiting, volley: &Volley<'_>) {
        let kept = volley.left().iter().filter(|payload| waiting.keep(payload)).count();
        self.drop_unheard(volley.left().len() - kept);
    }

    /// Datagrams are dropped that no session has counted: as if the socket's queue had been full.
    fn drop_unheard(&self, datagrams: usize) {
        self.thread.shared.account.datagrams_dropped(datagrams as u64);
    }

    /// Lets in as many of those in line as may be in one turn.
    fn let_newcomers_in(self: &Rc<Self>) {
        while let Some(key) = self.newcomers.next() {
            self.let_in(key);
        }
        self.newcomers.begin_turn();
    }

    fn let_in(self: &Rc<Self>, key: Key) {
        let mut clients = self.clients.borrow_mut();
        let Some(Client::New(waiting)) = clients.remove(&key) else { return };
        if let Some(client) = self.enter_late(key, &waiting, &Facts::default()) {
            clients.insert(key, client);
        }
    }

    /// Lets in a client whose datagrams have waited.
    fn enter_late(self: &Rc<Self>, key: Key, waiting: &Waiting, facts: &Facts) -> Option<Client> {
        let datagrams = waiting.take();
        let volley = Volley::new(datagrams.iter().map(Vec::as_slice));
        self.enter(key, volley, self.thread.shared.clock.now(), facts)
    }

    /// Begins the association of a client that sent `volley`, unless it is refused or more has to be
    /// known about it.
    fn enter(
        self: &Rc<Self>,
        key: Key,
        mut volley: Volley<'_>,
        at: Instant,
        facts: &Facts,
    ) -> Option<Client> {
        while let Some(first) = volley.left().first() {
            let outcome = self.admit(key, first.len(), at, facts);
            self.newcomers.looked_at(matches!(outcome, Outcome::In(_)));
            match outcome {
                Outcome::In(association) => {
                    association.up(&self.thread, volley, at);
                    let carrier = Carrier::new(self, key, &association);
                    let task = spawn_local(carrier.run()).abort_handle();
                    association.leash().tie(task.clone());
                    return Some(Client::Known { association, task });
                }
                Outcome::Asks(asker) => {
                    let waiting = Box::new(Waiting::new(&self.thread.waiting_room));
                    self.keep_waiting(&waiting, &volley);
                    let task = spawn_local(Rc::clone(self).find_out(key, asker)).abort_handle();
                    return Some(Client::Asking { waiting, task });
                }
                // Each datagram that is refused is told.
                Outcome::Refused => volley.skip(),
            }
        }
        None
    }

    /// Finds out what a client is called, and lets it in or turns it away.
    async fn find_out(self: Rc<Self>, key: Key, _asker: Asker) {
        let reverse = self.thread.names_of(key.peer.ip()).await;
        let facts = Facts { reverse, ..Facts::default() };
        let mut clients = self.clients.borrow_mut();
        let Some(Client::Asking { waiting, .. }) = clients.remove(&key) else { return };
        if let Some(client) = self.enter_late(key, &waiting, &facts) {
            clients.insert(key, client);
        }
    }

    /// What becomes of a new client. It is refused before anything is allocated.
    fn admit(&self, key: Key, bytes: usize, at: Instant, facts: &Facts) -> Outcome {
        let thread = &self.thread;
        let ip = key.local.map_or(self.bound.address.ip(), |local| local.ip);
        let arrival = Arrival {
            listener: self.bound.listener,
            client: ClientAddr::new(key.peer),
            proxied: None,
            listen: ListenAddr::new(SocketAddr::new(ip, self.bound.address.port())),
            at,
            bytes: bytes as u64,
        };
        let (permit, seat) = match self.room() {
            Ok(room) => room,
            Err(no) => {
                let hit = if let NoRoom::Limit(hit) = &no { Some(hit) } else { None };
                let reason = hit.map_or(DenyReason::TableFull, |hit| hit.reason);
                thread.turn_away_by(&arrival, EndPhase::Accept, reason, hit);
                return Outcome::Refused;
            }
        };
        let mut facts = facts.clone();
        loop {
            match thread.admit(&arrival, &facts) {
                Door::Admitted(admitted, meter) => {
                    let begun = Association::begin(thread, admitted, meter, permit, seat);
                    return Outcome::In(Rc::new(begun));
                }
                Door::Refused(_) => return Outcome::Refused,
                Door::Asks(Question::ReverseName) => match thread.asking.take() {
                    Some(asker) => return Outcome::Asks(asker),
                    None => {
                        count(&thread.shared.names.counters().refused);
                        facts.reverse = Fact::Unknown;
                    }
                },
                Door::Asks(Question::ServerName) => facts.server_name = Fact::Unknown,
            }
        }
    }

    /// What an association takes of ours.
    ///
    /// # Errors
    /// There is not enough of it.
    fn room(&self) -> Result<(Permit, Option<Seat>), NoRoom> {
        let thread = &self.thread;
        if thread.associations.get() >= thread.shared.tuning.associations {
            return Err(NoRoom::Table);
        }
        let plan = thread.shared.plan.load();
        // Without a service the listener was removed: nobody is let in.
        let service = plan.service(self.bound.listener);
        let seat =
            service.map(|service| Seat::take(&service.figures.service, service.seats.as_ref()));
        let seat = seat.transpose().map_err(|hit| {
            count(&thread.shared.counters.udp_sessions_refused);
            NoRoom::Limit(hit.clone())
        })?;
        let permit = thread.shared.descriptors.take(ASSOCIATION_DESCRIPTORS);
        Ok((permit.ok_or(NoRoom::Table)?, seat))
    }

    /// Whether the service has as many associations as it may.
    fn is_full(&self) -> bool {
        let plan = self.thread.shared.plan.load();
        plan.service(self.bound.listener).is_some_and(|service| {
            Seat::are_taken(&service.figures.service, service.seats.as_ref())
        })
    }

    /// Takes an association out of the table; datagrams that come later begin a new one.
    pub(crate) fn forget(&self, key: Key) {
        self.clients.borrow_mut().remove(&key);
    }
}

/// Why an association does not begin.
#[derive(Debug)]
enum NoRoom {
    /// Tables or descriptors are used up.
    Table,
    /// The service has as many as it may.
    Limit(Hit),
}

/// Who sent a datagram and to whom. `None`: no internet address, or more than a datagram holds; it
/// must not be passed on cut short.
fn key(batch: &Batch, index: usize) -> Option<Key> {
    let source = batch.source(index).filter(|_| !batch.is_truncated(index))?;
    Some(Key { peer: source.peer, local: source.local })
}

/// The highest `count` of the bits that are set in `bits`.
pub(super) fn last_bits(mut bits: u64, count: usize) -> u64 {
    while bits.count_ones() as usize > count {
        bits &= bits - 1;
    }
    bits
}

/// The lowest `count` bits, all of them from [`BATCH`] on.
pub(super) fn first_bits(count: usize) -> u64 {
    if count < BATCH { (1 << count) - 1 } else { u64::MAX }
}
