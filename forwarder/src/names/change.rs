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
    /// Everything that differs, of what is still followed.
    fn between(old: &Directory, new: &Directory) -> Vec<Self> {
        let known = new.hosts.iter().filter(|(name, now)| old.hosts.get(*name) != Some(*now));
        let known = known.map(|(name, now)| Self::new("name", name, Some(now.to_vec())));
        let unknown = new.unknown.difference(&old.unknown);
        let unknown = unknown.map(|name| Self::new("name", name, None));
        let interfaces =
            new.interfaces.iter().filter(|(name, now)| old.interfaces.get(*name) != Some(*now));
        let interfaces = interfaces.map(|(name, now)| {
            let addresses = now.iter().map(|address| address.ip).collect();
            Self::new("interface", name, Some(addresses))
        });
        known.chain(unknown).chain(interfaces).collect()
    }

    fn new(kind: &'static str, name: &str, addresses: Option<Vec<IpAddr>>) -> Self {
        Self { kind, name: name.to_owned(), addresses }
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
            None => format!("{kind} {name} is not known: no name server tells its addresses"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::interfaces::InterfaceAddress;

    #[test]
    fn what_is_known_lost_and_gone_is_told_and_what_nobody_follows_is_not() {
        let host = |name: &str, ips: &[&str]| {
            (name.into(), ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect())
        };
        let lo = InterfaceAddress { ip: "127.0.0.1".parse().unwrap(), scope_id: 0 };
        let old = Directory {
            hosts: [
                host("a.internal", &["10.0.0.1"]),
                host("b.internal", &["10.0.0.2"]),
                host("c.internal", &["10.0.0.3"]),
                host("same.internal", &["10.0.0.9"]),
            ]
            .into(),
            interfaces: [("lo".to_owned(), vec![lo]), ("old0".to_owned(), vec![lo])].into(),
            ..Directory::default()
        };
        let new = Directory {
            hosts: [
                host("a.internal", &["10.0.0.1", "fd00::1"]),
                host("b.internal", &[]),
                host("same.internal", &["10.0.0.9"]),
            ]
            .into(),
            unknown: ["c.internal".into()].into(),
            interfaces: [("lo".to_owned(), vec![]), ("new0".to_owned(), vec![lo])].into(),
            ..Directory::default()
        };
        let told = |old: &Directory, new: &Directory| {
            let changes = Change::between(old, new);
            let lines =
                changes.iter().map(|c| format!("{} {}", c.severity().as_str(), c.message()));
            lines.collect::<Vec<_>>()
        };
        insta::assert_snapshot!(told(&old, &new).join("\n"), @r"
        info name a.internal is 10.0.0.1 fd00::1
        warning name b.internal has no address
        warning name c.internal is not known: no name server tells its addresses
        warning interface lo has no address
        info interface new0 is 127.0.0.1
        ");
        assert!(told(&new, &new).is_empty());
        assert!(told(&new, &Directory::default()).is_empty());
    }
}
