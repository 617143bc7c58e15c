//! What clients and servers know of each session, to hold the account against.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::plan::{Kind, Plan};

/// What one end counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Payload that the kernel took from it, in bytes.
    pub(crate) sent: u64,
    /// Payload that it received, in bytes.
    pub(crate) received: u64,
    /// Everything went as planned, to the end of both streams.
    pub(crate) whole: bool,
}

/// One session as its two ends know it. No two have the same client address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// Where the client came from.
    pub(crate) client: SocketAddr,
    /// Where it went.
    pub(crate) listen: SocketAddr,
    /// What was to move.
    pub(crate) plan: Plan,
    /// The client's connection stood; UDP: it sent something.
    pub(crate) connected: bool,
    /// What the client counted.
    pub(crate) at_client: Counted,
    /// What the server counted; `None`: it never heard of the session.
    pub(crate) at_server: Option<Counted>,
}

impl Session {
    /// Both ends know that everything went as planned.
    pub(crate) fn is_whole(&self) -> bool {
        self.at_client.whole && self.at_server.is_some_and(|counted| counted.whole)
    }

    /// Something came through, so that there must be a row.
    pub(crate) fn is_certain(&self) -> bool {
        self.at_server.is_some() || self.at_client.received > 0
    }

    /// Whether it is an association of datagrams.
    pub(crate) fn is_udp(&self) -> bool {
        matches!(self.plan.kind, Kind::Datagrams)
    }
}

/// Every session of a run, by its number.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    sessions: Mutex<Vec<Session>>,
    /// Payload that came to either end, in bytes.
    pub(crate) bytes: AtomicU64,
    /// Connections that reached a server and said nothing that names their session.
    pub(crate) anonymous: AtomicU64,
    /// Ends that received what nobody had sent, in words.
    damaged: Mutex<Vec<String>>,
}

impl Truth {
    /// Takes up a session that is about to begin, and gives its number.
    pub(crate) fn begin(&self, client: SocketAddr, listen: SocketAddr, plan: Plan) -> u64 {
        let mut sessions = self.lock();
        sessions.push(Session {
            client,
            listen,
            plan,
            connected: false,
            at_client: Counted::default(),
            at_server: None,
        });
        sessions.len() as u64 - 1
    }

    /// The client of a session has connected.
    pub(crate) fn connected(&self, number: u64) {
        self.change(number, |session| session.connected = true);
    }

    /// The client's part of a session is over.
    pub(crate) fn client(&self, number: u64, counted: Counted) {
        self.bytes.fetch_add(counted.received, Ordering::Relaxed);
        self.change(number, |session| session.at_client = counted);
    }

    /// The server's part of a session is over, or, of UDP, came so far.
    pub(crate) fn server(&self, number: u64, change: impl FnOnce(&mut Counted)) {
        self.change(number, |session| change(session.at_server.get_or_insert_default()));
    }

    /// An end of a session received what nobody had sent.
    pub(crate) fn damage(&self, what: String) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// What was damaged, in words.
    pub(crate) fn damaged(&self) -> Vec<String> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many sessions were begun.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// All sessions, by number.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        self.lock().clone()
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Session)) {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        match self.lock().get_mut(at) {
            Some(session) => change(session),
            None => self.damage(format!("a server was told of session {number}, which is none")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
