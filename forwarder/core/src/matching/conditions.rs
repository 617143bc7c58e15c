//! What one rule asks of a client besides its address and its service.

use std::ops::RangeInclusive;

use schemas::vocab::Transport;

use super::names::{Domains, ServerNames};
use super::{Client, Fact, Question};
use crate::config::{Listener, Origin, Rule, UnknownName};

/// Whether a client meets a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    Ask(Question),
}

/// What one rule asks of a client besides its address and its service.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    client_ports: Box<[RangeInclusive<u16>]>,
    listeners: Box<[Listener]>,
    from: Domains,
    not_from: Domains,
    servers: ServerNames,
    unknown: UnknownName,
}

impl Conditions {
    /// `None`: the rule asks for nothing else.
    pub(super) fn new(rule: &Rule) -> Option<Self> {
        let conditions = Self {
            client_ports: rule.client_port.clone().into(),
            listeners: rule.listeners.clone().into(),
            from: domains(&rule.from),
            not_from: domains(&rule.not_from),
            servers: ServerNames::new(&rule.server_name),
            unknown: rule.unknown_name,
        };
        let nothing = conditions.client_ports.is_empty()
            && conditions.listeners.is_empty()
            && conditions.from.is_empty()
            && conditions.not_from.is_empty()
            && conditions.servers.is_empty();
        if nothing { None } else { Some(conditions) }
    }

    /// Whether `client` meets them, what costs nothing first. `by_address`: its address is one of
    /// those in `from` already, or `from` is everyone.
    pub(super) fn met(&self, client: &Client<'_>, by_address: bool) -> Truth {
        let cheap = (self.client_ports.is_empty()
            || self.client_ports.iter().any(|ports| ports.contains(&client.port)))
            && (self.listeners.is_empty() || self.listeners.contains(&client.listener));
        if !cheap {
            return Truth::No;
        }
        let from = if by_address { Truth::Yes } else { self.has_name(&self.from, client) };
        let not_from = match self.not_from.is_empty() {
            true => Truth::Yes,
            false => self.lacks_name(&self.not_from, client),
        };
        let server = self.asks_for_server(client);
        if [from, not_from, server].contains(&Truth::No) {
            return Truth::No;
        }
        // Who the client is can be found out without it, so that comes first.
        let open = [from, not_from, server].into_iter().find(|truth| *truth != Truth::Yes);
        open.unwrap_or(Truth::Yes)
    }

    fn has_name(&self, domains: &Domains, client: &Client<'_>) -> Truth {
        self.by_name(client, |names| names.iter().any(|name| domains.hold(name)))
    }

    fn lacks_name(&self, domains: &Domains, client: &Client<'_>) -> Truth {
        self.by_name(client, |names| !names.iter().any(|name| domains.hold(name)))
    }

    /// A client that has no name, or none that is confirmed, is as unknown as one whose lookup
    /// failed: else whoever can take its own name away could walk around a rule that blocks it.
    fn by_name(&self, client: &Client<'_>, met: impl FnOnce(&[String]) -> bool) -> Truth {
        match client.reverse {
            Fact::NotAsked => Truth::Ask(Question::ReverseName),
            Fact::Known(names) if !names.confirmed.is_empty() => met(&names.confirmed).into(),
            Fact::Known(_) | Fact::Unknown => self.unknown(),
        }
    }

    fn asks_for_server(&self, client: &Client<'_>) -> Truth {
        if self.servers.is_empty() {
            return Truth::Yes;
        }
        match client.server_name {
            // A datagram does not say which server it is for, however long one waits.
            Fact::NotAsked if client.listener.transport == Transport::Udp => self.unknown(),
            Fact::NotAsked => Truth::Ask(Question::ServerName),
            Fact::Unknown => self.unknown(),
            Fact::Known(name) => self.servers.mean(name).into(),
        }
    }

    /// Whether the rule takes a condition for met about which nothing is known.
    fn unknown(&self) -> Truth {
        (self.unknown == UnknownName::Match).into()
    }
}

impl From<bool> for Truth {
    fn from(is: bool) -> Self {
        if is { Self::Yes } else { Self::No }
    }
}

fn domains(origins: &[Origin]) -> Domains {
    Domains::new(origins.iter().filter_map(|origin| match origin {
        Origin::Domain(domain) => Some(domain.as_str()),
        Origin::Network(_) | Origin::Name(_) | Origin::Interface(_) | Origin::File(_) => None,
    }))
}
