//! Which server a client asks for, whatever it speaks.
//!
//! TLS says it in the ClientHello (SNI), HTTP/1 in the head of the first request. What is neither
//! asks for none, and that is told as soon as it shows: most often with the first byte.

use std::net::IpAddr;

use super::{Answer, hello, host};

/// Most bytes that are looked at for a server's name. A ClientHello has at most half as many; the
/// rest is room for the records it may be split into, and for the heads of requests with large
/// cookies.
pub const MAX_SERVER_NAME_BYTES: usize = 32 * 1024;

/// What a client speaks, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tongue {
    /// It may be anything yet.
    Undecided,
    Tls,
    Http1,
    Other,
}

fn tongue(bytes: &[u8]) -> Tongue {
    match bytes.first() {
        None => Tongue::Undecided,
        Some(&hello::HANDSHAKE) => match hello::begins(bytes) {
            None => Tongue::Undecided,
            Some(true) => Tongue::Tls,
            Some(false) => Tongue::Other,
        },
        Some(_) => match host::begins(bytes) {
            None => Tongue::Undecided,
            Some(true) => Tongue::Http1,
            Some(false) => Tongue::Other,
        },
    }
}

/// The name of the server that the client asks for, in lower case and without port and final dot.
/// `None`: it asks for none, or speaks neither TLS nor HTTP/1.
pub fn server_name(bytes: &[u8]) -> Answer<Option<String>> {
    let bytes = &bytes[..bytes.len().min(MAX_SERVER_NAME_BYTES)];
    let name = match tongue(bytes) {
        Tongue::Undecided => Ok(None),
        Tongue::Tls => hello::server_name(bytes),
        Tongue::Http1 => host::server_name(bytes),
        Tongue::Other => Ok(Some(None)),
    };
    match Answer::of(name) {
        Answer::Incomplete if bytes.len() == MAX_SERVER_NAME_BYTES => match cut_short(bytes) {
            Ok(none) => Answer::Done(none),
            Err(_) => Answer::Malformed("it is longer than 32 KiB"),
        },
        answer => answer,
    }
}

/// What bytes mean for which [`server_name`] said [`Answer::Incomplete`] when no more will come.
/// What could have become anything asks for no server.
///
/// # Errors
/// They are the beginning of a ClientHello or of a request.
pub fn cut_short(bytes: &[u8]) -> Result<Option<String>, &'static str> {
    match tongue(bytes) {
        Tongue::Undecided | Tongue::Other => Ok(None),
        Tongue::Tls => Err("its ClientHello is not finished"),
        Tongue::Http1 => Err("the head of its request is not finished"),
    }
}

/// A name as rules are compared with. An IP address is one, too. Empty: none.
pub(super) fn normal(name: &[u8]) -> Result<Option<String>, &'static str> {
    let name = str::from_utf8(name).map_err(|_| "its server's name is not text")?;
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    // RFC 1035: 255 bytes on the wire are 253 in text.
    if name.len() > 253 || name.starts_with('.') || !name.bytes().all(is_plain) {
        return Err("its server's name is none");
    }
    Ok(Some(name).filter(|name| !name.is_empty()))
}

/// An IPv6 address in brackets as rules are compared with.
pub(super) fn bracketed(text: &[u8]) -> Result<Option<String>, &'static str> {
    let address = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    let address: IpAddr = address.ok_or("its server's address is none")?;
    Ok(Some(address.to_string()))
}
