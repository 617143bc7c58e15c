//! Clients that begin with a preamble and then behave badly: they reset, they drip, or they never
//! finish it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use forwarder::relay::Tuning;
use forwarder_core::config::ProxyVersion;
use schemas::vocab::Transport::Tcp;

use crate::preamble::{assert_refused, client_hello, header, service_with};
use crate::support::*;

/// What a client sends first.
#[derive(Debug, Clone, Copy)]
enum Preamble {
    ProxyHeader,
    ClientHello,
}

const BOTH: [Preamble; 2] = [Preamble::ProxyHeader, Preamble::ClientHello];

impl Preamble {
    /// One service to `target` whose only rule needs it.
    fn service(self, target: &TcpListener) -> String {
        match self {
            Self::ProxyHeader => {
                service_with("accept = \"any\", trusted = [\"127.0.0.0/8\"]", target)
            }
            Self::ClientHello => {
                let service = one_service(Tcp, &[target.local_addr().unwrap()]);
                format!("{service}server_name = [\"a.example\"]\n")
            }
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Self::ProxyHeader => header(ProxyVersion::V2, "192.0.2.7:50123").to_vec(),
            Self::ClientHello => client_hello(Some("a.example")),
        }
    }

    /// A session that has it behind it. The rule has the keys of `more`, too. Gives how much of it
    /// was payload as well.
    fn session(self, more: &str) -> (Scene, TcpStream, TcpStream, i64) {
        let target = tcp_target();
        let scene = Scene::start(&format!("{}{more}", self.service(&target)));
        let (mut client, first) = (tcp_client(scene.address(0)), self.bytes());
        client.write_all(&first).unwrap();
        let mut server = accept(&target);
        let payload = match self {
            Self::ProxyHeader => vec![],
            Self::ClientHello => first,
        };
        let mut got = vec![0; payload.len()];
        server.read_exact(&mut got).unwrap();
        assert_eq!(got, payload);
        (scene, client, server, payload.len() as i64)
    }
}

/// Sends a byte now and then for as long as it is let.
fn drip(client: &mut TcpStream, bytes: impl Iterator<Item = u8>) -> Option<ErrorKind> {
    let started = Instant::now();
    for byte in bytes {
        // The pace is the point: it is never silent for long.
        std::thread::sleep(Duration::from_millis(10));
        if let Err(error) = client.write_all(&[byte]) {
            return Some(error.kind());
        }
        assert!(started.elapsed() < DEADLINE, "nobody ended it");
    }
    None
}

#[test]
fn a_reset_behind_a_preamble_reaches_the_other_side_as_one() {
    for preamble in BOTH {
        for clients in [true, false] {
            let (scene, mut client, mut server, first) = preamble.session("");
            pass(&mut client, &mut server, b"question");
            let (breaks, mut other) = if clients { (client, server) } else { (server, client) };
            reset(breaks);
            assert_eq!(read_to_end(&mut other), Err(ErrorKind::ConnectionReset), "{preamble:?}");
            let session = scene.finish().sessions.remove(0);
            let reason = if clients { "client_reset" } else { "target_reset" };
            assert_eq!(end_of(&session), [reason, "data", "none", "rst", "rst"]);
            assert_eq!(bytes_of(&session), [first + 8, first + 8, 0, 0]);
        }
    }
}

#[test]
fn a_preamble_that_comes_byte_by_byte_has_the_same_time_as_any_other() {
    for preamble in BOTH {
        let target = tcp_target();
        let service = preamble.service(&target);
        let scene = Scene::start(&format!("[timeouts]\npreread = \"300ms\"\n{service}"));
        let mut client = tcp_client(scene.address(0));
        let bytes = preamble.bytes();
        // It is never whole, so that a slow machine finds no client who was quick enough.
        let ended = drip(&mut client, bytes[..bytes.len() - 1].iter().copied());
        if ended.is_none() {
            assert_refused(&mut client);
        }
        let rows = scene.finish();
        assert_eq!(rows.sessions, []);
        assert_eq!(rows.denied[0].reason, "bad_preamble");
    }
}

#[test]
fn a_client_that_drips_behind_its_preamble_lasts_no_longer_than_it_may() {
    for preamble in BOTH {
        let (scene, mut client, _server, _) =
            preamble.session("timeouts = { max_duration = \"1s\" }\n");
        let ended = drip(&mut client, std::iter::repeat(b'x'));
        let expected = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(ended.is_some_and(|kind| expected.contains(&kind)), "{ended:?}");
        assert_eq!(scene.finish().sessions[0].end_reason, "max_duration");
    }
}

#[test]
fn a_client_that_is_silent_behind_its_preamble_is_idle() {
    for preamble in BOTH {
        let (scene, mut client, _server, _) =
            preamble.session("timeouts = { tcp_idle = \"300ms\" }\n");
        assert_eq!(read_to_end(&mut client), Ok(vec![]), "nobody is owed anything");
        let session = scene.finish().sessions.remove(0);
        assert_eq!(end_of(&session)[..2], ["idle_timeout", "data"]);
    }
}

#[test]
fn client_hellos_that_nobody_finishes_fill_the_door_and_hold_up_nobody_elsewhere() {
    const CLIENTS: u64 = 40;
    let (named, plain) = (greeter(), greeter());
    let text = format!(
        "[timeouts]\npreread = \"30s\"\n\
         [[service]]\nname = \"named\"\nlisten = [\"tcp://{ANY}\"]\ntarget = [\"{named}\"]\n\
         [[service]]\nname = \"plain\"\nlisten = [\"tcp://127.0.0.2:0\"]\ntarget = [\"{plain}\"]\n\
         [[rule]]\nname = \"by-name\"\nservices = [\"named\"]\nserver_name = [\"a.example\"]\n\
         action = \"pass\"\n[[rule]]\nname = \"all\"\nservices = [\"plain\"]\naction = \"pass\"\n"
    );
    let scene = Scene::start_tuned(&text, Tuning { places: 4, ..Tuning::default() });
    let hello = client_hello(Some("a.example"));
    let unfinished = &hello[..hello.len() / 2];
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = tcp_client(scene.address(0));
            // Whoever is refused already cannot send.
            drop(client.write_all(unfinished));
            client
        })
        .collect();
    let refused = || scene.counters().door_full.load(Relaxed);
    // Each of the two threads has room for four.
    until("the door is full", || refused() >= CLIENTS - 8);
    assert!(refused() < CLIENTS, "some wait");
    assert!(is_greeted(&scene, 1, b""), "who is asked nothing does not wait");

    drop(clients);
    until("there is room at the door again", || is_greeted(&scene, 0, &hello));
    let rows = scene.finish();
    assert!(rows.denied.iter().any(|denied| denied.reason == "resource"));
    assert!(rows.denied.iter().any(|denied| denied.reason == "bad_preamble"));
}

/// A target that says a word to whoever comes, and leaves when they do.
fn greeter() -> std::net::SocketAddr {
    let listener = tcp_target();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            drop(stream.write_all(b"hello"));
            drop(stream.read_to_end(&mut Vec::new()));
        }
    });
    address
}

/// Whether a client of a listener that sends this gets to its target.
fn is_greeted(scene: &Scene, listener: usize, first: &[u8]) -> bool {
    let mut client = tcp_client(scene.address(listener));
    client.write_all(first).and_then(|()| client.read_exact(&mut [0; 5])).is_ok()
}
