//! Which clients a rule is about, as the file says it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use schemas::vocab::CustomerName;

/// One entry of `from` or `not_from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A network or an address.
    Network(IpNet),
    /// A host name, in lower case: the client has one of its addresses (forward lookup).
    Name(String),
    /// A domain, in lower case and without the dot in front: the client's confirmed name (reverse
    /// lookup) is this or ends in a dot and this.
    Domain(String),
    /// The client has one of this network interface's own addresses.
    Interface(String),
    /// The networks of a file, `@` and its path in the configuration.
    File(NetworkFile),
}

/// A file of networks, read when the configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFile {
    /// As the configuration names it.
    pub path: PathBuf,
    /// What it holds.
    pub networks: Arc<[IpNet]>,
}

impl fmt::Display for Origin {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Network(net) => net.fmt(f),
            Self::Name(name) | Self::Interface(name) => f.write_str(name),
            Self::Domain(domain) => write!(f, ".{domain}"),
            Self::File(file) => write!(f, "@{}", file.path.display()),
        }
    }
}

/// One entry of `server_name`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerName {
    /// This name.
    Exact(String),
    /// `*.example.com`: any name below `example.com`, of any depth, and not itself.
    Below(String),
}

impl ServerName {
    /// Whether it means `name`, which must be in lower case and without a dot at its end.
    pub fn means(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(domain) => name
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| !rest.is_empty()),
        }
    }
}

impl fmt::Display for ServerName {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// What a rule does with a client when a name that it asks for is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownName {
    /// It takes the client for a match: the default of a rule that blocks.
    Match,
    /// It leaves the client to the next rule: the default of a rule that passes.
    Skip,
}

impl fmt::Display for UnknownName {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Match => "match",
            Self::Skip => "skip",
        })
    }
}

/// What a refused TCP client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refuse {
    /// A reset.
    #[default]
    Reset,
    /// An orderly close.
    Close,
}

impl fmt::Display for Refuse {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "reset",
            Self::Close => "close",
        })
    }
}

/// Who is billed for a rule's sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Customer {
    /// Always this one.
    Fixed(CustomerName),
    /// Whoever a file of networks names for the client, by the longest prefix; nobody, if none does.
    ByNetwork(CustomerFile),
}

impl fmt::Display for Customer {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(name) => name.fmt(f),
            Self::ByNetwork(file) => write!(f, "@{}", file.path.display()),
        }
    }
}

/// A file of networks and customers, read when the configuration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerFile {
    /// As the configuration names it.
    pub path: PathBuf,
    /// What it holds, no network twice.
    pub networks: Arc<[(IpNet, CustomerName)]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_labels_but_not_for_none() {
        let below = ServerName::Below("example.com".to_owned());
        for (name, expected) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("badexample.com", false),
        ] {
            assert_eq!(below.means(name), expected, "{name}");
        }
    }
}
