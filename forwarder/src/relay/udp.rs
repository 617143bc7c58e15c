//! Relaying datagrams: one listener's desk on one thread, and the associations it keeps.
//!
//! An association is keyed by the local address the client spoke to and the client; each talks to
//! its target over a connected socket of its own, so that replies find their way back and ICMP
//! errors find the right association.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use forwarder_sys::datagram::{self, Local};
use schemas::vocab::{ClientAddr, DenyReason, ListenAddr};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, spawn_local};

use super::admit::Arrival;
use super::association::{Association, Carrier};
use super::counters::count;
use super::thread::DataThread;
use crate::listener::Bound;

/// Associations that one thread keeps; beyond them new clients are refused.
const ASSOCIATIONS_PER_THREAD: usize = 16_384;

/// Datagrams received in a row before other tasks get their turn.
const BATCH: usize = 64;

/// Descriptors of an association: the socket to its target.
const ASSOCIATION_DESCRIPTORS: usize = 1;

/// Who speaks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Our end, as the client addressed it. `None`: the kernel did not tell.
    pub(crate) local: Option<Local>,
    /// The client's end.
    pub(crate) peer: SocketAddr,
}

/// Where one listener's datagrams arrive on one thread.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) thread: Rc<DataThread>,
    bound: Bound,
    socket: UdpSocket,
    associations: RefCell<HashMap<Key, Kept>>,
}

#[derive(Debug)]
struct Kept {
    association: Rc<Association>,
    task: AbortHandle,
}

impl Desk {
    /// A desk without associations.
    pub(crate) fn new(thread: Rc<DataThread>, bound: Bound, socket: UdpSocket) -> Self {
        Self { thread, bound, socket, associations: RefCell::default() }
    }

    /// Receives datagrams for ever. Cancel-safe.
    pub(crate) async fn receive(self: &Rc<Self>) {
        loop {
            if let Err(error) = self.socket.readable().await {
                tracing::error!(listener = %self.bound.address, %error, "cannot wait for datagrams");
                return;
            }
            for _ in 0..BATCH {
                let mut buffer = self.thread.buffers.lend();
                let received = self
                    .socket
                    .try_io(Interest::READABLE, || datagram::receive(&self.socket, &mut buffer));
                match received {
                    Ok(got) => {
                        let key = Key { local: got.local, peer: got.peer };
                        self.arrived(key, &buffer[..got.len]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An ICMP error about a reply, or a shortage: the next datagram may do better.
                    Err(_) => count(&self.thread.shared.counters.icmp_errors),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Ends every association, as when the listener is removed.
    pub(crate) fn close(&self) {
        for kept in self.associations.borrow().values() {
            kept.task.abort();
        }
    }

    fn arrived(self: &Rc<Self>, key: Key, payload: &[u8]) {
        let mut associations = self.associations.borrow_mut();
        match associations.entry(key) {
            Entry::Occupied(kept) => kept.get().association.up(&self.thread, payload),
            Entry::Vacant(vacant) => {
                if let Some(association) = self.admit(key, payload.len()) {
                    association.up(&self.thread, payload);
                    let carrier = Carrier::new(self, key, &association);
                    let task = spawn_local(carrier.run()).abort_handle();
                    vacant.insert(Kept { association, task });
                }
            }
        }
    }

    /// A new client's association, or `None`: it was refused, before anything was allocated.
    fn admit(&self, key: Key, bytes: usize) -> Option<Rc<Association>> {
        let thread = &self.thread;
        let ip = key.local.map_or(self.bound.address.ip(), |local| local.ip);
        let arrival = Arrival {
            listener: self.bound.listener,
            client: ClientAddr::new(key.peer),
            listen: ListenAddr::new(SocketAddr::new(ip, self.bound.address.port())),
            at: thread.shared.clock.now(),
            bytes: bytes as u64,
        };
        let room = thread.associations.get() < ASSOCIATIONS_PER_THREAD;
        let Some(permit) =
            room.then(|| thread.shared.descriptors.take(ASSOCIATION_DESCRIPTORS)).flatten()
        else {
            thread.turn_away(&arrival, DenyReason::TableFull);
            return None;
        };
        let (admitted, meter) = thread.admit(&arrival)?;
        Some(Rc::new(Association::begin(thread, admitted, meter, permit)))
    }

    /// Sends a datagram to a client from the address it spoke to.
    pub(crate) async fn reply(&self, key: Key, payload: &[u8]) -> io::Result<usize> {
        let send = || datagram::send(&self.socket, payload, key.peer, key.local);
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.socket.async_io(Interest::WRITABLE, send).await
            }
            sent => sent,
        }
    }

    /// Takes an association out of the table; datagrams that come later begin a new one.
    pub(crate) fn forget(&self, key: Key) {
        self.associations.borrow_mut().remove(&key);
    }
}
