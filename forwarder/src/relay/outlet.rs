//! The way back to a listener's clients: one socket for the replies of all associations.
//!
//! When it has no room, the association that found out waits with a batch in hand, and no other
//! takes one up before it is through: replies then wait in the queues of the sockets to the targets,
//! which are there for that, and memory stays bounded.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use socket2::Socket;
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::watch::watch;

/// How long a reply waits for room. One that comes later is of little use.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who may send replies.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    blocked: Cell<bool>,
    opened: Notify,
}

impl Outlet {
    /// Whether somebody waits for room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    /// Waits until nobody waits for room. Whoever waited calls [`Outlet::next`] when it is done.
    pub(crate) async fn opened(&self) {
        while self.blocked.get() {
            self.opened.notified().await;
        }
    }

    /// Lets the next of those who waited go.
    pub(crate) fn next(&self) {
        self.opened.notify_one();
    }

    /// Waits until `socket` has room; meanwhile the outlet is blocked.
    ///
    /// # Errors
    /// There was none in time, or nothing to wait with.
    pub(crate) async fn room(&self, socket: &Socket) -> io::Result<()> {
        self.blocked.set(true);
        let _blocking = Blocking { outlet: self };
        // Registered for this wait alone: as a rule there is room, and the event that there still
        // is, after each datagram that left, would wake the thread for nothing.
        let socket = watch(socket.try_clone()?, Interest::WRITABLE)?;
        timeout(PATIENCE, socket.writable()).await??.retain_ready();
        Ok(())
    }
}

struct Blocking<'a> {
    outlet: &'a Outlet,
}

impl Drop for Blocking<'_> {
    fn drop(&mut self) {
        self.outlet.blocked.set(false);
        self.outlet.next();
    }
}
