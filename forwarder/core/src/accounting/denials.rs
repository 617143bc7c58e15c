//! Refused attempts on their way to rows of `denied`.
//!
//! The first refusal of a (service, rule, limit, reason, client) in a slot becomes a row at the next poll,
//! so that it is seen at once and survives a kill; its repeats become one row at the slot's edge.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemas::table;
use schemas::vocab::DenyReason;

use super::layout::Words;
use super::names;
use super::session::Denial;
use super::slot::int;

/// Clients told apart per slot. Beyond it, refusals are counted per service, rule, limit and
/// reason, with the client NULL.
const MAX_CLIENTS: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    service: u32,
    rule: u32,
    limit: u32,
    reason: DenyReason,
    client: Option<IpAddr>,
}

/// Refusals of one key that no row tells of yet.
#[derive(Debug, Clone, Copy)]
struct Tally {
    first: Denial,
    last_ts: i64,
    count: u64,
    bytes: u64,
}

/// The refusals of the running slot.
#[derive(Debug, Default)]
pub(super) struct DenialBook {
    /// What was seen in this slot; `None`: its row was written and there was no repeat since.
    seen: BTreeMap<Key, Option<Tally>>,
    /// Keys seen for the first time since the last poll.
    fresh: Vec<Key>,
}

impl DenialBook {
    pub(super) fn add(&mut self, denial: Denial) {
        let exact = Key {
            service: denial.service,
            rule: denial.rule,
            limit: denial.limit,
            reason: denial.reason,
            client: Some(denial.client.ip()),
        };
        let known = self.seen.contains_key(&exact) || self.seen.len() < MAX_CLIENTS;
        let key = if known { exact } else { Key { client: None, ..exact } };
        let fresh = &mut self.fresh;
        let tally = self
            .seen
            .entry(key)
            .or_insert_with(|| {
                fresh.push(key);
                None
            })
            .get_or_insert(Tally { first: denial, last_ts: denial.ts.0, count: 0, bytes: 0 });
        tally.last_ts = tally.last_ts.max(denial.ts.0);
        tally.count += 1;
        tally.bytes += denial.bytes;
    }

    /// The rows that are due now: keys not seen before in this slot. Each stays due until
    /// [`DenialBook::written`].
    pub(super) fn due(&self, names: Words<'_>) -> Vec<(Key, table::Denied)> {
        let tally = |key| self.seen.get(key).copied().flatten();
        self.fresh.iter().filter_map(|key| Some((*key, row(names, *key, tally(key)?)))).collect()
    }

    /// The rows of these keys are in the spool.
    pub(super) fn written(&mut self, keys: impl Iterator<Item = Key>) {
        for key in keys {
            self.seen.insert(key, None);
        }
    }

    /// No row returned by [`DenialBook::due`] is missing in the spool.
    pub(super) fn all_due_written(&mut self) {
        self.fresh.clear();
    }

    /// The rows that the end of the slot makes due: every refusal without a row.
    pub(super) fn rest(&self, names: Words<'_>) -> Vec<(Key, table::Denied)> {
        let told = |(key, tally): (&Key, &Option<Tally>)| Some((*key, row(names, *key, (*tally)?)));
        self.seen.iter().filter_map(told).collect()
    }

    /// The slot is over and its rows are in the spool.
    pub(super) fn clear(&mut self) {
        self.seen.clear();
        self.fresh.clear();
    }
}

fn row(table: Words<'_>, key: Key, tally: Tally) -> table::Denied {
    let Denial { client, listen, .. } = tally.first;
    table::Denied {
        ts_first: tally.first.ts.0,
        ts_last: tally.last_ts,
        service: names::name(table, key.service),
        rule: names::optional_name(table, key.rule),
        limit: names::optional_name(table, key.limit),
        customer: names::optional_name(table, tally.first.customer),
        transport: tally.first.transport.as_str().to_owned(),
        client_ip: key.client.map(|ip| ip.to_string()),
        client_port: key.client.map(|_| client.port().into()),
        listen_ip: listen.ip().to_string(),
        listen_port: listen.port().into(),
        phase: tally.first.phase.as_str().to_owned(),
        reason: key.reason.as_str().to_owned(),
        action: tally.first.action.as_str().to_owned(),
        count: int(tally.count),
        bytes_up: int(tally.bytes),
        ..table::Denied::default()
    }
}
