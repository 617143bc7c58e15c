//! Choosing a target for a session, and giving its place back.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use divan::{Bencher, black_box};
use forwarder_core::config::Balance;
use forwarder_core::target::{Pool, TargetHealth};
use schemas::vocab::Transport;

fn main() {
    divan::main();
}

/// A session of a pool with so many targets, all fit.
fn session(bencher: Bencher<'_, '_>, balance: Balance, targets: usize) {
    let now = Instant::now();
    let target =
        |number| (format!("10.0.0.{number}"), 80, Arc::new(TargetHealth::new(now)), number);
    let pool = Pool::new(balance, (0..targets).map(target));
    let client = IpAddr::from(Ipv4Addr::new(192, 0, 2, 7));
    bencher.bench(|| {
        let mut walk = pool.walk(Transport::Tcp, black_box(client));
        let next = pool.next(&mut walk, now);
        if let Some(next) = &next {
            next.place.succeeded();
        }
        next.map(|next| *next.target)
    });
}

#[divan::bench(args = [1, 2, 8, 128])]
fn round_robin(bencher: Bencher<'_, '_>, targets: usize) {
    session(bencher, Balance::RoundRobin, targets);
}

#[divan::bench(args = [1, 2, 8, 128])]
fn least_sessions(bencher: Bencher<'_, '_>, targets: usize) {
    session(bencher, Balance::LeastSessions, targets);
}

#[divan::bench(args = [1, 2, 8, 128])]
fn source_hash(bencher: Bencher<'_, '_>, targets: usize) {
    session(bencher, Balance::SourceHash, targets);
}
