//! Carrying one TCP session from its accept to its end.
//!
//! What happens is reported to the machine in `forwarder_core::session`, which decides; here its
//! decisions are carried out.

use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::rc::Rc;

use forwarder_core::accounting::{Ending, Peer, Peers, is_worth_asking};
use forwarder_core::session::{Command, DialFailure, End, Event, TcpSession};
use forwarder_sys::tcp_info::tcp_info;
use schemas::vocab::{
    ClientAddr, Direction, EgressAddr, EndReason, ListenAddr, TargetAddr, Timestamp, Transport,
};
use schemas::wire::MarkKind;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use super::Permit;
use super::admit::{Admitted, Arrival};
use super::counters::count;
use super::log::Outcome;
use super::meter::Meter;
use super::pump::{Halt, Pump, broken};
use super::reach::Reach;
use super::thread::{DataThread, Running};
use crate::listener::Bound;

/// Asks the rules about a client that was accepted, and carries its session or resets it.
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
        listen: ListenAddr::new(listen),
        at: thread.shared.clock.now(),
        bytes: 0,
    };
    let Some((admitted, meter)) = thread.admit(&arrival) else {
        reset(&client);
        return;
    };
    let session = Session {
        machine: TcpSession::new(&admitted.pass.timeouts),
        meter: Some(meter),
        admitted,
        client,
        target: None,
        target_address: None,
        egress: None,
        thread: Rc::clone(thread),
        _running: Running::begin(thread),
        _permit: permit,
    };
    spawn_local(session.run());
}

/// A session and everything it holds. Dropped before its end it ends then: as `drained` when we
/// stop, as `internal` when its task panicked.
#[derive(Debug)]
struct Session {
    machine: TcpSession,
    /// `None` after the end.
    meter: Option<Meter>,
    admitted: Admitted,
    client: TcpStream,
    target: Option<TcpStream>,
    target_address: Option<TargetAddr>,
    egress: Option<EgressAddr>,
    thread: Rc<DataThread>,
    _running: Running,
    _permit: Permit,
}

/// Why a session's scales are there.
const METER_LASTS: &str = "the meter is taken only when the session is closed";

impl Session {
    async fn run(mut self) {
        let reached = self.reach().await;
        let meter = self.meter.as_ref().expect(METER_LASTS);
        self.thread.keep_payload(&self.admitted, Transport::Tcp, self.target_address, meter);
        let command = match reached {
            Ok(target) => self.relay(target).await,
            Err(event) => {
                if let Event::DialFailed(failure) = event {
                    self.unreached(failure);
                }
                self.machine.handle(event, self.thread.shared.clock.now())
            }
        };
        if let Command::End(end) = command {
            self.close(end);
        }
    }

    /// Dials until a target answers, while the client's connection lasts.
    async fn reach(&mut self) -> Result<TcpStream, Event> {
        let Self { machine, meter, admitted, client, target_address, thread, .. } = self;
        let meter = meter.as_ref().expect(METER_LASTS);
        let pass = &admitted.pass;
        let reach = Reach { machine, meter, pass, shared: &thread.shared, target_address };
        // Both branches may be dropped: nothing has been read from either side.
        tokio::select! {
            biased;
            errno = broken(client) => Err(Event::ClientGone(errno)),
            reached = reach.run() => reached.map_err(Event::DialFailed),
        }
    }

    /// Moves payload both ways until the machine calls it the end.
    async fn relay(&mut self, target: TcpStream) -> Command {
        let Self { machine, meter, client, thread, egress, .. } = self;
        let meter = meter.as_ref().expect(METER_LASTS);
        let (client, target) = (&*client, &*self.target.insert(target));
        let (clock, buffers) = (thread.shared.clock, &thread.buffers);
        if let Ok(address) = target.local_addr() {
            meter.connected(*egress.insert(EgressAddr::new(address)));
        }
        machine.handle(Event::Connected, clock.now());
        let up = Pump { direction: Direction::Up, from: client, to: target, meter, buffers };
        let down = Pump { direction: Direction::Down, from: target, to: client, meter, buffers };
        let mut up = pin!(up.run());
        let mut down = pin!(down.run());
        let mut timer = pin!(sleep_until(Instant::now()));
        loop {
            let timeout = machine.poll_timeout(meter.last_moved());
            if let Some(at) = timeout {
                timer.as_mut().reset(Instant::from_std(at));
            }
            let client_done = machine.is_finished(Direction::Up);
            let target_done = machine.is_finished(Direction::Down);
            // The pumps are pinned outside; the other branches only wait. A side that has finished
            // is not read any more, so its reset must be looked for.
            let event = tokio::select! {
                biased;
                halt = &mut up, if !client_done => Some(event(Direction::Up, halt)),
                halt = &mut down, if !target_done => Some(event(Direction::Down, halt)),
                errno = broken(client), if client_done => {
                    Some(Event::ReadFailed(Direction::Up, errno))
                }
                errno = broken(target), if target_done => {
                    Some(Event::ReadFailed(Direction::Down, errno))
                }
                () = &mut timer, if timeout.is_some() => None,
            };
            let command = match event {
                Some(event) => {
                    mark(meter, event);
                    machine.handle(event, clock.now())
                }
                None => machine.handle_timeout(clock.now(), meter.last_moved(), meter.owed()),
            };
            match command {
                Command::Continue => {}
                Command::Shutdown(Direction::Up) => finish(target),
                Command::Shutdown(Direction::Down) => finish(client),
                Command::End(_) => return command,
            }
        }
    }

    fn unreached(&self, failure: DialFailure) {
        let meter = self.meter.as_ref().expect(METER_LASTS);
        meter.mark(Direction::Down, MarkKind::Refused);
        let log = self.thread.log(self.thread.shared.clock.now());
        log.unreached(&self.admitted, self.target_address, failure);
    }

    /// Notes what TCP knows of the peers, where somebody may want to know.
    fn ask_peers(&self, meter: &Meter, reason: EndReason) {
        let traffic = meter.traffic();
        let bytes = traffic.up.received + traffic.down.received;
        let lasted = self.thread.shared.clock.now().saturating_duration_since(meter.started());
        let logged = self.admitted.rule.rule.log.disconnect;
        if is_worth_asking(reason, bytes, lasted, logged) {
            meter.peers(Peers {
                client: peer(&self.client, 0),
                target: self.target.as_ref().and_then(|target| peer(target, 1)),
            });
        }
    }

    /// Reports the end, then closes both connections: a process killed in between leaves a session
    /// that is known to be over.
    fn close(&mut self, end: End) {
        let Some(meter) = self.meter.take() else { return };
        self.ask_peers(&meter, end.reason);
        let (traffic, duration_us) = meter.end(Ending {
            reason: end.reason,
            phase: end.phase,
            first_fin: end.first_fin,
            client_close: end.client_close,
            target_close: end.target_close,
            errno: end.errno,
            ts_end: Timestamp::default(),
            duration_us: 0,
        });
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
            bytes: traffic.map(|direction| direction.bytes),
            duration_us,
            reason: end.reason,
        };
        let log = self.thread.log(self.thread.shared.clock.now());
        log.disconnect(&self.admitted, &outcome);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let event = if std::thread::panicking() { Event::Broken } else { Event::Drained };
        if let Command::End(end) = self.machine.handle(event, self.thread.shared.clock.now()) {
            if event == Event::Broken {
                count(&self.thread.shared.counters.broken_sessions);
            }
            self.close(end);
        }
    }
}

/// What TCP knows of one side. Whoever connected has its SYN, one byte, acknowledged too.
fn peer(stream: &TcpStream, syn: u64) -> Option<Peer> {
    let info = tcp_info(stream).ok()?;
    Some(Peer {
        rtt_us: info.rtt_us,
        retransmits: info.retransmits,
        acknowledged: info.bytes_acked.saturating_sub(syn),
    })
}

fn event(direction: Direction, halt: Halt) -> Event {
    match halt {
        Halt::Finished => Event::Finished(direction),
        Halt::ReadFailed(errno) => Event::ReadFailed(direction, errno),
        Halt::WriteFailed(errno) => Event::WriteFailed(direction, errno),
    }
}

/// Shows the capture what a peer did besides sending payload.
fn mark(meter: &Meter, event: Event) {
    match event {
        Event::Finished(direction) => meter.mark(direction, MarkKind::Fin),
        Event::ReadFailed(direction, _) => meter.mark(direction, MarkKind::Reset),
        // Whoever does not take what is written to it sent the reset.
        Event::WriteFailed(direction, _) => meter.mark(direction.opposite(), MarkKind::Reset),
        Event::Resolve
        | Event::Dial
        | Event::DialFailed(_)
        | Event::ClientGone(_)
        | Event::Connected
        | Event::Drained
        | Event::Broken => {}
    }
}

/// Sends FIN after everything written before.
fn finish(receiver: &TcpStream) {
    if let Err(error) = SockRef::from(receiver).shutdown(Shutdown::Write) {
        // The receiver is gone already, which reading from it tells in a moment.
        tracing::trace!(%error, "no FIN could be sent");
    }
}

/// Makes the close that follows a reset, so that the peer cannot take a cut stream for a whole one.
fn reset(peer: &TcpStream) {
    if let Err(error) = peer.set_zero_linger() {
        tracing::trace!(%error, "no reset could be prepared");
    }
}
