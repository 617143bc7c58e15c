//! The addresses of network interfaces. They come and go, and with them what an interface's name
//! means in rules and listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
#[cfg(test)]
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

/// How often the system is asked.
pub(crate) const POLL: Duration = Duration::from_secs(1);

/// Addresses of one interface that are used.
const ADDRESSES: usize = 256;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InterfaceAddress {
    /// The address.
    pub(crate) ip: IpAddr,
    /// The interface's index if the address is link-local: others may have the same one. Else 0.
    pub(crate) scope_id: u32,
}

#[cfg(test)]
impl InterfaceAddress {
    /// The address with a port.
    pub(crate) fn with_port(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope_id).into(),
        }
    }
}

/// The addresses of interfaces by name. Absent: there is none, or it has no address.
pub(crate) type Interfaces = BTreeMap<String, Vec<InterfaceAddress>>;

/// The addresses of these interfaces at the moment.
///
/// # Errors
/// The system does not tell.
pub(crate) fn look(names: &BTreeSet<String>) -> io::Result<Interfaces> {
    let mut found = Interfaces::new();
    if names.is_empty() {
        return Ok(found);
    }
    for interface in if_addrs::get_if_addrs()? {
        if !names.contains(&interface.name) {
            continue;
        }
        let link_local = interface.ip().is_ipv6() && interface.is_link_local();
        let scope_id = interface.index.filter(|_| link_local).unwrap_or(0);
        let address = InterfaceAddress { ip: interface.ip(), scope_id };
        found.entry(interface.name).or_default().push(address);
    }
    for addresses in found.values_mut() {
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_the_loopback_address_and_others_are_not_told() {
        let found = look(&["lo".to_owned(), "weir-none0".to_owned()].into()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["lo"]);
        assert!(found["lo"].iter().any(|address| address.ip.is_loopback()), "{found:?}");
        assert!(look(&BTreeSet::new()).unwrap().is_empty());
    }

    #[test]
    fn a_link_local_address_is_bound_with_its_interface() {
        let ip = "fe80::1".parse().unwrap();
        let shown = |scope_id| InterfaceAddress { ip, scope_id }.with_port(80).to_string();
        assert_eq!(shown(3), "[fe80::1%3]:80");
        assert_eq!(shown(0), "[fe80::1]:80");
    }
}
