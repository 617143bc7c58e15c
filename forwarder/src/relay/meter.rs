//! The scales: every byte of a session passes here, on its way to the account and to the capture.

use std::cell::{OnceCell, RefCell};
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use forwarder_core::accounting::{Ending, OpenSession, Peers, Traffic};
use schemas::vocab::{Direction, EgressAddr, EndReason, PerDirection, TargetAddr};
use schemas::wire::MarkKind;

use super::figures::SessionFigures;
use super::leash::{Holder, Leash};
use super::log::DataLog;
use super::targets::TargetPlan;
use crate::capture::SessionCapture;
use crate::clock::{Clock, micros};
use crate::limits::{Grant, Passage, UsedUp};

/// What counts, keeps and times one session's payload.
#[derive(Debug)]
pub(crate) struct Meter {
    account: OpenSession,
    /// Boxed, because few sessions are captured.
    capture: RefCell<Option<Box<SessionCapture>>>,
    clock: Clock,
    started: Instant,
    leash: Leash,
    figures: SessionFigures,
    /// `None`: no line is written for each piece of payload.
    data_log: OnceCell<Box<DataLog>>,
    /// The session's part of its rule's limits.
    grant: Option<Rc<Grant>>,
}

impl Meter {
    /// Scales at zero for a session that began at `started`.
    pub(crate) fn new(
        account: OpenSession,
        clock: Clock,
        started: Instant,
        figures: SessionFigures,
        grant: Option<Rc<Grant>>,
    ) -> Self {
        let (capture, leash) = (RefCell::new(None), Leash::new(started, grant.as_ref()));
        let data_log = OnceCell::new();
        Self { account, capture, clock, started, leash, figures, data_log, grant }
    }

    /// When the session began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// When payload was last received or delivered, or the target connected, or a limit let the
    /// session go on that had held it back: nobody is idle who is made to wait.
    pub(crate) fn last_moved(&self) -> Instant {
        let moved = self.leash.last_moved();
        self.grant.as_ref().map_or(moved, |grant| moved.max(grant.held_until()))
    }

    /// What ends the session from outside, and from here.
    pub(crate) fn leash(&self) -> &Leash {
        &self.leash
    }

    /// From here on a line is written for each piece of payload.
    pub(crate) fn log_data(&self, data_log: Box<DataLog>) {
        self.data_log.get_or_init(|| data_log);
    }

    fn log_piece(&self, direction: Direction, bytes: usize, at: Instant) {
        if let Some(log) = self.data_log.get() {
            log.received(direction, bytes, at);
        }
    }

    /// Whether the session shares its number with others: its payload cannot be told from theirs.
    pub(crate) fn is_shared(&self) -> bool {
        self.account.is_shared()
    }

    /// From here on payload is kept too.
    pub(crate) fn keep_payload(&self, capture: SessionCapture) {
        *self.capture.borrow_mut() = Some(Box::new(capture));
    }

    /// A target is dialled.
    pub(crate) fn dialling(&self, target: TargetAddr, plan: &TargetPlan) {
        self.account.dialling(target, plan.name_id);
        self.figures.dialling(&plan.host, plan.port);
    }

    /// The target's connection stands.
    pub(crate) fn connected(&self, egress: EgressAddr, now: Instant) {
        self.leash.moved(now);
        let took = micros(now.saturating_duration_since(self.started));
        self.account.connected(egress, self.clock.wall(now), took);
        self.figures.connected(took);
    }

    /// Payload was read from the sender of `direction`; called before it is written on.
    pub(crate) fn received(&self, direction: Direction, payload: &[u8], now: Instant) {
        self.count_received(direction, payload.len(), now);
        self.keep(direction, payload, now);
    }

    /// Datagrams were read from the sender of `direction` at `at`; called before they are sent on.
    pub(crate) fn received_datagrams(
        &self,
        direction: Direction,
        payloads: &[IoSlice<'_>],
        at: Instant,
    ) {
        self.leash.moved(at);
        let bytes = payloads.iter().map(|payload| payload.len() as u64).sum();
        self.account.received(direction, bytes, self.clock.wall(at));
        for payload in payloads {
            self.log_piece(direction, payload.len(), at);
            self.keep(direction, payload, at);
        }
    }

    /// `bytes` of payload were spliced from the sender of `direction` into a pipe; called before
    /// they are spliced on.
    pub(crate) fn received_in_pipe(&self, direction: Direction, bytes: usize, now: Instant) {
        self.count_received(direction, bytes, now);
        self.figures.spliced(bytes as u64);
    }

    fn count_received(&self, direction: Direction, bytes: usize, now: Instant) {
        self.leash.moved(now);
        let wall = self.clock.wall(now);
        if let Some(grant) = &self.grant {
            grant.received(direction, bytes, wall);
        }
        self.account.received(direction, bytes as u64, wall);
        self.log_piece(direction, bytes, now);
    }

    /// There was room, and nothing was received.
    pub(crate) fn received_nothing(&self, direction: Direction, now: Instant) {
        if let Some(grant) = &self.grant {
            grant.received(direction, 0, self.clock.wall(now));
        }
    }

    /// Whether payload is limited.
    pub(crate) fn is_limited(&self) -> bool {
        self.grant.is_some()
    }

    /// Whether a datagram that came from the sender of `direction` at `at` may go on. One that may
    /// not is dropped, as if it had not come.
    pub(crate) fn passes(&self, direction: Direction, bytes: usize, at: Instant) -> bool {
        let Some(grant) = &self.grant else { return true };
        match grant.pass(direction, bytes, at, self.clock.wall(at)) {
            Passage::Passes => true,
            Passage::Dropped => {
                self.leash.moved(at);
                false
            }
            Passage::UsedUp => {
                self.leash.pull(EndReason::Quota);
                false
            }
        }
    }

    /// Whether payload may go through a pipe.
    pub(crate) fn takes_pipes(&self) -> bool {
        self.capture.borrow().as_ref().is_none_or(|capture| capture.may_splice())
    }

    /// Ready when payload of `direction` may be received, with how many bytes: at once and without
    /// end, unless a rule limits bandwidth, or says that a capture that is behind slows its sessions.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<usize> {
        if let Some(capture) = &mut *self.capture.borrow_mut() {
            let room = capture.poll_room(direction, cx);
            self.leash.set_held(direction, room.is_pending().then_some(Holder::Capture));
            ready!(room);
        }
        let Some(grant) = &self.grant else { return Poll::Ready(usize::MAX) };
        let now = self.clock.now();
        let room = grant.poll_room(cx, direction, now, self.clock.wall(now));
        self.leash.set_held(direction, room.is_pending().then_some(Holder::Limit));
        match ready!(room) {
            Ok(bytes) => Poll::Ready(usize::try_from(bytes).unwrap_or(usize::MAX)),
            Err(UsedUp) => {
                self.leash.pull(EndReason::Quota);
                Poll::Pending
            }
        }
    }

    /// Keeps what is in `pipe`, `bytes` that came from the sender of `direction`, and says how many
    /// of them may be moved on; the rest is to be asked for again once there is room.
    pub(crate) fn kept_from_pipe(
        &self,
        direction: Direction,
        pipe: BorrowedFd<'_>,
        bytes: usize,
        at: Instant,
    ) -> usize {
        let Some(capture) = &mut *self.capture.borrow_mut() else { return bytes };
        let kept = capture.spliced(direction, pipe, bytes, self.clock.wall_ns(at));
        let (handed, dropped) = capture.handed_and_dropped();
        self.account.captured(handed, dropped);
        kept
    }

    /// Payload that was received before it was known where it goes is kept now.
    pub(crate) fn keep_late(&self, direction: Direction, payload: &[u8]) {
        self.keep(direction, payload, self.clock.now());
    }

    fn keep(&self, direction: Direction, payload: &[u8], at: Instant) {
        if let Some(capture) = &mut *self.capture.borrow_mut() {
            capture.data(direction, payload, self.clock.wall_ns(at));
            let (handed, dropped) = capture.handed_and_dropped();
            self.account.captured(handed, dropped);
        }
    }

    /// The kernel accepted `bytes` of a stream for the receiver of `direction`.
    pub(crate) fn delivered(&self, direction: Direction, bytes: usize, now: Instant) {
        self.account.delivered(direction, bytes as u64);
        self.figures.delivered(direction, bytes as u64);
        self.leash.moved(now);
    }

    /// The kernel accepted `count` datagrams, of `bytes` together, for the receiver of `direction`.
    pub(crate) fn delivered_datagrams(&self, direction: Direction, count: usize, bytes: usize) {
        self.account.delivered_datagrams(direction, count as u64, bytes as u64);
        self.figures.delivered_datagrams(direction, count as u64, bytes as u64);
    }

    /// A FIN or a reset came from the sender of `direction`, or its connection was refused.
    pub(crate) fn mark(&self, direction: Direction, kind: MarkKind) {
        if kind == MarkKind::Fin {
            self.log_piece(direction, 0, self.clock.now());
        }
        if let Some(capture) = &mut *self.capture.borrow_mut() {
            capture.mark(direction, kind, self.clock.wall_ns(self.clock.now()));
        }
    }

    /// The totals so far.
    pub(crate) fn traffic(&self) -> PerDirection<Traffic> {
        self.account.traffic()
    }

    /// The directions whose receiver has not got everything that was received for it.
    pub(crate) fn owed(&self) -> PerDirection<bool> {
        self.traffic().map(|traffic| traffic.bytes < traffic.received)
    }

    /// What TCP tells of the peers at the end.
    pub(crate) fn peers(&self, peers: Peers) {
        self.account.peers(peers);
    }

    /// The session is over: closes the capture and the account. `ending` needs no times. Gives the
    /// totals, and the duration in microseconds.
    pub(crate) fn end(self, ending: Ending) -> (PerDirection<Traffic>, u64) {
        let now = self.clock.now();
        let duration_us = micros(now.saturating_duration_since(self.started));
        let traffic = self.account.traffic();
        if let Some(capture) = self.capture.into_inner() {
            let (handed, dropped) = capture.handed_and_dropped();
            self.account.captured(handed, dropped);
            self.figures.captured(handed);
            let received = traffic.map(|direction| direction.received);
            let delivered = traffic.map(|direction| direction.bytes);
            capture.end(ending.reason, received, delivered, self.clock.wall_ns(now));
        }
        self.figures.end(&ending, duration_us);
        self.account.end(Ending { ts_end: self.clock.wall(now), duration_us, ..ending });
        (traffic, duration_us)
    }
}
