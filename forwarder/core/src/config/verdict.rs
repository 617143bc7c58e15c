//! Who may pass: the rules, asked in order.

use std::net::IpAddr;

use super::{Action, Config};

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
}

impl Config {
    /// Asks the rules about a client of the service with index `service`. The first rule that
    /// matches decides; no match is a block. An IPv4 client that arrived as IPv6 is judged as IPv4.
    ///
    /// # Panics
    /// There is no service with that index.
    pub fn judge(&self, service: usize, client: IpAddr) -> Verdict {
        let client = client.to_canonical();
        let first = self.rules_of(service).iter().find(|rule| self.rules[**rule].matches(client));
        match first {
            None => Verdict::Block { rule: None },
            Some(&rule) => match self.rules[rule].action {
                Action::Block => Verdict::Block { rule: Some(rule) },
                Action::Pass(_) => Verdict::Pass { rule },
            },
        }
    }
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
        };
        Config::parse(&source, "f", &environment).unwrap_or_else(|faults| panic!("{faults}"))
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
        assert_eq!(config.judge(0, "::ffff:10.1.2.3".parse().unwrap()), Verdict::Pass { rule: 0 });
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
                prop_assert_eq!(config.judge(service, client), naive(&rules, service, client));
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
                        config.judge(service, client) else { continue };
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
