//! Addresses that nobody else uses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A loopback address of the caller's own, so that a port that is free now stays free: other tests
/// and their clients live on other addresses. Only Linux answers on all of 127.0.0.0/8.
pub fn own() -> IpAddr {
    if !cfg!(target_os = "linux") {
        return Ipv4Addr::LOCALHOST.into();
    }
    Ipv4Addr::from(of(process::id(), TAKEN.fetch_add(1, Ordering::Relaxed))).into()
}

/// The address number `count` of a process, within 127.64.0.0/10: some hundred tests of one process
/// take a thousand of them before they are through.
const fn of(process: u32, count: u32) -> u32 {
    const BASE: u32 = 0x7f40_0000;
    const COUNT_BITS: u32 = 12;
    BASE | (process << COUNT_BITS | count & ((1 << COUNT_BITS) - 1)) & 0x003f_ffff
}

/// A port of `ip` on which neither TCP nor UDP is bound.
///
/// # Panics
/// There is none.
pub fn free(ip: IpAddr) -> SocketAddr {
    const ATTEMPTS: usize = 100;
    (0..ATTEMPTS)
        .find_map(|_| {
            let address = TcpListener::bind((ip, 0)).ok()?.local_addr().ok()?;
            UdpSocket::bind(address).is_ok().then_some(address)
        })
        .unwrap_or_else(|| panic!("no port of {ip} is free for both TCP and UDP"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tests_of_one_process_never_share_an_address() {
        let taken: BTreeSet<u32> = (0..4096).map(|count| of(4_194_303, count)).collect();
        assert_eq!(taken.len(), 4096);
        assert!(taken.iter().all(|address| address >> 22 == 0x7f40_0000 >> 22));
        assert_ne!(of(1, 0), of(2, 0));
    }
}
