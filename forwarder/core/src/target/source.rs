//! The address of ours that a target sees.

use std::net::IpAddr;

use crate::config::Source;
use crate::session::DialFailure;

/// `EAFNOSUPPORT`: no address of that family.
const OTHER_FAMILY: i32 = 97;

impl Source {
    /// The address to dial `target` from for a client that came to `listen`; `None`: the kernel
    /// chooses, which it also does where an address of the other family would be the same.
    ///
    /// # Errors
    /// The configured address is of another family than the target's.
    pub fn towards(self, target: IpAddr, listen: IpAddr) -> Result<Option<IpAddr>, DialFailure> {
        match self {
            Self::Kernel => Ok(None),
            Self::Same => {
                let listen = listen.to_canonical();
                Ok((listen.is_ipv4() == target.is_ipv4()).then_some(listen))
            }
            Self::Address(source) if source.is_ipv4() == target.is_ipv4() => Ok(Some(source)),
            Self::Address(_) => Err(DialFailure::Unreachable(OTHER_FAMILY)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_address_is_used_where_the_family_allows() {
        let (v4, v6) = (ip("192.0.2.1"), ip("2001:db8::1"));
        assert_eq!(Source::Same.towards(ip("10.0.0.5"), v4), Ok(Some(v4)));
        assert_eq!(Source::Same.towards(ip("10.0.0.5"), v6), Ok(None));
        assert_eq!(Source::Kernel.towards(ip("10.0.0.5"), v4), Ok(None));
    }

    #[test]
    fn a_fixed_address_never_gives_way_to_another() {
        let fixed = Source::Address(ip("192.0.2.9"));
        assert_eq!(fixed.towards(ip("10.0.0.5"), ip("192.0.2.1")), Ok(Some(ip("192.0.2.9"))));
        let failure = fixed.towards(ip("fd00::5"), ip("192.0.2.1"));
        assert_eq!(failure, Err(DialFailure::Unreachable(97)));
    }
}
