//! A TCP session between connect and end: one poll moves both directions as far as they go.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use forwarder_core::config::Tcp;
use forwarder_core::session::{Command, End, Event, Route, TcpSession};
use schemas::vocab::{Direction, PerDirection};
use schemas::wire::MarkKind;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

use super::meter::Meter;
use super::pump::{Halt, Pump, Side, broken};
use super::tcp::finish;
use super::thread::DataThread;
use super::ticks::{TICK, Ticket, Ticks};
use crate::tcp_options;

/// Steps of one direction before other sessions get their turn.
const TURN_STEPS: u32 = 32;

/// What a session relays with. What only a long session needs is boxed, and made when it is needed.
#[derive(Debug)]
pub(super) struct Relaying {
    pumps: PerDirection<Pump>,
    /// On the sender of each direction, while it is not read.
    watches: PerDirection<Watch>,
    timer: Option<Pin<Box<Sleep>>>,
    patience: Patience,
    is_settled: bool,
}

/// The session as it is relayed.
pub(super) struct Parts<'a> {
    pub(super) machine: &'a mut TcpSession,
    pub(super) meter: &'a Meter,
    pub(super) client: &'a Rc<TcpStream>,
    pub(super) target: &'a Rc<TcpStream>,
    pub(super) thread: &'a DataThread,
    pub(super) tcp: &'a Tcp,
}

impl Relaying {
    pub(super) fn new(route: Route) -> Self {
        Self {
            pumps: PerDirection { up: Pump::to_target(route), down: Pump::to_client(route) },
            watches: PerDirection::default(),
            timer: None,
            patience: Patience::default(),
            is_settled: false,
        }
    }

    /// Moves payload both ways until the machine calls it the end.
    pub(super) fn poll(&mut self, mut parts: Parts<'_>, cx: &mut Context<'_>) -> Poll<End> {
        // One reading of the clock for all that this poll moves.
        let now = parts.thread.shared.clock.now();
        let is_due = self.patience.is_over();
        if is_due {
            Direction::BOTH.iter().for_each(|&direction| self.pumps[direction].doubt());
        }
        for direction in [Direction::Up, Direction::Down] {
            if parts.machine.is_finished(direction) {
                continue;
            }
            let (from, to) = parts.ends(direction);
            let Parts { meter, thread, tcp, .. } = parts;
            let side = Side { from, to, meter, thread, tcp, now };
            if let Poll::Ready(halt) = self.pumps[direction].poll(cx, side, TURN_STEPS)
                && let Some(end) = parts.handle(event(direction, halt), now)
            {
                return Poll::Ready(end);
            }
        }
        if is_due && !self.is_settled {
            self.is_settled = true;
            find_the_dead(parts.target, parts.tcp);
        }
        let mut waits =
            !self.is_settled || Direction::BOTH.iter().any(|&d| self.pumps[d].is_unsure());
        for direction in [Direction::Up, Direction::Down] {
            match self.poll_watch(direction, &parts, is_due, cx) {
                Poll::Ready(Some(errno)) => {
                    let broke = Event::ReadFailed(direction, errno);
                    if let Some(end) = parts.handle(broke, now) {
                        return Poll::Ready(end);
                    }
                }
                Poll::Ready(None) => {}
                Poll::Pending => waits = true,
            }
        }
        match self.poll_timer(&mut parts, is_due, now, cx) {
            Poll::Ready(Some(end)) => return Poll::Ready(end),
            Poll::Ready(None) => {}
            Poll::Pending => waits = true,
        }
        if waits {
            self.patience.begin(&parts.thread.ticks, cx);
        }
        Poll::Pending
    }

    /// Looks for a reset of a sender that is not read. `Pending`: a watch is wanted from the next
    /// tick on.
    fn poll_watch(
        &mut self,
        direction: Direction,
        parts: &Parts<'_>,
        is_due: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<i32>> {
        let watch = &mut self.watches[direction];
        if self.pumps[direction].is_reading() {
            watch.end();
            return Poll::Ready(None);
        }
        // Who has sent FIN is most often gone in a moment; a receiver that does not take what the
        // sender has for it may stay so for long.
        let is_finished = parts.machine.is_finished(direction);
        if is_finished && !is_due && !watch.is_on() {
            return Poll::Pending;
        }
        let (from, _) = parts.ends(direction);
        match watch.poll(from, cx) {
            Poll::Ready(errno) => Poll::Ready(Some(errno)),
            Poll::Pending => Poll::Ready(None),
        }
    }

    /// Ends the session when it has been silent for too long. The timer is never moved by payload:
    /// it is set anew when it fires. `Pending`: one is wanted from the next tick on.
    fn poll_timer(
        &mut self,
        parts: &mut Parts<'_>,
        is_due: bool,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Option<End>> {
        while let Some(at) = parts.machine.poll_timeout(parts.meter.last_moved()) {
            if self.timer.is_none() && !is_due && at > now + TICK {
                return Poll::Pending;
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at.into())));
            if timer.deadline() > at.into() {
                timer.as_mut().reset(at.into());
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Ready(None);
            }
            self.timer = None;
            let (moved, owed) = (parts.meter.last_moved(), parts.meter.owed());
            let now = parts.thread.shared.clock.now();
            if let Command::End(end) = parts.machine.handle_timeout(now, moved, owed) {
                return Poll::Ready(Some(end));
            }
        }
        self.timer = None;
        Poll::Ready(None)
    }
}

impl<'a> Parts<'a> {
    /// The sender and the receiver of a direction.
    fn ends(&self, direction: Direction) -> (&'a Rc<TcpStream>, &'a Rc<TcpStream>) {
        match direction {
            Direction::Up => (self.client, self.target),
            Direction::Down => (self.target, self.client),
        }
    }

    fn handle(&mut self, event: Event, now: Instant) -> Option<End> {
        self.mark(event);
        match self.machine.handle(event, now) {
            Command::Continue => None,
            Command::Shutdown(direction) => {
                let (_, receiver) = self.ends(direction);
                finish(receiver);
                None
            }
            Command::End(end) => Some(end),
        }
    }

    /// Shows the capture what a peer did besides sending payload.
    fn mark(&self, event: Event) {
        match event {
            Event::Finished(direction) => self.meter.mark(direction, MarkKind::Fin),
            Event::ReadFailed(direction, _) => self.meter.mark(direction, MarkKind::Reset),
            // Whoever does not take what is written to it sent the reset.
            Event::WriteFailed(direction, _) => {
                self.meter.mark(direction.opposite(), MarkKind::Reset);
            }
            Event::Resolve
            | Event::Dial
            | Event::DialFailed(_)
            | Event::ClientGone(_)
            | Event::Connected
            | Event::Ordered(_)
            | Event::Drained
            | Event::Broken => {}
        }
    }
}

fn event(direction: Direction, halt: Halt) -> Event {
    match halt {
        Halt::Finished => Event::Finished(direction),
        Halt::ReadFailed(errno) => Event::ReadFailed(direction, errno),
        Halt::WriteFailed(errno) => Event::WriteFailed(direction, errno),
    }
}

/// Has the kernel find out when a target vanishes. Clients inherit this from their listener.
fn find_the_dead(target: &TcpStream, tcp: &Tcp) {
    if let Err(error) = tcp_options::find_the_dead(&SockRef::from(target), tcp) {
        tracing::trace!(%error, "a target is relayed without keepalive");
    }
}

/// A wait for the next tick, or none.
#[derive(Debug, Default)]
pub(super) struct Patience(Option<Ticket>);

impl Patience {
    /// Begins to wait, unless it does already.
    pub(super) fn begin(&mut self, ticks: &Rc<Ticks>, cx: &Context<'_>) {
        self.0.get_or_insert_with(|| ticks.next(cx));
    }

    /// Whether a wait was begun and its tick has come; the next one may begin.
    pub(super) fn is_over(&mut self) -> bool {
        self.0.take_if(|ticket| ticket.is_due()).is_some()
    }
}

/// Looks for the reset of a connection that nobody reads.
#[derive(Default)]
pub(super) struct Watch(Option<Pin<Box<dyn Future<Output = i32>>>>);

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watch").field(&self.is_on()).finish()
    }
}

impl Watch {
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The error number of the connection once it broke. Always of the same stream.
    pub(super) fn poll(&mut self, stream: &Rc<TcpStream>, cx: &mut Context<'_>) -> Poll<i32> {
        let watch = self.0.get_or_insert_with(|| Box::pin(broken(Rc::clone(stream))));
        let errno = watch.as_mut().poll(cx);
        if errno.is_ready() {
            self.end();
        }
        errno
    }

    fn end(&mut self) {
        self.0 = None;
    }
}
