//! Addresses as people write them: listeners, targets, networks and socket paths.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use schemas::vocab::Transport;

use super::raw::interface;
use super::{Host, InterfaceListener, Listener, Source, Target};
use schemas::config::Refusal;

/// Longest path of a Unix socket: `sun_path` less its closing zero.
const MAX_SOCKET_PATH: usize = 107;

/// Most ports of a range.
const MAX_PORTS: u16 = 1024;

/// The longest host name DNS carries, without the root's dot.
const MAX_HOST_NAME: usize = 253;

/// One listener of an entry of `listen`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Listen {
    /// On an address.
    Address(Listener),
    /// On the addresses of a network interface.
    Interface(InterfaceListener),
}

impl Listen {
    /// What it speaks.
    pub(super) fn transport(&self) -> Transport {
        match self {
            Self::Address(listener) => listener.transport,
            Self::Interface(listener) => listener.transport,
        }
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Address(listener) => listener.address.port(),
            Self::Interface(listener) => listener.port,
        }
    }
}

impl fmt::Display for Listen {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(listener) => listener.fmt(f),
            Self::Interface(listener) => listener.fmt(f),
        }
    }
}

/// The listeners of one entry of `listen`: of each port of a range, of one transport, or of both
/// when none is written.
pub(super) fn listen(text: &str) -> Result<Vec<Listen>, Refusal> {
    const HELP: &str = "write an address or a network interface and a port, as in \
         \"tcp://0.0.0.0:8080\", \"udp://[::]:53\" or \"eth0:8000-8010\"";
    let (transports, rest) = match text.split_once("://") {
        None => (&[Transport::Tcp, Transport::Udp][..], text),
        Some(("tcp", rest)) => (&[Transport::Tcp][..], rest),
        Some(("udp", rest)) => (&[Transport::Udp][..], rest),
        Some((scheme, rest)) => {
            let message = format!("{:?} is not a transport", shorten(scheme));
            let help = format!("write \"tcp://{rest}\", \"udp://{rest}\", or \"{rest}\" for both");
            return Err(Refusal::new(message, help));
        }
    };
    let (host, port) = split_port(rest, HELP)?;
    let ports = parse_ports(port, HELP)?;
    let first = *ports.start();
    let each = |listen: &dyn Fn(Transport, u16) -> Listen| {
        let of_port = |port| transports.iter().map(move |transport| (*transport, port));
        ports.clone().flat_map(of_port).map(|(transport, port)| listen(transport, port)).collect()
    };
    let Some(address) = ip(host) else {
        if host.is_empty() || host == "*" {
            let help = format!("write \"0.0.0.0:{first}\" for IPv4, \"[::]:{first}\" for IPv6");
            return Err(Refusal::new(format!("{text:?} names no address"), help));
        }
        let host_name = host_name(host).is_ok_and(|name| name.contains('.'));
        return match interface(host).filter(|_| !host_name) {
            Some(interface) => Ok(each(&|transport, port| {
                Listen::Interface(InterfaceListener {
                    transport,
                    interface: interface.clone(),
                    port,
                })
            })),
            None => {
                let message = format!("{:?} is not an address to listen on", shorten(host));
                Err(Refusal::new(message, HELP))
            }
        };
    };
    not_mapped(address)?;
    if address.is_multicast() {
        let message = format!("{} is a multicast address: no client can connect to it", host);
        return Err(Refusal::new(message, HELP));
    }
    Ok(each(&|transport, port| {
        Listen::Address(Listener { transport, address: SocketAddr::new(address, port) })
    }))
}

/// One entry of `target`.
pub(super) fn target(text: &str) -> Result<Target, Refusal> {
    const HELP: &str = "write an address or host name, and a port unless it is the listener's, as in \
         \"10.0.0.5:80\", \"[fd00::5]:80\", \"web.internal:80\" or \"10.0.0.5\"";
    if let Some((_, rest)) = text.split_once("://") {
        let help = format!("write \"{rest}\"");
        let message = format!(
            "{:?} has a transport: a target is dialled with the session's own",
            shorten(text)
        );
        return Err(Refusal::new(message, help));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let whole = match bare {
        Some(bare) => bare.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    let (host, port) = match whole {
        Some(address) => (Some(address), None),
        None if !text.contains([':', '[']) => (None, None),
        None => {
            let (host, port) = split_port(text, HELP)?;
            let port = parse_port(port, HELP)?;
            if port == 0 {
                return Err(Refusal::new("port 0 cannot be dialled", HELP));
            }
            return Ok(Target { host: target_host(host, ip(host), HELP)?, port: Some(port) });
        }
    };
    Ok(Target { host: target_host(text, host, HELP)?, port })
}

/// The machine of a target: `address`, or else the name `text`.
fn target_host(text: &str, address: Option<IpAddr>, help: &str) -> Result<Host, Refusal> {
    let Some(address) = address else {
        return host_name(text).map(Host::Name).map_err(|why| {
            let message =
                format!("{:?} is neither an address nor a host name: {why}", shorten(text));
            Refusal::new(message, help)
        });
    };
    not_mapped(address)?;
    if address.is_unspecified() {
        let own = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
        let message =
            format!("{address} means every address of this machine and cannot be dialled");
        let help = format!("write the target's address, or {own} for this machine");
        return Err(Refusal::new(message, help));
    }
    if address.is_multicast() {
        let message = format!("{address} is a multicast address and cannot be a target");
        return Err(Refusal::new(message, help));
    }
    Ok(Host::Address(address))
}

/// A network or an address.
pub(super) fn network(text: &str) -> Result<IpNet, Refusal> {
    const HELP: &str =
        "write a network or an address, as in \"192.0.2.0/24\", \"192.0.2.7\" or \"2001:db8::/32\"";
    if let Ok(address) = text.parse::<IpAddr>() {
        not_mapped(address)?;
        return Ok(IpNet::from(address));
    }
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(Refusal::new(format!("{:?} is not a network", shorten(text)), HELP));
    };
    if let (Err(refusal), Some(len)) = (not_mapped(net.addr()), net.prefix_len().checked_sub(96)) {
        let address = net.addr().to_canonical();
        let meant = IpNet::new(address, len).map_or(IpNet::from(address), |net| net.trunc());
        return Err(Refusal::new(refusal.message, format!("write it as IPv4: {meant}")));
    }
    not_mapped(net.addr())?;
    let meant = net.trunc();
    if meant != net {
        let message = format!("{text:?} has bits set behind its prefix: it would mean {meant}");
        let help =
            format!("write \"{meant}\" for the network, or \"{}\" for the one address", net.addr());
        return Err(Refusal::new(message, help));
    }
    Ok(net)
}

/// `source`: which address of ours targets see.
pub(super) fn source(text: &str) -> Result<Source, Refusal> {
    const HELP: &str = "write an address of this machine, or \"same\" for the one that the client \
                        connected to, or leave the key out for the kernel's choice";
    if text == "same" {
        return Ok(Source::Same);
    }
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(Refusal::new(format!("{:?} is not an address", shorten(text)), HELP));
    };
    not_mapped(address)?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(Refusal::new(format!("{address} is no address of a machine"), HELP));
    }
    Ok(Source::Address(address))
}

/// Whether a text is an address that `source` takes.
pub(crate) fn is_source(text: &str) -> bool {
    matches!(source(text), Ok(Source::Address(_)))
}

/// `admin.metrics`.
pub(super) fn metrics(text: &str) -> Result<SocketAddr, Refusal> {
    const HELP: &str = "write an address and a port, as in \"127.0.0.1:9410\"";
    let (host, port) = split_port(text, HELP)?;
    let port = parse_port(port, HELP)?;
    let Some(address) = ip(host).filter(|address| !address.is_multicast()) else {
        return Err(Refusal::new(format!("{:?} is not an address", shorten(host)), HELP));
    };
    not_mapped(address)?;
    Ok(SocketAddr::new(address, port))
}

/// One entry of `dns.servers`; the port need not be written.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, Refusal> {
    const HELP: &str = "write the address of a name server, as in \"192.0.2.53\", \"2001:db8::53\" or \
                        \"127.0.0.1:5353\"";
    const PORT: u16 = 53;
    let (address, port) = match text.parse::<IpAddr>() {
        Ok(address) => (Some(address), PORT),
        Err(_) => {
            let (host, port) = split_port(text, HELP)?;
            (ip(host), parse_port(port, HELP)?)
        }
    };
    match address.filter(|address| !address.is_unspecified() && !address.is_multicast()) {
        Some(address) if port != 0 => Ok(SocketAddr::new(address, port)),
        _ => {
            let message = format!("{:?} is not the address of a name server", shorten(text));
            Err(Refusal::new(message, HELP))
        }
    }
}

/// The socket of `recorder.endpoint`.
pub(super) fn endpoint(text: &str) -> Result<PathBuf, Refusal> {
    const HELP: &str = "write \"unix:/run/weir/recorder.sock\"";
    if text.starts_with("tls:") {
        return Err(Refusal::later("a recorder behind tls://", HELP));
    }
    match text.strip_prefix("unix:") {
        Some(path) => socket_path(path, |path| format!("write \"unix:{path}\"")),
        None => Err(Refusal::new(format!("{:?} is not an endpoint", shorten(text)), HELP)),
    }
}

/// The path of a Unix socket of ours.
pub(super) fn socket(text: &str) -> Result<PathBuf, Refusal> {
    socket_path(text, |path| format!("write \"{path}\""))
}

fn socket_path(text: &str, help: impl Fn(&str) -> String) -> Result<PathBuf, Refusal> {
    let path = absolute_path(text, "/run/weir", help)?;
    if text.len() > MAX_SOCKET_PATH {
        let message =
            format!("the path has {} bytes, a Unix socket's at most {MAX_SOCKET_PATH}", text.len());
        return Err(Refusal::new(message, "choose a shorter directory, as in \"/run/weir\""));
    }
    Ok(path)
}

/// A directory of ours.
pub(super) fn directory(text: &str) -> Result<PathBuf, Refusal> {
    absolute_path(text, "/var/lib/weir", |path| format!("write \"{path}\""))
}

/// A file of log lines.
pub(super) fn log_file(text: &str) -> Result<PathBuf, Refusal> {
    if text.ends_with('/') {
        let help = format!("write \"{text}forwarder.log\"");
        return Err(Refusal::new(format!("{:?} is a directory", shorten(text)), help));
    }
    absolute_path(text, "/var/log/weir", |path| format!("write \"{path}\""))
}

/// A path that means the same wherever the forwarder is started.
fn absolute_path(
    text: &str,
    usual: &str,
    help: impl Fn(&str) -> String,
) -> Result<PathBuf, Refusal> {
    if text.contains('\0') {
        return Err(Refusal::new("a path cannot hold a zero byte", "leave it out"));
    }
    if !text.starts_with('/') {
        let shown = shorten(text);
        let file = shown.rsplit('/').next().unwrap_or_default();
        return Err(Refusal::new(
            format!("{shown:?} is not an absolute path"),
            help(&format!("{usual}/{file}")),
        ));
    }
    Ok(PathBuf::from(text))
}

/// Host and port of `host:port` or `[v6]:port`, neither of them checked yet.
fn split_port<'t>(text: &'t str, help: &str) -> Result<(&'t str, &'t str), Refusal> {
    let no_port = || Refusal::new(format!("{:?} has no port", shorten(text)), help);
    if text.starts_with('[') {
        let Some((host, rest)) = text.split_once(']') else {
            return Err(Refusal::new(
                format!("the bracket in {:?} is not closed", shorten(text)),
                help,
            ));
        };
        let port = rest.strip_prefix(':').filter(|port| !port.is_empty()).ok_or_else(no_port)?;
        // The bracket stays on, so that only IPv6 is taken inside one.
        return Ok((&text[..=host.len()], port));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(no_port)?;
    if host.contains(':') {
        let message = format!("{:?} is an IPv6 address without brackets", shorten(text));
        return Err(Refusal::new(message, help));
    }
    if port.is_empty() { Err(no_port()) } else { Ok((host, port)) }
}

/// A port, 0 among them.
pub(super) fn parse_port(text: &str, help: &str) -> Result<u16, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(Refusal::new(
            format!("{:?} is not a port: ports are 0 to 65535", shorten(text)),
            help,
        )),
    }
}

/// A port or a range of ports.
fn parse_ports(text: &str, help: &str) -> Result<RangeInclusive<u16>, Refusal> {
    let Some((first, last)) = text.split_once('-') else {
        return parse_port(text, help).map(|port| port..=port);
    };
    let (first, last) = (parse_port(first, help)?, parse_port(last, help)?);
    let refuse = |why: &str| Refusal::new(format!("the port range {text:?} {why}"), help);
    if first == 0 {
        return Err(refuse("begins with port 0, which the kernel would choose"));
    }
    match last.checked_sub(first) {
        None => Err(Refusal::new(
            format!("the port range {text:?} runs backwards"),
            format!("write \"{last}-{first}\""),
        )),
        Some(ports) if ports >= MAX_PORTS => Err(refuse("has more than 1024 ports")),
        Some(_) => Ok(first..=last),
    }
}

/// An IPv4 address, or an IPv6 address in brackets.
fn ip(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

/// Refuses `::ffff:a.b.c.d`: such an address would never meet its IPv4 self.
fn not_mapped(address: IpAddr) -> Result<(), Refusal> {
    let canonical = address.to_canonical();
    if canonical == address {
        return Ok(());
    }
    let message = format!("{address} is an IPv4 address in IPv6 clothes");
    Err(Refusal::new(message, format!("write it as IPv4: {canonical}")))
}

/// A host name in lower case and without the root's dot; why it is none otherwise.
pub(crate) fn host_name(text: &str) -> Result<String, &'static str> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.is_empty() || name.len() > MAX_HOST_NAME {
        return Err("a host name has 1 to 253 characters");
    }
    if !name.split('.').all(label_is_good) {
        return Err("labels have 1 to 63 of A-Z a-z 0-9 - _");
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err("its last label is a number");
    }
    Ok(name.to_ascii_lowercase())
}

/// Enough of a text to recognise it by.
fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Vec<String> {
        listen(text).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_scheme_means_both_transports() {
        assert_eq!(shown("[::1]:53"), ["tcp://[::1]:53", "udp://[::1]:53"]);
        assert_eq!(shown("udp://0.0.0.0:53"), ["udp://0.0.0.0:53"]);
    }

    #[test]
    fn a_range_of_ports_is_a_listener_for_each() {
        assert_eq!(shown("tcp://10.0.0.1:80-82").len(), 3);
        assert_eq!(shown("10.0.0.1:65535-65535").len(), 2);
        assert_eq!(shown("tcp://eth0:80-81"), ["tcp://eth0:80", "tcp://eth0:81"]);
        assert_eq!(shown("tcp://10.0.0.1:1-1024").len(), 1024);
    }

    #[test]
    fn listeners_that_cannot_be_bound_are_refused() {
        for bad in [
            "",
            ":80",
            "*:80",
            "tcp://",
            "http://0.0.0.0:80",
            "0.0.0.0",
            "::1:80",
            "[::1]",
            "[::1]:",
            "[127.0.0.1]:80",
            "0.0.0.0:65536",
            "0.0.0.0:+1",
            "0.0.0.0:8010-8000",
            "0.0.0.0:0-1",
            "0.0.0.0:1-1025",
            "0.0.0.0:1-",
            "0.0.0.0:1-2-3",
            "localhost:80",
            "0eth:80",
            "web.example.com:80",
            "[::ffff:127.0.0.1]:80",
            "224.0.0.1:80",
            "[::1:80",
            "0.0.0.0:80 ",
        ] {
            assert!(listen(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn targets_are_addresses_or_names_with_or_without_a_port() {
        for good in [
            "10.0.0.5:80",
            "[fd00::5]:80",
            "web.internal:80",
            "10.0.0.5",
            "fd00::5",
            "web.internal",
            "web",
        ] {
            assert_eq!(target(good).map(|target| target.to_string()), Ok(good.to_owned()));
        }
        let web = Host::Name("web.internal".to_owned());
        assert_eq!(target("Web.Internal:80"), Ok(Target { host: web, port: Some(80) }));
        assert_eq!(target("[fd00::5]"), target("fd00::5"));
        for bad in [
            "",
            ":80",
            "10.0.0",
            "10.0.0.5:",
            "[10.0.0.5]",
            "[fd00::5",
            "0.0.0.0",
            "::",
            "::ffff:10.0.0.5",
            "10.0.0.256:80",
            "10.0.0.5:0",
            "0.0.0.0:80",
            "[::]:80",
            "tcp://10.0.0.5:80",
            "-a:80",
            "a..b:80",
            "a b:80",
            "[::ffff:10.0.0.5]:80",
            "web:http",
        ] {
            assert!(target(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_network_with_host_bits_says_what_it_would_mean() {
        let refusal = network("10.1.2.3/8").unwrap_err();
        assert!(refusal.message.contains("10.0.0.0/8"), "{refusal:?}");
        assert!(refusal.help.contains("\"10.1.2.3\""), "{refusal:?}");
        let refusal = network("::ffff:10.0.0.0/104").unwrap_err();
        assert_eq!(refusal.help, "write it as IPv4: 10.0.0.0/8", "the prefix is kept");
        assert_eq!(network("::1"), Ok("::1/128".parse().unwrap()));
    }

    #[test]
    fn a_name_server_has_the_usual_port_unless_it_says_otherwise() {
        for (text, server) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[::1]:5353", "[::1]:5353"),
            ("127.0.0.1:1", "127.0.0.1:1"),
        ] {
            assert_eq!(name_server(text).map(|server| server.to_string()), Ok(server.to_owned()));
        }
        for bad in ["", "0.0.0.0", "ns.example.com", "127.0.0.1:0", "[::1]", "127.0.0.1:"] {
            assert!(name_server(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn noise_is_refused_in_peace(noise in "(tcp://|\\[|unix:|@|\\.)?.{0,40}") {
            for result in [
                listen(&noise).err(), target(&noise).err(), network(&noise).err(),
                endpoint(&noise).err(), socket(&noise).err(), directory(&noise).err(),
                source(&noise).err(), metrics(&noise).err(), name_server(&noise).err(),
            ].into_iter().flatten() {
                prop_assert!(!result.message.is_empty());
            }
        }
    }
}
