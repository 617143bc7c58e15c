//! The PROXY protocol (haproxy.org, proxy-protocol.txt): a header in front of a connection's
//! payload, by which a proxy says for whom it speaks.
//!
//! ```text
//! version 1   PROXY TCP4 <client> <listen> <client port> <listen port>\r\n     107 bytes at most
//! version 2   12 bytes of signature, version and command, family and protocol, 2 bytes of length,
//!             then so many bytes: two addresses, two ports, and fields that are skipped here
//! ```

mod v1;
mod v2;

use std::net::SocketAddr;
use std::ops::Deref;

use super::Answer;
use crate::config::ProxyVersion;

/// Longest header that is read, in bytes. Version 2 could say 65,551; what real proxies add to the
/// addresses (names, certificates' subjects, identifiers of clouds) has room in this.
pub const MAX_BYTES: usize = 4096;

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it has; the payload begins behind them.
    pub len: usize,
    /// Whom the proxy speaks for. `None`: for itself (LOCAL), or for somebody without an IP address
    /// or whom it does not know.
    pub client: Option<SocketAddr>,
}

/// Reads a header, of one version only if `only` says so.
pub fn parse(bytes: &[u8], only: Option<ProxyVersion>) -> Answer<Header> {
    let may_be = |version, sign: &[u8]| {
        only.is_none_or(|only| only == version)
            && bytes.iter().zip(sign).all(|(byte, sign)| byte == sign)
    };
    if may_be(ProxyVersion::V1, v1::SIGN) {
        Answer::of(v1::parse(bytes))
    } else if may_be(ProxyVersion::V2, v2::SIGN) {
        Answer::of(v2::parse(bytes))
    } else {
        Answer::Malformed("it does not begin with a PROXY header")
    }
}

/// A header to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    bytes: [u8; v1::MAX_BYTES],
    len: usize,
}

/// The header that speaks for `client`, who came to `listen`.
pub fn write(version: ProxyVersion, client: SocketAddr, listen: SocketAddr) -> Written {
    let mut header = Written { bytes: [0; _], len: 0 };
    match version {
        ProxyVersion::V1 => v1::write(&mut header, client, listen),
        ProxyVersion::V2 => v2::write(&mut header, client, listen),
    }
    header
}

impl Written {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }
}

impl Deref for Written {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
