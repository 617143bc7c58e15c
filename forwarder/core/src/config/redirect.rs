//! Where sessions go, and how they get there.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

/// Whom we dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Which machine.
    pub host: Host,
    /// Which port of it; `None`: the one that the client came to.
    pub port: Option<u16>,
}

/// A machine, by address or by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A host name, in lower case.
    Name(String),
}

impl fmt::Display for Target {
    /// As the file has it: `10.0.0.5:80`, or `10.0.0.5` without a port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Address(address), Some(port)) => SocketAddr::new(*address, port).fmt(f),
            (Host::Address(address), None) => address.fmt(f),
            (Host::Name(name), Some(port)) => write!(f, "{name}:{port}"),
            (Host::Name(name), None) => f.write_str(name),
        }
    }
}

/// Which of several targets a session tries first; the others follow if it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// The next one for each session.
    #[default]
    RoundRobin,
    /// The one with the fewest sessions of ours.
    LeastSessions,
    /// The same one for the same client address, for as long as it is up.
    SourceHash,
    /// The first in the list that is up.
    FirstAvailable,
}

impl fmt::Display for Balance {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "round-robin",
            Self::LeastSessions => "least-sessions",
            Self::SourceHash => "source-hash",
            Self::FirstAvailable => "first-available",
        })
    }
}

/// How targets are looked after besides by the sessions that go there: a TCP connection now and
/// then, closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// How often, never zero.
    pub every: Duration,
    /// How long a connect may take, never zero, at most `every`.
    pub timeout: Duration,
    /// Checks in a row that must succeed before a target that is down is up, at least 1.
    pub rise: u32,
    /// Checks in a row that must fail before a target that is up is down, at least 1.
    pub fall: u32,
}

/// Which address of ours a target sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The kernel's choice.
    #[default]
    Kernel,
    /// The address that the client connected to.
    Same,
    /// This one.
    Address(IpAddr),
}

impl fmt::Display for Source {
    /// As the file has it; the kernel's choice has no word there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("the kernel's choice"),
            Self::Same => f.write_str("same"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A version of the PROXY protocol (haproxy.org, proxy-protocol.txt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

impl fmt::Display for ProxyVersion {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// Who may tell us by a PROXY header for whom it speaks. Such a peer must send one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyAccept {
    /// The only version to take; `None`: either.
    pub version: Option<ProxyVersion>,
    /// Peers whose word is taken, at least one network. Others are clients themselves.
    pub trusted: Vec<IpNet>,
}

/// Whether a rule's targets are told who the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxySend {
    /// As the service says.
    #[default]
    AsService,
    /// They are not.
    Off,
    /// By a header of this version.
    On(ProxyVersion),
}

/// Whose datagrams a UDP client gets as replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UdpReplies {
    /// The target's alone.
    #[default]
    Target,
    /// Anyone's who sends to the association's socket.
    Any,
}

impl fmt::Display for UdpReplies {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Target => "target",
            Self::Any => "any",
        })
    }
}
