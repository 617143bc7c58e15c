//! Where a peer is: an address with its port, an address, or a network.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// One port of one address.
    Address(SocketAddr),
    /// A network; one address is a network, too.
    Network(IpNet),
}

/// Text that says no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address (192.0.2.7), one with a port (192.0.2.7:4711, [2001:db8::7]:4711) or a network (192.0.2.0/24), not {0:?}"
)]
pub struct NoPlace(String);

impl Place {
    /// Whether a peer with this address is there.
    pub fn contains(&self, peer: SocketAddr) -> bool {
        match self {
            Self::Address(address) => *address == peer,
            Self::Network(network) => network.contains(&peer.ip()),
        }
    }
}

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let network = || text.parse().ok().map(|network: IpNet| network.trunc());
        let one = || text.parse().ok().map(|address: IpAddr| IpNet::from(address));
        let address = text.parse().ok().map(Self::Address);
        address
            .or_else(|| network().or_else(one).map(Self::Network))
            .ok_or_else(|| NoPlace(text.to_owned()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = NoPlace;

    fn try_from(text: String) -> Result<Self, NoPlace> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_a_port_of_one_or_a_network() {
        let peer = |text: &str| text.parse().unwrap();
        for (place, inside, outside) in [
            ("192.0.2.7", "192.0.2.7:1", "192.0.2.8:1"),
            ("192.0.2.7:1", "192.0.2.7:1", "192.0.2.7:2"),
            ("192.0.2.0/24", "192.0.2.255:1", "192.0.3.0:1"),
            ("192.0.2.9/24", "192.0.2.1:1", "[2001:db8::1]:1"),
            ("2001:db8::/32", "[2001:db8::1]:1", "[2001:db9::1]:1"),
            ("[2001:db8::1]:1", "[2001:db8::1]:1", "[2001:db8::1]:2"),
        ] {
            let parsed: Place = place.parse().unwrap();
            assert!(parsed.contains(peer(inside)) && !parsed.contains(peer(outside)), "{place}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        for noise in ["", "web", "192.0.2.0/33", "192.0.2", "1.2.3.4:99999"] {
            assert!(noise.parse::<Place>().is_err(), "{noise}");
        }
    }
}
