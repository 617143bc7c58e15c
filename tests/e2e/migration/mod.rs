//! The checks of somebody who moves here from Barefoot. Those about bytes that pass unharmed (4),
//! the account (5), UDP sessions (6), stopping and crashing (13) and captures (15) are in the files
//! of these names beside this one; those about names (10) need a name server and are with the relay's
//! own tests.

mod convert;
mod limits;
mod reload;
mod rules;
mod timeouts;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use e2e_tests::endpoint::{Plan, connect, exchange};
use e2e_tests::scene::Scene;
use serde_json::Value;

/// A small session, whole or not at all.
const SMALL: Plan = Plan { up: 100, down: 100 };

/// Any port of 127.0.0.`number`: a client that differs from the others by its address.
fn client(number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, number)), 0)
}

/// Whether a client is let in, and all the way to a target.
fn passes(from: SocketAddr, to: SocketAddr) -> bool {
    exchange(from, to, SMALL).is_ok()
}

/// Whether a client is turned away without a word from a target.
fn is_refused(from: SocketAddr, to: SocketAddr) -> bool {
    connect(from, to).map_or(true, |mut client| !matches!(client.read(&mut [0; 1]), Ok(1..)))
}

/// The rows that tell of refusals, after everything was written and published.
fn denied(scene: &mut Scene) -> Vec<Value> {
    assert!(scene.stop_forwarder().success());
    scene.flush();
    scene.rows(&["sql", "select * from denied order by seq"])
}
