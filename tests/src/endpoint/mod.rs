//! Clients and servers that count what they send and receive, so that the account can be held
//! against them.

mod target;
mod tcp;
mod udp;

pub use target::Target;
pub use tcp::{Plan, TcpServer, attempt, connect, exchange};
pub use udp::{UdpServer, converse};

use std::net::SocketAddr;

/// What one end of a session counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The end's own address.
    pub own: SocketAddr,
    /// The address at the other end of its connection.
    pub peer: SocketAddr,
    /// Payload sent, in bytes.
    pub sent: u64,
    /// Payload received, in bytes.
    pub received: u64,
    /// UDP: datagrams sent.
    pub datagrams_sent: u64,
    /// UDP: datagrams received.
    pub datagrams_received: u64,
}

impl Seen {
    /// Nothing yet.
    pub const fn new(own: SocketAddr, peer: SocketAddr) -> Self {
        Self { own, peer, sent: 0, received: 0, datagrams_sent: 0, datagrams_received: 0 }
    }
}

/// The byte at `offset` of the stream that `salt` names: no two streams look alike, and a byte in
/// the wrong place is noticed.
pub fn pattern(salt: u64, offset: u64) -> u8 {
    let mixed = (offset ^ salt.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

/// The bytes from `offset` on of that stream.
pub fn fill(salt: u64, offset: u64, bytes: &mut [u8]) {
    for (at, byte) in (offset..).zip(bytes) {
        *byte = pattern(salt, at);
    }
}
