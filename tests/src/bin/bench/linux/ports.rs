//! The addresses of a cell. Its namespace is its own, so they are the same in all of them.

use std::net::{Ipv4Addr, SocketAddr};

use super::plan::Relay;

/// What a target does with its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Takes everything.
    Sink,
    /// Gives as much as it may.
    Source,
    /// Gives back what it got.
    Echo,
    /// Gives back datagrams.
    UdpEcho,
}

/// What the kernel must not give to a client that connects.
pub(super) const RESERVED: &str = "7001-7004,8001-8004";

impl Service {
    /// Those over TCP.
    pub(super) const TCP: [Self; 3] = [Self::Sink, Self::Source, Self::Echo];

    fn number(self) -> u16 {
        match self {
            Self::Sink => 1,
            Self::Source => 2,
            Self::Echo => 3,
            Self::UdpEcho => 4,
        }
    }

    /// Where the target listens.
    pub(super) fn target(self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 7000 + self.number()).into()
    }

    /// Where the relay listens.
    pub(super) fn listener(self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 8000 + self.number()).into()
    }

    /// Where clients go.
    pub(super) fn through(self, relay: Relay) -> SocketAddr {
        match relay {
            Relay::Direct => self.target(),
            Relay::Weir
            | Relay::WeirCapture
            | Relay::WeirNoAccount
            | Relay::Haproxy
            | Relay::Nginx
            | Relay::Realm => self.listener(),
        }
    }
}
