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
/// The kernel would otherwise set DF and refuse what it believes too large (`EMSGSIZE`), and neither
/// peer would hear of it: each believes its own way to be whole. Runs of datagrams are never
/// fragmented; a segment that is too large for the way is refused, and its sender has to send one by
/// one.
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

/// Lets bind(2) with port 0 leave the port open until connect(2) (ip(7) `IP_BIND_ADDRESS_NO_PORT`,
/// Linux 4.2), for IPv6 sockets too: the kernel then needs a port that is free towards that one
/// target, not one that is free altogether.
///
/// # Errors
/// What setsockopt(2) gives.
pub fn choose_port_when_connecting(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Asks for a receive buffer of `bytes` beyond the system's limit, which takes `CAP_NET_ADMIN`.
///
/// # Errors
/// What setsockopt(2) gives; `EPERM` without the capability.
pub fn force_receive_buffer(socket: impl AsFd, bytes: c_int) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
}

/// How many datagrams the queue has dropped since the socket was opened, modulo 2^32
/// (`SO_MEMINFO`, Linux 4.12).
///
/// # Errors
/// What getsockopt(2) gives.
pub fn drops(socket: impl AsFd) -> io::Result<u32> {
    /// The members of `SO_MEMINFO` up to the one that counts drops.
    const MEMBERS: usize = libc::SK_MEMINFO_DROPS as usize + 1;
    let mut members = [0_u32; MEMBERS];
    let filled = get(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut members)?;
    if filled < size_of_val(&members) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(members[MEMBERS - 1])
}

/// The size into which the socket cuts what it sends unless a message says otherwise (udp(7)
/// `UDP_SEGMENT`), 0 for not at all.
///
/// # Errors
/// What getsockopt(2) gives; `ENOPROTOOPT` from a kernel that cannot do it.
pub fn segment_size(socket: impl AsFd) -> io::Result<u32> {
    let mut size = [0_u32];
    get(socket, libc::SOL_UDP, libc::UDP_SEGMENT, &mut size)?;
    Ok(size[0])
}

/// Reads an option into `values`; gives the bytes that the kernel filled.
fn get(socket: impl AsFd, level: c_int, name: c_int, values: &mut [u32]) -> io::Result<usize> {
    let fd = socket.as_fd().as_raw_fd();
    let mut len = size_of_val(values) as socklen_t;
    let start = values.as_mut_ptr().cast::<c_void>();
    // SAFETY: `fd` is open while `socket` is borrowed; getsockopt(2) writes at most the `len` bytes
    // that `values` has, any bytes are valid numbers, and it stores in `len` how many it wrote.
    let done = unsafe { libc::getsockopt(fd, level, name, start, &raw mut len) };
    if done == 0 { Ok(len as usize) } else { Err(io::Error::last_os_error()) }
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
