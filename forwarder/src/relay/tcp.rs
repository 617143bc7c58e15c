//! Carrying one TCP session from its accept to its end.
//!
//! What happens is reported to the machine in `forwarder_core::session`, which decides; here its
//! decisions are carried out.

use std::future::poll_fn;
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Instant;

use forwarder_core::accounting::{Ending, Peer, Peers, is_worth_asking};
use forwarder_core::config::ProxyVersion;
use forwarder_core::preamble::proxy;
use forwarder_core::session::{Command, DialFailure, End, Event, Route, TcpSession};
use forwarder_core::target::Place;
use forwarder_sys::tcp_info::{TcpInfo, tcp_info};
use schemas::vocab::{
    ClientAddr, Direction, EgressAddr, EndReason, ListenAddr, PerDirection, TargetAddr, Timestamp,
    Transport,
};
use schemas::wire::MarkKind;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::Permit;
use super::admit::{Admitted, Arrival, Door, Facts};
use super::counters::count;
use super::door::{self, Wanted};
use super::introduce::introduce;
use super::leash::Hold;
use super::log::{Beginning, Outcome, TcpSides};
use super::meter::Meter;
use super::reach::Reach;
use super::refuse::refuse;
use super::relaying::{Parts, Patience, Relaying, Watch};
use super::thread::{DataThread, Running};
use crate::listener::Bound;

/// Asks the rules about a client that was accepted, and carries its session or turns it away.
pub(crate) fn accepted(
    thread: &Rc<DataThread>,
    bound: Bound,
    client: TcpStream,
    peer: SocketAddr,
    permit: Permit,
) {
    let listen = if bound.address.ip().is_unspecified() {
        client.local_addr().unwrap_or(bound.address)
    } else {
        bound.address
    };
    let arrival = Arrival {
        listener: bound.listener,
        client: ClientAddr::new(peer),
        proxied: None,
        listen: ListenAddr::new(listen),
        at: thread.shared.clock.now(),
        bytes: 0,
    };
    let proxy = {
        let plan = thread.shared.plan.load();
        plan.proxy(arrival.listener, arrival.client.ip()).map(|proxy| proxy.version)
    };
    if let Some(version) = proxy {
        return door::wait(thread, arrival, Wanted::Header(version), client, permit);
    }
    match thread.admit(&arrival, &Facts::default()) {
        Door::Admitted(admitted, meter) => begin(thread, admitted, meter, client, permit),
        Door::Refused(action) => refuse(thread, client, action, permit),
        Door::Asks(question) => {
            door::wait(thread, arrival, Wanted::Answer(question), client, permit);
        }
    }
}

/// Carries the session of a client that was let in.
pub(super) fn begin(
    thread: &Rc<DataThread>,
    admitted: Admitted,
    meter: Meter,
    client: TcpStream,
    permit: Permit,
) {
    let admitted = Rc::new(admitted);
    let leash = meter.leash().clone();
    if let Some(data_log) = thread.log(meter.started()).data(&admitted) {
        meter.log_data(data_log);
    }
    let hold = thread.leashes.hold(&admitted, &leash);
    let client = Rc::new(client);
    hold.show([Rc::downgrade(&client), Weak::new()]);
    let session = Session {
        machine: TcpSession::new(&admitted.pass.timeouts, meter.started()),
        meter: Some(meter),
        admitted,
        client,
        target: None,
        place: None,
        target_address: None,
        egress: None,
        header_bytes: 0,
        thread: Rc::clone(thread),
        hold,
        _running: Running::begin(thread),
        _permit: permit,
    };
    leash.tie(spawn_local(life(session)).abort_handle());
}

/// A session's task.
#[expect(clippy::manual_async_fn, reason = "an async fn has room for its argument twice")]
fn life(mut session: Session) -> impl Future<Output = ()> {
    async move { session.live().await }
}

/// A session and everything it holds. Dropped before its end it ends then: as it was told to, as
/// `drained` when we stop, as `internal` when its task panicked.
#[derive(Debug)]
struct Session {
    machine: TcpSession,
    /// `None` after the end.
    meter: Option<Meter>,
    admitted: Rc<Admitted>,
    client: Rc<TcpStream>,
    target: Option<Rc<TcpStream>>,
    /// Counted at the target for as long as the session lasts.
    place: Option<Place>,
    target_address: Option<TargetAddr>,
    egress: Option<EgressAddr>,
    /// What the target got before the payload.
    header_bytes: u64,
    thread: Rc<DataThread>,
    hold: Hold,
    _running: Running,
    _permit: Permit,
}

/// Why a session's scales are there.
const METER_LASTS: &str = "the meter is taken only when the session is closed";

impl Session {
    /// From the verdict to the end.
    async fn live(&mut self) {
        // Boxed, because it takes more room than all that remains of the session once it stands.
        let reached = Box::pin(self.reach()).await;
        let meter = self.meter.as_ref().expect(METER_LASTS);
        self.thread.keep_payload(&self.admitted, Transport::Tcp, self.target_address, meter);
        let end = match reached.map(|(target, place)| self.connected(target, place)) {
            Ok(None) => self.relay().await,
            // Boxed, because most sessions have no use for it.
            Ok(Some(version)) => match Box::pin(self.introduce(version)).await {
                None => self.relay().await,
                Some(end) => end,
            },
            Err(event) => {
                if let Event::DialFailed(failure) = event {
                    self.unreached(failure);
                }
                match self.machine.handle(event, self.thread.shared.clock.now()) {
                    Command::End(end) => end,
                    Command::Continue | Command::Shutdown(_) => return,
                }
            }
        };
        self.close(end);
    }

    /// Dials until a target answers, while the client's connection lasts. Before a session relays,
    /// only its whole duration can be too long.
    async fn reach(&mut self) -> Result<(TcpStream, Place), Event> {
        let Self { machine, meter, admitted, client, target_address, thread, .. } = self;
        let latest = machine.poll_timeout(thread.shared.clock.now()).map(Into::into);
        let meter = meter.as_ref().expect(METER_LASTS);
        let reach = Reach { machine, meter, admitted, thread, target_address };
        let mut reach = pin!(reach.run());
        // A dial that lasts a moment is not worth a watch on the client.
        let mut patience = Patience::default();
        let mut watch = Watch::default();
        let reaching = poll_fn(|cx| {
            if let Poll::Ready(reached) = reach.as_mut().poll(cx) {
                return Poll::Ready(reached.map_err(Event::DialFailed));
            }
            if watch.is_on() || patience.is_over() {
                return watch.poll(client, cx).map(|errno| Err(Event::ClientGone(errno)));
            }
            patience.begin(&thread.ticks, cx);
            Poll::Pending
        });
        let reached = thread.ticks.until(latest, reaching).await;
        reached.unwrap_or(Err(Event::Ordered(EndReason::MaxDuration)))
    }

    /// Gives the version of the header that the target is to get first.
    fn connected(&mut self, target: TcpStream, place: Place) -> Option<ProxyVersion> {
        let meter = self.meter.as_ref().expect(METER_LASTS);
        let now = self.thread.shared.clock.now();
        if let Ok(address) = target.local_addr() {
            meter.connected(*self.egress.insert(EgressAddr::new(address)), now);
        }
        self.machine.handle(Event::Connected, now);
        let target = Rc::new(target);
        self.hold.show([Rc::downgrade(&self.client), Rc::downgrade(&target)]);
        self.target = Some(target);
        self.place = Some(place);
        self.log_connect(now);
        self.admitted.pass.proxy_send
    }

    /// Moves payload until the end.
    fn relay(&mut self) -> impl Future<Output = End> {
        let route = self.thread.shared.tuning.route;
        let takes_pipes = self.meter.as_ref().expect(METER_LASTS).takes_pipes();
        let mut relaying = Relaying::new(if takes_pipes { route } else { Route::Copy });
        poll_fn(move |cx| relaying.poll(self.parts(), cx))
    }

    /// Tells the target who the client is. An end: it cannot be told.
    async fn introduce(&mut self, version: ProxyVersion) -> Option<End> {
        let client = self.admitted.effective;
        let header = proxy::write(version, client.get(), self.admitted.listen.get());
        self.header_bytes = header.len() as u64;
        let (target, ticks) = (self.target.as_ref()?, &self.thread.ticks);
        let within = self.admitted.pass.timeouts.connect;
        let failed = introduce(target, &header, ticks, within).await.err()?;
        let event = Event::WriteFailed(Direction::Up, failed);
        match self.machine.handle(event, self.thread.shared.clock.now()) {
            Command::End(end) => Some(end),
            Command::Continue | Command::Shutdown(_) => None,
        }
    }

    fn log_connect(&self, now: Instant) {
        let wanted = self.admitted.rule.rule.log;
        if !wanted.connect {
            return;
        }
        let started = self.meter.as_ref().expect(METER_LASTS).started();
        let beginning = Beginning {
            egress: self.egress,
            target: self.target_address,
            took: now.saturating_duration_since(started),
            tcp: if wanted.tcpinfo { self.tcp_sides() } else { TcpSides::default() },
        };
        self.thread.log(now).connect(&self.admitted, &beginning);
    }

    /// What TCP knows of both sides.
    fn tcp_sides(&self) -> TcpSides {
        TcpSides {
            client: tcp_info(&*self.client).ok(),
            target: self.target.as_ref().and_then(|target| tcp_info(&**target).ok()),
        }
    }

    fn parts(&mut self) -> Parts<'_> {
        Parts {
            machine: &mut self.machine,
            meter: self.meter.as_ref().expect(METER_LASTS),
            client: &self.client,
            target: self.target.as_ref().expect("relaying begins with the target's connection"),
            thread: &self.thread,
            tcp: &self.admitted.pass.tcp,
        }
    }

    fn unreached(&self, failure: DialFailure) {
        let meter = self.meter.as_ref().expect(METER_LASTS);
        meter.mark(Direction::Down, MarkKind::Refused);
        let log = self.thread.log(self.thread.shared.clock.now());
        log.unreached(&self.admitted, self.target_address, failure);
    }

    /// Notes what TCP knows of the peers, where somebody may want to know.
    fn ask_peers(&self, meter: &Meter, reason: EndReason) -> TcpSides {
        let traffic = meter.traffic();
        let bytes = traffic.up.received + traffic.down.received;
        let lasted = self.thread.shared.clock.now().saturating_duration_since(meter.started());
        let wanted = self.admitted.rule.rule.log;
        let logged = wanted.disconnect || wanted.tcpinfo;
        if !is_worth_asking(reason, bytes, lasted, logged) {
            return TcpSides::default();
        }
        let sides = self.tcp_sides();
        meter.peers(Peers {
            client: sides.client.map(|info| peer(info, 0)),
            target: sides.target.map(|info| peer(info, 1 + self.header_bytes)),
        });
        if wanted.tcpinfo { sides } else { TcpSides::default() }
    }

    /// Reports the end, then closes both connections: a process killed in between leaves a session
    /// that is known to be over.
    fn close(&mut self, end: End) {
        let Some(meter) = self.meter.take() else { return };
        let tcp = self.ask_peers(&meter, end.reason);
        let ending = Ending {
            reason: end.reason,
            phase: end.phase,
            first_fin: end.first_fin,
            client_close: end.client_close,
            target_close: end.target_close,
            errno: end.errno,
            ts_end: Timestamp::default(),
            duration_us: 0,
        };
        let (traffic, duration_us) = meter.end(ending);
        if end.reset_client {
            reset(&self.client);
        }
        if let Some(target) = self.target.take()
            && end.reset_target
        {
            reset(&target);
        }
        let outcome = Outcome {
            egress: self.egress,
            target: self.target_address,
            transport: Transport::Tcp,
            traffic,
            datagrams_received: PerDirection::default(),
            ending,
            duration_us,
            tcp,
        };
        let log = self.thread.log(self.thread.shared.clock.now());
        log.disconnect(&self.admitted, &outcome);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.meter.is_none() {
            return;
        }
        let event = match self.hold.leash().pulled() {
            _ if std::thread::panicking() => Event::Broken,
            Some(reason) => Event::Ordered(reason),
            None => Event::Drained,
        };
        if let Command::End(end) = self.machine.handle(event, self.thread.shared.clock.now()) {
            if event == Event::Broken {
                count(&self.thread.shared.counters.broken_sessions);
            }
            self.close(end);
        }
    }
}

/// What the account keeps of what TCP knows of one side. Whoever connected has its SYN, one byte,
/// acknowledged too, and what it sent before the payload.
fn peer(info: TcpInfo, before: u64) -> Peer {
    Peer {
        rtt_us: info.rtt_us,
        retransmits: info.retransmits,
        acknowledged: info.bytes_acked.saturating_sub(before),
    }
}

/// Sends FIN after everything written before.
pub(super) fn finish(receiver: &TcpStream) {
    if let Err(error) = SockRef::from(receiver).shutdown(Shutdown::Write) {
        // The receiver is gone already, which reading from it tells in a moment.
        tracing::trace!(%error, "no FIN could be sent");
    }
}

/// Makes the close that follows a reset, so that the peer cannot take a cut stream for a whole one.
pub(super) fn reset(peer: &TcpStream) {
    if let Err(error) = peer.set_zero_linger() {
        tracing::trace!(%error, "no reset could be prepared");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_task<F: Future>(_: impl Fn(Session) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_session_is_small() {
        // With the runtime's part, 0.7 KiB for two sockets and a task, well below the 2.5 KiB that
        // an idle session may take.
        let size = size_of_task(life) + size_of::<Admitted>() + Hold::SIZE;
        assert!(size <= 1280, "{size} bytes");
    }
}
