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

    /// Waits until nobody waits for room.
    pub(crate) async fn opened(&self) -> Turn<'_> {
        while self.blocked.get() {
            self.opened.notified().await;
        }
        Turn { outlet: self }
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

/// The turn of one who waited. Dropped, it is that of the next.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    outlet: &'a Outlet,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.outlet.opened.notify_one();
    }
}

struct Blocking<'a> {
    outlet: &'a Outlet,
}

impl Drop for Blocking<'_> {
    fn drop(&mut self) {
        self.outlet.blocked.set(false);
        self.outlet.opened.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waited_and_has_nothing_to_send_lets_the_next_go() {
        let outlet = Outlet::default();
        outlet.blocked.set(true);
        let blocking = Blocking { outlet: &outlet };
        // Each drops its turn at once, as one does whose target has nothing after all.
        let pass = async || drop(outlet.opened().await);
        let mut all = std::pin::pin!(async { tokio::join!(pass(), pass(), pass()) });
        assert!(timeout(Duration::ZERO, all.as_mut()).await.is_err());
        drop(blocking);
        timeout(PATIENCE, all).await.expect("nobody is forgotten");
    }
}
