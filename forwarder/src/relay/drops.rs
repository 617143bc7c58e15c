//! What one socket's receive queue dropped, as the kernel tells it bit by bit.

use std::cell::Cell;
use std::os::fd::AsFd;

use forwarder_sys::datagram::Batch;
use forwarder_sys::option;

use crate::accounting::Account;

/// How much of a socket's count of drops is in the account.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    known: Cell<u32>,
}

impl Drops {
    /// Accounts for what was dropped before the last datagram of `batch` came.
    pub(crate) fn told(&self, batch: &Batch, account: &Account) {
        if let Some(total) = batch.drops() {
            self.grew(total, account);
        }
    }

    /// Accounts for everything that was dropped until now.
    pub(crate) fn ask(&self, socket: impl AsFd, account: &Account) {
        // A kernel that does not tell has told with each datagram.
        if let Ok(total) = option::drops(socket) {
            self.grew(total, account);
        }
    }

    fn grew(&self, total: u32, account: &Account) {
        let more = total.wrapping_sub(self.known.replace(total));
        if more > 0 {
            account.datagrams_dropped(more.into());
        }
    }
}
