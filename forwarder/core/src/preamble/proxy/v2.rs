//! Version 2: binary.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, MAX_BYTES, Written};

/// How every header begins.
pub(super) const SIGN: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses.
const FIXED: usize = 16;

/// Version in the upper half, command in the lower.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// Family in the upper half, protocol in the lower.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The other pairs that exist: nothing, UDP over either family, and Unix sockets of both kinds.
const OTHERS: [u8; 5] = [0x00, 0x12, 0x22, 0x31, 0x32];

/// `None`: more is needed. The bytes begin with [`SIGN`], as far as there are any.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Ok(None) };
    let [.., command, kind, high, low] = *fixed;
    let announced = usize::from(u16::from_be_bytes([high, low]));
    let len = FIXED + announced;
    if len > MAX_BYTES {
        return Err("it says that it has more than 4096 bytes");
    }
    let (addresses, is_known) = match (command, kind) {
        // Whatever it says about addresses is to be ignored.
        (LOCAL, _) => (0, true),
        (PROXY, TCP4) => (12, true),
        (PROXY, TCP6) => (36, true),
        (PROXY, kind) => (0, OTHERS.contains(&kind)),
        _ => return Err("its version is not 2, or its command none of LOCAL, PROXY"),
    };
    if !is_known {
        return Err("its family or protocol does not exist");
    }
    if announced < addresses {
        return Err("it is too short for its addresses");
    }
    let Some(rest) = bytes.get(FIXED..len) else { return Ok(None) };
    let client = match addresses {
        12 => v4(rest),
        36 => v6(rest),
        _ => None,
    };
    Ok(Some(Header { len, client }))
}

fn v4(rest: &[u8]) -> Option<SocketAddr> {
    let [a, b, c, d, _, _, _, _, high, low, _, _] = *rest.first_chunk::<12>()?;
    Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
}

fn v6(rest: &[u8]) -> Option<SocketAddr> {
    let client = Ipv6Addr::from(*rest.first_chunk::<16>()?);
    let port = u16::from_be_bytes(*rest.get(32..)?.first_chunk::<2>()?);
    Some(SocketAddr::new(IpAddr::from(client).to_canonical(), port))
}

pub(super) fn write(header: &mut Written, client: SocketAddr, listen: SocketAddr) {
    header.push(SIGN);
    match (client.ip(), listen.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.push(&[PROXY, TCP4, 0, 12]);
            header.push(&from.octets());
            header.push(&to.octets());
        }
        // There is one family for both: of two different ones the IPv4 address is mapped.
        (from, to) => {
            header.push(&[PROXY, TCP6, 0, 36]);
            header.push(&mapped(from));
            header.push(&mapped(to));
        }
    }
    header.push(&client.port().to_be_bytes());
    header.push(&listen.port().to_be_bytes());
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
