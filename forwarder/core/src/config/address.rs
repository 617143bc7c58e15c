//! Addresses as people write them: listeners, targets, networks and socket paths.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use schemas::vocab::Transport;

use super::{Host, Listener, Target};
use schemas::config::Refusal;

/// Longest path of a Unix socket: `sun_path` less its closing zero.
const MAX_SOCKET_PATH: usize = 107;

/// The longest host name DNS carries, without the root's dot.
const MAX_HOST_NAME: usize = 253;

/// The listeners of one entry of `listen`: one transport, or both when none is written.
pub(super) fn listeners(text: &str) -> Result<Vec<Listener>, Refusal> {
    const HELP: &str =
        "write an address and a port, as in \"tcp://0.0.0.0:8080\" or \"udp://[::]:53\"";
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
    if port.contains('-') {
        let help = "write one entry for each port of the range";
        return Err(Refusal::later(format!("the port range {port:?}"), help));
    }
    let port = parse_port(port, HELP)?;
    let address = match ip(host) {
        Some(address) => SocketAddr::new(address, port),
        None if host.is_empty() || host == "*" => {
            let help = format!("write \"0.0.0.0:{port}\" for IPv4, \"[::]:{port}\" for IPv6");
            return Err(Refusal::new(format!("{text:?} names no address"), help));
        }
        None if is_host_name(host).is_ok() && !host.contains('.') => {
            let what = format!("the interface name {host:?} in listen");
            return Err(Refusal::later(what, "write the address of the interface"));
        }
        None => {
            let message = format!("{:?} is not an address to listen on", shorten(host));
            return Err(Refusal::new(message, HELP));
        }
    };
    not_mapped(address.ip())?;
    if address.ip().is_multicast() {
        let message = format!("{} is a multicast address: no client can connect to it", host);
        return Err(Refusal::new(message, HELP));
    }
    Ok(transports.iter().map(|&transport| Listener { transport, address }).collect())
}

/// One entry of `target`.
pub(super) fn target(text: &str) -> Result<Target, Refusal> {
    const HELP: &str = "write an address or host name and a port, as in \"10.0.0.5:80\", \"[fd00::5]:80\" or \
         \"web.internal:80\"";
    if let Some((_, rest)) = text.split_once("://") {
        let help = format!("write \"{rest}\"");
        let message = format!(
            "{:?} has a transport: a target is dialled with the session's own",
            shorten(text)
        );
        return Err(Refusal::new(message, help));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let is_name = !text.contains(':') && is_host_name(text).is_ok();
    if bare.parse::<IpAddr>().is_ok() || is_name {
        let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        let what = format!("{text:?} without a port (it would take the listener's)");
        return Err(Refusal::later(what, format!("write the port, as in \"{host}:80\"")));
    }
    let (host, port) = split_port(text, HELP)?;
    let port = parse_port(port, HELP)?;
    if port == 0 {
        return Err(Refusal::new("port 0 cannot be dialled", HELP));
    }
    let Some(address) = ip(host) else {
        is_host_name(host).map_err(|why| {
            Refusal::new(
                format!("{:?} is neither an address nor a host name: {why}", shorten(host)),
                HELP,
            )
        })?;
        return Ok(Target { host: Host::Name(host.to_ascii_lowercase()), port: Some(port) });
    };
    not_mapped(address)?;
    if address.is_unspecified() {
        let own = if address.is_ipv4() { "127.0.0.1" } else { "[::1]" };
        let message =
            format!("{address} means every address of this machine and cannot be dialled");
        return Err(Refusal::new(
            message,
            format!("write the target's address, or \"{own}:{port}\" for this machine"),
        ));
    }
    if address.is_multicast() {
        return Err(Refusal::new(
            format!("{address} is a multicast address and cannot be a target"),
            HELP,
        ));
    }
    Ok(Target { host: Host::Address(address), port: Some(port) })
}

/// One entry of `from`.
pub(super) fn network(text: &str) -> Result<IpNet, Refusal> {
    const HELP: &str =
        "write a network or an address, as in \"192.0.2.0/24\", \"192.0.2.7\" or \"2001:db8::/32\"";
    if let Ok(address) = text.parse::<IpAddr>() {
        not_mapped(address)?;
        return Ok(IpNet::from(address));
    }
    if let Ok(net) = text.parse::<IpNet>() {
        not_mapped(net.addr())?;
        let meant = net.trunc();
        if meant != net {
            let message = format!("{text:?} has bits set behind its prefix: it would mean {meant}");
            let help = format!(
                "write \"{meant}\" for the network, or \"{}\" for the one address",
                net.addr()
            );
            return Err(Refusal::new(message, help));
        }
        return Ok(net);
    }
    if text.starts_with('@') {
        let help = "write the networks of the file into the list";
        return Err(Refusal::later(format!("the file of networks {:?}", shorten(text)), help));
    }
    let name = text.strip_prefix('.').unwrap_or(text);
    if is_host_name(name).is_ok() {
        let what = format!("the name {text:?} in from");
        return Err(Refusal::later(what, "write the network or address instead of the name"));
    }
    Err(Refusal::new(format!("{:?} is not a network", shorten(text)), HELP))
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

fn parse_port(text: &str, help: &str) -> Result<u16, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(Refusal::new(
            format!("{:?} is not a port: ports are 0 to 65535", shorten(text)),
            help,
        )),
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

/// Whether a text can be a host name; why not otherwise.
fn is_host_name(text: &str) -> Result<(), &'static str> {
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
    Ok(())
}

/// Enough of a text to recognise it by.
fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_scheme_means_both_transports() {
        let both = listeners("[::1]:53").unwrap();
        assert_eq!(
            both.iter().map(|l| l.transport).collect::<Vec<_>>(),
            [Transport::Tcp, Transport::Udp]
        );
        assert_eq!(listeners("udp://0.0.0.0:53").unwrap().len(), 1);
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
            "0.0.0.0:8000-8010",
            "eth0:80",
            "web.example.com:80",
            "[::ffff:127.0.0.1]:80",
            "224.0.0.1:80",
            "[::1:80",
            "0.0.0.0:80 ",
        ] {
            assert!(listeners(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn targets_are_addresses_or_names_with_a_port() {
        for good in ["10.0.0.5:80", "[fd00::5]:80", "web.internal:80"] {
            assert_eq!(target(good).map(|target| target.to_string()), Ok(good.to_owned()));
        }
        let web = Host::Name("web.internal".to_owned());
        assert_eq!(target("Web.Internal:80"), Ok(Target { host: web, port: Some(80) }));
        for bad in [
            "",
            "10.0.0.5",
            "web",
            "[fd00::5]",
            "fd00::5",
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
        assert_eq!(network("::1"), Ok("::1/128".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn noise_is_refused_in_peace(noise in "(tcp://|\\[|unix:|@|\\.)?.{0,40}") {
            for result in [
                listeners(&noise).err(), target(&noise).err(), network(&noise).err(),
                endpoint(&noise).err(), socket(&noise).err(), directory(&noise).err(),
            ].into_iter().flatten() {
                prop_assert!(!result.message.is_empty());
            }
        }
    }
}
