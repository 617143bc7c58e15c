//! Units that quantities are priced in. Decimal and binary units are different words: a GB has
//! 10⁹ bytes, a GiB 2³⁰.

use std::fmt;

use crate::exact::{self, Exact};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Payload; the base is the byte.
    Bytes,
    /// Payload over time; the base is the bit per second.
    Rate,
    /// Sessions.
    Sessions,
    /// Datagrams.
    Datagrams,
}

impl Dimension {
    /// The units of this dimension, smallest first.
    pub fn units(self) -> impl Iterator<Item = Unit> {
        UNITS.into_iter().filter(move |unit| unit.dimension == self)
    }
}

/// A unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unit {
    name: &'static str,
    dimension: Dimension,
    base: u64,
}

const fn unit(name: &'static str, dimension: Dimension, base: u64) -> Unit {
    Unit { name, dimension, base }
}

const UNITS: [Unit; 17] = [
    unit("B", Dimension::Bytes, 1),
    unit("kB", Dimension::Bytes, 1000),
    unit("MB", Dimension::Bytes, 1000_u64.pow(2)),
    unit("GB", Dimension::Bytes, 1000_u64.pow(3)),
    unit("TB", Dimension::Bytes, 1000_u64.pow(4)),
    unit("PB", Dimension::Bytes, 1000_u64.pow(5)),
    unit("KiB", Dimension::Bytes, 1 << 10),
    unit("MiB", Dimension::Bytes, 1 << 20),
    unit("GiB", Dimension::Bytes, 1 << 30),
    unit("TiB", Dimension::Bytes, 1 << 40),
    unit("PiB", Dimension::Bytes, 1 << 50),
    unit("bit/s", Dimension::Rate, 1),
    unit("kbit/s", Dimension::Rate, 1000),
    unit("Mbit/s", Dimension::Rate, 1000_u64.pow(2)),
    unit("Gbit/s", Dimension::Rate, 1000_u64.pow(3)),
    unit("session", Dimension::Sessions, 1),
    unit("datagram", Dimension::Datagrams, 1),
];

impl Unit {
    /// The unit of a name.
    pub fn of(name: &str) -> Option<Self> {
        UNITS.into_iter().find(|unit| unit.name == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// What it counts.
    pub const fn dimension(self) -> Dimension {
        self.dimension
    }

    /// How many bytes, bits per second, sessions or datagrams it has.
    pub fn base(self) -> Exact {
        exact::whole(self.base)
    }

    /// The unit that people may mistake this one for, 2 to 13 % apart: GiB for GB.
    pub fn counterpart(self) -> Option<Self> {
        let name = match self.name {
            "kB" => "KiB",
            "KiB" => "kB",
            name if self.dimension == Dimension::Bytes => match name.split_at_checked(1)? {
                (prefix, "B") => return Self::of(&format!("{prefix}iB")),
                (prefix, "iB") => return Self::of(&format!("{prefix}B")),
                _ => return None,
            },
            _ => return None,
        };
        Self::of(name)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_units_are_told_apart() {
        let gib = Unit::of("GiB").unwrap();
        assert_eq!(gib.base(), exact::whole(1_073_741_824));
        assert_eq!(gib.counterpart(), Unit::of("GB"));
        assert_eq!(Unit::of("kB").unwrap().counterpart(), Unit::of("KiB"));
        assert_eq!(Unit::of("PB").unwrap().counterpart(), Unit::of("PiB"));
        for alone in ["B", "Mbit/s", "session"] {
            assert_eq!(Unit::of(alone).unwrap().counterpart(), None, "{alone}");
        }
        for bad in ["", "gb", "Gb", "Mbps", "sessions"] {
            assert_eq!(Unit::of(bad), None, "{bad:?}");
        }
    }
}
