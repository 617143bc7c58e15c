//! What the limits of a rule come to, for each kind of sharer.

use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;
use schemas::vocab::DenyReason;

use super::pace::Pace;
use crate::config::{Every, Limit, Per, Quota, Rate};

/// What kind of limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Sessions at once.
    Sessions,
    /// New sessions in a time.
    NewSessions,
    /// Payload in a time.
    Bandwidth,
    /// Payload in a calendar day or month.
    Quota,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sessions, Self::NewSessions, Self::Bandwidth, Self::Quota];

    /// As the file has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::NewSessions => "new_sessions",
            Self::Bandwidth => "bandwidth",
            Self::Quota => "quota",
        }
    }

    /// Why somebody is refused whom it refuses.
    pub fn deny_reason(self) -> DenyReason {
        match self {
            Self::Sessions => DenyReason::LimitSessions,
            // Bandwidth refuses nobody.
            Self::NewSessions | Self::Bandwidth => DenyReason::LimitRate,
            Self::Quota => DenyReason::Quota,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The limits that the same sharers have. Where a rule limits one thing twice, both count: of two
/// numbers of sessions, bandwidths or quotas of the same calendar the smaller one.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Who shares them.
    pub per: Per,
    /// Most sessions at once.
    pub sessions: Option<u64>,
    /// Most new sessions in a time, or in several times.
    pub new_sessions: Vec<Rate>,
    /// Most payload from clients to targets in a time.
    pub up: Option<Pace>,
    /// Most payload from targets to clients in a time.
    pub down: Option<Pace>,
    /// Most payload in both directions together in a time.
    pub both: Option<Pace>,
    /// Most payload in a calendar day or month, at most one of each.
    pub quotas: Vec<QuotaTerms>,
}

/// A quota with its zone.
#[derive(Debug, Clone)]
pub struct QuotaTerms {
    /// As configured.
    pub quota: Quota,
    /// Whose midnight counts.
    pub zone: Arc<TimeZone>,
}

impl Terms {
    /// Nothing is limited.
    pub fn none(per: Per) -> Self {
        let (up, down, both) = (None, None, None);
        Self { per, sessions: None, new_sessions: Vec::new(), up, down, both, quotas: Vec::new() }
    }

    /// The limits of a rule, from the widest kind of sharer to the narrowest. `zone` gives the zone
    /// of a name.
    pub fn of(limits: &[Limit], mut zone: impl FnMut(&str) -> TimeZone) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for limit in limits {
            let index = all.iter().position(|terms| terms.per == limit.per);
            let index = index.unwrap_or_else(|| {
                all.push(Self::none(limit.per));
                all.len() - 1
            });
            all[index].add(limit, &mut zone);
        }
        all.sort_by_key(|terms| breadth(terms.per));
        all
    }

    fn add(&mut self, limit: &Limit, mut zone: impl FnMut(&str) -> TimeZone) {
        self.sessions = [self.sessions, limit.sessions].into_iter().flatten().min();
        self.new_sessions.extend(limit.new_sessions);
        if let Some(bandwidth) = &limit.bandwidth {
            let [up, down, both] = Pace::of(bandwidth);
            self.up = slower(self.up, up);
            self.down = slower(self.down, down);
            self.both = slower(self.both, both);
        }
        if let Some(quota) = &limit.quota {
            let same = self.quotas.iter_mut().find(|own| own.quota.every == quota.every);
            match same {
                Some(own) => own.tighten(quota),
                None => {
                    let zone = Arc::new(zone(&quota.tz));
                    self.quotas.push(QuotaTerms { quota: quota.clone(), zone });
                }
            }
        }
    }

    /// Whether payload is limited.
    pub fn meters(&self) -> bool {
        self.up.or(self.down).or(self.both).is_some() || !self.quotas.is_empty()
    }
}

impl QuotaTerms {
    fn tighten(&mut self, other: &Quota) {
        let least = |one: &mut Option<u64>, other: Option<u64>| {
            *one = [*one, other].into_iter().flatten().min();
        };
        least(&mut self.quota.up_bytes, other.up_bytes);
        least(&mut self.quota.down_bytes, other.down_bytes);
        least(&mut self.quota.both_bytes, other.both_bytes);
    }

    /// The calendar it follows.
    pub fn every(&self) -> Every {
        self.quota.every
    }
}

fn slower(one: Option<Pace>, other: Option<Pace>) -> Option<Pace> {
    [one, other].into_iter().flatten().min_by_key(|pace| pace.bps())
}

/// Orders sharers from all to one.
fn breadth(per: Per) -> (u8, i16, i16) {
    match per {
        Per::Rule => (0, 0, 0),
        Per::Service => (1, 0, 0),
        Per::Customer => (2, 0, 0),
        Per::Client { v4, v6 } => (3, v4.into(), v6.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Bandwidth;

    fn limit(per: Per) -> Limit {
        Limit { per, sessions: None, new_sessions: None, bandwidth: None, quota: None }
    }

    #[test]
    fn limits_of_the_same_sharers_come_together_and_the_smaller_one_counts() {
        let rate = |count| Rate { count, per: Duration::from_secs(1) };
        let bandwidth = |up_bps, burst_bytes| {
            Some(Bandwidth { up_bps, down_bps: None, both_bps: None, burst_bytes })
        };
        let quota = |every, both_bytes| {
            let tz = "UTC".to_owned();
            Some(Quota { up_bytes: None, down_bytes: None, both_bytes, every, tz })
        };
        let narrow = Per::Client { v4: 24, v6: 56 };
        let terms = Terms::of(
            &[
                Limit { sessions: Some(5), new_sessions: Some(rate(7)), ..limit(Per::CLIENT) },
                Limit { bandwidth: bandwidth(Some(9000), None), ..limit(narrow) },
                Limit { quota: quota(Every::Day, Some(10)), ..limit(Per::Rule) },
                Limit { quota: quota(Every::Month, Some(50)), ..limit(Per::Rule) },
                Limit { quota: quota(Every::Day, Some(8)), ..limit(Per::Rule) },
                Limit { sessions: Some(3), new_sessions: Some(rate(9)), ..limit(Per::CLIENT) },
                Limit { bandwidth: bandwidth(Some(8000), Some(4000)), ..limit(narrow) },
            ],
            |_| TimeZone::UTC,
        );
        let order: Vec<_> = terms.iter().map(|terms| terms.per).collect();
        assert_eq!(order, [Per::Rule, narrow, Per::CLIENT]);
        let day = terms[0].quotas.iter().map(|quota| quota.quota.both_bytes);
        assert_eq!(day.collect::<Vec<_>>(), [Some(8), Some(50)]);
        assert_eq!(terms[1].up, Some(Pace::new(8000, Some(4000))));
        assert_eq!(
            (terms[2].sessions, &terms[2].new_sessions[..]),
            (Some(3), &[rate(7), rate(9)][..])
        );
        assert!(terms[0].meters() && terms[1].meters() && !terms[2].meters());
    }
}
