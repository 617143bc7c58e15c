//! Addresses of `barefootd.conf`: `10.0.0.0/8 port > 1023`, `eth0 port = http`.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use ipnet::IpNet;
use schemas::config::Refusal;

use super::statement::{Statement, Word, shorten};

/// What stands in front of `port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// `0/0`: any address of both families.
    Anywhere,
    /// A network, or one address.
    Network(IpNet),
    /// A host name, in lower case.
    Name(String),
    /// A domain, in lower case and without the dot in front.
    Domain(String),
    /// A network interface.
    Interface(String),
}

/// What stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ports {
    Any,
    One(u16),
    /// Several, as `client_port` has them.
    Some(String),
}

/// The value of `from`, `to` or `bounce to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) place: Place,
    pub(super) ports: Ports,
    /// What about it is not quite what it was.
    pub(super) note: Option<String>,
}

/// Reads an address; what is wrong has its place.
pub(super) fn address(statement: &Statement<'_>) -> Result<Address, (Range<usize>, Refusal)> {
    let Some(first) = statement.values.first() else {
        let message = format!("{} has no address", statement.key);
        return Err((statement.span.clone(), Refusal::new(message, "write one behind the colon")));
    };
    let rest = &statement.values[1..];
    let at = |word: &Word<'_>| word.span();
    let (mask, rest) = match rest.first() {
        // 10.0.0.0 / 8
        Some(slash) if slash.text == "/" && rest.len() > 1 => (Some(rest[1].text), &rest[2..]),
        _ => (None, rest),
    };
    let text = match mask {
        Some(mask) => format!("{}/{mask}", first.text),
        None => first.text.to_owned(),
    };
    let (place, note) = place(&text).map_err(|refusal| (at(first), refusal))?;
    let ports = match rest.split_first() {
        None => Ports::Any,
        Some((port, numbers)) if port.text.eq_ignore_ascii_case("port") => {
            let texts: Vec<&str> = numbers.iter().map(|word| word.text).collect();
            ports(&texts.join(" ")).map_err(|refusal| (at(port), refusal))?
        }
        // port=80
        Some((port, numbers)) if port.text.to_ascii_lowercase().starts_with("port") => {
            let mut texts = vec![&port.text[4..]];
            texts.extend(numbers.iter().map(|word| word.text));
            ports(&texts.join(" ")).map_err(|refusal| (at(port), refusal))?
        }
        Some((odd, _)) => {
            let message = format!("{:?} is not understood here", shorten(odd.text));
            return Err((at(odd), Refusal::new(message, "write port = 80, or remove it")));
        }
    };
    Ok(Address { place, ports, note })
}

/// Refuses an address of clients without a netmask, as Barefoot does: it is not for us to guess
/// whether a host or its network was meant.
pub(super) fn has_netmask(statement: &Statement<'_>) -> Result<(), (Range<usize>, Refusal)> {
    let Some(first) = statement.values.first() else { return Ok(()) };
    let masked = statement.values.get(1).is_some_and(|word| word.text == "/");
    match first.text.parse::<IpAddr>() {
        Ok(address) if !masked => {
            let message = format!("{:?} has no netmask", shorten(first.text));
            let length = if address.is_ipv4() { 32 } else { 128 };
            let help = format!("write {address}/{length} for the one address");
            Err((first.span(), Refusal::new(message, help)))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn place(text: &str) -> Result<(Place, Option<String>), Refusal> {
    if text == "0/0" {
        return Ok((Place::Anywhere, None));
    }
    if let Some(domain) = text.strip_prefix('.').and_then(host_name) {
        return Ok((Place::Domain(domain), None));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((Place::Network(IpNet::from(address.to_canonical())), None));
    }
    if let Some((address, mask)) = text.split_once('/') {
        return network(address, mask).ok_or_else(|| {
            let message = format!("{:?} is not a network", shorten(text));
            Refusal::new(message, "write it as in 10.0.0.0/8")
        });
    }
    if looks_like_interface(text) {
        return Ok((Place::Interface(text.to_owned()), None));
    }
    match host_name(text) {
        Some(name) => Ok((Place::Name(name), None)),
        None => {
            let message = format!("{:?} is neither an address nor a name", shorten(text));
            Err(Refusal::new(message, "write it as in 10.0.0.0/8, eth0 or www.example.com"))
        }
    }
}

/// A network with a prefix length or a dotted mask.
fn network(address: &str, mask: &str) -> Option<(Place, Option<String>)> {
    let address: IpAddr = address.parse().ok()?;
    let length = match mask.parse::<Ipv4Addr>() {
        Ok(dotted) if address.is_ipv4() => {
            let bits = dotted.to_bits();
            (bits.leading_ones() + bits.trailing_zeros() == 32).then_some(bits.leading_ones())?
        }
        _ => mask.parse().ok().filter(|_| mask.bytes().all(|byte| byte.is_ascii_digit()))?,
    };
    let given = IpNet::new(address, length.try_into().ok()?).ok()?;
    let meant = given.trunc();
    let note = (given != meant).then(|| format!("{given} had bits behind its prefix"));
    Some((Place::Network(meant), note))
}

/// Barefoot asks the system whether a word is an interface. Names of interfaces end in a number,
/// as a rule, and names of hosts have a dot.
fn looks_like_interface(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let short = (1..=15).contains(&text.len()) && letters;
    let numbered = text.ends_with(|c: char| c.is_ascii_digit());
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    short
        && begins
        && (text == "lo" || numbered)
        && host_name(text).is_none_or(|name| !name.contains('.'))
}

fn host_name(text: &str) -> Option<String> {
    crate::config::host_name(text).ok()
}

fn ports(text: &str) -> Result<Ports, Refusal> {
    let text = text.trim();
    let words = [
        ("!=", "!="),
        ("<=", "<="),
        (">=", ">="),
        ("=", "="),
        ("<", "<"),
        (">", ">"),
        ("eq ", "="),
        ("neq ", "!="),
        ("ne ", "!="),
        ("lt ", "<"),
        ("gt ", ">"),
        ("le ", "<="),
        ("ge ", ">="),
    ];
    let operator = words.iter().find_map(|(word, operator)| {
        let head = text.get(..word.len())?;
        head.eq_ignore_ascii_case(word).then(|| (*operator, text[word.len()..].trim()))
    });
    match operator {
        Some(("=", number)) => port(number).map(Ports::One),
        Some((operator, number)) => {
            let number = port(number)?;
            if (operator, number) == ("<", 0) || (operator, number) == (">", u16::MAX) {
                return Err(Refusal::new(format!("port {text} means no port"), "remove the rule"));
            }
            Ok(Ports::Some(format!("{operator}{number}")))
        }
        None => match text.split_once('-') {
            Some((first, last)) if port(last.trim()).is_ok() => {
                let (first, last) = (port(first.trim())?, port(last.trim())?);
                if last < first {
                    let message = format!("the range {text} runs backwards");
                    return Err(Refusal::new(message, format!("write {last} - {first}")));
                }
                Ok(Ports::Some(format!("{first}-{last}")))
            }
            _ => port(text).map(Ports::One),
        },
    }
}

/// A number, or the name that IANA gives a well-known one.
fn port(text: &str) -> Result<u16, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let named = || SERVICES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    text.parse().ok().filter(|_| digits).or_else(|| named().map(|(_, port)| *port)).ok_or_else(
        || {
            let message = format!("{:?} is no port that is known here", shorten(text));
            Refusal::new(message, "write its number (getent services NAME tells it)")
        },
    )
}

/// The name of a well-known port.
pub(super) fn service_name(port: u16) -> Option<&'static str> {
    SERVICES.iter().find(|(_, known)| *known == port).map(|(name, _)| *name)
}

/// Names of ports, from the registry of IANA.
const SERVICES: [(&str, u16); 44] = [
    ("echo", 7),
    ("discard", 9),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("time", 37),
    ("whois", 43),
    ("domain", 53),
    ("tftp", 69),
    ("gopher", 70),
    ("finger", 79),
    ("http", 80),
    ("www", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("nntp", 119),
    ("ntp", 123),
    ("imap", 143),
    ("imap2", 143),
    ("snmp", 161),
    ("snmptrap", 162),
    ("bgp", 179),
    ("irc", 194),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("submissions", 465),
    ("isakmp", 500),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("rsync", 873),
    ("imaps", 993),
    ("pop3s", 995),
    ("socks", 1080),
    ("openvpn", 1194),
    ("ms-sql-s", 1433),
    ("radius", 1812),
    ("mysql", 3306),
    ("ms-wbt-server", 3389),
    ("sip", 5060),
    ("postgresql", 5432),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_names_comparisons_and_ranges() {
        for (text, expected) in [
            ("= 80", Ports::One(80)),
            ("=http", Ports::One(80)),
            ("eq 80", Ports::One(80)),
            ("https", Ports::One(443)),
            ("> 1023", Ports::Some(">1023".to_owned())),
            ("ge 1024", Ports::Some(">=1024".to_owned())),
            ("neq 25", Ports::Some("!=25".to_owned())),
            ("1024 - 65535", Ports::Some("1024-65535".to_owned())),
            ("1024-65535", Ports::Some("1024-65535".to_owned())),
            ("ms-wbt-server", Ports::One(3389)),
        ] {
            assert_eq!(ports(text), Ok(expected), "{text}");
        }
        for bad in ["", "=", "= 65536", "nosuchservice", "2 - 1", "< 0", "> 65535", "-"] {
            assert!(ports(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_place_is_known_by_its_looks() {
        let net = |text: &str| Place::Network(text.parse().unwrap());
        for (text, expected) in [
            ("0/0", Place::Anywhere),
            ("0.0.0.0/0", net("0.0.0.0/0")),
            ("10.0.0.0/255.0.0.0", net("10.0.0.0/8")),
            ("10.1.2.3/8", net("10.0.0.0/8")),
            ("192.0.2.1", net("192.0.2.1/32")),
            ("2001:db8::/32", net("2001:db8::/32")),
            ("eth0", Place::Interface("eth0".to_owned())),
            ("lo", Place::Interface("lo".to_owned())),
            ("web1.example.com", Place::Name("web1.example.com".to_owned())),
            ("gateway", Place::Name("gateway".to_owned())),
            (".Example.com", Place::Domain("example.com".to_owned())),
        ] {
            assert_eq!(place(text).map(|(place, _)| place), Ok(expected), "{text}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.0/255.0.255.0", "10.0.0", "a..b", "x/y"] {
            assert!(place(bad).is_err(), "{bad:?}");
        }
    }
}
