//! What changes between two configurations.

use std::collections::HashSet;

use schemas::vocab::ServiceName;

use super::{Config, Listener};

/// The keys in which the two differ and that a running forwarder cannot change. A reload with any
/// of them is refused as a whole.
pub fn start_only_changes(old: &Config, new: &Config) -> Vec<&'static str> {
    let changes = [
        (old.node != new.node, "node"),
        (old.threads != new.threads, "threads"),
        (old.recorder.socket != new.recorder.socket, "recorder.endpoint"),
        (old.recorder.spool != new.recorder.spool, "recorder.spool"),
        (old.recorder.spool_max_bytes != new.recorder.spool_max_bytes, "recorder.spool_max"),
        (old.recorder.when_full != new.recorder.when_full, "recorder.when_full"),
        (old.accounting.slot_len_s != new.accounting.slot_len_s, "accounting.slot"),
        (old.accounting.table_slots != new.accounting.table_slots, "accounting.table"),
        (old.admin_socket != new.admin_socket, "admin.socket"),
        (old.metrics != new.metrics, "admin.metrics"),
    ];
    changes.into_iter().filter(|(changed, _)| *changed).map(|(_, key)| key).collect()
}

/// Listeners that one configuration has and the other does not. A listener that changes its
/// service is in neither list: its socket stays, its sessions to come belong to the other service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerChanges {
    /// To be bound, with their services.
    pub added: Vec<(Listener, ServiceName)>,
    /// To be closed, with their services.
    pub removed: Vec<(Listener, ServiceName)>,
}

impl ListenerChanges {
    /// Whether the same sockets serve both configurations.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// Which listeners have to be bound and closed on the way from `old` to `new`.
pub fn listener_changes(old: &Config, new: &Config) -> ListenerChanges {
    ListenerChanges { added: only_in(new, old), removed: only_in(old, new) }
}

fn only_in(this: &Config, other: &Config) -> Vec<(Listener, ServiceName)> {
    let known: HashSet<Listener> =
        other.services.iter().flat_map(|service| service.listeners.iter().copied()).collect();
    let mut only = Vec::new();
    for service in &this.services {
        let new = service.listeners.iter().filter(|listener| !known.contains(listener));
        only.extend(new.map(|listener| (*listener, service.name.clone())));
    }
    only
}
