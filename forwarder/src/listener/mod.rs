//! Listeners: bound once for all data threads, so that the kernel spreads clients over them.

pub(crate) mod tcp;
pub(crate) mod udp;

use std::io;
use std::net::SocketAddr;

use forwarder_core::config::{Listener, Tcp};
use schemas::vocab::{ServiceName, Transport};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::dial;
use crate::tcp_options::{self, Side};

/// Connections that may wait to be accepted, per thread; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;

/// The receive buffer asked for on UDP listeners, in bytes. A relay is one hop more in a burst's
/// way and must hold what its senders may have in flight.
const UDP_RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

/// Below this a UDP receive buffer is worth a warning, in bytes.
const UDP_RECEIVE_BUFFER_POOR: usize = 512 * 1024;

/// A listener and the address it is bound to: the same, but for port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// As configured.
    pub listener: Listener,
    /// As bound.
    pub address: SocketAddr,
}

/// One thread's socket of a listener.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) bound: Bound,
    pub(crate) socket: Socket,
}

/// Why a listener cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listener} (service {service}): {cause}; {}", self.advice())]
pub struct BindError {
    /// Whose listener it is.
    pub service: ServiceName,
    /// Which one.
    pub listener: Listener,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

impl BindError {
    fn advice(&self) -> String {
        let tool = match self.listener.transport {
            Transport::Tcp => "ss -ltnp",
            Transport::Udp => "ss -lunp",
        };
        let port = self.listener.address.port();
        match self.cause.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another program holds it: `{tool} 'sport = :{port}'` names it; stop that program or change `listen`"
            ),
            io::ErrorKind::AddrNotAvailable => {
                "no interface of this machine has that address: correct `listen`, or bring the interface up first".to_owned()
            }
            io::ErrorKind::PermissionDenied => format!(
                "port {port} needs a privilege: run with CAP_NET_BIND_SERVICE, as the systemd unit does, or use a port above 1023"
            ),
            _ => "correct `listen`".to_owned(),
        }
    }
}

/// The sockets of one listener, one for each data thread. The kernel spreads clients over all of
/// them, so the group is bound as a whole and never resized.
#[derive(Debug)]
pub(crate) struct Group {
    bound: Bound,
    sockets: Vec<Socket>,
}

impl Group {
    /// Binds the sockets of a listener.
    ///
    /// # Errors
    /// The system does not give the address.
    pub(crate) fn bind(
        listener: Listener,
        service: &ServiceName,
        threads: usize,
        tcp: &Tcp,
    ) -> Result<Self, BindError> {
        let failed = |cause| BindError { service: service.clone(), listener, cause };
        let mut address = listener.address;
        if address.port() != 0 {
            probe(listener).map_err(failed)?;
        }
        let mut sockets = Vec::with_capacity(threads);
        for _ in 0..threads {
            let socket = open(listener.transport, address, tcp).map_err(failed)?;
            address = local_address(&socket).map_err(failed)?;
            sockets.push(socket);
        }
        warn_of_a_poor_buffer(listener, &sockets);
        Ok(Self { bound: Bound { listener, address }, sockets })
    }

    /// The listener and where it is bound.
    pub(crate) fn bound(&self) -> Bound {
        self.bound
    }

    /// The next thread's socket.
    pub(crate) fn take(&mut self) -> Option<Opened> {
        self.sockets.pop().map(|socket| Opened { bound: self.bound, socket })
    }
}

/// Sockets that share an address share it with any other program of ours too: only one that does
/// not share finds out whether the address is free.
fn probe(listener: Listener) -> io::Result<()> {
    let socket = plain_socket(listener.transport, listener.address)?;
    socket.bind(&listener.address.into())?;
    match listener.transport {
        Transport::Tcp => socket.listen(1),
        Transport::Udp => Ok(()),
    }
}

fn plain_socket(transport: Transport, address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = match transport {
        Transport::Tcp => {
            let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
            // Connections of an earlier run in TIME_WAIT must not keep us from starting.
            socket.set_reuse_address(true)?;
            socket
        }
        Transport::Udp => Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?,
    };
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn open(transport: Transport, address: SocketAddr, tcp: &Tcp) -> io::Result<Socket> {
    let socket = plain_socket(transport, address)?;
    socket.set_reuse_port(true)?;
    match transport {
        Transport::Tcp => {
            // Accepted sockets inherit all of them, which saves their system calls.
            socket.set_tcp_nodelay(true)?;
            tcp_options::apply(&SockRef::from(&socket), Side::Client, tcp)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
        }
        Transport::Udp => {
            // A socket with one address needs no telling which one was spoken to.
            if address.ip().is_unspecified() {
                forwarder_sys::option::enable_packet_info(&socket, address.ip())?;
            }
            forwarder_sys::option::allow_fragments(&socket, address.ip())?;
            dial::enlarge_receive_buffer(&socket, UDP_RECEIVE_BUFFER)?;
            socket.bind(&address.into())?;
        }
    }
    Ok(socket)
}

fn warn_of_a_poor_buffer(listener: Listener, sockets: &[Socket]) {
    let Some(Ok(bytes)) = sockets.first().map(Socket::recv_buffer_size) else { return };
    if listener.transport == Transport::Udp && bytes < UDP_RECEIVE_BUFFER_POOR {
        tracing::warn!(
            listener = %listener.address,
            bytes,
            "the UDP receive buffer is small, bursts may be lost: raise net.core.rmem_max to {UDP_RECEIVE_BUFFER}"
        );
    }
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
}
