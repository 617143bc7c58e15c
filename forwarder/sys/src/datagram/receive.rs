//! Taking datagrams in, many at a time.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use super::address::{NAME_LEN, Name};
use super::control::{self, CONTROL_LEN, Control};
use super::{BATCH, Local, empty_message};

/// Room for a payload: more than a UDP length field can tell.
const PAYLOAD_LEN: usize = 64 * 1024;

/// From one payload to the next: no multiple of the cache's way, so that the first lines of all
/// payloads do not push each other out.
const STRIDE: usize = PAYLOAD_LEN + 1088;

/// Where a datagram came from, and whom it spoke to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address it was sent to; `None` without packet info.
    pub local: Option<Local>,
}

/// Room for [`BATCH`] datagrams of any size, and what was received last. It takes some 4 MiB of
/// address space; of these only the pages that datagrams were written to are resident.
pub struct Batch {
    /// [`BATCH`] payloads, [`STRIDE`] apart. Zeroed by the system when first touched.
    payloads: Box<[u8]>,
    names: Box<[Name; BATCH]>,
    controls: Box<[Control; BATCH]>,
    heads: Box<[Head; BATCH]>,
    len: usize,
}

/// What recvmmsg(2) told of one datagram.
#[derive(Debug, Default, Clone, Copy)]
struct Head {
    payload_len: usize,
    control_len: usize,
    truncated: bool,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            payloads: vec![0; BATCH * STRIDE].into_boxed_slice(),
            names: Box::new([Name::NONE; BATCH]),
            controls: Box::new([Control([0; CONTROL_LEN]); BATCH]),
            heads: Box::new([Head::default(); BATCH]),
            len: 0,
        }
    }
}

impl Batch {
    /// Receives what waits in the queue, with its sources. Fewer than [`BATCH`]: the queue was
    /// empty then, and what comes later is a new event for epoll(7).
    ///
    /// # Errors
    /// What recvmmsg(2) gives, `WouldBlock` when nothing waits. The batch is then empty.
    pub fn receive_from(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.fill(socket, true)
    }

    /// The same on a connected socket, whose datagrams have no [`Batch::source`].
    ///
    /// # Errors
    /// As [`Batch::receive_from`]; also an ICMP error about a datagram sent before.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.fill(socket, false)
    }

    fn fill(&mut self, socket: impl AsFd, with_names: bool) -> io::Result<usize> {
        self.len = 0;
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        let mut messages = [libc::mmsghdr { msg_hdr: empty_message(), msg_len: 0 }; BATCH];
        let rooms = self.payloads.chunks_exact_mut(STRIDE);
        let names = self.names.iter_mut().zip(self.controls.iter_mut());
        let headers = messages.iter_mut().zip(parts.iter_mut());
        for ((message, part), (room, (name, control))) in headers.zip(rooms.zip(names)) {
            part.iov_base = room.as_mut_ptr().cast();
            part.iov_len = PAYLOAD_LEN;
            let header = &mut message.msg_hdr;
            header.msg_iov = part;
            header.msg_iovlen = 1;
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_LEN as _;
            if with_names {
                header.msg_name = name.0.as_mut_ptr().cast();
                header.msg_namelen = NAME_LEN as libc::socklen_t;
            }
        }
        let fd = socket.as_fd().as_raw_fd();
        let room = BATCH as libc::c_uint;
        // SAFETY: recvmmsg(2) reads `room` headers, as many as there are, and writes to each what
        // recvmsg(2) does: name, control and payload, through pointers into memory of `self` that
        // lives across the call and is writable for the length beside it. No timeout is given.
        let received = unsafe {
            libc::recvmmsg(
                fd,
                messages.as_mut_ptr(),
                room,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.len = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (head, message) in self.heads.iter_mut().zip(&messages[..self.len]) {
            *head = Head {
                payload_len: (message.msg_len as usize).min(PAYLOAD_LEN),
                control_len: message.msg_hdr.msg_controllen.min(CONTROL_LEN),
                truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            };
        }
        Ok(self.len)
    }

    /// Datagrams received last.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none was received last.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The payload of a datagram; empty is a payload too.
    ///
    /// # Panics
    /// There are not so many.
    pub fn payload(&self, index: usize) -> &[u8] {
        let start = index * STRIDE;
        &self.payloads[start..start + self.heads[..self.len][index].payload_len]
    }

    /// Where a datagram came from. `None`: not from an internet address.
    ///
    /// # Panics
    /// There are not so many.
    pub fn source(&self, index: usize) -> Option<Source> {
        let peer = self.names[..self.len][index].read()?;
        let local = control::read(&self.controls[index].0[..self.heads[index].control_len]);
        Some(Source { peer, local })
    }

    /// Whether a datagram was longer than there was room for.
    ///
    /// # Panics
    /// There are not so many.
    pub fn is_truncated(&self, index: usize) -> bool {
        self.heads[..self.len][index].truncated
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len).finish_non_exhaustive()
    }
}
