//! Finding a target that answers.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use forwarder_core::config::Host;
use forwarder_core::session::{DialFailure, Event, TcpSession};
use forwarder_core::target::{Fitness, Next, Place};
use schemas::vocab::{TargetAddr, Transport};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::admit::Admitted;
use super::meter::Meter;
use super::targets::TargetPlan;
use super::thread::DataThread;
use crate::dial;

/// A dial that has no answer after this time counts as failed, where another target is as good; it
/// goes on, unless the target has failed others too. Long enough for one lost SYN and its repetition.
const UNANSWERED: Duration = Duration::from_secs(2);

/// One session's search for a target, until one answers or the connect timeout is over.
pub(crate) struct Reach<'a> {
    pub(crate) machine: &'a mut TcpSession,
    pub(crate) meter: &'a Meter,
    pub(crate) admitted: &'a Admitted,
    pub(crate) thread: &'a DataThread,
    /// The address dialled last.
    pub(crate) target_address: &'a mut Option<TargetAddr>,
}

impl Reach<'_> {
    /// The first connection that stands, and the session's place at its target.
    pub(crate) async fn run(mut self) -> Result<(TcpStream, Place), DialFailure> {
        let (admitted, clock) = (self.admitted, self.thread.shared.clock);
        let mut last = DialFailure::NoTarget;
        let Some(pool) = admitted.pass.way.targets.pool(admitted.listen.port()) else {
            return Err(last);
        };
        let deadline = dial::deadline(admitted.pass.timeouts.connect);
        let mut walk = pool.walk(Transport::Tcp, admitted.effective.ip());
        while let Some(next) = pool.next(&mut walk, clock.now()) {
            match self.dial(&next, dial::share(deadline, next.equals)).await {
                Ok(stream) => {
                    next.place.succeeded();
                    return Ok((stream, next.place));
                }
                Err(failure) => last = failure,
            }
            if last.is_the_targets() {
                next.place.failed(clock.now());
            }
            if !last.is_worth_another() {
                break;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break;
            }
        }
        Err(last)
    }

    /// Dials one target, every address of its name in turn.
    async fn dial(
        &mut self,
        next: &Next<'_, TargetPlan>,
        deadline: Option<Instant>,
    ) -> Result<TcpStream, DialFailure> {
        let port = next.target.port;
        let name = match &next.target.host {
            Host::Address(address) => {
                return self.connect(SocketAddr::new(*address, port), next, deadline).await;
            }
            Host::Name(name) => name,
        };
        self.machine.handle(Event::Resolve, self.thread.shared.clock.now());
        let names = &self.thread.shared.names;
        let patience = dial::deadline(self.admitted.pass.timeouts.resolve);
        let patience = deadline.min(patience).or(patience);
        let addresses = Box::pin(dial::resolve(names, name, port, patience)).await?;
        let mut last = DialFailure::Resolve;
        for (index, &address) in addresses.iter().enumerate() {
            let share = dial::share(deadline, addresses.len() - index);
            match self.connect(address, next, share).await {
                Ok(stream) => return Ok(stream),
                Err(failure) if failure.is_worth_another() => last = failure,
                Err(failure) => return Err(failure),
            }
        }
        names.dial_failed(name);
        Err(last)
    }

    async fn connect(
        &mut self,
        address: SocketAddr,
        next: &Next<'_, TargetPlan>,
        deadline: Option<Instant>,
    ) -> Result<TcpStream, DialFailure> {
        let target = TargetAddr::new(address);
        *self.target_address = Some(target);
        self.meter.dialling(target, next.target);
        self.machine.handle(Event::Dial, self.thread.shared.clock.now());
        if self.thread.shared.plan.load().is_own(Transport::Tcp, address) {
            return Err(DialFailure::Loop);
        }
        let pass = &self.admitted.pass;
        let source = pass.way.source.towards(address.ip(), self.admitted.listen.ip())?;
        let mut connecting = pin!(dial::tcp(address, source, &pass.tcp));
        if next.equals > 1 {
            let soon = Some(Instant::now() + UNANSWERED);
            let soon = soon.min(deadline).or(soon);
            match self.thread.ticks.until(soon, connecting.as_mut()).await {
                Some(connected) => return connected,
                None if self.is_given_up(&next.place) => return Err(DialFailure::Timeout),
                None => {}
            }
        }
        let connected = self.thread.ticks.until(deadline, connecting).await;
        connected.unwrap_or(Err(DialFailure::Timeout))
    }

    /// Whether a target that does not answer has failed others too.
    fn is_given_up(&self, place: &Place) -> bool {
        let now = self.thread.shared.clock.now();
        place.failed(now);
        place.fitness(now) != Fitness::Fit
    }
}
