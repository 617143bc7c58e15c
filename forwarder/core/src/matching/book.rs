//! What names mean at the moment.

use std::collections::HashMap;
use std::net::IpAddr;

/// What host names and interface names mean at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Book {
    /// By host name in lower case. Absent: not known.
    pub names: HashMap<String, Vec<IpAddr>>,
    /// By interface name. Absent: there is no such interface, or it has no address.
    pub interfaces: HashMap<String, Vec<IpAddr>>,
}

impl Book {
    /// The addresses of a host name. `None`: not known.
    pub fn addresses_of_name(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// The addresses of an interface; none if there is no such interface.
    pub fn addresses_of_interface(&self, name: &str) -> &[IpAddr] {
        self.interfaces.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}
