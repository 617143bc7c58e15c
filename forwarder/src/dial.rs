//! Reaching targets: what their names mean, connecting, options of outgoing sockets.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use forwarder_core::config::Tcp;
use forwarder_core::session::DialFailure;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::names::Names;
use crate::relay::watch;
use crate::tcp_options::{self, Side};

/// Addresses of one name that are tried.
pub(crate) const MAX_ADDRESSES: usize = 8;

/// Among many targets or addresses each is waited for at least so long: a target must not be found
/// failing because there are many others.
const SHORTEST_TRY: Duration = Duration::from_secs(1);

/// The receive buffer asked for on sockets to UDP targets, in bytes: room for a burst of replies.
/// The kernel takes memory only for what waits to be read.
const UDP_RECEIVE_BUFFER: usize = 1024 * 1024;

/// What a socket to a UDP target is watched for: replies, and ICMP errors, which alone do not make it
/// readable.
pub(crate) const ANSWERS: Interest = Interest::READABLE.add(Interest::ERROR);

/// The moment `wait` from now; `None`, never, for a wait of zero.
pub(crate) fn deadline(wait: Duration) -> Option<Instant> {
    if wait.is_zero() { None } else { Instant::now().checked_add(wait) }
}

/// The addresses of a host that is followed, at most [`MAX_ADDRESSES`]; at once, unless nothing is
/// known of it yet.
///
/// # Errors
/// [`DialFailure::Resolve`]: the name has no address, or none is known in time.
pub(crate) async fn resolve(
    names: &Names,
    host: &str,
    port: u16,
    deadline: Option<Instant>,
) -> Result<Vec<SocketAddr>, DialFailure> {
    let found = names.wait_for(host, deadline).await.ok_or(DialFailure::Resolve)?;
    let addresses = found.iter().take(MAX_ADDRESSES).map(|ip| SocketAddr::new(*ip, port));
    let addresses: Vec<_> = addresses.collect();
    if addresses.is_empty() { Err(DialFailure::Resolve) } else { Ok(addresses) }
}

/// Connects to a target's address, from `source` if one is given, with the congestion control that
/// `[tcp]` says. Its other options are left for later: a short session does without.
///
/// # Errors
/// Why it could not be reached.
pub(crate) async fn tcp(
    target: SocketAddr,
    source: Option<IpAddr>,
    options: &Tcp,
) -> Result<TcpStream, DialFailure> {
    let stream = begin_tcp(target, source, options).map_err(|error| failure(&error))?;
    connected(&stream).await.map_err(|error| failure(&error))?;
    Ok(stream)
}

/// Waits until a connect has succeeded.
async fn connected(stream: &TcpStream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_write_ready(cx)).await?;
    // The runtime knows of an error without asking the kernel; only which one has to be asked.
    if stream.try_io(Interest::ERROR, || Ok(())).is_ok()
        && let Some(error) = stream.take_error()?
    {
        return Err(error);
    }
    Ok(())
}

fn begin_tcp(target: SocketAddr, source: Option<IpAddr>, options: &Tcp) -> io::Result<TcpStream> {
    let socket = tcp_socket(target)?;
    tcp_options::choose_congestion(&SockRef::from(&socket), Side::Target, options)?;
    begin_connect(socket, target, source)
}

/// Finds out whether a target's address takes connections, and gives the connection up at once: by a
/// reset, sent before the last part of the handshake, which the kernel is asked to hold back. So the
/// target's program does not see it, and its port is not in TIME_WAIT.
///
/// # Errors
/// What the system says.
pub(crate) async fn probe(target: SocketAddr, source: Option<IpAddr>) -> io::Result<()> {
    let socket = tcp_socket(target)?;
    rustix::net::sockopt::set_tcp_quickack(&socket, false)?;
    let stream = begin_connect(socket, target, source)?;
    stream.set_zero_linger()?;
    connected(&stream).await
}

fn tcp_socket(target: SocketAddr) -> io::Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

fn begin_connect(
    socket: OwnedFd,
    target: SocketAddr,
    source: Option<IpAddr>,
) -> io::Result<TcpStream> {
    if let Some(source) = source {
        // A port is taken when the target is known: so each target has all of them.
        forwarder_sys::option::choose_port_when_connecting(&socket)?;
        rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
    }
    match connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => TcpStream::from_std(socket.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// A socket that talks to a target's address alone, so that ICMP errors reach it; from `source` if
/// one is given.
///
/// # Errors
/// Why the target cannot be reached.
pub(crate) fn udp(
    target: SocketAddr,
    source: Option<IpAddr>,
) -> Result<AsyncFd<Socket>, DialFailure> {
    let connect = || watch(udp_connected(target, source)?, ANSWERS);
    connect().map_err(|error| failure(&error))
}

/// A socket that takes datagrams from anyone. Its address is the one that the target sees. The
/// kernel does not tell it of ICMP errors, since it does not know to whom it talks.
///
/// # Errors
/// Why the target cannot be reached.
pub(crate) fn udp_from_anyone(
    target: SocketAddr,
    source: Option<IpAddr>,
) -> Result<AsyncFd<Socket>, DialFailure> {
    let bind = || -> io::Result<AsyncFd<Socket>> {
        // What routes say about the way to the target is found out by another socket.
        let own = udp_connected(target, source)?.local_addr()?.as_socket();
        let mut own = own.ok_or(Errno::AFNOSUPPORT)?;
        own.set_port(0);
        let socket = udp_socket(target)?;
        socket.bind(&own.into())?;
        watch(socket, ANSWERS)
    };
    bind().map_err(|error| failure(&error))
}

fn udp_connected(target: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let socket = udp_socket(target)?;
    if let Some(source) = source {
        forwarder_sys::option::choose_port_when_connecting(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect(&target.into())?;
    Ok(socket)
}

fn udp_socket(target: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking();
    let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::UDP))?;
    forwarder_sys::option::allow_fragments(&socket, target.ip())?;
    enlarge_receive_buffer(&socket, UDP_RECEIVE_BUFFER)?;
    Ok(socket)
}

/// Asks for room to receive. Beyond the system's limit only a privileged process may go; others get
/// the limit.
///
/// # Errors
/// What setsockopt(2) gives.
pub(crate) fn enlarge_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    let exact = i32::try_from(bytes).unwrap_or(i32::MAX);
    forwarder_sys::option::force_receive_buffer(socket, exact)
        .or_else(|_| socket.set_recv_buffer_size(bytes))
}

/// Whether an address is this machine's own: only such an address can be bound.
pub(crate) fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// The part of the time until `deadline` that the next of `left` tries may take: no less than
/// [`SHORTEST_TRY`], while there is time.
pub(crate) fn share(deadline: Option<Instant>, left: usize) -> Option<Instant> {
    if left <= 1 {
        return deadline;
    }
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    deadline.map(|deadline| {
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / left;
        (now + share.max(SHORTEST_TRY)).min(deadline)
    })
}

fn failure(error: &io::Error) -> DialFailure {
    DialFailure::from_errno(error.raw_os_error().unwrap_or(0))
}
