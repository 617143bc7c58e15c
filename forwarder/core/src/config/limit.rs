//! `[[rule.limit]]`: how much of what a rule lets through.

use std::fmt;
use std::time::Duration;

use schemas::config::{show_bandwidth, show_rate, show_size};

/// One limit of a rule. At least one of its parts is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Who shares it.
    pub per: Per,
    /// Most sessions at once.
    pub sessions: Option<u64>,
    /// Most new sessions in a time.
    pub new_sessions: Option<Rate>,
    /// Most payload in a time.
    pub bandwidth: Option<Bandwidth>,
    /// Most payload in a calendar day or month.
    pub quota: Option<Quota>,
}

/// Who shares a limit: every other one has counters of its own. All count within the rule alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// All sessions of the rule.
    Rule,
    /// All sessions of the rule in one service.
    Service,
    /// All sessions of the rule of one customer; those of nobody together.
    Customer,
    /// All sessions of the rule of the clients in one network.
    Client {
        /// Prefix length of an IPv4 client's network.
        v4: u8,
        /// Prefix length of an IPv6 client's network.
        v6: u8,
    },
}

impl Per {
    /// One client: an IPv4 address, or an IPv6 network of 64 bits, which one host may use freely.
    pub const CLIENT: Self = Self::Client { v4: 32, v6: 64 };
}

impl fmt::Display for Per {
    /// As the file has it: `client/24/56`; the prefixes that need not be written are not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule => f.write_str("rule"),
            Self::Service => f.write_str("service"),
            Self::Customer => f.write_str("customer"),
            &Self::CLIENT => f.write_str("client"),
            Self::Client { v4, v6: 56 } => write!(f, "client/{v4}"),
            Self::Client { v4, v6 } => write!(f, "client/{v4}/{v6}"),
        }
    }
}

/// So many in any window of such a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least 1.
    pub count: u64,
    /// In how long, never zero.
    pub per: Duration,
}

impl Rate {
    /// Whether it lets through everything that another does, and more: it could never strike
    /// beside that one. Over a longer window the other lets through its number in each part of it
    /// that is as long as its own.
    pub fn is_looser(self, than: Self) -> bool {
        let (window, other) = (self.per.as_millis(), than.per.as_millis().max(1));
        let parts = if window <= other { 1 } else { window / other + 1 };
        u128::from(self.count) > u128::from(than.count) * parts
    }
}

/// Most payload in a time, in bits per second; at least one of the three is there, none is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// From clients to targets.
    pub up_bps: Option<u64>,
    /// From targets to clients.
    pub down_bps: Option<u64>,
    /// Both directions together.
    pub both_bps: Option<u64>,
    /// What may go at once after a silence, in bytes. `None`: what the rate gives in 100 ms, at
    /// least 2 KiB.
    pub burst_bytes: Option<u64>,
}

/// Most payload in a calendar day or month; at least one of the three is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// From clients to targets, in bytes.
    pub up_bytes: Option<u64>,
    /// From targets to clients, in bytes.
    pub down_bytes: Option<u64>,
    /// Both directions together, in bytes.
    pub both_bytes: Option<u64>,
    /// When it begins anew.
    pub every: Every,
    /// IANA name of the zone whose midnight counts.
    pub tz: String,
}

/// When a quota begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Every {
    /// At midnight.
    Day,
    /// At the midnight that begins a month.
    Month,
}

impl fmt::Display for Every {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day => "day",
            Self::Month => "month",
        })
    }
}

impl fmt::Display for Limit {
    /// For people: `client: 20 sessions, 5/s new sessions`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = self.sessions.map(|most| format!("{most} sessions"));
        let new = self.new_sessions.map(|rate| format!("{rate} new sessions"));
        let bandwidth = self.bandwidth.as_ref().map(ToString::to_string);
        let quota = self.quota.as_ref().map(ToString::to_string);
        let parts: Vec<String> = [sessions, new, bandwidth, quota].into_iter().flatten().collect();
        write!(f, "{}: {}", self.per, parts.join(", "))
    }
}

impl fmt::Display for Rate {
    /// As the file has it: `100/10s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_rate(self.count, self.per))
    }
}

impl fmt::Display for Bandwidth {
    /// For people: `80 Mbit/s up, 100 Mbit/s down, burst 1 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = ways(self.up_bps, self.down_bps, self.both_bps, show_bandwidth);
        parts.extend(self.burst_bytes.map(|bytes| format!("burst {}", show_size(bytes))));
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Quota {
    /// For people: `100 GB both every month (Europe/Berlin)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = ways(self.up_bytes, self.down_bytes, self.both_bytes, show_size);
        write!(f, "{} every {} ({})", parts.join(", "), self.every, self.tz)
    }
}

fn ways(
    up: Option<u64>,
    down: Option<u64>,
    both: Option<u64>,
    show: impl Fn(u64) -> String,
) -> Vec<String> {
    let ways = [(up, "up"), (down, "down"), (both, "both")];
    let shown = |(most, way): (Option<u64>, &str)| Some(format!("{} {way}", show(most?)));
    ways.into_iter().filter_map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_looser_only_if_the_other_always_strikes_first() {
        let rate = |count, seconds| Rate { count, per: Duration::from_secs(seconds) };
        // A burst of thirty within a second is stopped by the first alone.
        assert!(!rate(30, 1).is_looser(rate(1000, 60)));
        assert!(rate(1001, 1).is_looser(rate(1000, 60)));
        assert!(!rate(1000, 60).is_looser(rate(1000, 60)));
        // Within a minute the other lets through sixty and a few.
        assert!(!rate(60, 60).is_looser(rate(1, 1)));
        assert!(rate(62, 60).is_looser(rate(1, 1)));
    }
}
