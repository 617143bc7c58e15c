//! Which rule decides about a client.

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

/// The first rule that covers `service` and matches `client`. None: the client is blocked.
pub fn first_match<'a>(
    rules: &'a [Rule],
    service: &ServiceName,
    client: IpAddr,
) -> Option<&'a Rule> {
    rules.iter().find(|rule| rule.covers(service) && rule.matches(client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Action, LogChoice};

    fn rule(name: &str, services: &[&str], from: &[&str]) -> Rule {
        Rule {
            name: name.parse().unwrap(),
            services: services.iter().map(|s| s.parse().unwrap()).collect(),
            from: from.iter().map(|net| net.parse().unwrap()).collect(),
            customer: None,
            log: LogChoice::default(),
            action: Action::Block,
        }
    }

    fn decide(rules: &[Rule], service: &str, client: &str) -> Option<String> {
        let service = service.parse().unwrap();
        let found = first_match(rules, &service, client.parse().unwrap());
        found.map(|rule| rule.name.to_string())
    }

    #[test]
    fn the_first_match_wins_and_no_match_is_none() {
        let rules = [
            rule("guests", &["web"], &["192.0.2.0/24"]),
            rule("office", &[], &["192.0.2.0/23", "2001:db8::/32"]),
            rule("web-for-all", &["web"], &[]),
        ];
        assert_eq!(decide(&rules, "web", "192.0.2.9").unwrap(), "guests");
        assert_eq!(decide(&rules, "dns", "192.0.2.9").unwrap(), "office");
        assert_eq!(decide(&rules, "dns", "2001:db8::1").unwrap(), "office");
        assert_eq!(decide(&rules, "web", "198.51.100.1").unwrap(), "web-for-all");
        assert_eq!(decide(&rules, "dns", "198.51.100.1"), None);
    }
}
