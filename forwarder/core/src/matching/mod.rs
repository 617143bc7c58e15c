//! Who may pass: the rules, asked in order.
//!
//! A [`Matcher`] is a configuration's rules, ready to be asked, together with what the names in them
//! mean at the moment (the [`Book`]). Asking is stateless: a verdict may be a [`Question`] about the
//! client; whoever finds the answer out asks again with it.

mod book;

pub use book::Book;

use std::net::IpAddr;

use schemas::vocab::Transport;

use crate::config::{Action, Config, Listener, Origin, Rule, UnknownName};

/// A client as the rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The listener it came to.
    pub listener: Listener,
    /// The effective client's address.
    pub ip: IpAddr,
    /// The effective client's port.
    pub port: u16,
    /// What reverse lookup says about the address.
    pub reverse: Fact<&'a ReverseNames>,
    /// Which server it asked for, in lower case and without a dot at the end.
    pub server_name: Fact<&'a str>,
}

/// Something about a client that takes time to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fact<T> {
    /// Nobody has looked.
    #[default]
    NotAsked,
    /// It cannot be found out.
    Unknown,
    /// This it is.
    Known(T),
}

impl<T> Fact<T> {
    /// The same fact, borrowed.
    pub fn as_ref(&self) -> Fact<&T> {
        match self {
            Self::NotAsked => Fact::NotAsked,
            Self::Unknown => Fact::Unknown,
            Self::Known(value) => Fact::Known(value),
        }
    }

    /// The same fact, in other words.
    pub fn map<U>(self, words: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::NotAsked => Fact::NotAsked,
            Self::Unknown => Fact::Unknown,
            Self::Known(value) => Fact::Known(words(value)),
        }
    }
}

/// What reverse lookup says about an address. An address without any name is this, empty; a lookup
/// that failed is [`Fact::Unknown`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReverseNames {
    /// Whether there is a name at all.
    pub has_name: bool,
    /// The names that have the address among their own, in lower case and without a dot at the end.
    pub confirmed: Vec<String>,
}

/// The answer of the rules about one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is relayed, as this rule says.
    Pass {
        /// Index into [`Config::rules`].
        rule: usize,
    },
    /// It is refused.
    Block {
        /// The rule that refuses; `None`: no rule matched.
        rule: Option<usize>,
    },
    /// This rule passes it, and `[dns]` requires a name that it does not have.
    Nameless {
        /// Index into [`Config::rules`].
        rule: usize,
    },
    /// That depends.
    Ask(Question),
}

/// What a verdict depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What reverse lookup says about the client.
    ReverseName,
    /// Which server the client asks for.
    ServerName,
}

/// Rules, ready to be asked.
#[derive(Debug, Clone)]
pub struct Matcher {
    config: std::sync::Arc<Config>,
    book: Book,
}

/// Whether a client meets a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Unknown,
    Ask(Question),
}

impl Matcher {
    /// The rules of a configuration, and what the names in them mean.
    pub fn new(config: std::sync::Arc<Config>, book: Book) -> Self {
        Self { config, book }
    }

    /// Asks the rules about a client of the service with index `service`. The first rule that
    /// matches decides; no match is a block. An IPv4 client that arrived as IPv6 is judged as IPv4.
    ///
    /// # Panics
    /// There is no service with that index.
    pub fn judge(&self, service: usize, client: &Client<'_>) -> Verdict {
        let client = Client { ip: client.ip.to_canonical(), ..*client };
        for &rule in self.config.rules_of(service) {
            match self.matches(&self.config.rules[rule], &client) {
                Truth::Ask(question) => return Verdict::Ask(question),
                Truth::Yes => return self.decided(rule, &client),
                Truth::No | Truth::Unknown => {}
            }
        }
        Verdict::Block { rule: None }
    }

    fn decided(&self, rule: usize, client: &Client<'_>) -> Verdict {
        if self.config.rules[rule].action == Action::Block {
            return Verdict::Block { rule: Some(rule) };
        }
        let dns = &self.config.dns;
        if !dns.require_ptr && !dns.require_confirmed {
            return Verdict::Pass { rule };
        }
        match client.reverse {
            Fact::NotAsked => Verdict::Ask(Question::ReverseName),
            Fact::Known(names)
                if names.has_name && !(dns.require_confirmed && names.confirmed.is_empty()) =>
            {
                Verdict::Pass { rule }
            }
            Fact::Known(_) | Fact::Unknown => Verdict::Nameless { rule },
        }
    }

    /// Never unknown: the rule says what that means.
    fn matches(&self, rule: &Rule, client: &Client<'_>) -> Truth {
        let cheap = rule.transport.is_none_or(|own: Transport| own == client.listener.transport)
            && (rule.listeners.is_empty() || rule.listeners.contains(&client.listener))
            && (rule.client_port.is_empty()
                || rule.client_port.iter().any(|ports| ports.contains(&client.port)));
        if !cheap {
            return Truth::No;
        }
        let unknown = match rule.unknown_name {
            UnknownName::Match => Truth::Yes,
            UnknownName::Skip => Truth::No,
        };
        let settle = |truth| if truth == Truth::Unknown { unknown } else { truth };
        let from = match rule.from.is_empty() {
            true => Truth::Yes,
            false => self.any(&rule.from, client),
        };
        let not_from = match self.any(&rule.not_from, client) {
            Truth::Yes => Truth::No,
            Truth::No => Truth::Yes,
            open => open,
        };
        let conditions = [settle(from), settle(not_from), settle(server_name(rule, client))];
        let question = conditions.into_iter().find(|truth| matches!(truth, Truth::Ask(_)));
        match conditions.contains(&Truth::No) {
            true => Truth::No,
            false => question.unwrap_or(Truth::Yes),
        }
    }

    fn any(&self, origins: &[Origin], client: &Client<'_>) -> Truth {
        let mut all = Truth::No;
        for origin in origins {
            match self.is_from(origin, client) {
                Truth::Yes => return Truth::Yes,
                Truth::No => {}
                open if all == Truth::No || all == Truth::Unknown => all = open,
                _ => {}
            }
        }
        all
    }

    fn is_from(&self, origin: &Origin, client: &Client<'_>) -> Truth {
        let truth = |is| if is { Truth::Yes } else { Truth::No };
        match origin {
            Origin::Network(net) => truth(net.contains(&client.ip)),
            Origin::File(file) => truth(file.networks.iter().any(|net| net.contains(&client.ip))),
            Origin::Name(name) => match self.book.addresses_of_name(name) {
                Some(addresses) => truth(addresses.contains(&client.ip)),
                None => Truth::Unknown,
            },
            Origin::Interface(name) => {
                truth(self.book.addresses_of_interface(name).contains(&client.ip))
            }
            Origin::Domain(domain) => match client.reverse {
                Fact::NotAsked => Truth::Ask(Question::ReverseName),
                Fact::Unknown => Truth::Unknown,
                Fact::Known(names) => {
                    truth(names.confirmed.iter().any(|name| is_within(name, domain)))
                }
            },
        }
    }
}

fn server_name(rule: &Rule, client: &Client<'_>) -> Truth {
    if rule.server_name.is_empty() {
        return Truth::Yes;
    }
    match client.server_name {
        Fact::NotAsked => Truth::Ask(Question::ServerName),
        Fact::Unknown => Truth::Unknown,
        Fact::Known(name) => match rule.server_name.iter().any(|pattern| pattern.means(name)) {
            true => Truth::Yes,
            false => Truth::No,
        },
    }
}

/// Whether a name is a domain or below it.
fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Environment;

    /// Parts of a rule: its services, its networks, whether it passes.
    type Parts = (Vec<usize>, Vec<IpNet>, bool);

    fn network() -> impl Strategy<Value = IpNet> {
        // Few distinct bits, so that networks and clients meet often.
        let v4 = (0u32..8, 0u8..=32).prop_map(|(bits, len)| (IpAddr::from(spread_v4(bits)), len));
        let v6 = (0u32..8, 0u8..=128).prop_map(|(bits, len)| (IpAddr::from(spread_v6(bits)), len));
        prop_oneof![v4, v6].prop_map(|(ip, len)| IpNet::new(ip, len).unwrap().trunc())
    }

    fn spread_v4(bits: u32) -> Ipv4Addr {
        Ipv4Addr::from((bits & 1) << 31 | (bits & 2) << 15 | (bits & 4) >> 2)
    }

    fn spread_v6(bits: u32) -> Ipv6Addr {
        let bits = u128::from(bits);
        Ipv6Addr::from(0x2001 << 112 | (bits & 1) << 95 | (bits & 2) << 62 | (bits & 4) >> 2)
    }

    fn parts() -> impl Strategy<Value = Parts> {
        (
            prop::collection::vec(0usize..3, 0..3),
            prop::collection::vec(network(), 0..4),
            any::<bool>(),
        )
    }

    fn config_of(rules: &[Parts]) -> Config {
        let mut source = String::new();
        for service in 0..3 {
            source += &format!(
                "[[service]]\nname = \"s{service}\"\nlisten = [\"127.0.0.1:{}\"]\n\
                 target = [\"10.0.0.1:80\"]\n",
                1000 + service
            );
        }
        let quoted = |texts: Vec<String>| texts.join("\", \"");
        for (index, (services, from, pass)) in rules.iter().enumerate() {
            source += &format!("[[rule]]\nname = \"r{index}\"\n");
            if !services.is_empty() {
                let names = services.iter().map(|service| format!("s{service}")).collect();
                source += &format!("services = [\"{}\"]\n", quoted(names));
            }
            if !from.is_empty() {
                let nets = from.iter().map(IpNet::to_string).collect();
                source += &format!("from = [\"{}\"]\n", quoted(nets));
            }
            source += if *pass { "action = \"pass\"\n" } else { "action = \"block\"\n" };
        }
        let environment = Environment {
            host_name: "a".to_owned(),
            local_addresses: Vec::new(),
            congestion_controls: Vec::new(),
            files: Default::default(),
        };
        Config::parse(&source, "f", &environment).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn judge(config: &Config, service: usize, ip: IpAddr) -> Verdict {
        let listener = config.services[service].listeners[0];
        let matcher = Matcher::new(config.clone().into(), Book::default());
        let (reverse, server_name) = (Fact::NotAsked, Fact::NotAsked);
        matcher.judge(service, &Client { listener, ip, port: 1, reverse, server_name })
    }

    /// The rules as DESIGN words them, bit by bit.
    fn naive(rules: &[Parts], service: usize, client: IpAddr) -> Verdict {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, true),
            IpAddr::V6(ip) => (ip.to_bits(), false),
        };
        for (rule, (services, from, pass)) in rules.iter().enumerate() {
            let matches = from.is_empty()
                || from.iter().any(|net| {
                    let ((net_bits, v4), (client_bits, client_v4)) =
                        (bits(net.network()), bits(client));
                    let differing = (net_bits ^ client_bits).leading_zeros();
                    v4 == client_v4 && differing >= u32::from(net.prefix_len())
                });
            if matches && (services.is_empty() || services.contains(&service)) {
                return match pass {
                    true => Verdict::Pass { rule },
                    false => Verdict::Block { rule: Some(rule) },
                };
            }
        }
        Verdict::Block { rule: None }
    }

    #[test]
    fn an_ipv4_client_that_arrives_as_ipv6_is_judged_as_ipv4() {
        let config = config_of(&[(vec![], vec!["10.0.0.0/8".parse().unwrap()], true)]);
        assert_eq!(
            judge(&config, 0, "::ffff:10.1.2.3".parse().unwrap()),
            Verdict::Pass { rule: 0 }
        );
    }

    proptest! {
        #[test]
        fn the_first_rule_that_matches_decides(
            rules in prop::collection::vec(parts(), 0..8),
            service in 0usize..3,
            bits in 0u32..8,
        ) {
            let config = config_of(&rules);
            for client in [IpAddr::from(spread_v4(bits)), IpAddr::from(spread_v6(bits))] {
                prop_assert_eq!(judge(&config, service, client), naive(&rules, service, client));
            }
        }

        #[test]
        fn a_rule_that_is_said_to_be_unreached_never_decides(
            rules in prop::collection::vec(parts(), 1..8),
            bits in 0u32..8,
        ) {
            let config = config_of(&rules);
            let warned: Vec<usize> = config
                .warnings
                .list
                .iter()
                .filter(|warning| warning.message.starts_with("no client ever"))
                .map(|warning| {
                    let line = warning.place.as_ref().unwrap().line;
                    rule_at(&rules, line)
                })
                .collect();
            for service in 0..3 {
                for client in [IpAddr::from(spread_v4(bits)), IpAddr::from(spread_v6(bits))] {
                    let (Verdict::Pass { rule } | Verdict::Block { rule: Some(rule) }) =
                        judge(&config, service, client) else { continue };
                    prop_assert!(!warned.contains(&rule), "rule {} decides", rule);
                }
            }
        }
    }

    /// The rule whose header `config_of` writes into a line.
    fn rule_at(rules: &[Parts], line: usize) -> usize {
        let mut at = 3 * 4 + 1;
        for (index, (services, from, _)) in rules.iter().enumerate() {
            if at == line {
                return index;
            }
            at += 3 + usize::from(!services.is_empty()) + usize::from(!from.is_empty());
        }
        panic!("no rule begins in line {line}");
    }
}
