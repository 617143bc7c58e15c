//! The ClientHello of TLS: records (RFC 8446, 5.1) that together hold a handshake message (4), in
//! it extensions (4.2), one of which is the server's name (RFC 6066, 3).
//!
//! With encrypted ClientHello this is the outer name, which is all that anybody between can see.

use super::server_name::normal;

/// Longest ClientHello that is read, in bytes without its records' heads.
pub(super) const MAX_BYTES: usize = 16 * 1024;

/// Content type of records that hold handshake messages.
pub(super) const HANDSHAKE: u8 = 0x16;

const CLIENT_HELLO: u8 = 1;
const RECORD_HEAD: usize = 5;
/// Type and length.
const MESSAGE_HEAD: usize = 4;
/// RFC 8446, 5.1: before encryption.
const MAX_RECORD_BYTES: usize = 1 << 14;

const EXTENSION_SERVER_NAME: usize = 0;
const HOST_NAME: usize = 0;

/// Whether this is a ClientHello; `None`: that does not show yet. The first byte is [`HANDSHAKE`].
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    // SSL 3.0 and every TLS have major version 3.
    if bytes.get(1).is_some_and(|&major| major != 3) {
        return Some(false);
    }
    let len = bytes.get(3..RECORD_HEAD).map(|len| usize::from(len[0]) << 8 | usize::from(len[1]));
    if len.is_some_and(|len| !(1..=MAX_RECORD_BYTES).contains(&len)) {
        return Some(false);
    }
    bytes.get(RECORD_HEAD).map(|&kind| kind == CLIENT_HELLO)
}

/// The name in a ClientHello, whose first bytes [`begins`] has judged. `Ok(None)`: more is needed.
pub(super) fn server_name(bytes: &[u8]) -> Result<Option<Option<String>>, &'static str> {
    let Some(message) = message(bytes)? else { return Ok(None) };
    in_message(&message).map(Some)
}

/// The whole message without its head, put together from its records; records behind it are not
/// looked at. Until it is whole the heads of its records are all that is read, and nothing is
/// allocated: whoever sends single bytes has this called for each.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let (mut head, mut seen) = ([0; MESSAGE_HEAD], 0);
    let mut rest = bytes;
    let len = loop {
        if seen >= MESSAGE_HEAD {
            let [_, a, b, c] = head;
            let len = MESSAGE_HEAD + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
            if len > MAX_BYTES {
                return Err("its ClientHello is longer than 16 KiB");
            }
            if seen >= len {
                break len;
            }
        }
        let Some((fragment, behind)) = record(rest)? else { return Ok(None) };
        for (byte, room) in fragment.iter().zip(head.iter_mut().skip(seen)) {
            *room = *byte;
        }
        seen += fragment.len();
        rest = behind;
    };
    let mut message = Vec::with_capacity(seen);
    let mut rest = bytes;
    while message.len() < len {
        let Some((fragment, behind)) = record(rest)? else { return Ok(None) };
        message.extend_from_slice(fragment);
        rest = behind;
    }
    message.truncate(len);
    message.drain(..MESSAGE_HEAD);
    Ok(Some(message))
}

/// What a record holds, as far as it is there, and what is behind it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// Cuts the first record off. `None`: not even its whole head.
fn record(bytes: &[u8]) -> Result<Option<Split<'_>>, &'static str> {
    let Some((&[kind, major, _, high, low], rest)) = bytes.split_first_chunk::<RECORD_HEAD>()
    else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if kind != HANDSHAKE || major != 3 || !(1..=MAX_RECORD_BYTES).contains(&len) {
        return Err("its ClientHello is cut by a record of another kind");
    }
    Ok(Some(rest.split_at(rest.len().min(len))))
}

/// The name in the body of a ClientHello.
fn in_message(message: &[u8]) -> Result<Option<String>, &'static str> {
    const SHORT: &str = "its ClientHello has fields that do not fit into it";
    let mut fields = Fields(message);
    // legacy_version and random.
    fields.take(2 + 32).ok_or(SHORT)?;
    // legacy_session_id, cipher_suites, legacy_compression_methods.
    fields.take_sized::<1>().ok_or(SHORT)?;
    fields.take_sized::<2>().ok_or(SHORT)?;
    fields.take_sized::<1>().ok_or(SHORT)?;
    if fields.0.is_empty() {
        // A client older than extensions.
        return Ok(None);
    }
    let mut extensions = Fields(fields.take_sized::<2>().ok_or(SHORT)?);
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number::<2>().ok_or(SHORT)?;
        let extension = extensions.take_sized::<2>().ok_or(SHORT)?;
        if kind == EXTENSION_SERVER_NAME && name.replace(in_extension(extension)?).is_some() {
            return Err("its ClientHello names its server twice");
        }
    }
    Ok(name.flatten())
}

/// The name in the extension: a list, of which clients send one entry.
fn in_extension(extension: &[u8]) -> Result<Option<String>, &'static str> {
    const SHORT: &str = "its server's name does not fit into its field";
    let mut names = Fields(Fields(extension).take_sized::<2>().ok_or(SHORT)?);
    let mut name = None;
    while !names.0.is_empty() {
        let kind = names.number::<1>().ok_or(SHORT)?;
        let text = names.take_sized::<2>().ok_or(SHORT)?;
        if kind == HOST_NAME && name.replace(normal(text)?).is_some() {
            return Err("its ClientHello names its server twice");
        }
    }
    Ok(name.flatten())
}

/// Fields one after the other, each with its length in front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    /// A number of so many bytes.
    fn number<const BYTES: usize>(&mut self) -> Option<usize> {
        let bytes = self.take(BYTES)?;
        Some(bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// A field whose length is a number of so many bytes.
    fn take_sized<const BYTES: usize>(&mut self) -> Option<&'a [u8]> {
        let len = self.number::<BYTES>()?;
        self.take(len)
    }
}
