//! What rows are grouped by.

use std::str::FromStr;

/// One key of `--by`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The service.
    Service,
    /// The rule.
    Rule,
    /// The customer.
    Customer,
    /// The client's address.
    Client,
    /// The client's network of these prefix lengths.
    ClientNetwork {
        /// Prefix length for IPv4, 0 to 32.
        v4: u8,
        /// Prefix length for IPv6, 0 to 128.
        v6: u8,
    },
    /// The target's address.
    Target,
    /// The forwarder.
    Node,
    /// `tcp` or `udp`.
    Transport,
    /// Why an attempt was refused (`denied` only).
    Reason,
    /// The limit that refused an attempt (`denied` only).
    Limit,
    /// The hour in the report's zone.
    Hour,
    /// The day in the report's zone.
    Day,
    /// The month in the report's zone.
    Month,
}

/// IPv6 prefix that stands beside an IPv4 prefix given alone, as in the limits of the configuration.
const DEFAULT_V6: u8 = 56;

impl Key {
    /// The column that shows the key.
    pub const fn column(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Rule => "rule",
            Self::Customer => "customer",
            Self::Client => "client_ip",
            Self::ClientNetwork { .. } => "client_network",
            Self::Target => "target_ip",
            Self::Node => "node",
            Self::Transport => "transport",
            Self::Reason => "reason",
            Self::Limit => "limit",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "service" => Self::Service,
            "rule" => Self::Rule,
            "customer" => Self::Customer,
            "client" => Self::Client,
            "target" => Self::Target,
            "node" => Self::Node,
            "transport" => Self::Transport,
            "reason" => Self::Reason,
            "limit" => Self::Limit,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "month" => Self::Month,
            _ => {
                return network(text).ok_or_else(|| {
                    "use service, rule, customer, client, client/24, target, node, transport, hour, day or month"
                        .to_owned()
                });
            }
        })
    }
}

/// `client/24` and `client/24/56`.
fn network(text: &str) -> Option<Key> {
    let (v4, v6) = match text.strip_prefix("client/")?.split_once('/') {
        Some((v4, v6)) => (v4.parse().ok()?, v6.parse().ok()?),
        None => (text.strip_prefix("client/")?.parse().ok()?, DEFAULT_V6),
    };
    (v4 <= 32 && v6 <= 128).then_some(Key::ClientNetwork { v4, v6 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_key_has_prefixes_for_both_families() {
        assert_eq!("client/24".parse(), Ok(Key::ClientNetwork { v4: 24, v6: 56 }));
        assert_eq!("client/16/48".parse(), Ok(Key::ClientNetwork { v4: 16, v6: 48 }));
        for bad in ["client/", "client/33", "client/24/129", "client/x", "clients", ""] {
            assert!(bad.parse::<Key>().is_err(), "{bad:?}");
        }
    }
}
