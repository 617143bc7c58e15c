//! The clients of one test, and what they saw.

pub(super) mod bulk;
pub(super) mod connect;
pub(super) mod datagrams;
pub(super) mod exchange;
pub(super) mod idle;

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};

use e2e_tests::statistics::percentile;

/// How long a client or a target waits for anything before the test fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What a test made and how long it took.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// TCP sessions.
    pub(super) sessions: u64,
    /// Payload bytes over TCP from client to target, and from target to client.
    pub(super) up: u64,
    pub(super) down: u64,
    /// Sessions, exchanges or echos, whichever the test is about.
    pub(super) turns: u64,
    /// Datagrams that were sent; 0 without UDP.
    pub(super) sent: u64,
    pub(super) took: Duration,
    /// Of each turn, in nanoseconds.
    pub(super) latencies: Vec<u32>,
}

impl Seen {
    /// A percentile of the latencies in microseconds; none when none were taken.
    pub(super) fn latency_us(&mut self, percent: usize) -> Option<f64> {
        (!self.latencies.is_empty())
            .then(|| f64::from(percentile(&mut self.latencies, percent)) / 1000.0)
    }
}

/// Nanoseconds, at most the four seconds that fit.
fn nanoseconds(took: Duration) -> u32 {
    u32::try_from(took.as_nanos()).unwrap_or(u32::MAX)
}

/// Throws away what has come in without copying it; the answer is how much, 0 at the end.
pub(super) fn discard(stream: &TcpStream, scratch: &mut [u8]) -> io::Result<u64> {
    // TCP's MSG_TRUNC: the bytes are dropped from the queue, `scratch` only says how many.
    let (_, taken) = recv(stream, scratch, RecvFlags::TRUNC)?;
    Ok(taken as u64)
}
