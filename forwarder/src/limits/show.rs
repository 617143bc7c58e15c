//! What limits say to an administrator.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use forwarder_core::config::Every;
use forwarder_core::limit::{Kind, Pace, Period, Terms};
use schemas::config::show_duration;
use schemas::vocab::Direction;
use serde::{Deserialize, Serialize};

use super::group::{Entry, Group, Lane};
use super::{Limits, name};

/// How far one sharer is with one limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LimitUse {
    /// The rule.
    pub rule: String,
    /// The limit, as in `client/24 sessions`, `rule bandwidth up` or `customer quota both a month`.
    pub limit: String,
    /// Who shares it: `all`, a service, a customer (`-`: nobody's), a client or a network.
    pub key: String,
    /// How much of it is in use: sessions at the moment, new ones in the window that ends now, bits
    /// in the last second, bytes of the period.
    pub in_use: u64,
    /// How much there is, in the same unit.
    pub most: u64,
    /// The unit: `sessions`, `sessions/10s`, `bit/s`, `bytes`.
    pub unit: String,
    /// Clients that it refused since the sharer is known.
    pub refused: u64,
    /// Sessions that wait for their turn at the moment; of bandwidths alone.
    pub held_back: u64,
    /// Datagrams that were dropped since the sharer is known; of bandwidths alone.
    pub datagrams_dropped: u64,
}

impl LimitUse {
    /// How full it is, in thousandths.
    pub fn fullness(&self) -> u64 {
        let thousandths = u128::from(self.in_use) * 1000 / u128::from(self.most.max(1));
        u64::try_from(thousandths).unwrap_or(u64::MAX)
    }
}

impl Limits {
    /// Every limit of every sharer that is known, by rule, limit and key, but no more than `most`;
    /// and how many there are.
    pub fn snapshot(&self, most: usize) -> (Vec<LimitUse>, usize) {
        let mut all: Vec<_> = self
            .groups()
            .values()
            .flat_map(|group| {
                let terms = group.terms();
                let uses = |entry: Arc<Entry>| self.uses(group, &terms, &entry);
                group.entries().into_iter().flat_map(uses).collect::<Vec<_>>()
            })
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.truncate(most);
        (all, count)
    }

    fn uses(&self, group: &Group, terms: &Terms, entry: &Entry) -> Vec<LimitUse> {
        let now = self.inside.clock.now();
        let blank = |kind: Kind, unit: &str| LimitUse {
            rule: group.rule().to_string(),
            limit: name(group.per(), kind),
            key: entry.key.to_string(),
            in_use: 0,
            most: 0,
            unit: unit.to_owned(),
            refused: entry.refusals(kind),
            held_back: 0,
            datagrams_dropped: 0,
        };
        let sessions = terms.sessions.map(|most| LimitUse {
            in_use: entry.sessions(),
            most,
            ..blank(Kind::Sessions, "sessions")
        });
        let came = entry.door().came(terms, now);
        let rates = terms.new_sessions.iter().zip(came).map(|(rate, in_use)| {
            let unit = format!("sessions/{}", show_duration(rate.per));
            LimitUse { in_use, most: rate.count, ..blank(Kind::NewSessions, &unit) }
        });
        let lane = |what: &str, lane: &Lane, pace: Option<Pace>| {
            let blank = blank(Kind::Bandwidth, "bit/s");
            pace.map(|pace| LimitUse {
                limit: format!("{} {what}", blank.limit),
                in_use: lane.bps(),
                most: pace.bps(),
                held_back: lane.bucket.waiting(),
                datagrams_dropped: entry.datagrams_dropped.load(Ordering::Relaxed),
                ..blank
            })
        };
        let lanes = [
            lane("up", &entry.up, terms.up),
            lane("down", &entry.down, terms.down),
            lane("both", &entry.both, terms.both),
        ];
        let quotas = self.quotas(terms, entry, &blank(Kind::Quota, "bytes"));
        sessions.into_iter().chain(rates).chain(lanes.into_iter().flatten()).chain(quotas).collect()
    }

    fn quotas(&self, terms: &Terms, entry: &Entry, blank: &LimitUse) -> Vec<LimitUse> {
        let wall = self.inside.clock.wall(self.inside.clock.now());
        let mut uses = Vec::new();
        for quota in &terms.quotas {
            let used = entry.used(quota, &Period::of(quota.every(), &quota.zone, wall));
            let terms = &quota.quota;
            let parts = [
                (Direction::Up.as_str(), terms.up_bytes, used.up),
                (Direction::Down.as_str(), terms.down_bytes, used.down),
                ("both", terms.both_bytes, used.up + used.down),
            ];
            let every = match quota.every() {
                Every::Day => "a day",
                Every::Month => "a month",
            };
            uses.extend(parts.into_iter().filter_map(|(what, most, in_use)| {
                let limit = format!("{} {what} {every}", blank.limit);
                Some(LimitUse { limit, in_use, most: most?, ..blank.clone() })
            }));
        }
        uses
    }
}
