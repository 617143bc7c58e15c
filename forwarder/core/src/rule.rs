//! Which services and clients a rule is about.

use std::net::IpAddr;

use schemas::vocab::ServiceName;

use crate::config::Rule;

impl Rule {
    /// Whether the rule has a say in `service`.
    pub fn covers(&self, service: &ServiceName) -> bool {
        self.services.is_empty() || self.services.contains(service)
    }

    /// Whether the rule is about this client. `client` must not be an IPv4-mapped IPv6 address.
    pub fn matches(&self, client: IpAddr) -> bool {
        self.from.is_empty() || self.from.iter().any(|net| net.contains(&client))
    }
}
