//! Options of relayed connections: what the kernel offers, and what `[tcp]` sets.
//!
//! An accepted connection inherits them from its listener. Whatever the system has by itself is not
//! set: each option is a system call for each connection to a target.

use std::fs;
use std::io;

use forwarder_core::config::{CongestionControl, CongestionOffer, Keepalive, Tcp};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// The congestion controls that the kernel has loaded, by name.
const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
/// Those that any process may choose.
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
/// The largest pipe that an unprivileged process gets, in bytes.
const PIPE_MAX: &str = "/proc/sys/fs/pipe-max-size";

/// Which side of a session a connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Target,
}

/// Sets what `[tcp]` says about connections to one side.
///
/// # Errors
/// What setsockopt(2) gives.
pub(crate) fn apply(socket: &Socket, side: Side, tcp: &Tcp) -> io::Result<()> {
    choose_congestion(socket, side, tcp)?;
    find_the_dead(socket, tcp)
}

/// Sets how a connection to one side is paced, which counts from its first segment on.
///
/// # Errors
/// What setsockopt(2) gives.
pub(crate) fn choose_congestion(socket: &Socket, side: Side, tcp: &Tcp) -> io::Result<()> {
    let congestion = match side {
        Side::Client => &tcp.congestion_client,
        Side::Target => &tcp.congestion_target,
    };
    match congestion {
        Some(congestion) => set_congestion(socket, congestion.as_str()),
        None => Ok(()),
    }
}

/// Sets how long a peer may give no sign of life. No haste: it is counted in seconds.
///
/// # Errors
/// What setsockopt(2) gives.
pub(crate) fn find_the_dead(socket: &Socket, tcp: &Tcp) -> io::Result<()> {
    if tcp.keepalive.is_on() {
        socket.set_tcp_keepalive(&probes(tcp.keepalive))?;
    }
    if !tcp.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(tcp.user_timeout))?;
    }
    Ok(())
}

/// Sets on a listener what another `[tcp]` than the one it was opened with says.
///
/// # Errors
/// What setsockopt(2) gives.
pub(crate) fn change(listener: &Socket, old: &Tcp, new: &Tcp) -> io::Result<()> {
    if old.congestion_client.is_some() && new.congestion_client.is_none() {
        set_congestion(listener, &default_congestion()?)?;
    }
    if !new.keepalive.is_on() {
        listener.set_keepalive(false)?;
    }
    if new.user_timeout.is_zero() {
        listener.set_tcp_user_timeout(None)?;
    }
    apply(listener, Side::Client, new)
}

fn set_congestion(socket: &Socket, name: &str) -> io::Result<()> {
    rustix::net::sockopt::set_tcp_congestion(socket, name).map_err(io::Error::from)
}

fn probes(keepalive: Keepalive) -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(keepalive.after)
        .with_interval(keepalive.interval())
        .with_retries(keepalive.probes())
}

/// What a new socket has.
fn default_congestion() -> io::Result<String> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    Ok(rustix::net::sockopt::tcp_congestion(&socket)?)
}

/// The congestion controls that the kernel has, each tried on a socket: whether it takes a
/// privilege depends on who we are. None: the system does not tell.
pub(crate) fn congestion_controls() -> Vec<CongestionOffer> {
    let names = fs::read_to_string(AVAILABLE).unwrap_or_default();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
    let Ok(socket) = socket else { return Vec::new() };
    let may_use = |name: &str| set_congestion(&socket, name).is_ok();
    let offer = |name: &str| CongestionOffer { name: name.to_owned(), may_use: may_use(name) };
    names.split_whitespace().map(offer).collect()
}

/// What this user gets of `[tcp]` and another one, or this machine after a restart, might not.
pub(crate) fn warnings(tcp: &Tcp) -> Vec<String> {
    let allowed = fs::read_to_string(ALLOWED).unwrap_or_default();
    let privileged = |name: &&CongestionControl| {
        !allowed.is_empty() && !allowed.split_whitespace().any(|one| one == name.as_str())
    };
    let keys = [
        ("congestion_client", &tcp.congestion_client),
        ("congestion_target", &tcp.congestion_target),
    ];
    let mut warnings: Vec<String> = keys
        .into_iter()
        .filter_map(|(key, name)| Some((key, name.as_ref().filter(privileged)?)))
        .map(|(key, name)| {
            format!(
                "tcp.{key}: {name} takes CAP_NET_ADMIN, which the systemd unit does not give; \
                 sysctl net.ipv4.tcp_allowed_congestion_control=\"{} {name}\" lets everyone use it",
                allowed.trim()
            )
        })
        .collect();
    let pipe_max = fs::read_to_string(PIPE_MAX).ok().and_then(|text| text.trim().parse().ok());
    if let Some(most) = pipe_max.filter(|most: &usize| *most < tcp.pipe_bytes) {
        warnings.push(format!(
            "tcp.pipe: an unprivileged process gets pipes of {most} bytes at most; raise \
             fs.pipe-max-size to {} or lower tcp.pipe",
            tcp.pipe_bytes
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use socket2::SockRef;

    use super::*;

    fn tcp(keepalive_s: u64, user_timeout_s: u64, congestion: Option<&str>) -> Tcp {
        let key = congestion.map(|name| format!("congestion_client = {name:?}\n"));
        let source = format!(
            "[tcp]\nkeepalive = \"{keepalive_s}s\"\nuser_timeout = \"{user_timeout_s}s\"\n{}\
             [[service]]\nname = \"a\"\nlisten = [\"127.0.0.1:1\"]\ntarget = [\"127.0.0.1:2\"]\n",
            key.unwrap_or_default()
        );
        let environment = crate::load::environment();
        forwarder_core::config::Config::parse(&source, "f", &environment)
            .unwrap_or_else(|faults| panic!("{faults}"))
            .tcp
    }

    /// What a client's connection, accepted from the listener, has.
    fn accepted(listener: &TcpListener) -> (bool, Duration, Duration, Option<Duration>, String) {
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        (
            socket.keepalive().unwrap(),
            socket.tcp_keepalive_time().unwrap(),
            socket.tcp_keepalive_interval().unwrap(),
            socket.tcp_user_timeout().unwrap(),
            rustix::net::sockopt::tcp_congestion(&accepted).unwrap(),
        )
    }

    #[test]
    fn an_accepted_connection_has_what_its_listener_was_told_last() {
        let secs = Duration::from_secs;
        let usable = congestion_controls().into_iter().filter(|offer| offer.may_use);
        let default = default_congestion().unwrap();
        let other = usable.map(|offer| offer.name).find(|name| *name != default);
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let first = tcp(40, 30, other.as_deref());
        apply(&SockRef::from(&listener), Side::Client, &first).unwrap();
        let expected = other.unwrap_or_else(|| default.clone());
        assert_eq!(accepted(&listener), (true, secs(40), secs(10), Some(secs(30)), expected));

        let second = tcp(0, 0, None);
        change(&SockRef::from(&listener), &first, &second).unwrap();
        let (on, _, _, timeout, congestion) = accepted(&listener);
        assert_eq!((on, timeout, congestion), (false, None, default));

        change(&SockRef::from(&listener), &second, &tcp(60, 0, None)).unwrap();
        let (on, after, interval, ..) = accepted(&listener);
        assert_eq!((on, after, interval), (true, secs(60), secs(15)));
    }

    #[test]
    fn the_kernel_offers_the_congestion_control_it_uses() {
        let default = default_congestion().unwrap();
        let offers = congestion_controls();
        assert!(offers.iter().any(|offer| offer.name == default && offer.may_use), "{offers:?}");
    }
}
