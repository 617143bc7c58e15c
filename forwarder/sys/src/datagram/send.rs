//! Handing datagrams out, many at a time.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::address::Name;
use super::control::Writer;
use super::{BATCH, Local, empty_message};

/// The most payload that one message carries, in bytes: what fits an IPv4 packet behind its header.
pub const LARGEST_RUN: usize = 65_507;

/// One message to the kernel: a datagram, or a run of them.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// One part per datagram: one, or at most [`BATCH`] with at most [`LARGEST_RUN`] bytes in all.
    pub datagrams: &'a [IoSlice<'a>],
    /// The size of each datagram of a run; only the last may be smaller, and none may be empty.
    /// `None`: the parts together are one datagram.
    pub segment: Option<u16>,
}

/// Where messages go, in the kernel's form.
#[derive(Debug, Clone, Copy)]
pub struct Destination {
    name: Name,
    name_len: usize,
    control: Writer,
}

impl Destination {
    /// The peer of a connected socket.
    pub const fn connected() -> Self {
        Self { name: Name::NONE, name_len: 0, control: Writer::new() }
    }

    /// A peer, to be reached from the local address it spoke to, where that is known.
    pub fn new(peer: SocketAddr, local: Option<Local>) -> Self {
        let (name, name_len) = Name::write(peer);
        let mut control = Writer::new();
        if let Some(local) = local {
            control.source(local);
        }
        Self { name, name_len, control }
    }
}

/// Sends messages in order, at most [`BATCH`] of them. Gives how many the kernel took, at least
/// one; a run it takes as a whole or not at all. If there are more, the next one has failed:
/// another call that begins with it tells why.
///
/// # Errors
/// What sendmsg(2) gives for the first message. Of a run also `EMSGSIZE`: a segment is larger than
/// the way carries in one piece; `EINVAL`, `EIO`: the way cannot cut runs apart.
pub fn send(
    socket: impl AsFd,
    destination: &Destination,
    messages: &[Message<'_>],
) -> io::Result<usize> {
    let socket = socket.as_fd();
    // Most calls send one message; headers for many would cost them more than the message does.
    match messages {
        [_] => send_at_most::<1>(socket, destination, messages),
        _ => send_at_most::<BATCH>(socket, destination, messages),
    }
}

fn send_at_most<const N: usize>(
    socket: BorrowedFd<'_>,
    destination: &Destination,
    messages: &[Message<'_>],
) -> io::Result<usize> {
    let mut headers = [libc::mmsghdr { msg_hdr: empty_message(), msg_len: 0 }; N];
    let mut controls = [destination.control; N];
    let count = messages.len().min(N);
    for ((message, header), control) in messages.iter().zip(&mut headers).zip(&mut controls) {
        let header = &mut header.msg_hdr;
        // sendmmsg(2) only reads through these pointers, though their types say `*mut`. An
        // IoSlice is laid out as an iovec, which the standard library guarantees.
        header.msg_iov = message.datagrams.as_ptr().cast_mut().cast();
        header.msg_iovlen = message.datagrams.len() as _;
        if destination.name_len > 0 {
            header.msg_name = destination.name.0.as_ptr().cast_mut().cast();
            header.msg_namelen = destination.name_len as libc::socklen_t;
        }
        if let Some(bytes) = message.segment {
            control.segment(bytes);
        }
        if control.len > 0 {
            header.msg_control = control.control.0.as_mut_ptr().cast();
            header.msg_controllen = control.len as _;
        }
    }
    let fd = socket.as_raw_fd();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: sendmmsg(2) reads the first `count` headers, which were filled in above, and what
    // they point to: name, control and payload, each initialised for the length beside it and alive
    // across the call. It writes `msg_len` of the headers, which are ours.
    let sent =
        unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count as libc::c_uint, flags as _) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
