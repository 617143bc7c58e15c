//! Finding a target that answers.

use std::net::SocketAddr;

use forwarder_core::config::Host;
use forwarder_core::session::{DialFailure, Event, TcpSession};
use schemas::vocab::{TargetAddr, Transport};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::meter::Meter;
use super::plan::{PassPlan, TargetPlan};
use super::thread::DataThread;
use crate::dial;

/// One session's search for a target, from the next in turn to the last.
pub(crate) struct Reach<'a> {
    pub(crate) machine: &'a mut TcpSession,
    pub(crate) meter: &'a Meter,
    pub(crate) pass: &'a PassPlan,
    pub(crate) thread: &'a DataThread,
    /// The port that the client came to.
    pub(crate) listen_port: u16,
    /// The address dialled last.
    pub(crate) target_address: &'a mut Option<TargetAddr>,
}

impl Reach<'_> {
    /// The first connection that stands.
    pub(crate) async fn run(mut self) -> Result<TcpStream, DialFailure> {
        let mut last = DialFailure::NoTarget;
        for plan in self.pass.targets_in_turn() {
            match self.dial(plan).await {
                Ok(stream) => return Ok(stream),
                Err(failure) if failure.is_worth_another() => last = failure,
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    /// Dials one target, every address of its name in turn, within the connect timeout.
    async fn dial(&mut self, plan: &TargetPlan) -> Result<TcpStream, DialFailure> {
        let deadline = dial::deadline(self.pass.timeouts.connect);
        let port = plan.target.port.unwrap_or(self.listen_port);
        let host = match &plan.target.host {
            Host::Address(address) => {
                let address = SocketAddr::new(*address, port);
                return self.connect(address, plan, deadline).await;
            }
            Host::Name(host) => host,
        };
        self.machine.handle(Event::Resolve, self.thread.shared.clock.now());
        let addresses = Box::pin(dial::resolve(host, port, deadline)).await?;
        let mut last = DialFailure::Resolve;
        for (index, &address) in addresses.iter().enumerate() {
            let share = dial::share(deadline, addresses.len() - index);
            match self.connect(address, plan, share).await {
                Ok(stream) => return Ok(stream),
                Err(failure) if failure.is_worth_another() => last = failure,
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    async fn connect(
        &mut self,
        address: SocketAddr,
        plan: &TargetPlan,
        deadline: Option<Instant>,
    ) -> Result<TcpStream, DialFailure> {
        let target = TargetAddr::new(address);
        *self.target_address = Some(target);
        self.meter.dialling(target, plan.name_id);
        self.machine.handle(Event::Dial, self.thread.shared.clock.now());
        if self.thread.shared.plan.load().is_own(Transport::Tcp, address) {
            return Err(DialFailure::Loop);
        }
        let connecting = dial::tcp(address, &self.pass.tcp);
        let connected = self.thread.ticks.until(deadline, connecting).await;
        connected.unwrap_or(Err(DialFailure::Timeout))
    }
}
