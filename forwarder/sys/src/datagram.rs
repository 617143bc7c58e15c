//! Datagrams together with the local address they came to or leave from.
//!
//! A client that spoke to one address of a machine with many must be answered from that address;
//! on a socket bound to a wildcard only a control message tells which one it was.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_void};
use socket2::{SockAddr, SockAddrStorage};

/// Room for one packet-info control message of either family.
const CONTROL_LEN: usize = 64;

/// cmsg(3): control buffers are aligned for their headers.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// Our end of a datagram's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    /// Our address.
    pub ip: IpAddr,
    /// The interface, 0 where the address alone says enough (anything but IPv6 link-local).
    pub interface: u32,
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its length in bytes; a zero is a datagram too.
    pub len: usize,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address it was sent to; `None` without packet info.
    pub local: Option<Local>,
    /// The datagram was longer than the buffer.
    pub truncated: bool,
}

/// Receives one datagram. The socket must be non-blocking or have one waiting.
///
/// # Errors
/// What recvmsg(2) gives; a sender's address of another family is `InvalidData`.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; CONTROL_LEN]);
    let mut peer = SockAddrStorage::zeroed();
    let peer_len = peer.size_of();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = empty_message();
    message.msg_name = std::ptr::from_mut(&mut peer).cast();
    message.msg_namelen = peer_len;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_LEN;
    // SAFETY: every pointer in `message` describes memory that lives across the call and is
    // writable for the length given beside it: recvmsg(2) writes name, payload and control there.
    let len = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, 0) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: recvmsg(2) succeeded, so the kernel wrote an address of `msg_namelen` bytes.
    let peer = unsafe { SockAddr::new(peer, message.msg_namelen) };
    let peer = peer.as_socket().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "a datagram came without an internet address")
    })?;
    Ok(Received {
        len,
        peer,
        local: packet_info(&message),
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
    })
}

/// Sends one datagram to `peer`, from `local` where given.
///
/// # Errors
/// What sendmsg(2) gives.
pub fn send(
    socket: impl AsFd,
    payload: &[u8],
    peer: SocketAddr,
    local: Option<Local>,
) -> io::Result<usize> {
    let mut control = Control([0; CONTROL_LEN]);
    let peer = SockAddr::from(peer);
    // sendmsg(2) only reads through these pointers, though their types say `*mut`.
    let mut part =
        libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let mut message = empty_message();
    message.msg_name = peer.as_ptr().cast_mut().cast();
    message.msg_namelen = peer.len();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(local) = local {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN;
        put_source(&mut message, local);
    }
    // SAFETY: every pointer in `message` describes memory that lives across the call and is
    // initialised for the length given beside it.
    let sent = unsafe {
        libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn empty_message() -> libc::msghdr {
    let message = MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: msghdr is plain data for which zero bytes are valid: null pointers, zero lengths.
    unsafe { message.assume_init() }
}

/// The local address among the control messages of a received `message`.
fn packet_info(message: &libc::msghdr) -> Option<Local> {
    // SAFETY: recvmsg(2) filled in `message`; CMSG_FIRSTHDR gives null or a whole header in it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a whole header inside the control buffer.
        let kind = unsafe { header.read() };
        match (kind.cmsg_level, kind.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info: libc::in_pktinfo = data(header);
                let ip = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                return Some(Local { ip: ip.into(), interface: 0 });
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info: libc::in6_pktinfo = data(header);
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                let interface = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
                return Some(Local { ip: ip.into(), interface });
            }
            _ => {}
        }
        // SAFETY: `header` is a header of `message`; the result is null or the next one in it.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// The payload of a control message that carries a `T`; the caller has checked its type.
fn data<T: Copy>(header: *const libc::cmsghdr) -> T {
    // SAFETY: CMSG_DATA only computes the address behind the header.
    let payload = unsafe { libc::CMSG_DATA(header) }.cast::<T>();
    // SAFETY: level and type say that the kernel put a `T` of plain data here; it may be unaligned.
    unsafe { payload.read_unaligned() }
}

/// Writes the control message that names `local` as the source into the control buffer of
/// `message`, and sets its length.
fn put_source(message: &mut libc::msghdr, local: Local) {
    match local.ip {
        IpAddr::V4(ip) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put(message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(ip) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                ipi6_ifindex: local.interface,
            };
            put(message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

fn put<T: Copy>(message: &mut libc::msghdr, level: c_int, kind: c_int, value: T) {
    const { assert!(size_of::<T>() + size_of::<libc::cmsghdr>() + 8 <= CONTROL_LEN) };
    let size = size_of::<T>() as u32;
    // SAFETY: CMSG_SPACE only computes a length.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as usize;
    // SAFETY: the control buffer holds CONTROL_LEN bytes, more than the header and `T` together.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    let filled = libc::cmsghdr {
        // SAFETY: CMSG_LEN only computes a length.
        cmsg_len: unsafe { libc::CMSG_LEN(size) } as usize,
        cmsg_level: level,
        cmsg_type: kind,
    };
    // SAFETY: `header` points to the aligned start of the control buffer.
    unsafe { header.write(filled) };
    // SAFETY: CMSG_DATA only computes the address behind the header.
    let payload: *mut c_void = unsafe { libc::CMSG_DATA(header) }.cast();
    // SAFETY: the buffer has room for a `T` behind the header, as asserted above.
    unsafe { payload.cast::<T>().write_unaligned(value) };
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::option::enable_packet_info;

    fn answered_from(bind: &str, spoken_to: &[&str]) {
        let relay = UdpSocket::bind((bind, 0)).unwrap();
        let address = relay.local_addr().unwrap();
        enable_packet_info(&relay, address.ip()).unwrap();
        for to in spoken_to {
            let to = SocketAddr::new(to.parse().unwrap(), address.port());
            let client = UdpSocket::bind((to.ip(), 0)).unwrap();
            client.connect(to).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 64];
            let got = receive(&relay, &mut buffer).unwrap();
            assert_eq!((got.len, got.truncated), (8, false));
            assert_eq!(got.peer, client.local_addr().unwrap());
            assert_eq!(got.local.unwrap().ip, to.ip());
            send(&relay, b"answer", got.peer, got.local).unwrap();
            // A connected socket only hears the address it spoke to.
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        }
    }

    #[test]
    fn a_client_is_answered_from_the_ipv4_address_it_spoke_to() {
        answered_from("0.0.0.0", &["127.0.0.2", "127.0.0.3"]);
    }

    #[test]
    fn a_client_is_answered_from_the_ipv6_address_it_spoke_to() {
        answered_from("::", &["::1"]);
    }

    #[test]
    fn an_empty_datagram_is_a_datagram() {
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(relay.local_addr().unwrap()).unwrap();
        client.send(b"").unwrap();
        let got = receive(&relay, &mut [0; 8]).unwrap();
        assert_eq!((got.len, got.local), (0, None));
        send(&relay, b"", got.peer, None).unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn a_buffer_that_is_too_small_is_told() {
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"0123456789", relay.local_addr().unwrap()).unwrap();
        assert!(receive(&relay, &mut [0; 4]).unwrap().truncated);
    }
}
