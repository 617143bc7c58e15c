//! The four ends of a session's two connections.
//!
//! An IPv4 address is never kept in its IPv6-mapped form: tables, logs and captures would otherwise
//! show one host under two names.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(SocketAddr);

        impl $name {
            /// The address with an IPv4-mapped IPv6 address turned into IPv4, and without scope
            /// and flow label.
            pub fn new(address: SocketAddr) -> Self {
                Self(SocketAddr::new(address.ip().to_canonical(), address.port()))
            }

            /// Address and port.
            pub const fn get(self) -> SocketAddr {
                self.0
            }

            /// The address alone.
            pub const fn ip(self) -> IpAddr {
                self.0.ip()
            }

            /// The port alone.
            pub const fn port(self) -> u16 {
                self.0.port()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

address! {
    /// The client's end of the connection to us: the socket peer.
    ClientAddr
}
address! {
    /// Our end of the connection to the client: the address it spoke to.
    ListenAddr
}
address! {
    /// Our end of the connection to the target.
    EgressAddr
}
address! {
    /// The target's end of the connection from us.
    TargetAddr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_ipv4_address_is_shown_as_ipv4() {
        let mapped = "[::ffff:192.0.2.1]:80".parse().unwrap();
        assert_eq!(ClientAddr::new(mapped).to_string(), "192.0.2.1:80");
    }
}
