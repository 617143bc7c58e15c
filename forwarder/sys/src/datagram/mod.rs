//! Datagrams in batches, together with the addresses they came from and went to.
//!
//! A client that spoke to one address of a machine with many must be answered from that address;
//! on a socket bound to a wildcard only a control message tells which one it was. One system call
//! takes up to [`BATCH`] datagrams in ([`Batch`]), one hands up to as many messages out ([`send`]),
//! and a message may be a run of datagrams that the kernel, or the network card, cuts apart.

mod address;
mod control;
mod receive;
mod send;

pub use receive::{Batch, Source};
pub use send::{Destination, LARGEST_RUN, Message, send};

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;

use socket2::{Domain, Socket, Type};

/// Datagrams that one call receives at most, messages that one call sends, and datagrams that one
/// message carries (udp(7): a run has at most 64 segments).
pub const BATCH: usize = 64;

/// Our end of a datagram's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Local {
    /// Our address.
    pub ip: IpAddr,
    /// The interface, 0 where the address alone says enough (anything but IPv6 link-local).
    pub interface: u32,
}

/// Whether this kernel cuts runs of datagrams apart (`UDP_SEGMENT`, Linux 4.18). An older one
/// would ignore the request and send a run as one datagram.
pub fn can_segment() -> bool {
    let probe = || -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        crate::option::segment_size(&socket).map(drop)
    };
    probe().is_ok()
}

impl Local {
    /// An address that says enough.
    pub const fn new(ip: IpAddr) -> Self {
        Self { ip, interface: 0 }
    }
}

/// A header that names, carries and holds nothing.
fn empty_message() -> libc::msghdr {
    let message = MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: msghdr is plain data for which zero bytes are valid: null pointers, zero lengths.
    unsafe { message.assume_init() }
}

#[cfg(test)]
mod tests;
