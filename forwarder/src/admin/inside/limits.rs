//! The limits and how far they are used.

use std::cmp::Reverse;

use super::super::LimitsInUse;
use super::Inside;
use crate::limits::LimitUse;

/// Limits that `status` shows, the fullest first: those that all clients of a rule, a service or a
/// customer share. A client's own are for `limits`.
const IN_STATUS: usize = 32;

impl Inside {
    pub(super) fn limits_in_use(&self, rule: Option<&str>, most: u32) -> LimitsInUse {
        self.fullest(|line| rule.is_none_or(|rule| line.rule == rule), most as usize)
    }

    pub(super) fn shared_limits(&self) -> Vec<LimitUse> {
        self.fullest(|line| !line.limit.starts_with("client"), IN_STATUS).list
    }

    fn fullest(&self, wanted: impl Fn(&LimitUse) -> bool, most: usize) -> LimitsInUse {
        let (all, _) = self.limits.snapshot(usize::MAX);
        let mut list: Vec<_> = all.into_iter().filter(wanted).collect();
        let total = list.len() as u64;
        // Stable: equals stay in the order of their names.
        list.sort_by_key(|line| Reverse(line.fullness()));
        list.truncate(most);
        LimitsInUse { total, list }
    }
}
