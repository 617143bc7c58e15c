//! Relaying datagrams: one listener's desk on one thread, and the associations it keeps.
//!
//! An association is keyed by the local address the client spoke to and the client; each talks to
//! its target over a connected socket of its own, so that replies find their way back and ICMP
//! errors find the right association.
//!
//! The desk takes datagrams in by the batch, sorts each batch by association, in order, and gives
//! each association its share at once: one look into the table, one look at the clock, and as few
//! system calls as it takes ([`Volley`]).

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use forwarder_sys::datagram::{BATCH, Batch, Local};
use schemas::vocab::{ClientAddr, DenyReason, ListenAddr};
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::{AbortHandle, spawn_local};

use super::admit::Arrival;
use super::association::{Association, Carrier};
use super::counters::{count, count_many};
use super::drops::Drops;
use super::outlet::Outlet;
use super::thread::DataThread;
use super::volley::Volley;
use super::watch::watch;
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
    /// Our end, as the client addressed it. `None`: the kernel did not tell.
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
    associations: RefCell<HashMap<Key, Kept>>,
}

#[derive(Debug)]
struct Kept {
    association: Rc<Association>,
    task: AbortHandle,
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
            associations: RefCell::default(),
        }
    }

    /// The listener's socket.
    pub(crate) fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }

    /// Receives datagrams for ever. Cancel-safe.
    pub(crate) async fn receive(self: &Rc<Self>) {
        loop {
            match self.socket.readable().await {
                Ok(mut ready) if self.receive_batch() => ready.clear_ready(),
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => {
                    let listener = self.bound.address;
                    tracing::error!(%listener, %error, "cannot wait for datagrams");
                    return;
                }
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
        self.drops.ask(self.socket(), &self.thread.shared.account);
        for kept in self.associations.borrow().values() {
            kept.task.abort();
        }
    }

    /// Receives and relays a batch. Gives whether no datagram was left then.
    fn receive_batch(self: &Rc<Self>) -> bool {
        let mut batch = self.thread.batches.lend();
        match batch.receive_from(self.socket()) {
            Ok(received) => {
                self.drops.told(&batch, &self.thread.shared.account);
                self.sort(&batch);
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
    fn sort(self: &Rc<Self>, batch: &Batch) {
        let at = self.thread.shared.clock.now();
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
                Some(key) => self.arrived(key, batch, members, at),
                None => {
                    let unreadable = members.count_ones() as usize;
                    count_many(&self.thread.shared.counters.datagrams_undeliverable, unreadable);
                }
            }
        }
    }

    /// The datagrams of `batch` whose bits are set in `members` came from one client.
    fn arrived(self: &Rc<Self>, key: Key, batch: &Batch, mut members: u64, at: Instant) {
        let mut associations = self.associations.borrow_mut();
        let vacant = match associations.entry(key) {
            Entry::Occupied(kept) => {
                let association = &kept.get().association;
                return association.up(&self.thread, Volley::of(batch, members), at);
            }
            Entry::Vacant(vacant) => vacant,
        };
        while members != 0 {
            let first = members.trailing_zeros() as usize;
            if let Some(association) = self.admit(key, batch.payload(first).len(), at) {
                association.up(&self.thread, Volley::of(batch, members), at);
                let carrier = Carrier::new(self, key, &association);
                let task = spawn_local(carrier.run()).abort_handle();
                vacant.insert(Kept { association, task });
                return;
            }
            members &= members - 1;
        }
    }

    /// A new client's association, or `None`: it was refused, before anything was allocated.
    fn admit(&self, key: Key, bytes: usize, at: Instant) -> Option<Rc<Association>> {
        let thread = &self.thread;
        let ip = key.local.map_or(self.bound.address.ip(), |local| local.ip);
        let arrival = Arrival {
            listener: self.bound.listener,
            client: ClientAddr::new(key.peer),
            listen: ListenAddr::new(SocketAddr::new(ip, self.bound.address.port())),
            at,
            bytes: bytes as u64,
        };
        let room = thread.associations.get() < thread.shared.tuning.associations;
        let Some(permit) =
            room.then(|| thread.shared.descriptors.take(ASSOCIATION_DESCRIPTORS)).flatten()
        else {
            thread.turn_away(&arrival, DenyReason::TableFull);
            return None;
        };
        let (admitted, meter) = thread.admit(&arrival)?;
        Some(Rc::new(Association::begin(thread, admitted, meter, permit)))
    }

    /// Takes an association out of the table; datagrams that come later begin a new one.
    pub(crate) fn forget(&self, key: Key) {
        self.associations.borrow_mut().remove(&key);
    }
}

/// Who sent a datagram and to whom. `None`: no internet address, or more than a datagram holds; it
/// must not be passed on cut short.
fn key(batch: &Batch, index: usize) -> Option<Key> {
    let source = batch.source(index).filter(|_| !batch.is_truncated(index))?;
    Some(Key { peer: source.peer, local: source.local })
}

/// The lowest `count` bits, all of them from [`BATCH`] on.
pub(super) fn first_bits(count: usize) -> u64 {
    if count < BATCH { (1 << count) - 1 } else { u64::MAX }
}
