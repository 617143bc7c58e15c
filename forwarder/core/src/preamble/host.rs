//! The head of an HTTP/1 request (RFC 9112): its Host field, or the host in its target, which
//! precedes over it.

use httparse::{Request, Status};

use super::server_name::{bracketed, normal};

/// Most fields of a head.
const MAX_FIELDS: usize = 128;

/// Longest method, in bytes. The longest that is registered has 17.
const MAX_METHOD_BYTES: usize = 24;

/// Whether this is a request of HTTP/1; `None`: that does not show yet. HTTP/2 says what it is by a
/// request line of its own, and names its server where only its peer can follow.
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let is_whole = line.len() < bytes.len();
    let line = if is_whole { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    let method = line.iter().take_while(|&&byte| is_token(byte)).count();
    if method == 0 || method > MAX_METHOD_BYTES || line.get(method).is_some_and(|&b| b != b' ') {
        return Some(false);
    }
    let after_method = line.get(method + 1..).unwrap_or_default();
    let is_plain = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    let target = after_method.iter().take_while(|byte| is_plain(byte)).count();
    let version = after_method.get(target..).unwrap_or_default();
    match is_whole {
        true => Some(target > 0 && matches!(version, b" HTTP/1.0" | b" HTTP/1.1")),
        // A line that is cut may end in CR.
        false if matches!(version, b"" | b"\r") => None,
        false => {
            let fits = |sign: &[u8]| sign.starts_with(version);
            let may_be = target > 0 && (fits(b" HTTP/1.0\r") || fits(b" HTTP/1.1\r"));
            if may_be { None } else { Some(false) }
        }
    }
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The name in a request's head, whose first bytes [`begins`] has judged. `Ok(None)`: more is
/// needed. The whole head is: a second Host field makes the request faulty, and two readers of it
/// may be of two minds about which one counts.
pub(super) fn server_name(bytes: &[u8]) -> Result<Option<Option<String>>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err("the head of its request has more than 128 fields");
        }
        Err(_) => return Err("the head of its request is faulty"),
    }
    let hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    let mut hosts = hosts.map(|field| field.value.trim_ascii());
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("its request has two Host fields");
    }
    let is_connect = request.method == Some("CONNECT");
    let target = authority(request.path.unwrap_or_default().as_bytes(), is_connect);
    name(target.or(host).unwrap_or_default()).map(Some)
}

/// The host and port in a request's target. `None`: it has only a path, or `*`.
fn authority(target: &[u8], is_connect: bool) -> Option<&[u8]> {
    if is_connect {
        return Some(target);
    }
    let at = target.windows(3).position(|part| part == b"://")?;
    let scheme = &target[..at];
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if !scheme.first()?.is_ascii_alphabetic() || !scheme.iter().all(is_scheme) {
        return None;
    }
    let authority = target[at + 3..].split(|byte| b"/?#".contains(byte)).next()?;
    // Without whatever goes for a user and a password.
    authority.rsplit(|&byte| byte == b'@').next()
}

/// The name in a host with or without a port.
fn name(host: &[u8]) -> Result<Option<String>, &'static str> {
    if let Some(rest) = host.strip_prefix(b"[") {
        let end = rest.iter().position(|&byte| byte == b']');
        let end = end.ok_or("its server's address has no end")?;
        check_port(&rest[end + 1..])?;
        return bracketed(&rest[..end]);
    }
    let end = host.iter().position(|&byte| byte == b':').unwrap_or(host.len());
    check_port(&host[end..])?;
    normal(&host[..end])
}

/// What may follow a host: nothing, or a colon and digits.
fn check_port(text: &[u8]) -> Result<(), &'static str> {
    let digits = text.strip_prefix(b":").unwrap_or(text);
    let is_port = text.is_empty() || digits.len() < text.len();
    match is_port && digits.iter().all(u8::is_ascii_digit) {
        true => Ok(()),
        false => Err("its server's port is none"),
    }
}
