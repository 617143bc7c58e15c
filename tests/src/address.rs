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
    let [.., high, low] = process::id().to_be_bytes();
    let [.., count] = TAKEN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 64 | high & 0x3f, low, count).into()
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
