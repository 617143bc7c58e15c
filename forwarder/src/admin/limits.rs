//! What `limits` answers.

use serde::{Deserialize, Serialize};

/// Limits and how far they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsInUse {
    /// How many there are; more than are listed when the bound on the answer cut them.
    pub total: u64,
    /// The fullest of them first.
    pub list: Vec<LimitLine>,
}

/// How far one sharer is with one limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitLine {
    /// The rule.
    pub rule: String,
    /// The limit, as in `client/24 sessions` or `rule bandwidth up`.
    pub limit: String,
    /// Who shares it: `all`, a service, a customer (`-`: nobody's), a client or a network.
    pub key: String,
    /// How much of it is in use.
    pub in_use: u64,
    /// How much there is.
    pub most: u64,
    /// Of what: `sessions`, `sessions/10s`, `bit/s`, `bytes`.
    pub unit: String,
    /// Clients that it refused since the sharer is known.
    pub refused: u64,
    /// Sessions that wait for their turn at the moment; of bandwidths alone.
    pub held_back: u64,
    /// Datagrams that were dropped since the sharer is known; of bandwidths alone.
    pub datagrams_dropped: u64,
}

impl LimitLine {
    /// How full it is, in thousandths.
    pub fn fullness(&self) -> u64 {
        let thousandths = u128::from(self.in_use) * 1000 / u128::from(self.most.max(1));
        u64::try_from(thousandths).unwrap_or(u64::MAX)
    }
}
