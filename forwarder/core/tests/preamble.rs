//! Preambles as clients and proxies send them, whole, in pieces, cut and mangled.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use forwarder_core::config::ProxyVersion;
use forwarder_core::preamble::proxy::{self, Header};
use forwarder_core::preamble::{Answer, MAX_SERVER_NAME_BYTES, cut_short, server_name};
use proptest::prelude::*;

#[path = "../fuzz/preamble_input.rs"]
mod preamble_input;

/// The inputs of a fuzzer's corpus, by name.
fn corpus(directory: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(directory);
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut all: Vec<_> =
        entries.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect();
    all.sort();
    assert!(all.len() >= 15);
    all
}

/// What is said about each input of a corpus.
fn answers<T: std::fmt::Debug>(directory: &str, read: impl Fn(&[u8]) -> T) -> String {
    let answer = |(name, input): (String, Vec<u8>)| format!("{name:26} {:?}\n", read(&input));
    corpus(directory).into_iter().map(answer).collect()
}

#[test]
fn proxy_headers_mean_what_the_specification_says() {
    insta::assert_snapshot!(answers("proxy_header", |input| proxy::parse(input, None)));
}

#[test]
fn client_hellos_name_their_server_or_say_that_they_do_not() {
    insta::assert_snapshot!(answers("client_hello", server_name));
}

#[test]
fn requests_name_their_server_or_say_that_they_do_not() {
    insta::assert_snapshot!(answers("host", server_name));
}

/// `cargo fuzz` needs a nightly compiler; what it found once is kept found here.
#[test]
fn every_input_of_the_corpora_is_read_or_refused() {
    for (name, input) in corpus("proxy_header") {
        println!("{name}");
        preamble_input::check_proxy(&input);
    }
    for (name, input) in corpus("client_hello").into_iter().chain(corpus("host")) {
        println!("{name}");
        preamble_input::check_server_name(&input);
    }
}

#[test]
fn only_the_version_that_is_allowed_is_read() {
    let client = "192.0.2.7:1".parse().unwrap();
    for sent in [ProxyVersion::V1, ProxyVersion::V2] {
        for allowed in [ProxyVersion::V1, ProxyVersion::V2] {
            let answer = proxy::parse(&proxy::write(sent, client, client), Some(allowed));
            assert_eq!(matches!(answer, Answer::Done(_)), sent == allowed, "{sent} {allowed}");
        }
    }
}

#[test]
fn addresses_of_both_families_are_sent_as_the_version_can_say_it() {
    let (v4, v6) = ("192.0.2.7:1".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap());
    assert_eq!(&*proxy::write(ProxyVersion::V1, v4, v6), b"PROXY UNKNOWN\r\n");
    for (client, listen) in [(v4, v6), (v6, v4)] {
        let header = proxy::parse(&proxy::write(ProxyVersion::V2, client, listen), None);
        assert_eq!(header, Answer::Done(Header { len: 52, client: Some(client) }));
    }
}

#[test]
fn a_target_without_a_scheme_does_not_precede_over_the_host_field() {
    for target in ["://www.example.com/", "1http://www.example.com/", "/?://www.example.com/"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: secret.example.com\r\n\r\n");
        let expected = Answer::Done(Some("secret.example.com".to_owned()));
        assert_eq!(server_name(request.as_bytes()), expected, "{target}");
    }
}

#[test]
fn what_is_neither_tls_nor_http_is_known_by_its_first_bytes() {
    for first in [&b"\x00"[..], b"\x03\x00", b"\x16\x02", b"{", b"\r", b" GET", b"RFB 003.008\n"] {
        assert_eq!(server_name(first), Answer::Done(None), "{first:?}");
    }
    for silent in [&b""[..], b"\x16", b"\x16\x03\x01", b"HELO", b"HELO there"] {
        assert_eq!(server_name(silent), Answer::Incomplete, "{silent:?}");
        assert_eq!(cut_short(silent), Ok(None), "it could have become anything: {silent:?}");
    }
    for begun in [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET / HTTP/1.1\r\nHo"] {
        assert_eq!(server_name(begun), Answer::Incomplete, "{begun:?}");
        assert!(cut_short(begun).is_err(), "it shows what it is: {begun:?}");
    }
}

#[test]
fn nothing_is_read_without_end() {
    let mut endless = b"GET / HTTP/1.1\r\n".to_vec();
    while endless.len() < MAX_SERVER_NAME_BYTES {
        assert_eq!(server_name(&endless), Answer::Incomplete);
        endless.extend_from_slice(b"cookie: ");
        endless.resize(endless.len() + 2000, b'x');
        endless.extend_from_slice(b"\r\n");
    }
    assert!(matches!(server_name(&endless), Answer::Malformed(_)));
    let wordy = vec![b'x'; MAX_SERVER_NAME_BYTES];
    assert_eq!(server_name(&wordy), Answer::Done(None), "no method is that long");
    let mut path = b"GET /".to_vec();
    path.resize(MAX_SERVER_NAME_BYTES, b'x');
    assert_eq!(server_name(&path), Answer::Done(None), "no line ended, so it was no request yet");
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits)));
    let v6 = any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from(bits)).to_canonical());
    (prop_oneof![v4, v6], any::<u16>()).prop_map(SocketAddr::from)
}

/// A ClientHello with extensions around the server's name, in records of any size.
fn hello() -> impl Strategy<Value = (String, Vec<u8>)> {
    let extension = (1_u16.., prop::collection::vec(any::<u8>(), 0..60));
    let extensions = prop::collection::vec(extension, 0..6);
    let name = "[a-z0-9]([a-z0-9-]{0,20}\\.){1,4}[a-z]{2,8}";
    (name, extensions, any::<prop::sample::Index>(), 1_usize..400).prop_map(
        |(name, extensions, place, record)| {
            let sized = |bytes: &[u8]| {
                let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                [&len, bytes].concat()
            };
            let entry = [&[0], &*sized(name.as_bytes())].concat();
            let mut all: Vec<_> = extensions;
            all.insert(place.index(all.len() + 1), (0, sized(&entry)));
            let all: Vec<_> = all
                .iter()
                .flat_map(|(kind, body)| [&kind.to_be_bytes(), &*sized(body)].concat())
                .collect();
            let mut body = vec![3; 2 + 32];
            body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
            body.extend_from_slice(&sized(&all));
            let len = u32::try_from(body.len()).unwrap().to_be_bytes();
            let message = [&[1], &len[1..], &body].concat();
            let records = message.chunks(record);
            (name, records.flat_map(|part| [&[0x16, 3, 1], &*sized(part)].concat()).collect())
        },
    )
}

/// Beginnings of an input that end anywhere.
fn assert_split_changes_nothing<T: PartialEq + std::fmt::Debug>(
    input: &[u8],
    needed: usize,
    read: impl Fn(&[u8]) -> Answer<T>,
) {
    let whole = read(input);
    for end in 0..=input.len() {
        let answer = read(&input[..end]);
        if end < needed {
            assert_eq!(answer, Answer::Incomplete, "after {end} bytes");
        } else {
            assert_eq!(answer, whole, "after {end} bytes");
        }
    }
}

proptest! {
    #[test]
    fn a_written_header_reads_back_however_it_is_split(
        client in address(),
        listen in address(),
        payload in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let header = proxy::write(version, client, listen);
            let speaks = version == ProxyVersion::V2 || client.is_ipv4() == listen.is_ipv4();
            let expected = Header { len: header.len(), client: speaks.then_some(client) };
            let input = [&*header, &payload].concat();
            prop_assert_eq!(proxy::parse(&input, None), Answer::Done(expected));
            assert_split_changes_nothing(&input, header.len(), |bytes| proxy::parse(bytes, None));
        }
    }

    #[test]
    fn a_client_hello_names_its_server_however_it_is_split((name, hello) in hello()) {
        prop_assert_eq!(server_name(&hello), Answer::Done(Some(name)));
        assert_split_changes_nothing(&hello, hello.len(), server_name);
    }

    #[test]
    fn a_request_names_its_server_however_it_is_split(
        name in "[a-z0-9]([a-z0-9-]{0,20}\\.){1,4}[a-z]{2,8}",
        port in prop::option::of(any::<u16>()),
        fields in prop::collection::vec("[A-Z][a-z-]{0,10}x: [ -~]{0,40}", 0..5),
        body in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let upper = name.to_uppercase();
        let head = format!("POST /a?b HTTP/1.1\r\n{fields}HOST: {upper}{port}\r\n{fields}\r\n");
        let input = [head.as_bytes(), &body].concat();
        prop_assert_eq!(server_name(&input), Answer::Done(Some(name)));
        assert_split_changes_nothing(&input, head.len(), server_name);
    }

    #[test]
    fn noise_is_read_or_refused(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        preamble_input::check_proxy(&noise);
        preamble_input::check_server_name(&noise);
    }

    #[test]
    fn mangled_preambles_are_read_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for directory in ["proxy_header", "client_hello", "host"] {
            let mut corpus = corpus(directory);
            let mut input = corpus.swap_remove(which.index(corpus.len())).1;
            for (at, byte) in &changes {
                let at = at.index(input.len());
                input[at] = *byte;
            }
            preamble_input::check_proxy(&input);
            preamble_input::check_server_name(&input);
        }
    }
}
