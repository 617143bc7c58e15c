//! What one socket's receive queue dropped.
//!
//! The kernel tells when it is asked. It could also tell with each datagram (`SO_RXQ_OVFL`), at a
//! price that every datagram would pay for the few that are dropped.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use forwarder_sys::option;

use crate::accounting::Account;

/// Time between two questions while datagrams come.
const PAUSE: Duration = Duration::from_secs(1);

/// How much of a socket's count of drops is in the account.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    known: Cell<u32>,
    /// When the kernel was asked, or the first datagrams came.
    since: Cell<Option<Instant>>,
}

impl Drops {
    /// Datagrams came at `at`: accounts for what was dropped, unless that was done just now.
    pub(crate) fn look(&self, socket: impl AsFd, at: Instant, account: &Account) {
        let since = self.since.get().unwrap_or(at);
        let due = at.saturating_duration_since(since) >= PAUSE;
        self.since.set(Some(if due { at } else { since }));
        if due {
            self.ask(socket, account);
        }
    }

    /// Accounts for everything that was dropped until now.
    pub(crate) fn ask(&self, socket: impl AsFd, account: &Account) {
        let Ok(total) = option::drops(socket) else { return };
        let more = total.wrapping_sub(self.known.replace(total));
        if more > 0 {
            account.datagrams_dropped(more.into());
        }
    }
}
