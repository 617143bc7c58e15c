//! Clients that wait at the door until it is known who they are and what they want.
//!
//! A trusted proxy says first for whom it speaks. Then the rules are asked, and what they ask back
//! about the client is found out, one question after the other.

use std::rc::Rc;
use std::sync::Arc;

use forwarder_core::config::ProxyVersion;
use forwarder_core::matching::{Fact, Question, ReverseNames};
use schemas::vocab::{ClientAddr, DenyReason, EndPhase};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::Permit;
use super::admit::{Arrival, Door, Facts};
use super::counters::count;
use super::preread::{Asked, Bad, Spot, watch_anew};
use super::pump::broken;
use super::refuse::refuse;
use super::tcp::{begin, reset};
use super::thread::{DataThread, Running};

/// What a client waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// Its PROXY header, of this version only or of either.
    Header(Option<ProxyVersion>),
    /// The answer to a question of the rules.
    Answer(Question),
}

/// Finds out what is wanted of a TCP client, and lets it in or turns it away.
pub(super) fn wait(
    thread: &Rc<DataThread>,
    arrival: Arrival,
    wanted: Wanted,
    client: TcpStream,
    permit: Permit,
) {
    let Some(spot) = thread.porch.take() else {
        count(&thread.shared.counters.door_full);
        let action = thread.turn_away(&arrival, EndPhase::Preread, DenyReason::Resource);
        return refuse(thread, client, action, permit);
    };
    let _running = Running::begin(thread);
    let held = Some((client, permit));
    let waiter = Waiter { thread: Rc::clone(thread), arrival, held, spot, _running };
    spawn_local(waiter.run(wanted));
}

/// A client at the door. Dropped while it waits, it is refused: we stop.
struct Waiter {
    thread: Rc<DataThread>,
    arrival: Arrival,
    /// `None`: it was let in or turned away, or was lost.
    held: Option<(TcpStream, Permit)>,
    spot: Spot,
    _running: Running,
}

/// Why a client that waits has its connection.
const CLIENT_WAITS: &str = "the connection is taken only when the client is let in or turned away";

impl Waiter {
    async fn run(mut self, wanted: Wanted) {
        let mut facts = Facts::default();
        let mut found = match wanted {
            Wanted::Header(only) => self.read_header(only).await,
            Wanted::Answer(question) => self.find_out(question, &mut facts).await,
        };
        loop {
            if let Err(bad) = found {
                return self.turn_away(bad);
            }
            match self.thread.admit(&self.arrival, &facts) {
                Door::Admitted(admitted, meter) => {
                    let (client, permit) = self.held.take().expect(CLIENT_WAITS);
                    return begin(&self.thread, admitted, meter, client, permit);
                }
                Door::Refused(action) => {
                    let (client, permit) = self.held.take().expect(CLIENT_WAITS);
                    return refuse(&self.thread, client, action, permit);
                }
                Door::Asks(question) => found = self.find_out(question, &mut facts).await,
            }
        }
    }

    fn turn_away(mut self, bad: Bad) {
        let (phase, reason) = (EndPhase::Preread, DenyReason::BadPreamble);
        let action = self.thread.turn_away(&self.arrival, phase, reason);
        let log = self.thread.log(self.thread.shared.clock.now());
        log.bad_preamble(&self.arrival, bad);
        if let Some((client, permit)) = self.held.take() {
            refuse(&self.thread, client, action, permit);
        }
    }

    fn client(&self) -> &TcpStream {
        &self.held.as_ref().expect(CLIENT_WAITS).0
    }

    async fn read_header(&mut self, only: Option<ProxyVersion>) -> Result<(), Bad> {
        let within = self.thread.shared.plan.load().config.timeouts.preread;
        let header = self.spot.header(self.client(), &self.thread.ticks, within, only).await?;
        self.arrival.proxied = header.client.map(ClientAddr::new);
        Ok(())
    }

    /// Leaves no question unanswered, if only by [`Fact::Unknown`].
    async fn find_out(&mut self, question: Question, facts: &mut Facts) -> Result<(), Bad> {
        match question {
            Question::ReverseName => facts.reverse = self.names().await,
            Question::ServerName => facts.server_name = self.server_name().await?,
        }
        Ok(())
    }

    /// Whoever leaves meanwhile is judged as if nobody knew.
    async fn names(&self) -> Fact<Arc<ReverseNames>> {
        let client = self.arrival.effective().ip();
        // Both branches are cancel-safe.
        tokio::select! {
            names = self.thread.names_of(client) => names,
            _ = broken(self.client()) => Fact::Unknown,
        }
    }

    async fn server_name(&mut self) -> Result<Fact<String>, Bad> {
        let within = self.thread.shared.plan.load().preread(self.arrival.listener);
        match self.spot.server_name(self.client(), &self.thread.ticks, within).await? {
            Asked::For(name) => Ok(Fact::Known(name)),
            Asked::ForNone => Ok(Fact::Unknown),
            Asked::NotYet => {
                let (client, permit) = self.held.take().expect(CLIENT_WAITS);
                self.held = Some((watch_anew(client).map_err(|_| Bad::Left)?, permit));
                Ok(Fact::Unknown)
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some((client, _)) = &self.held {
            self.thread.turn_away(&self.arrival, EndPhase::Drain, DenyReason::Draining);
            reset(client);
        }
    }
}
