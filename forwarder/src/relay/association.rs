//! One UDP association: a client, its target, and the time since they spoke.

use std::cell::{Cell, OnceCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use forwarder_core::accounting::Ending;
use forwarder_core::config::Target;
use forwarder_core::session::DialFailure;
use schemas::vocab::{
    CloseKind, Direction, EgressAddr, EndPhase, EndReason, FirstFin, TargetAddr, Timestamp,
    Transport,
};
use schemas::wire::MarkKind;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::Permit;
use super::admit::Admitted;
use super::counters::count;
use super::log::Outcome;
use super::meter::Meter;
use super::plan::TargetPlan;
use super::pump::errno;
use super::thread::DataThread;
use super::udp::{Desk, Key};
use super::waiting::Waiting;
use crate::dial;

/// How long an association without a target takes its client's datagrams and drops them. Without
/// this rest each datagram of a stream would be a session of its own.
const HOLD_DOWN: Duration = Duration::from_secs(1);

/// Replies relayed in a row before other tasks get their turn.
const BATCH: usize = 64;

/// What the desk and the association's task share.
#[derive(Debug)]
pub(crate) struct Association {
    admitted: Admitted,
    meter: Meter,
    target: OnceCell<UdpSocket>,
    target_address: Cell<Option<TargetAddr>>,
    egress: Cell<Option<EgressAddr>>,
    failure: Cell<Option<(DialFailure, EndPhase)>>,
    waiting: Waiting,
    _permit: Permit,
}

impl Association {
    /// An association whose target is dialled at once, unless a name has to be looked up first.
    pub(crate) fn begin(
        thread: &Rc<DataThread>,
        admitted: Admitted,
        meter: Meter,
        permit: Permit,
    ) -> Self {
        thread.associations.set(thread.associations.get() + 1);
        let association = Self {
            admitted,
            meter,
            target: OnceCell::new(),
            target_address: Cell::new(None),
            egress: Cell::new(None),
            failure: Cell::new(None),
            waiting: Waiting::new(&thread.waiting_room),
            _permit: permit,
        };
        if !association.admitted.pass.has_names() {
            association.dial_addresses(thread);
        }
        association
    }

    /// A datagram from the client.
    pub(crate) fn up(&self, thread: &DataThread, payload: &[u8]) {
        self.meter.received(Direction::Up, payload);
        if let Some(target) = self.target.get() {
            self.send_up(thread, target, payload);
            return;
        }
        if self.failure.get().is_some() || !self.waiting.keep(payload) {
            count(&thread.shared.counters.datagrams_undeliverable);
        }
    }

    fn send_up(&self, thread: &DataThread, target: &UdpSocket, payload: &[u8]) {
        // Straight to the socket: a datagram is not worth waiting for room, and the runtime does
        // not know a new socket as writable before its next turn.
        let socket = SockRef::from(target);
        let sent = socket.send(payload).or_else(|error| {
            if !is_stale(&error) {
                return Err(error);
            }
            // The error belongs to a datagram sent before; this one has not been tried.
            count(&thread.shared.counters.icmp_errors);
            socket.send(payload)
        });
        match sent {
            Ok(len) => self.meter.delivered_datagram(Direction::Up, len),
            Err(_) => count(&thread.shared.counters.datagrams_unsent),
        }
    }

    fn dial_addresses(&self, thread: &DataThread) {
        let mut last = DialFailure::NoTarget;
        for plan in self.admitted.pass.targets_in_turn() {
            let Target::Address(address) = plan.target else { continue };
            match self.connect(thread, address, plan) {
                Ok(()) => return,
                Err(failure) => last = failure,
            }
            if !last.is_worth_another() {
                break;
            }
        }
        self.failed(thread, last, EndPhase::Connect);
    }

    async fn dial_names(&self, thread: &DataThread) {
        let mut last = (DialFailure::NoTarget, EndPhase::Connect);
        'targets: for plan in self.admitted.pass.targets_in_turn() {
            let addresses = match &plan.target {
                Target::Address(address) => Ok(vec![*address]),
                Target::Name(host, port) => {
                    let deadline = dial::deadline(self.admitted.pass.timeouts.connect);
                    dial::resolve(host, *port, deadline).await
                }
            };
            let addresses = match addresses {
                Ok(addresses) => addresses,
                Err(failure) => {
                    last = (failure, EndPhase::Resolve);
                    continue;
                }
            };
            for address in addresses {
                match self.connect(thread, address, plan) {
                    Ok(()) => return,
                    Err(failure) => last = (failure, EndPhase::Connect),
                }
                if !last.0.is_worth_another() {
                    break 'targets;
                }
            }
        }
        self.failed(thread, last.0, last.1);
    }

    fn connect(
        &self,
        thread: &DataThread,
        address: std::net::SocketAddr,
        plan: &TargetPlan,
    ) -> Result<(), DialFailure> {
        let target = TargetAddr::new(address);
        self.target_address.set(Some(target));
        self.meter.dialling(target, plan.name_id);
        if thread.shared.plan.load().is_own(Transport::Udp, address) {
            return Err(DialFailure::Loop);
        }
        let socket = dial::udp(address)?;
        if let Ok(egress) = socket.local_addr() {
            self.egress.set(Some(EgressAddr::new(egress)));
            self.meter.connected(EgressAddr::new(egress));
        }
        thread.keep_payload(&self.admitted, Transport::Udp, Some(target), &self.meter);
        let socket = self.target.get_or_init(|| socket);
        for payload in self.waiting.take() {
            self.meter.keep_late(Direction::Up, &payload);
            self.send_up(thread, socket, &payload);
        }
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

/// The task of an association. Dropped before its end the association ends then: as `drained`
/// when we stop, as `internal` when the task panicked.
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
            association.dial_names(&self.desk.thread).await;
        }
        let reason = match (association.target.get(), association.failure.get()) {
            (Some(target), _) => {
                self.relay(association, target).await;
                EndReason::UdpExpired
            }
            (None, Some((failure, _))) => {
                sleep_until(Instant::now() + HOLD_DOWN).await;
                failure.reason()
            }
            (None, None) => EndReason::NoTarget,
        };
        self.end(reason);
    }

    async fn relay(&self, association: &Association, target: &UdpSocket) {
        let idle = association.admitted.pass.timeouts.udp_idle;
        loop {
            let until = (!idle.is_zero()).then(|| association.meter.last_moved() + idle);
            // Both branches are cancel-safe.
            tokio::select! {
                biased;
                () = self.replies(association, target) => {}
                () = silence(until) => {
                    let now = self.desk.thread.shared.clock.now();
                    if association.meter.last_moved() + idle <= now {
                        return;
                    }
                }
            }
        }
    }

    /// Relays replies for ever; a reply in hand when dropped is lost, as datagrams may be.
    async fn replies(&self, association: &Association, target: &UdpSocket) {
        let thread = &self.desk.thread;
        loop {
            if target.readable().await.is_err() {
                return;
            }
            for _ in 0..BATCH {
                let mut buffer = thread.buffers.lend();
                match target.try_recv(&mut buffer) {
                    Ok(len) => {
                        let payload = &buffer[..len];
                        association.meter.received(Direction::Down, payload);
                        match self.desk.reply(self.key, payload).await {
                            Ok(len) => association.meter.delivered_datagram(Direction::Down, len),
                            Err(_) => count(&thread.shared.counters.datagrams_unsent),
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // ICMP says that the target is not there. It may come, and ICMP may lie: the
                    // association stays.
                    Err(_) => count(&thread.shared.counters.icmp_errors),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn end(&mut self, reason: EndReason) {
        self.desk.forget(self.key);
        let Some(association) = self.association.take().and_then(Rc::into_inner) else { return };
        let thread = &self.desk.thread;
        thread.associations.set(thread.associations.get() - 1);
        let failure = association.failure.get();
        let phase = match (reason, failure) {
            (EndReason::Drained, _) => EndPhase::Drain,
            (_, Some((_, phase))) => phase,
            (_, None) => EndPhase::Data,
        };
        let (traffic, duration_us) = association.meter.end(Ending {
            reason,
            phase,
            first_fin: FirstFin::None,
            client_close: CloseKind::None,
            target_close: CloseKind::None,
            errno: failure.map_or(0, |(failure, _)| failure.errno()),
            ts_end: Timestamp::default(),
            duration_us: 0,
        });
        let outcome = Outcome {
            egress: association.egress.get(),
            target: association.target_address.get(),
            bytes: traffic.map(|direction| direction.bytes),
            duration_us,
            reason,
        };
        thread.log(thread.shared.clock.now()).disconnect(&association.admitted, &outcome);
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if self.association.is_none() {
            return;
        }
        if std::thread::panicking() {
            count(&self.desk.thread.shared.counters.broken_sessions);
            self.end(EndReason::Internal);
        } else {
            self.end(EndReason::Drained);
        }
    }
}

/// Whether a send failed for a datagram sent before it.
fn is_stale(error: &io::Error) -> bool {
    DialFailure::from_errno(errno(error)) == DialFailure::Refused(errno(error))
}

async fn silence(until: Option<std::time::Instant>) {
    match until {
        Some(until) => sleep_until(Instant::from_std(until)).await,
        None => std::future::pending().await,
    }
}
