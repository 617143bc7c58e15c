//! Version 1: a line of text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Header, Written};

/// How every header begins.
pub(super) const SIGN: &[u8] = b"PROXY ";

/// Longest header, in bytes, the end of its line among them.
pub(super) const MAX_BYTES: usize = 107;

/// `None`: more is needed. The bytes begin with [`SIGN`], as far as there are any.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let line = &bytes[..bytes.len().min(MAX_BYTES)];
    let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
        return match line.len() {
            MAX_BYTES => Err("its line does not end within 107 bytes"),
            _ => Ok(None),
        };
    };
    let text = line[..end].strip_suffix(b"\r").ok_or("its line does not end in CR LF")?;
    let text = str::from_utf8(text).map_err(|_| "it is not text")?;
    let fields = text.strip_prefix("PROXY ").ok_or("its line ends too early")?;
    let client = match fields.split_once(' ') {
        Some(("TCP4", rest)) => Some(client::<Ipv4Addr>(rest)?),
        Some(("TCP6", rest)) => Some(client::<Ipv6Addr>(rest)?),
        // What follows is to be ignored.
        Some(("UNKNOWN", _)) => None,
        None if fields == "UNKNOWN" => None,
        _ => return Err("its protocol is none of TCP4, TCP6, UNKNOWN"),
    };
    Ok(Some(Header { len: end + 1, client }))
}

/// The first of two addresses with their ports.
fn client<A: FromStr + Into<IpAddr>>(fields: &str) -> Result<SocketAddr, &'static str> {
    let mut fields = fields.split(' ');
    let mut next = || fields.next().ok_or("it lacks an address or a port");
    let address = |text: &str| text.parse::<A>().map_err(|_| "it has a faulty address");
    let (client, _listen) = (address(next()?)?, address(next()?)?);
    let (port, _listen_port) = (port(next()?)?, port(next()?)?);
    match fields.next() {
        Some(_) => Err("it has more fields than two addresses and two ports"),
        None => Ok(SocketAddr::new(client.into().to_canonical(), port)),
    }
}

/// Digits alone and none too many: `+80` and `080` are no ports here.
fn port(text: &str) -> Result<u16, &'static str> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or("it has a faulty port")
}

pub(super) fn write(header: &mut Written, client: SocketAddr, listen: SocketAddr) {
    use fmt::Write;
    let (from, to) = (client.ip(), listen.ip());
    let (from_port, to_port) = (client.port(), listen.port());
    let written = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            write!(header, "PROXY TCP4 {from} {to} {from_port} {to_port}\r\n")
        }
        (IpAddr::V6(_), IpAddr::V6(_)) => {
            write!(header, "PROXY TCP6 {from} {to} {from_port} {to_port}\r\n")
        }
        // A line has one family for both.
        _ => write!(header, "PROXY UNKNOWN\r\n"),
    };
    written.expect("no addresses and ports are longer than the longest header");
}

impl fmt::Write for Written {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.bytes.len() - self.len {
            return Err(fmt::Error);
        }
        self.push(text.as_bytes());
        Ok(())
    }
}
