//! Accepting TCP clients on one thread.

use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use forwarder_core::config::Tcp;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{BACKLOG, Bound, Opened};
use crate::relay::{DataThread, Intake, Permit, accepted, count};
use crate::tcp_options;

/// How long accepting rests when descriptors or memory are short. Trying at once would spin:
/// the client that cannot be accepted keeps the listener readable.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time between two lines about such rests.
const PAUSE_LINE_EVERY: Duration = Duration::from_secs(10);

/// Descriptors of a TCP session: the client's and the target's.
const SESSION_DESCRIPTORS: usize = 2;

/// Clients accepted in a row before running sessions get their turn.
const ACCEPTS_PER_TURN: usize = 16;

/// Accepts clients, while the listener takes them in, until `closing`; then those that wait already.
pub(crate) async fn serve(thread: Rc<DataThread>, opened: Opened, closing: CancellationToken) {
    let bound = opened.bound;
    let mut listener = TcpListener::from_std(opened.socket.into())
        .expect("a non-blocking socket on a running runtime registers");
    let tcp = Arc::clone(&thread.shared.plan.load().tcp);
    let mut door = Door { thread, bound, tcp, permit: None, warned: None };
    let mut intakes = door.thread.shared.intakes.subscribe();
    let mut intake = Intake::Open;
    loop {
        let next = intakes.borrow_and_update().of(&bound.listener);
        let before = std::mem::replace(&mut intake, next);
        door.change_intake(&listener, before, next);
        if before == Intake::Draining && next != Intake::Draining {
            listener = watched_anew(listener);
        }
        // All branches are cancel-safe.
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            _ = intakes.changed() => {}
            why = poll_fn(|cx| door.poll_accept(&listener, cx)), if intake == Intake::Open => {
                if !door.rest(&closing, &why).await {
                    break;
                }
            }
        }
    }
    if intake == Intake::Open {
        door.empty(&listener);
    }
}

/// The runtime keeps in mind for good that a socket was shut down, and would ask it for clients again
/// and again, though it listens once more.
fn watched_anew(listener: TcpListener) -> TcpListener {
    let anew = listener.into_std().and_then(TcpListener::from_std);
    anew.expect("what was registered on this runtime can be so again")
}

struct Door {
    thread: Rc<DataThread>,
    bound: Bound,
    /// What the listener's options were set by.
    tcp: Arc<Tcp>,
    /// For the next client.
    permit: Option<Permit>,
    warned: Option<Instant>,
}

impl Door {
    /// After a reload, gives the listener the options that its clients inherit from now on, and
    /// the client that it has just accepted with the old ones.
    fn follow_reload(&mut self, listener: &TcpListener, client: Option<&(TcpStream, SocketAddr)>) {
        let plan = self.thread.shared.plan.load();
        if Arc::ptr_eq(&plan.tcp, &self.tcp) {
            return;
        }
        let old = std::mem::replace(&mut self.tcp, Arc::clone(&plan.tcp));
        if *old == *self.tcp {
            return;
        }
        let sockets = [Some(SockRef::from(listener)), client.map(|(c, _)| SockRef::from(c))];
        for socket in sockets.iter().flatten() {
            tcp_options::change(socket, &old, &self.tcp).unwrap_or_else(|error| {
                tracing::warn!(listener = %self.bound.address, %error, "cannot set [tcp] anew");
            });
        }
    }

    /// Takes in everyone who waits, some in each turn. Ready when there is a shortage of ours, with
    /// its name: the caller should rest.
    fn poll_accept(&mut self, listener: &TcpListener, cx: &mut Context<'_>) -> Poll<String> {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.has_permit() {
                return Poll::Ready("descriptors are used up".to_owned());
            }
            let client = ready!(listener.poll_accept(cx));
            self.follow_reload(listener, client.as_ref().ok());
            if let Err(error) = self.welcome(client) {
                return Poll::Ready(error.to_string());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn has_permit(&mut self) -> bool {
        if self.permit.is_none() {
            self.permit = self.thread.shared.descriptors.take(SESSION_DESCRIPTORS);
        }
        self.permit.is_some()
    }

    /// Takes the client in. An error is a shortage of ours.
    fn welcome(&mut self, client: io::Result<(TcpStream, SocketAddr)>) -> io::Result<()> {
        match client {
            Ok((client, peer)) => {
                if let Some(permit) = self.permit.take() {
                    accepted(&self.thread, self.bound, client, peer, permit);
                }
                Ok(())
            }
            Err(error) if is_the_clients(&error) => {
                count(&self.thread.shared.counters.accept_failures);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Rests for a moment; false when the listener is to close meanwhile.
    async fn rest(&mut self, closing: &CancellationToken, why: &str) -> bool {
        count(&self.thread.shared.counters.accept_pauses);
        let now = Instant::now();
        if self.warned.is_none_or(|at| now.saturating_duration_since(at) >= PAUSE_LINE_EVERY) {
            self.warned = Some(now);
            tracing::warn!(
                listener = %self.bound.address,
                why,
                "accepting rests: running sessions go on, new clients wait; raise LimitNOFILE or lower the load"
            );
        }
        tokio::select! {
            biased;
            () = closing.cancelled() => false,
            () = sleep(ACCEPT_PAUSE) => true,
        }
    }

    /// Has the kernel refuse clients while we drain, and listen again after that. The socket keeps
    /// its address.
    fn change_intake(&mut self, listener: &TcpListener, from: Intake, to: Intake) {
        let changed = match (from, to) {
            (Intake::Draining, Intake::Draining) => Ok(()),
            (Intake::Draining, _) => SockRef::from(listener).listen(BACKLOG),
            (_, Intake::Draining) => {
                self.empty(listener);
                SockRef::from(listener).shutdown(Shutdown::Read)
            }
            _ => Ok(()),
        };
        if let Err(error) = changed {
            tracing::error!(listener = %self.bound.address, %error, "cannot change the listener");
        }
    }

    /// Accepts who waits already: closing would reset them. Not who comes meanwhile, or a flood of
    /// clients would hold up the thread for as long as it lasts.
    fn empty(&mut self, listener: &TcpListener) {
        // One more than is asked for waits in the kernel's queue.
        for _ in 0..=BACKLOG {
            if !self.has_permit() {
                return;
            }
            let client = SockRef::from(listener).accept().and_then(|(client, peer)| {
                client.set_nonblocking(true)?;
                let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
                Ok((TcpStream::from_std(client.into())?, peer))
            });
            match client {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                client => {
                    if self.welcome(client).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Whether accept(2) failed because of the one client: it is gone, the next may do better.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
            | io::ErrorKind::PermissionDenied
    )
}
