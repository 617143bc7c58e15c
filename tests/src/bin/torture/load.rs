//! Clients that go on until they are told to stop, each from addresses of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e_tests::address;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::plan::{Kind, Plan};
use crate::truth::Truth;
use crate::{tcp, udp};
use e2e_tests::dice::Dice;

/// Client ports of an address; after the last one the client takes another address, so that each
/// session finds its row by where it came from.
const PORTS: std::ops::RangeInclusive<u16> = 10_000..=60_000;
/// What a client waits when nobody listens: a start takes a few of these.
const AWAY: Duration = Duration::from_millis(10);

/// Where the forwarder listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doors {
    pub(crate) tcp: [SocketAddr; 2],
    pub(crate) udp: SocketAddr,
}

/// The clients of a run.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts so many clients.
    pub(crate) fn start(clients: u16, seed: u64, doors: Doors, truth: &Arc<Truth>) -> Self {
        let mut load = Self { stop: Arc::default(), clients: JoinSet::new() };
        for number in 0..clients {
            let dice = Dice::new(seed, 100 + u64::from(number));
            let (truth, stop) = (Arc::clone(truth), Arc::clone(&load.stop));
            load.clients.spawn(client(dice, doors, truth, stop));
        }
        load
    }

    /// Lets every client finish what it has begun.
    pub(crate) async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
    }
}

async fn client(mut dice: Dice, doors: Doors, truth: Arc<Truth>, stop: Arc<AtomicBool>) {
    let mut addresses = Addresses { ip: address::own(), ports: PORTS };
    while !stop.load(Ordering::Relaxed) {
        let plan = Plan::draw(&mut dice);
        let door = doors.tcp[usize::from(dice.percent(50))];
        let from = addresses.next();
        let served = match plan.kind {
            Kind::Datagrams => udp::client(from, doors.udp, plan, &truth).await,
            Kind::Turns | Kind::Bulk => tcp::client(from, door, plan, &truth).await,
        };
        if served.is_err() {
            sleep(AWAY).await;
        }
    }
}

struct Addresses {
    ip: IpAddr,
    ports: std::ops::RangeInclusive<u16>,
}

impl Addresses {
    /// An address that this run has not used.
    fn next(&mut self) -> SocketAddr {
        let port = self.ports.next().unwrap_or_else(|| {
            self.ip = address::own();
            self.ports = PORTS;
            *PORTS.start()
        });
        SocketAddr::new(self.ip, port)
    }
}
