//! One UDP association: a client, its target, and the time since they spoke.

use std::cell::{Cell, OnceCell};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use forwarder_core::accounting::Ending;
use forwarder_core::config::{Host, UdpReplies};
use forwarder_core::session::DialFailure;
use forwarder_core::target::{Next, Place, Pool, Walk};
use forwarder_sys::datagram::{BATCH, Batch, Destination};
use schemas::vocab::{
    CloseKind, Direction, EgressAddr, EndPhase, EndReason, FirstFin, PerDirection, TargetAddr,
    Timestamp, Transport,
};
use schemas::wire::MarkKind;
use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::{sleep, sleep_until};

use super::Permit;
use super::admit::Admitted;
use super::counters::{count, count_many};
use super::drops::Drops;
use super::leash::{Hold, Leash};
use super::log::{Beginning, Outcome, TcpSides};
use super::meter::Meter;
use super::proof::Proof;
use super::seats::Seat;
use super::targets::TargetPlan;
use super::thread::DataThread;
use super::udp::{Desk, Key, first_bits, last_bits};
use super::volley::{NoRoom, Offload, Volley};
use super::waiting::Waiting;
use crate::dial;

/// How long an association without a target takes its client's datagrams and drops them. Without
/// this rest each datagram of a stream would be a session of its own.
const HOLD_DOWN: Duration = Duration::from_secs(1);

/// What the desk and the association's task share.
#[derive(Debug)]
pub(crate) struct Association {
    admitted: Rc<Admitted>,
    meter: Meter,
    target: OnceCell<AsyncFd<Socket>>,
    /// At the target, for as long as the association lasts.
    place: OnceCell<Place>,
    /// Per receiver: the target for `up`, the client for `down`.
    offload: PerDirection<Offload>,
    /// Of the socket to the target.
    drops: Drops,
    target_address: Cell<Option<TargetAddr>>,
    egress: Cell<Option<EgressAddr>>,
    /// Datagrams received.
    received: PerDirection<Cell<u64>>,
    failure: Cell<Option<(DialFailure, EndPhase)>>,
    waiting: Waiting,
    proof: Proof,
    hold: Hold,
    _permit: Permit,
    _seat: Option<Seat>,
}

impl Association {
    /// An association whose target is dialled at once, unless a name has to be looked up first.
    pub(crate) fn begin(
        thread: &Rc<DataThread>,
        admitted: Admitted,
        meter: Meter,
        permit: Permit,
        seat: Option<Seat>,
    ) -> Self {
        thread.associations.set(thread.associations.get() + 1);
        let admitted = Rc::new(admitted);
        let hold = thread.leashes.hold(&admitted, meter.leash());
        let association = Self {
            admitted,
            meter,
            target: OnceCell::new(),
            place: OnceCell::new(),
            offload: PerDirection {
                up: Offload::new(thread.shared.tuning.segmentation),
                down: Offload::new(thread.shared.tuning.segmentation),
            },
            drops: Drops::default(),
            target_address: Cell::new(None),
            egress: Cell::new(None),
            received: PerDirection::default(),
            failure: Cell::new(None),
            waiting: Waiting::new(&thread.waiting_room),
            proof: Proof::default(),
            hold,
            _permit: permit,
            _seat: seat,
        };
        if let Some(data_log) = thread.log(association.meter.started()).data(&association.admitted)
        {
            association.meter.log_data(data_log);
        }
        association.dial_at_once(thread);
        association
    }

    /// What ends the association from outside.
    pub(crate) fn leash(&self) -> &Leash {
        self.hold.leash()
    }

    /// Datagrams from the client that came at `at`.
    pub(crate) fn up(&self, thread: &DataThread, mut volley: Volley<'_>, at: Instant) {
        if self.meter.is_limited() {
            let passes = |datagram: &[u8]| self.meter.passes(Direction::Up, datagram.len(), at);
            let dropped = volley.retain(passes);
            thread.shared.account.datagrams_dropped(dropped as u64);
        }
        self.received(Direction::Up, volley.left(), at);
        for payload in volley.left() {
            self.proof.heard(payload.len());
        }
        if let Some(target) = self.target.get() {
            self.send_up(thread, target, volley);
            return;
        }
        let failed = self.failure.get().is_some();
        for payload in volley.left() {
            if failed || !self.waiting.keep(payload) {
                count(&thread.shared.counters.datagrams_undeliverable);
            }
        }
    }

    fn received(&self, direction: Direction, payloads: &[IoSlice<'_>], at: Instant) {
        let datagrams = &self.received[direction];
        datagrams.set(datagrams.get() + payloads.len() as u64);
        self.meter.received_datagrams(direction, payloads, at);
    }

    /// Straight to the socket: a datagram is not worth waiting for room.
    fn send_up(&self, thread: &DataThread, target: &AsyncFd<Socket>, mut volley: Volley<'_>) {
        let counters = &thread.shared.counters;
        let delivered = |count, bytes| self.meter.delivered_datagrams(Direction::Up, count, bytes);
        let offload = &self.offload.up;
        let to = match (self.admitted.pass.udp_replies, self.target_address.get()) {
            (UdpReplies::Any, Some(target)) => Destination::new(target.get(), None),
            (UdpReplies::Any | UdpReplies::Target, _) => Destination::connected(),
        };
        let sent = volley.send(target.get_ref(), &to, offload, counters, delivered);
        if volley.met_refusal() {
            self.not_there(thread);
        }
        if let Err(NoRoom) = sent {
            volley.give_up(counters);
        }
    }

    /// ICMP says that the target is not there. It may come, and ICMP may lie: this association
    /// stays, and only new ones go elsewhere.
    fn not_there(&self, thread: &DataThread) {
        if let Some(place) = self.place.get() {
            place.failed(thread.shared.clock.now());
        }
    }

    /// When it has been silent or there for too long, and what it ends for then.
    fn next_timeout(&self) -> Option<(Instant, EndReason)> {
        let timeouts = &self.admitted.pass.timeouts;
        let after = |from: Instant, wait: Duration, reason| {
            (!wait.is_zero()).then(|| from.checked_add(wait).map(|at| (at, reason))).flatten()
        };
        let silent = after(self.meter.last_moved(), timeouts.udp_idle, EndReason::UdpExpired);
        let latest = after(self.meter.started(), timeouts.max_duration, EndReason::MaxDuration);
        [silent, latest].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Dials, unless it depends on a name of which nothing is known yet. Gives whether it did.
    fn dial_at_once(&self, thread: &DataThread) -> bool {
        let (mut last, now) =
            ((DialFailure::NoTarget, EndPhase::Connect), thread.shared.clock.now());
        if let Some((pool, mut walk)) = self.walk() {
            while let Some(next) = pool.next(&mut walk, now) {
                let dialled = match &next.target.host {
                    Host::Address(address) => self.dial(thread, &[*address], &next),
                    Host::Name(name) => match thread.shared.names.addresses(name) {
                        Some(addresses) => self.dial(thread, &addresses, &next),
                        None => return false,
                    },
                };
                match dialled {
                    Ok(()) => {
                        self.keep_place(next.place);
                        return true;
                    }
                    Err(failure) => last = failure,
                }
                if !last.0.is_worth_another() {
                    break;
                }
                if last.0.is_the_targets() {
                    next.place.failed(now);
                }
            }
        }
        self.failed(thread, last.0, last.1);
        true
    }

    /// Dials, and waits for names where it has to.
    async fn dial_patiently(&self, thread: &DataThread) {
        let mut last = (DialFailure::NoTarget, EndPhase::Connect);
        if let Some((pool, mut walk)) = self.walk() {
            while let Some(next) = pool.next(&mut walk, thread.shared.clock.now()) {
                let dialled = match &next.target.host {
                    Host::Address(address) => self.dial(thread, &[*address], &next),
                    Host::Name(name) => {
                        let deadline = dial::deadline(self.admitted.pass.timeouts.resolve);
                        let addresses = thread.shared.names.wait_for(name, deadline).await;
                        self.dial(thread, addresses.as_deref().unwrap_or_default(), &next)
                    }
                };
                match dialled {
                    Ok(()) => return self.keep_place(next.place),
                    Err(failure) => last = failure,
                }
                if !last.0.is_worth_another() {
                    break;
                }
                if last.0.is_the_targets() {
                    next.place.failed(thread.shared.clock.now());
                }
            }
        }
        self.failed(thread, last.0, last.1);
    }

    /// Dials one target, every address of it in turn.
    fn dial(
        &self,
        thread: &DataThread,
        addresses: &[IpAddr],
        next: &Next<'_, TargetPlan>,
    ) -> Result<(), (DialFailure, EndPhase)> {
        let mut last = (DialFailure::Resolve, EndPhase::Resolve);
        for address in addresses.iter().take(dial::MAX_ADDRESSES) {
            match self.connect(thread, SocketAddr::new(*address, next.target.port), next) {
                Ok(()) => return Ok(()),
                Err(failure) => last = (failure, EndPhase::Connect),
            }
            if !last.0.is_worth_another() {
                break;
            }
        }
        if let Host::Name(name) = &next.target.host {
            thread.shared.names.dial_failed(name);
        }
        Err(last)
    }

    /// The way through the targets of this client. `None`: there are none.
    fn walk(&self) -> Option<(&Pool<TargetPlan>, Walk)> {
        let pool = self.admitted.pass.way.targets.pool(self.admitted.listen.port())?;
        Some((pool, pool.walk(Transport::Udp, self.admitted.effective.ip())))
    }

    /// Keeps the place at the target that the socket leads to.
    fn keep_place(&self, place: Place) {
        // There is only one, since a walk ends with it.
        drop(self.place.set(place));
    }

    fn connect(
        &self,
        thread: &DataThread,
        address: SocketAddr,
        next: &Next<'_, TargetPlan>,
    ) -> Result<(), DialFailure> {
        let target = TargetAddr::new(address);
        self.target_address.set(Some(target));
        self.meter.dialling(target, next.target);
        if thread.shared.plan.load().is_own(Transport::Udp, address) {
            return Err(DialFailure::Loop);
        }
        let source = self.admitted.pass.way.source;
        let source = source.towards(address.ip(), self.admitted.listen.ip())?;
        let socket = match self.admitted.pass.udp_replies {
            UdpReplies::Target => dial::udp(address, source)?,
            UdpReplies::Any => dial::udp_from_anyone(target.get(), source)?,
        };
        if let Some(egress) = socket.get_ref().local_addr().ok().and_then(|own| own.as_socket()) {
            self.egress.set(Some(EgressAddr::new(egress)));
            self.meter.connected(EgressAddr::new(egress), thread.shared.clock.now());
        }
        let now = thread.shared.clock.now();
        let beginning = Beginning {
            egress: self.egress.get(),
            target: Some(target),
            took: now.saturating_duration_since(self.meter.started()),
            tcp: TcpSides::default(),
        };
        thread.log(now).connect(&self.admitted, &beginning);
        thread.keep_payload(&self.admitted, Transport::Udp, Some(target), &self.meter);
        let socket = self.target.get_or_init(|| socket);
        let waiting = self.waiting.take();
        for payload in &waiting {
            self.meter.keep_late(Direction::Up, payload);
        }
        self.send_up(thread, socket, Volley::new(waiting.iter().map(Vec::as_slice)));
        Ok(())
    }

    fn failed(&self, thread: &DataThread, failure: DialFailure, phase: EndPhase) {
        self.failure.set(Some((failure, phase)));
        let target = self.target_address.get();
        thread.keep_payload(&self.admitted, Transport::Udp, target, &self.meter);
        for payload in self.waiting.take() {
            self.meter.keep_late(Direction::Up, &payload);
            count(&thread.shared.counters.datagrams_undeliverable);
        }
        self.meter.mark(Direction::Down, MarkKind::Refused);
        thread.log(thread.shared.clock.now()).unreached(&self.admitted, target, failure);
    }
}

/// The task of an association. Dropped before its end the association ends then: as it was told to,
/// as `drained` when we stop, as `internal` when the task panicked.
#[derive(Debug)]
pub(crate) struct Carrier {
    desk: Rc<Desk>,
    key: Key,
    /// `None` after the end.
    association: Option<Rc<Association>>,
}

impl Carrier {
    pub(crate) fn new(desk: &Rc<Desk>, key: Key, association: &Rc<Association>) -> Self {
        Self { desk: Rc::clone(desk), key, association: Some(Rc::clone(association)) }
    }

    /// Relays replies until both sides have been silent for too long.
    pub(crate) async fn run(mut self) {
        let Some(association) = &self.association else { return };
        if association.target.get().is_none() && association.failure.get().is_none() {
            association.dial_patiently(&self.desk.thread).await;
        }
        let reason = match (association.target.get(), association.failure.get()) {
            (Some(target), _) => self.relay(association, target).await,
            (None, Some((failure, _))) => {
                sleep(HOLD_DOWN).await;
                failure.reason()
            }
            (None, None) => EndReason::NoTarget,
        };
        self.end(reason);
    }

    /// Relays replies until there is a reason to end. The timer is never moved by payload: it is set
    /// anew when it fires.
    async fn relay(&self, association: &Association, target: &AsyncFd<Socket>) -> EndReason {
        let mut next = association.next_timeout();
        let mut timer = pin!(sleep_until(next.map_or_else(Instant::now, |(at, _)| at).into()));
        loop {
            // Both branches are cancel-safe. The timer is asked first, or a target that never stops
            // to send would never let it.
            tokio::select! {
                biased;
                () = timer.as_mut(), if next.is_some() => {
                    next = association.next_timeout();
                    match next {
                        Some((at, reason)) if at <= self.desk.thread.shared.clock.now() => {
                            return reason;
                        }
                        Some((at, _)) => timer.as_mut().reset(at.into()),
                        None => {}
                    }
                }
                ready = target.ready(dial::ANSWERS) => match ready {
                    Ok(mut ready) if self.replies(association, target.get_ref()).await => {
                        ready.clear_ready();
                    }
                    Ok(_) => yield_now().await,
                    Err(_) => return EndReason::UdpExpired,
                },
            }
        }
    }

    /// Relays a batch of replies. Gives whether none was left then.
    async fn replies(&self, association: &Association, target: &Socket) -> bool {
        let outlet = &self.desk.outlet;
        let _turn = match outlet.is_blocked() {
            true => Some(Box::pin(outlet.opened()).await),
            false => None,
        };
        let thread = &self.desk.thread;
        let mut batch = thread.batches.lend();
        let drained = match batch.receive(target) {
            Ok(received) => received < BATCH,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(_) => {
                count(&thread.shared.counters.icmp_errors);
                association.not_there(thread);
                return false;
            }
        };
        let passing = self.received(association, &batch);
        let allowed = self.allowed(association, &batch, passing);
        let mut left = self.send_down(association, &batch, allowed);
        while left != 0 {
            // In a box, since it is rare and would make the task of every association larger.
            if Box::pin(outlet.room(self.desk.socket())).await.is_err() {
                let unsent = left.count_ones() as usize;
                count_many(&thread.shared.counters.datagrams_unsent, unsent);
                break;
            }
            left = self.send_down(association, &batch, left);
        }
        drained
    }

    /// Counts a batch of replies, and gives those that may go on, a bit for each.
    fn received(&self, association: &Association, batch: &Batch) -> u64 {
        let shared = &self.desk.thread.shared;
        let now = shared.clock.now();
        if let Some(target) = association.target.get() {
            association.drops.look(target.get_ref(), now, &shared.account);
        }
        // What comes from anyone says nothing about the target.
        if let (UdpReplies::Target, Some(place)) =
            (association.admitted.pass.udp_replies, association.place.get())
        {
            place.succeeded();
        }
        let meter = &association.meter;
        let mut passing = first_bits(batch.len());
        if meter.is_limited() {
            let passes =
                |&index: &usize| meter.passes(Direction::Down, batch.payload(index).len(), now);
            let bits = (0..batch.len()).filter(passes).fold(0, |bits, index| bits | 1 << index);
            let dropped = (passing & !bits).count_ones();
            shared.account.datagrams_dropped(dropped.into());
            passing = bits;
        }
        association.received(Direction::Down, Volley::of(batch, passing).left(), now);
        passing
    }

    /// Those of the `members` of a batch of replies that may go to the client, as bits.
    fn allowed(&self, association: &Association, batch: &Batch, members: u64) -> u64 {
        let Some(ratio) = association.admitted.pass.udp_reply_ratio else { return members };
        let may_go = |&index: &usize| {
            members & 1 << index != 0 && association.proof.allows(batch.payload(index).len(), ratio)
        };
        let allowed = (0..batch.len()).filter(may_go).fold(0, |bits, index| bits | 1 << index);
        let withheld = (members & !allowed).count_ones() as usize;
        count_many(&self.desk.thread.shared.counters.udp_replies_withheld, withheld);
        allowed
    }

    /// Sends the replies of `batch` whose bits are set in `members`, until there is no room. Gives
    /// those that are left then.
    fn send_down(&self, association: &Association, batch: &Batch, members: u64) -> u64 {
        let mut volley = Volley::of(batch, members);
        let to = Destination::new(self.key.peer, self.key.local);
        let offload = &association.offload.down;
        let counters = &self.desk.thread.shared.counters;
        let delivered = |count, bytes| {
            association.meter.delivered_datagrams(Direction::Down, count, bytes);
        };
        match volley.send(self.desk.socket(), &to, offload, counters, delivered) {
            Ok(()) => 0,
            Err(NoRoom) => last_bits(members, volley.left().len()),
        }
    }

    fn end(&mut self, reason: EndReason) {
        self.desk.forget(self.key);
        let Some(association) = self.association.take().and_then(Rc::into_inner) else { return };
        let thread = &self.desk.thread;
        thread.associations.set(thread.associations.get() - 1);
        if let Some(target) = association.target.get() {
            association.drops.ask(target.get_ref(), &thread.shared.account);
        }
        let failure = association.failure.get();
        let phase = match (reason, failure) {
            (EndReason::Drained, _) => EndPhase::Drain,
            (_, Some((_, phase))) => phase,
            (_, None) if association.target.get().is_none() => EndPhase::Resolve,
            (_, None) => EndPhase::Data,
        };
        let received = &association.received;
        let datagrams_received = PerDirection::from_fn(|direction| received[direction].get());
        let ending = Ending {
            reason,
            phase,
            first_fin: FirstFin::None,
            client_close: CloseKind::None,
            target_close: CloseKind::None,
            errno: failure.map_or(0, |(failure, _)| failure.errno()),
            ts_end: Timestamp::default(),
            duration_us: 0,
        };
        let (traffic, duration_us) = association.meter.end(ending);
        let outcome = Outcome {
            egress: association.egress.get(),
            target: association.target_address.get(),
            transport: Transport::Udp,
            traffic,
            datagrams_received,
            ending,
            duration_us,
            tcp: TcpSides::default(),
        };
        thread.log(thread.shared.clock.now()).disconnect(&association.admitted, &outcome);
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        let Some(association) = &self.association else { return };
        let pulled = association.leash().pulled();
        if std::thread::panicking() {
            count(&self.desk.thread.shared.counters.broken_sessions);
            self.end(EndReason::Internal);
        } else {
            self.end(pulled.unwrap_or(EndReason::Drained));
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F: Future>(_: impl FnOnce(Carrier) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand of them are there at once: what a batch needs while it is in hand must not
    /// become part of each.
    #[test]
    fn the_task_of_an_idle_association_is_small() {
        assert!(size_of_future(Carrier::run) <= 768, "{} bytes", size_of_future(Carrier::run));
        let size = size_of::<Association>() + size_of::<Admitted>() + Hold::SIZE;
        assert!(size <= 768, "{size} bytes");
    }
}
