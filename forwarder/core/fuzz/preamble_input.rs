//! What must hold for any bytes that are read as a preamble.

use forwarder_core::config::ProxyVersion;
use forwarder_core::preamble::{Answer, MAX_SERVER_NAME_BYTES, cut_short, proxy, server_name};

/// Longest input that is read from each of its beginnings.
const ALL_BEGINNINGS: usize = 512;

/// Reads `input` as a PROXY header. A header that is taken lies within the input, and one written
/// for the client that it names says the same.
pub(crate) fn check_proxy(input: &[u8]) {
    for only in [None, Some(ProxyVersion::V1), Some(ProxyVersion::V2)] {
        let answer = check(input, |bytes| proxy::parse(bytes, only));
        let Answer::Done(header) = answer else { continue };
        assert!(header.len <= input.len() && header.len <= proxy::MAX_BYTES);
        let Some(client) = header.client else { continue };
        assert_eq!(client.ip(), client.ip().to_canonical());
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let written = proxy::write(version, client, client);
            let expected = proxy::Header { len: written.len(), client: Some(client) };
            assert_eq!(proxy::parse(&written, only), if_allowed(version, only, expected));
        }
    }
}

fn if_allowed(
    version: ProxyVersion,
    only: Option<ProxyVersion>,
    header: proxy::Header,
) -> Answer<proxy::Header> {
    match only.is_none_or(|only| only == version) {
        true => Answer::Done(header),
        false => Answer::Malformed("it does not begin with a PROXY header"),
    }
}

/// Reads `input` as what names a server. A name that is taken is one, and whoever waits for more
/// knows what it means when none comes.
pub(crate) fn check_server_name(input: &[u8]) {
    let answer = check(input, server_name);
    match answer {
        Answer::Done(Some(name)) => {
            let allowed =
                |c: char| c.is_ascii_digit() || c.is_ascii_lowercase() || "-._:".contains(c);
            assert!(!name.is_empty() && name.len() <= 253 && name.chars().all(allowed), "{name}");
            assert!(!name.ends_with('.') || name.ends_with(".."), "{name}");
        }
        Answer::Done(None) | Answer::Malformed(_) => {}
        Answer::Incomplete => {
            assert!(input.len() < MAX_SERVER_NAME_BYTES);
            assert!(cut_short(input).is_ok_and(|name| name.is_none()) || input.len() >= 6);
        }
    }
}

/// The answer to the whole input, which is the first that any of its beginnings gives.
fn check<T: PartialEq + std::fmt::Debug>(
    input: &[u8],
    read: impl Fn(&[u8]) -> Answer<T>,
) -> Answer<T> {
    let whole = read(input);
    for end in 0..input.len().min(ALL_BEGINNINGS) {
        let answer = read(&input[..end]);
        if answer != Answer::Incomplete {
            assert_eq!(answer, whole, "after {end} bytes");
            break;
        }
    }
    whole
}
