//! Which target a client prefers: rendezvous hashing.
//!
//! Client and target together give a number, and a client prefers the target with the highest one.
//! A target that is lost moves only its own clients, and it gets back the same ones; the order of
//! the list does not matter. The numbers are the same in every run and on every node, so that two
//! nodes before the same targets agree.

use std::net::IpAddr;

/// The number of a target's name and port.
pub(super) fn of_target(name: &str, port: u16) -> u64 {
    let bytes = name.bytes().chain([0]).chain(port.to_be_bytes());
    // FNV-1a; what it lacks in avalanche the mix makes up for.
    mix(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// The number of a client's address; its port does not count. An IPv4 client that arrived as IPv6
/// is the same client.
pub(super) fn of_client(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(ip) => mix(u64::from(ip.to_bits())),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            let halves = [bits >> 64, bits & u128::from(u64::MAX)];
            let [high, low] = halves.map(|half| u64::try_from(half).unwrap_or_default());
            mix(mix(high ^ 0x6a09_e667_f3bc_c908) ^ low)
        }
    }
}

/// How much a client prefers a target.
pub(super) fn preference(client: u64, target: u64) -> u64 {
    mix(client ^ target)
}

/// The finalizer of SplitMix64: each bit of the input turns half of the output.
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of different versions share targets: what a client prefers must not change.
    #[test]
    fn preferences_are_the_same_for_ever() {
        let client = of_client("192.0.2.7".parse().unwrap());
        let scores = ["10.0.0.1", "10.0.0.2", "web.internal", "fd00::5"]
            .map(|name| preference(client, of_target(name, 80)));
        insta::assert_debug_snapshot!(scores);
    }

    #[test]
    fn a_client_is_the_same_in_ipv4_and_in_ipv6_clothes() {
        let plain = of_client("192.0.2.7".parse().unwrap());
        assert_eq!(of_client("::ffff:192.0.2.7".parse().unwrap()), plain);
    }
}
