//! Addresses of ours that targets are to see: whether this machine has them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, UdpSocket};

use forwarder_core::config::{Action, Config, Source};

/// A source address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot dial targets from {address} ({whose}): {cause}; {}", self.advice())]
pub struct SourceError {
    /// The address.
    pub address: IpAddr,
    /// Who asks for it.
    pub whose: String,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

impl SourceError {
    fn advice(&self) -> &'static str {
        match self.cause.kind() {
            io::ErrorKind::AddrNotAvailable => {
                "no interface of this machine has that address: correct `source`, or bring the \
                 interface up first (sysctl net.ipv4.ip_nonlocal_bind and its IPv6 twin allow it \
                 all the same)"
            }
            _ => "correct `source`",
        }
    }
}

/// Tries each source address of a configuration.
///
/// # Errors
/// The first that cannot be bound.
pub(crate) fn check(config: &Config) -> Result<(), SourceError> {
    let of_services = config
        .services
        .iter()
        .map(|service| (Some(service.source), format!("service {}", service.name)));
    let of_rules = config.rules.iter().map(|rule| {
        let source = match &rule.action {
            Action::Pass(pass) => pass.source,
            Action::Block => None,
        };
        (source, format!("rule {}", rule.name))
    });
    let mut sources = BTreeMap::new();
    for (source, whose) in of_services.chain(of_rules) {
        if let Some(Source::Address(address)) = source {
            sources.entry(address).or_insert(whose);
        }
    }
    for (address, whose) in sources {
        // UDP, since a bind of TCP could meet ports that are in use.
        UdpSocket::bind((address, 0)).map_err(|cause| SourceError { address, whose, cause })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    fn checked(source: &str) -> Result<(), SourceError> {
        let text = format!(
            "[[service]]\nname = \"a\"\nlisten = [\"127.0.0.1:1\"]\ntarget = [\"127.0.0.1:2\"]\n\
             [[rule]]\nname = \"office\"\naction = \"pass\"\n{source}"
        );
        let config = Config::parse(&text, "f", &load::environment());
        check(&config.unwrap_or_else(|faults| panic!("{faults}")))
    }

    #[test]
    fn an_address_that_no_interface_has_is_refused_with_whose_it_is() {
        let nonlocal = std::fs::read_to_string("/proc/sys/net/ipv4/ip_nonlocal_bind");
        if nonlocal.is_ok_and(|text| text.trim() == "1") {
            eprintln!("skipped: this machine lets any address be bound");
            return;
        }
        let error = checked("source = \"192.0.2.1\"").unwrap_err();
        insta::assert_snapshot!(error.to_string());
    }

    #[test]
    fn our_own_addresses_and_those_that_clients_come_to_are_taken() {
        for source in ["", "source = \"same\"", "source = \"127.0.0.9\""] {
            assert!(checked(source).is_ok(), "{source}");
        }
    }
}
