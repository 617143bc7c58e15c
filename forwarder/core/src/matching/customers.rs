//! Who is billed for a client: a file's networks, the longest first.

use std::net::IpAddr;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;
use schemas::vocab::CustomerName;

/// A file of networks and customers, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct CustomerTable {
    trie: JointPrefixMap<IpNet, u32>,
    customers: Vec<CustomerName>,
}

impl CustomerTable {
    /// The table of a file. Of a network that is there twice, the last customer counts.
    ///
    /// # Panics
    /// There are four thousand million customers, more than memory holds.
    pub fn new(networks: &[(IpNet, CustomerName)]) -> Self {
        let mut customers: Vec<CustomerName> =
            networks.iter().map(|(_, customer)| customer.clone()).collect();
        customers.sort_unstable();
        customers.dedup();
        let mut trie = JointPrefixMap::default();
        for (network, customer) in networks {
            let index = customers.binary_search(customer).expect("every customer is in the list");
            let index = u32::try_from(index).expect("memory holds fewer customers");
            trie.insert(network.trunc(), index);
        }
        Self { trie, customers }
    }

    /// Every customer once, in the order of their names.
    pub fn customers(&self) -> &[CustomerName] {
        &self.customers
    }

    /// The customer of a client, as an index into [`CustomerTable::customers`]: the one of the
    /// smallest network that holds it. An IPv4 client that arrived as IPv6 is looked up as IPv4.
    pub fn customer_of(&self, client: IpAddr) -> Option<usize> {
        let client = IpNet::from(client.to_canonical());
        self.trie.get_lpm(&client).map(|(_, index)| *index as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(number: u8) -> CustomerName {
        format!("customer-{number}").parse().unwrap()
    }

    #[test]
    fn the_smallest_network_names_the_customer() {
        let networks =
            [("10.0.0.0/8", 2), ("10.1.0.0/16", 1), ("10.1.2.3/32", 2), ("2001:db8::/32", 3)];
        let table = CustomerTable::new(&networks.map(|(net, of)| (net.parse().unwrap(), name(of))));
        assert_eq!(table.customers(), [name(1), name(2), name(3)]);
        for (client, expected) in [
            ("10.9.9.9", Some(1)),
            ("10.1.9.9", Some(0)),
            ("10.1.2.3", Some(1)),
            ("::ffff:10.1.9.9", Some(0)),
            ("11.0.0.0", None),
            ("2001:db8::1", Some(2)),
            ("::1", None),
        ] {
            assert_eq!(table.customer_of(client.parse().unwrap()), expected, "{client}");
        }
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_asking_every_network(
            networks in prop::collection::btree_map((0u32..16, 0u8..=32), 0u8..4, 0..12),
            client in 0u32..16,
        ) {
            let ip = |bits: u32| IpAddr::from(std::net::Ipv4Addr::from(bits.rotate_right(3)));
            let mut networks: Vec<(IpNet, CustomerName)> = networks
                .into_iter()
                .map(|((bits, len), of)| (IpNet::new(ip(bits), len).unwrap().trunc(), name(of)))
                .collect();
            networks.sort_by_key(|(network, _)| *network);
            networks.dedup_by_key(|(network, _)| *network);
            let table = CustomerTable::new(&networks);
            let expected = networks
                .iter()
                .filter(|(network, _)| network.contains(&ip(client)))
                .max_by_key(|(network, _)| network.prefix_len())
                .map(|(_, customer)| customer);
            let found = table.customer_of(ip(client)).map(|index| &table.customers()[index]);
            prop_assert_eq!(found, expected);
        }
    }
}
