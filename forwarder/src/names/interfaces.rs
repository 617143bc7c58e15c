//! The addresses of network interfaces. They come and go, and with them what an interface's name
//! means in rules and listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use nix::sys::socket::SockaddrStorage;

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

impl InterfaceAddress {
    /// The address with a port.
    pub(crate) fn with_port(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope_id).into(),
        }
    }
}

/// The addresses of interfaces by name; none, if there is no such interface or it has none.
pub(crate) type Interfaces = BTreeMap<String, Vec<InterfaceAddress>>;

/// The addresses of these interfaces at the moment.
///
/// # Errors
/// The system does not tell.
pub(crate) fn look(names: &BTreeSet<String>) -> io::Result<Interfaces> {
    let mut found: Interfaces = names.iter().map(|name| (name.clone(), Vec::new())).collect();
    if names.is_empty() {
        return Ok(found);
    }
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(addresses) = found.get_mut(&interface.interface_name) else { continue };
        addresses.extend(interface.address.as_ref().and_then(address));
    }
    for addresses in found.values_mut() {
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES);
    }
    Ok(found)
}

/// `None`: it is of another family.
fn address(storage: &SockaddrStorage) -> Option<InterfaceAddress> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(InterfaceAddress { ip: v4.ip().into(), scope_id: 0 });
    }
    let v6 = storage.as_sockaddr_in6()?;
    let scope_id = if v6.ip().is_unicast_link_local() { v6.scope_id() } else { 0 };
    Some(InterfaceAddress { ip: v6.ip().into(), scope_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_the_loopback_address_and_others_are_not_told() {
        let found = look(&["lo".to_owned(), "weir-none0".to_owned()].into()).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found["weir-none0"], []);
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
