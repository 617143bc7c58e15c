//! What changes about names, as people are told.

use std::net::IpAddr;
use std::sync::Arc;

use schemas::table::Event;
use schemas::vocab::{Severity, Timestamp};
use tokio::sync::watch;

use super::{Directory, Names};

/// Addresses of one name that are shown.
const SHOWN: usize = 16;

/// What a name means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    kind: &'static str,
    name: String,
    /// `None`: not known.
    addresses: Option<Vec<IpAddr>>,
}

impl Change {
    /// Everything that differs.
    fn between(old: &Directory, new: &Directory) -> Vec<Self> {
        let hosts =
            old.hosts.keys().chain(new.hosts.keys().filter(|name| !old.hosts.contains_key(*name)));
        let hosts = hosts.filter(|name| old.hosts.get(*name) != new.hosts.get(*name)).map(|name| {
            let addresses = new.hosts.get(name).map(|addresses| addresses.to_vec());
            Self { kind: "name", name: name.to_string(), addresses }
        });
        let (before, after) = (&old.interfaces, &new.interfaces);
        let interfaces =
            before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
        let interfaces =
            interfaces.filter(|name| before.get(*name) != after.get(*name)).map(|name| {
                let addresses = after.get(name).into_iter().flatten().map(|address| address.ip);
                Self { kind: "interface", name: name.clone(), addresses: Some(addresses.collect()) }
            });
        hosts.chain(interfaces).collect()
    }

    fn severity(&self) -> Severity {
        match &self.addresses {
            Some(addresses) if !addresses.is_empty() => Severity::Info,
            Some(_) | None => Severity::Warning,
        }
    }

    fn message(&self) -> String {
        let Self { kind, name, addresses } = self;
        match addresses {
            Some(addresses) if addresses.is_empty() => format!("{kind} {name} has no address"),
            Some(addresses) => {
                let mut shown: Vec<_> =
                    addresses.iter().take(SHOWN).map(ToString::to_string).collect();
                if addresses.len() > SHOWN {
                    shown.push(format!("and {} more", addresses.len() - SHOWN));
                }
                format!("{kind} {name} is {}", shown.join(" "))
            }
            None => format!("{kind} {name} is not known: no name server answers"),
        }
    }

    /// Writes it to the log.
    pub fn log(&self) {
        let message = self.message();
        match self.severity() {
            Severity::Info => tracing::info!("{message}"),
            _ => tracing::warn!("{message}"),
        }
    }

    /// Its row.
    pub fn event(&self, now: Timestamp) -> Event {
        Event {
            ts: now.0,
            severity: self.severity().as_str().to_owned(),
            kind: self.kind.to_owned(),
            message: self.message(),
            ..Event::default()
        }
    }
}

/// Tells what changes about names, since it was made.
#[derive(Debug)]
pub struct NameWatch {
    names: Names,
    changes: watch::Receiver<Arc<Directory>>,
    told: Arc<Directory>,
}

impl NameWatch {
    /// What is known so far is told at once.
    pub fn new(names: Names) -> Self {
        let mut changes = names.changes();
        changes.mark_changed();
        Self { names, changes, told: Arc::default() }
    }

    /// The names themselves.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Waits for what changes next. `None`: the names thread died. Cancel-safe.
    pub async fn changed(&mut self) -> Option<Vec<Change>> {
        self.changes.changed().await.ok()?;
        let now = Arc::clone(&self.changes.borrow_and_update());
        let changes = Change::between(&self.told, &now);
        self.told = now;
        Some(changes)
    }
}
