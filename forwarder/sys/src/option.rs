//! Socket options that no crate offers safely.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_void, socklen_t};

/// Makes received datagrams carry the local address they were sent to (ip(7) `IP_PKTINFO`, ipv6(7)
/// `IPV6_RECVPKTINFO`). `family`: any address of the socket's family.
///
/// # Errors
/// What setsockopt(2) gives.
pub fn enable_packet_info(socket: impl AsFd, family: IpAddr) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        IpAddr::V6(_) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Lets the kernel, and for IPv4 the routers too, fragment datagrams that are larger than the path
/// carries: a relay must not lose what its client's network could deliver.
///
/// # Errors
/// What setsockopt(2) gives.
pub fn allow_fragments(socket: impl AsFd, family: IpAddr) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => {
            set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
        }
        IpAddr::V6(_) => {
            set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
        }
    }
}

/// Asks for a receive buffer of `bytes` beyond the system's limit, which takes `CAP_NET_ADMIN`.
///
/// # Errors
/// What setsockopt(2) gives; `EPERM` without the capability.
pub fn force_receive_buffer(socket: impl AsFd, bytes: c_int) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
}

fn set(socket: impl AsFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let len = size_of::<c_int>() as socklen_t;
    // SAFETY: `fd` is open while `socket` is borrowed; the pointer and length describe a c_int
    // that lives across the call, which only reads it.
    let done = unsafe {
        libc::setsockopt(fd, level, name, std::ptr::from_ref(&value).cast::<c_void>(), len)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
