//! Which addresses one rule is about.

use ipnet::IpNet;

use super::Book;
use crate::config::{Origin, Rule, UnknownName};

/// The addresses that one rule is about, with what the names in it mean at the moment.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Whether it is about every address, whatever networks it names.
    pub(super) everyone: bool,
    /// Whether clients may be in it by their names.
    pub(super) by_name: bool,
    /// The networks it names, without host bits. Not needed with `everyone`.
    pub(super) from: Vec<IpNet>,
    /// The networks that it is not about.
    pub(super) except: Vec<IpNet>,
}

impl Scope {
    /// `None`: the rule is about nobody.
    ///
    /// A host name that is not known might be anybody's. So a rule that takes unknown names for a
    /// match is about everyone if one stands in `from`, and loses no client by one in `not_from`; a
    /// rule that skips them gains no client by one in `from`, and is about nobody if one stands in
    /// `not_from`.
    pub(super) fn of(rule: &Rule, book: &Book) -> Option<Self> {
        let unknown_matches = rule.unknown_name == UnknownName::Match;
        let mut scope = Self { everyone: rule.from.is_empty(), ..Self::default() };
        for origin in &rule.from {
            match networks(origin, book) {
                Means::Networks(networks) => scope.from.extend(networks),
                Means::ByName => scope.by_name = true,
                Means::Unknown => scope.everyone |= unknown_matches,
            }
        }
        for origin in &rule.not_from {
            match networks(origin, book) {
                Means::Networks(networks) => scope.except.extend(networks),
                Means::Unknown if !unknown_matches => return None,
                Means::ByName | Means::Unknown => {}
            }
        }
        Some(scope)
    }
}

enum Means {
    Networks(Vec<IpNet>),
    /// Depends on the client's name.
    ByName,
    Unknown,
}

fn networks(origin: &Origin, book: &Book) -> Means {
    let hosts = |addresses: &[std::net::IpAddr]| {
        Means::Networks(addresses.iter().map(|ip| ip.to_canonical().into()).collect())
    };
    match origin {
        Origin::Network(network) => Means::Networks(vec![network.trunc()]),
        Origin::File(file) => Means::Networks(file.networks.iter().map(IpNet::trunc).collect()),
        Origin::Interface(name) => hosts(book.addresses_of_interface(name)),
        Origin::Name(name) => book.addresses_of_name(name).map_or(Means::Unknown, hosts),
        Origin::Domain(_) => Means::ByName,
    }
}
