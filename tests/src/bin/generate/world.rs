//! Who there is: customers of which a few have most of the traffic, their clients, the services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use e2e_tests::dice::Dice;

/// Of a thousand sessions, those of nobody's.
const STRANGERS: u64 = 30;
/// The largest customer weighs as much.
const LARGEST: u64 = 1 << 32;
/// A client comes so often, on average.
const VISITS: u64 = 200;

/// What clients come for.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) udp: bool,
    pub(crate) listen_port: i32,
    pub(crate) target_port: i32,
    /// The last number of the targets' network.
    network: u8,
    /// Powers of two up to which a session's bytes go, up and down.
    pub(crate) magnitude: [u64; 2],
    /// Of a thousand sessions, those that last for several slots.
    pub(crate) long: u64,
    /// Of a hundred sessions, those that come for it.
    share: u64,
}

const fn tcp(name: &'static str, listen_port: i32, network: u8, share: u64) -> Service {
    let (target_port, magnitude) = (8000 + listen_port, [14, 22]);
    Service { name, udp: false, listen_port, target_port, network, magnitude, long: 4, share }
}

const fn udp(name: &'static str, listen_port: i32, network: u8, share: u64) -> Service {
    Service { udp: true, magnitude: [9, 12], long: 0, ..tcp(name, listen_port, network, share) }
}

pub(crate) static SERVICES: [Service; 6] = [
    tcp("web", 443, 1, 50),
    Service { magnitude: [20, 16], ..tcp("mail", 993, 2, 12) },
    Service { long: 10, ..tcp("db", 5432, 3, 8) },
    udp("dns", 53, 4, 18),
    Service { long: 8, magnitude: [16, 16], ..udp("voice", 5060, 5, 4) },
    Service { magnitude: [15, 22], ..udp("video", 8443, 6, 8) },
];

impl Service {
    pub(crate) fn any(dice: &mut Dice) -> &'static Self {
        let mut left = dice.of(1..=100);
        for service in &SERVICES {
            if left <= service.share {
                return service;
            }
            left -= service.share;
        }
        &SERVICES[0]
    }

    /// One of its targets.
    pub(crate) fn target(&self, dice: &mut Dice) -> String {
        match dice.of(1..=4) {
            4 => Ipv6Addr::new(0xfd00, 0, 0, u16::from(self.network), 0, 0, 0, 5).to_string(),
            number => format!("10.0.{}.{number}", self.network),
        }
    }

    pub(crate) const fn transport(&self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }
}

/// Customers and how much of the traffic is theirs.
#[derive(Debug)]
pub(crate) struct World {
    names: Vec<String>,
    /// Weights of the customers up to each.
    through: Vec<u64>,
    sessions: u64,
}

impl World {
    pub(crate) fn new(customers: usize, sessions: u64) -> Self {
        let mut sum = 0;
        let through = (1..=customers as u64).map(|number| {
            sum += LARGEST / number;
            sum
        });
        let through = through.collect();
        let names = (1..=customers).map(|number| format!("customer-{number:04}")).collect();
        Self { names, through, sessions }
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whose session it is; `None`: nobody's.
    pub(crate) fn customer(&self, dice: &mut Dice) -> Option<usize> {
        let all = *self.through.last()?;
        let drawn = dice.of(1..=all);
        let stranger = dice.of(1..=1000) <= STRANGERS;
        (!stranger).then(|| self.through.partition_point(|&through| through < drawn))
    }

    /// The name of a customer, and the rule that passes its clients.
    pub(crate) fn rule(&self, customer: Option<usize>) -> (Option<&str>, &str) {
        match customer {
            Some(customer) => (Some(&self.names[customer]), &self.names[customer]),
            None => (None, "everyone-else"),
        }
    }

    /// The address of one of the clients of a customer: few come often, and every fifth has IPv6.
    pub(crate) fn client(&self, customer: Option<usize>, dice: &mut Dice) -> IpAddr {
        let number = customer.map_or(0, |customer| customer + 1);
        let weight = match customer {
            Some(customer) => u128::from(LARGEST / (customer as u64 + 1)),
            None => u128::from(LARGEST) / 4,
        };
        let all = u128::from(self.through.last().copied().unwrap_or(1));
        let clients = u128::from(self.sessions / VISITS) * weight / all;
        let clients = u64::try_from(clients).unwrap_or_default().clamp(1, 60_000);
        let some = dice.of(0..=clients - 1);
        let client = dice.of(0..=some);
        let number = u16::try_from(number).unwrap_or_default();
        let low = u16::try_from(client).unwrap_or_default();
        if (u64::from(number) + client).is_multiple_of(5) {
            return Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, low + 1).into();
        }
        // Networks of customers overlap, as private ones do.
        let spread = (u32::from(number) * 4099 + u32::from(low)) % 0x3f_0000;
        Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + spread).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_customers_has_most_of_the_sessions() {
        let world = World::new(100, 10_000);
        let mut dice = Dice::new(1, 1);
        let drawn: Vec<_> = (0..10_000).map(|_| world.customer(&mut dice)).collect();
        let large = drawn.iter().flatten().filter(|customer| **customer < 10).count();
        assert!((5_000..7_000).contains(&large), "{large}");
        assert!(drawn.contains(&Some(99)) && drawn.contains(&None));
    }

    #[test]
    fn every_session_comes_for_a_service() {
        assert_eq!(SERVICES.iter().map(|service| service.share).sum::<u64>(), 100);
    }
}
