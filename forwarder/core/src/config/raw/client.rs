//! Which clients a rule is about, as typed.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use schemas::config::Refusal;

use super::shorten;
use crate::config::address::{host_name, network, parse_port};
use crate::config::{Origin, ServerName};

/// Longest name of a network interface: the kernel's 16 bytes with a zero behind them.
const MAX_INTERFACE_BYTES: usize = 15;

/// One entry of `from` or `not_from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum RawOrigin {
    /// What says by itself what it means.
    Plain(Origin),
    /// The networks of this file.
    File(PathBuf),
}

/// One entry of `from` or `not_from`.
pub(super) fn origin(text: &str) -> Result<RawOrigin, Refusal> {
    const HELP: &str = "write a network or address (\"192.0.2.0/24\", \"2001:db8::7\"), a host name \
         (\"guest.example.com\"), a domain (\".example.com\"), a file (\"@networks.txt\") or a \
         network interface (\"eth0\")";
    let plain = |origin| Ok(RawOrigin::Plain(origin));
    if let Some(path) = text.strip_prefix('@') {
        return file(path, "@networks.txt").map(RawOrigin::File);
    }
    if let Some(domain) = text.strip_prefix('.') {
        return match host_name(domain) {
            Ok(domain) => plain(Origin::Domain(domain)),
            Err(why) => {
                let message = format!("{:?} is not a domain: {why}", shorten(text));
                Err(Refusal::new(message, "write it as in \".example.com\""))
            }
        };
    }
    if let Some(domain) = text.strip_prefix("*.").filter(|domain| host_name(domain).is_ok()) {
        let message = format!("{:?} is not how a domain is written", shorten(text));
        return Err(Refusal::new(message, format!("write \".{domain}\"")));
    }
    if let Some(refusal) = everyone(text) {
        return Err(refusal);
    }
    if text.contains(['/', ':']) || text.parse::<IpAddr>().is_ok() {
        return network(text).and_then(|net| plain(Origin::Network(net)));
    }
    match host_name(text) {
        Ok(name) if text.contains('.') => plain(Origin::Name(name)),
        _ if is_interface(text) => plain(Origin::Interface(text.to_owned())),
        Ok(name) => {
            let message = format!(
                "{:?} is no address, too long for a network interface, and has no dot as a host \
                 name has",
                shorten(text)
            );
            let help = format!("write \".{name}\" for a domain, \"{name}.\" for a host");
            Err(Refusal::new(message, help))
        }
        Err(_) => {
            let message = format!("{:?} is not a network", shorten(text));
            Err(Refusal::new(message, HELP))
        }
    }
}

/// What people write for everyone, or for this machine, and what it would mean here.
fn everyone(text: &str) -> Option<Refusal> {
    match text {
        "*" | "any" | "all" | "everyone" | "0/0" => Some(Refusal::new(
            format!("{text:?} is not a network"),
            "leave the key out to mean everyone",
        )),
        "localhost" => {
            let help = "write \"127.0.0.0/8\" and \"::1\"";
            Some(Refusal::new("\"localhost\" is two addresses", help))
        }
        _ => None,
    }
}

/// The path behind an `@`.
pub(super) fn file(path: &str, example: &str) -> Result<PathBuf, Refusal> {
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        let message = format!("\"@{}\" names no file", shorten(path));
        return Err(Refusal::new(message, format!("write a path behind the @, as in {example:?}")));
    }
    Ok(Path::new(path).to_owned())
}

/// Whether the kernel could give a network interface this name. A number in front would be an
/// address with a slip of the pen.
fn is_interface(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_graphic() && !b"/:,;\"'@".contains(&byte);
    (1..=MAX_INTERFACE_BYTES).contains(&text.len())
        && text.bytes().all(letter)
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The name of a network interface in `listen`.
pub(in crate::config) fn interface(text: &str) -> Option<String> {
    (is_interface(text) && text != "localhost").then(|| text.to_owned())
}

/// One entry of `client_port`: a port, a range, or a comparison as Barefoot has them.
pub(super) fn client_port(text: &str) -> Result<Vec<RangeInclusive<u16>>, Refusal> {
    const HELP: &str = "write a port, a range or a comparison, as in \"53\", \"1024-65535\", \
                        \">1023\" or \"!=25\"";
    let port = |text: &str| parse_port(text, HELP);
    let operators = ["!=", "<=", ">=", "=", "<", ">"];
    let compared = operators
        .into_iter()
        .find_map(|operator| Some((operator, text.strip_prefix(operator)?.trim_start())));
    let ranges = match compared {
        Some((operator, number)) => {
            let port = port(number)?;
            let below = port.checked_sub(1).map(|last| 0..=last);
            let above = port.checked_add(1).map(|first| first..=u16::MAX);
            match operator {
                "!=" => below.into_iter().chain(above).collect(),
                "<" => below.into_iter().collect(),
                ">" => above.into_iter().collect(),
                "<=" => vec![0..=port],
                ">=" => vec![port..=u16::MAX],
                _ => vec![port..=port],
            }
        }
        None => match text.split_once('-') {
            Some((first, last)) => vec![port(first)?..=port(last)?],
            None => vec![port(text)?..=port(text)?],
        },
    };
    if ranges.iter().all(RangeInclusive::is_empty) {
        let message = format!("{:?} means no port at all", shorten(text));
        return Err(Refusal::new(message, HELP));
    }
    Ok(ranges)
}

/// One entry of `server_name`.
pub(super) fn server_name(text: &str) -> Result<ServerName, Refusal> {
    const HELP: &str =
        "write a name, as in \"www.example.com\", or \"*.example.com\" for all below";
    let (below, name) = match text.strip_prefix("*.") {
        Some(domain) => (true, domain),
        None => (false, text),
    };
    if let Some(domain) = text.strip_prefix('.').filter(|domain| host_name(domain).is_ok()) {
        let message =
            format!("{:?} is not how the names below a domain are written", shorten(text));
        return Err(Refusal::new(message, format!("write \"*.{domain}\"")));
    }
    match host_name(name) {
        Ok(name) if below => Ok(ServerName::Below(name)),
        Ok(name) => Ok(ServerName::Exact(name)),
        Err(_) if text.parse::<IpAddr>().is_ok() => {
            let message = format!("{text:?} is an address: clients name servers by names");
            Err(Refusal::new(message, HELP))
        }
        Err(why) => {
            Err(Refusal::new(format!("{:?} is not a server name: {why}", shorten(text)), HELP))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_origin_is_known_by_its_looks() {
        let plain = |text| match origin(text).unwrap() {
            RawOrigin::Plain(origin) => origin,
            RawOrigin::File(file) => panic!("{file:?}"),
        };
        let net = |text: &str| Origin::Network(text.parse().unwrap());
        assert_eq!(plain("192.0.2.7"), net("192.0.2.7/32"));
        assert_eq!(plain("2001:db8::/32"), net("2001:db8::/32"));
        assert_eq!(plain("Guest.Example.com"), Origin::Name("guest.example.com".to_owned()));
        assert_eq!(plain("gateway."), Origin::Name("gateway".to_owned()));
        assert_eq!(plain(".Example.com."), Origin::Domain("example.com".to_owned()));
        assert_eq!(plain(".lan"), Origin::Domain("lan".to_owned()));
        for interface in ["eth0", "wg-office", "eth0.100", "br_1"] {
            assert_eq!(plain(interface), Origin::Interface(interface.to_owned()));
        }
        assert_eq!(origin("@nets/a.txt"), Ok(RawOrigin::File("nets/a.txt".into())));
    }

    #[test]
    fn what_is_no_origin_is_told_what_to_write() {
        for (bad, help) in [
            ("*", "leave the key out"),
            ("any", "leave the key out"),
            ("localhost", "127.0.0.0/8"),
            ("*.example.com", "\".example.com\""),
            ("guests-of-the-house", "\".guests-of-the-house\" for a domain"),
            (".", "\".example.com\""),
            (".a..b", "\".example.com\""),
            ("@", "@networks.txt"),
            ("@dir/", "@networks.txt"),
            ("10.0.0", "192.0.2.0/24"),
            ("10.*", "192.0.2.0/24"),
            ("10.1.2.3/8", "\"10.0.0.0/8\""),
            ("10.0.0.0/33", "192.0.2.0/24"),
            ("fe80::1%eth0", "192.0.2.0/24"),
            ("", "192.0.2.0/24"),
        ] {
            let refusal = origin(bad).unwrap_err();
            assert!(refusal.help.contains(help), "{bad:?}: {refusal:?}");
        }
    }

    #[test]
    fn ports_are_compared() {
        for (text, ranges) in [
            ("53", vec![53..=53]),
            ("1024-65535", vec![1024..=65535]),
            (">1023", vec![1024..=65535]),
            (">= 1024", vec![1024..=65535]),
            ("<1", vec![0..=0]),
            ("!=25", vec![0..=24, 26..=65535]),
            ("!=0", vec![1..=65535]),
            ("=7", vec![7..=7]),
        ] {
            assert_eq!(client_port(text), Ok(ranges), "{text}");
        }
        for bad in ["", "65536", "2-1", "1-", "-1", ">65535", "<0", "http", "1 - 2", "!= ", "1-2-3"]
        {
            assert!(client_port(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn server_names_have_stars_in_front_only() {
        assert_eq!(server_name("WWW.example.com"), Ok(ServerName::Exact("www.example.com".into())));
        assert_eq!(server_name("*.example.com"), Ok(ServerName::Below("example.com".into())));
        for bad in ["", "*", "*.", ".example.com", "www.*.com", "10.0.0.1", "a b", "https://a.b"] {
            assert!(server_name(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn noise_is_refused_in_peace(noise in "[@.*<>!=]{0,3}.{0,40}") {
            drop((origin(&noise), client_port(&noise), server_name(&noise)));
        }
    }
}
