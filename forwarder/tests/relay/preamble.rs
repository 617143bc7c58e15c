//! What clients send before they are let in: PROXY headers, and the names of servers.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use forwarder::relay::Tuning;
use forwarder_core::config::ProxyVersion;
use forwarder_core::preamble::proxy;
use schemas::table::Denied;
use schemas::vocab::Transport::Tcp;
use schemas::wire::Rows;

use crate::recorder::Recorder;
use crate::support::*;

/// Long enough for whoever sends what it should, on a busy machine.
const AMPLE: Duration = DEADLINE;

/// Short enough to be waited for.
const SOON: Duration = Duration::from_millis(200);

/// One service to `target` with this `proxy_protocol`.
pub(crate) fn service_with(proxy_protocol: &str, target: &TcpListener) -> String {
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    service.replacen('\n', &format!("\nproxy_protocol = {{ {proxy_protocol} }}\n"), 1)
}

/// A relay whose only service takes PROXY headers from `trusted` and goes to `target`.
fn behind_a_proxy(target: &TcpListener, trusted: &str, preread: Duration) -> Scene {
    let accept = format!("accept = \"any\", trusted = [\"{trusted}\"]");
    Scene::start(&format!("{}{}", timeouts(preread), service_with(&accept, target)))
}

fn timeouts(preread: Duration) -> String {
    format!("[timeouts]\npreread = \"{}ms\"\n", preread.as_millis())
}

/// A service that sends clients to the first target who ask for `a.example` or any name below
/// `b.example`, and to the second whoever is left.
fn by_name(targets: [&TcpListener; 2], preread: Duration) -> Scene {
    Scene::start(&named_services(targets, preread, ""))
}

fn named_services(targets: [&TcpListener; 2], preread: Duration, of_named: &str) -> String {
    let [named, other] = targets.map(|target| target.local_addr().unwrap());
    format!(
        "{}[[service]]\nname = \"s\"\nlisten = [\"tcp://{ANY}\"]\ntarget = [\"{named}\"]\n\
         [[rule]]\nname = \"named\"\nserver_name = [\"a.example\", \"*.B.example\"]\n{of_named}\n\
         action = \"pass\"\n\
         [[rule]]\nname = \"others\"\ntarget = [\"{other}\"]\naction = \"pass\"\n",
        timeouts(preread)
    )
}

/// The ClientHello that `openssl s_client` sends, with this name or without one.
pub(crate) fn client_hello(name: Option<&str>) -> Vec<u8> {
    let extension = |kind: u8, body: &[u8]| [&[0, kind, 0, body.len() as u8], body].concat();
    let mut extensions = extension(43, &[2, 3, 4]);
    if let Some(name) = name {
        let len = name.len() as u8;
        let entry = [&[0, len + 3, 0, 0, len], name.as_bytes()].concat();
        extensions.extend(extension(0, &entry));
    }
    extensions.extend(extension(21, &[0; 200]));
    let size = |len: usize| (len as u16).to_be_bytes();
    let mut body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    body.extend(size(extensions.len()));
    body.extend(extensions);
    let message = [&[1, 0][..], &size(body.len()), &body].concat();
    [&[0x16, 3, 1][..], &size(message.len()), &message].concat()
}

pub(crate) fn header(version: ProxyVersion, client: &str) -> proxy::Written {
    proxy::write(version, client.parse().unwrap(), "198.51.100.1:443".parse().unwrap())
}

/// Sends each piece as a segment of its own.
fn send_in(pieces: impl Iterator<Item = impl AsRef<[u8]>>, client: &mut TcpStream) {
    client.set_nodelay(true).unwrap();
    for piece in pieces {
        client.write_all(piece.as_ref()).unwrap();
        std::thread::yield_now();
    }
}

/// A client sends `first`; exactly that arrives at `target`.
fn assert_arrives(scene: &Scene, target: &TcpListener, first: &[u8]) {
    let mut client = tcp_client(scene.address(0));
    client.write_all(first).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut server = accept(target);
    assert_eq!(read_to_end(&mut server).as_deref(), Ok(first));
    drop(server);
    assert_eq!(read_to_end(&mut client), Ok(vec![]));
}

pub(crate) fn assert_refused(client: &mut TcpStream) {
    let end = read_to_end(client);
    assert!(matches!(end, Err(ErrorKind::ConnectionReset)), "{end:?}");
}

/// The only refusal, and no session beside it.
fn only_refusal(rows: Rows) -> Denied {
    let [denied] = &rows.denied[..] else { panic!("{:?}", rows.denied) };
    assert_eq!(rows.sessions, []);
    denied.clone()
}

fn assert_bad_preamble(rows: Rows) {
    let denied = only_refusal(rows);
    let what = [&denied.phase, &denied.reason, &denied.action, &denied.client_ip.unwrap()];
    assert_eq!(what, ["preread", "bad_preamble", "reset", "127.0.0.1"]);
    assert_eq!((denied.rule, denied.count), (None, 1));
}

#[test]
fn the_client_that_a_trusted_proxy_names_is_in_the_account_and_its_header_is_no_payload() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let target = tcp_target();
        let scene = behind_a_proxy(&target, "127.0.0.0/8", AMPLE);
        let mut client = tcp_client(scene.address(0));
        let all = [&*header(version, "192.0.2.7:50123"), b"question"].concat();
        send_in(all.chunks(1), &mut client);
        let mut server = accept(&target);
        let mut got = [0; 8];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"question");
        pass(&mut server, &mut client, b"answer");
        drop((client, server));
        let session = scene.finish().sessions.remove(0);
        assert_eq!(bytes_of(&session), [8, 8, 6, 6]);
        assert_eq!(session.client_ip, "127.0.0.1");
        assert_eq!(session.proxied_client_ip.as_deref(), Some("192.0.2.7"));
        assert_eq!(session.proxied_client_port, Some(50123));
    }
}

#[test]
fn a_proxy_may_speak_for_itself() {
    let target = tcp_target();
    let scene = behind_a_proxy(&target, "127.0.0.1/32", AMPLE);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    for header in [&local[..], b"PROXY UNKNOWN\r\n"] {
        let mut client = tcp_client(scene.address(0));
        client.write_all(&[header, b"x"].concat()).unwrap();
        let mut server = accept(&target);
        let mut got = [0];
        server.read_exact(&mut got).unwrap();
        drop((client, server));
    }
    for session in scene.finish().sessions {
        assert_eq!((session.proxied_client_ip, session.proxied_client_port), (None, None));
        assert_eq!(session.bytes_up, 1);
    }
}

#[test]
fn a_header_of_somebody_who_is_not_trusted_is_payload() {
    let target = tcp_target();
    let scene = behind_a_proxy(&target, "192.0.2.0/24", SOON);
    assert_arrives(&scene, &target, &header(ProxyVersion::V1, "10.0.0.1:1"));
    let session = scene.finish().sessions.remove(0);
    assert_eq!((session.proxied_client_ip, session.bytes_up > 0), (None, true));
}

#[test]
fn rules_see_the_client_behind_the_proxy() {
    let target = tcp_target();
    let service = service_with("accept = \"any\", trusted = [\"127.0.0.0/8\"]", &target);
    let only = "name = \"all\"\nfrom = [\"192.0.2.7\"]";
    let scene = Scene::start(&service.replace("name = \"all\"", only));
    let greet = |from: &str| {
        let mut client = tcp_client(scene.address(0));
        client.write_all(&header(ProxyVersion::V2, from)).unwrap();
        client
    };
    assert_refused(&mut greet("192.0.2.8:1"));
    let client = greet("192.0.2.7:1");
    drop((accept(&target), client));
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 1);
    let [denied] = &rows.denied[..] else { panic!("{:?}", rows.denied) };
    assert_eq!((denied.reason.as_str(), denied.phase.as_str()), ("no_rule", "policy"));
}

#[test]
fn a_trusted_peer_without_a_whole_header_is_refused() {
    type Ends = fn(&mut TcpStream);
    let never: Ends = |_| {};
    let finishes: Ends = |client| client.shutdown(Shutdown::Write).unwrap();
    let cases: [(&[u8], Duration, Ends); 6] = [
        (b"GET / HTTP/1.1\r\n", AMPLE, never),
        (b"PROXY TCP4 192.0.2.7 198.5", SOON, never),
        (b"PROXY TCP4 192.0.2.7 198.5", AMPLE, finishes),
        (b"", SOON, never),
        (b"", AMPLE, finishes),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", AMPLE, never),
    ];
    for (sent, preread, ends) in cases {
        let target = tcp_target();
        let scene = behind_a_proxy(&target, "127.0.0.0/8", preread);
        let mut client = tcp_client(scene.address(0));
        client.write_all(sent).unwrap();
        ends(&mut client);
        assert_refused(&mut client);
        assert_bad_preamble(scene.finish());
    }
}

#[test]
fn no_more_clients_wait_than_there_is_room_for() {
    let target = tcp_target();
    let accept = "accept = \"any\", trusted = [\"127.0.0.0/8\"]";
    let tuning = Tuning { places: 1, ..Tuning::default() };
    let scene = Scene::start_tuned(&service_with(accept, &target), tuning);
    let waiting = |client: &TcpStream| client.peek(&mut [0]).is_err_and(|e| is_no_answer(&e));
    let clients: Vec<_> = (0..10).map(|_| tcp_client(scene.address(0))).collect();
    let refused = || scene.counters().door_full.load(Relaxed);
    until("all are waiting or refused", || {
        let soon = Some(Duration::from_millis(20));
        clients.iter().for_each(|client| client.set_read_timeout(soon).unwrap());
        clients.iter().filter(|client| waiting(client)).count() as u64 + refused() == 10
    });
    // Each of the two threads has room for one.
    assert!((8..=9).contains(&refused()), "{}", refused());
    drop(clients);
    let rows = scene.finish();
    let of = |reason: &str| {
        let rows = rows.denied.iter().filter(|denied| denied.reason == reason);
        rows.map(|denied| denied.count).sum::<i64>()
    };
    assert_eq!(of("resource") + of("bad_preamble"), 10);
    assert!((8..=9).contains(&of("resource")));
    assert!(rows.denied.iter().all(|denied| denied.phase == "preread"));
}

fn is_no_answer(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[test]
fn clients_go_to_the_target_of_the_server_they_ask_for() {
    let (named, other) = (tcp_target(), tcp_target());
    let scene = by_name([&named, &other], AMPLE);
    let request = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let mut sent = 0;
    for (first, target) in [
        (client_hello(Some("a.example")), &named),
        (client_hello(Some("X.B.example")), &named),
        (client_hello(Some("b.example")), &other),
        (client_hello(None), &other),
        (request("a.example:8080"), &named),
        (request("c.example"), &other),
        (b"SSH-2.0-x\r\n".to_vec(), &other),
        (b"\0\0\0\x08binary".to_vec(), &other),
        (vec![], &other),
    ] {
        assert_arrives(&scene, target, &first);
        sent += first.len() as i64;
    }
    let rows = scene.finish();
    let rules: Vec<_> = rows.sessions.iter().map(|session| session.rule.as_str()).collect();
    let [n, o] = ["named", "others"];
    assert_eq!(rules, [n, n, o, o, n, o, o, o, o]);
    for sum in [
        rows.sessions.iter().map(|session| session.received_up).sum::<i64>(),
        rows.sessions.iter().map(|session| session.bytes_up).sum(),
    ] {
        assert_eq!(sum, sent, "every byte that was peeked at is counted once");
    }
}

#[test]
fn a_client_hello_in_200_pieces_names_its_server() {
    let (named, other) = (tcp_target(), tcp_target());
    let scene = by_name([&named, &other], AMPLE);
    let hello = client_hello(Some("www.b.example"));
    let mut client = tcp_client(scene.address(0));
    send_in(hello.chunks(hello.len().div_ceil(200)), &mut client);
    let mut server = accept(&named);
    let mut got = vec![0; hello.len()];
    server.read_exact(&mut got).unwrap();
    assert_eq!(got, hello);
    pass(&mut server, &mut client, b"hello, too");
    drop((client, server));
    assert_eq!(scene.finish().sessions[0].bytes_up, hello.len() as i64);
}

#[test]
fn a_client_hello_that_is_not_finished_is_refused() {
    let hello = client_hello(Some("a.example"));
    let unfinished = &hello[..hello.len() - 1];
    for (sent, preread, finishes) in [
        (unfinished, SOON, false),
        (unfinished, AMPLE, true),
        (b"GET / HTTP/1.1\r\nHost: a.exa", SOON, false),
        (b"\x16\x03\x01\x40\x00\x01\xff\xff\xff\x03", AMPLE, false),
    ] {
        let (named, other) = (tcp_target(), tcp_target());
        let scene = by_name([&named, &other], preread);
        let mut client = tcp_client(scene.address(0));
        client.write_all(sent).unwrap();
        if finishes {
            client.shutdown(Shutdown::Write).unwrap();
        }
        assert_refused(&mut client);
        assert_bad_preamble(scene.finish());
    }
}

#[test]
fn a_client_that_waits_for_its_server_to_speak_gets_there_without_a_name() {
    for first in [&b""[..], b"HELO", b"\x16\x03"] {
        let (named, other) = (tcp_target(), tcp_target());
        let scene = by_name([&named, &other], SOON);
        let mut client = tcp_client(scene.address(0));
        client.write_all(first).unwrap();
        let mut server = accept(&other);
        // What was peeked at before is still read, though it brings no news.
        let mut got = vec![0; first.len()];
        server.read_exact(&mut got).unwrap();
        assert_eq!(got, first);
        pass(&mut server, &mut client, b"220 ready");
        pass(&mut client, &mut server, b"at last");
        drop((client, server));
        let session = scene.finish().sessions.remove(0);
        assert_eq!(session.bytes_up, first.len() as i64 + 7);
    }
}

#[test]
fn who_waits_at_the_door_when_we_stop_is_refused_as_draining() {
    let target = tcp_target();
    let scene = behind_a_proxy(&target, "127.0.0.0/8", AMPLE);
    let mut client = tcp_client(scene.address(0));
    client.write_all(b"PROXY TCP4 192").unwrap();
    let denied = only_refusal(scene.finish_within(SOON));
    assert_eq!((denied.phase.as_str(), denied.reason.as_str()), ("drain", "draining"));
    assert_refused(&mut client);
}

#[test]
fn a_capture_begins_with_the_first_byte_of_the_payload() {
    let (named, other) = (tcp_target(), tcp_target());
    let recorder = Recorder::start();
    let accept_header =
        "proxy_protocol = { accept = \"any\", trusted = [\"127.0.0.1\"] }\n[[rule]]";
    let services = named_services([&named, &other], AMPLE, "capture = \"full\"").replacen(
        "[[rule]]",
        accept_header,
        1,
    );
    let scene =
        Scene::start_with(&services, Setup { capture: recorder.lane(), ..Setup::default() });
    let hello = client_hello(Some("a.example"));
    let mut client = tcp_client(scene.address(0));
    let first = [&*header(ProxyVersion::V2, "192.0.2.7:50123"), &hello].concat();
    send_in(first.chunks(30), &mut client);
    let mut server = accept(&named);
    let mut got = vec![0; hello.len()];
    server.read_exact(&mut got).unwrap();
    pass(&mut server, &mut client, b"hello, too");
    drop((client, server));
    let session = scene.finish().sessions.remove(0);
    assert_eq!(
        (session.captured_bytes, session.capture_dropped_bytes),
        (hello.len() as i64 + 10, 0)
    );
    let kept = recorder.finish().remove(&1).unwrap();
    assert_eq!((kept.payload.up, kept.payload.down), (hello, b"hello, too".to_vec()));
}

/// Whether a program is installed; a test that needs it says so and does without.
fn has(program: &str) -> bool {
    let found =
        Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        println!("skipped: {program} is not installed");
    }
    found.is_ok()
}

#[test]
fn curl_tells_by_a_header_for_whom_it_speaks() {
    if !has("curl") {
        return;
    }
    let target = tcp_target();
    let scene = behind_a_proxy(&target, "127.0.0.0/8", AMPLE);
    let url = format!("http://{}/", scene.address(0));
    let curl = Command::new("curl")
        .args(["-s", "-m", "30", "--haproxy-protocol", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server = accept(&target);
    let mut begins = [0; 14];
    server.read_exact(&mut begins).unwrap();
    assert_eq!(&begins, b"GET / HTTP/1.1");
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    assert_eq!(curl.wait_with_output().unwrap().stdout, b"ok");
    drop(server);
    let session = scene.finish().sessions.remove(0);
    // It speaks for itself, by name.
    assert_eq!(session.proxied_client_ip.as_deref(), Some("127.0.0.1"));
    assert_eq!(session.proxied_client_port, Some(session.client_port));
}

#[test]
fn openssl_asks_for_its_server() {
    if !has("openssl") {
        return;
    }
    let (named, other) = (tcp_target(), tcp_target());
    let scene = by_name([&named, &other], AMPLE);
    let connect = scene.address(0).to_string();
    for (name, target) in [("deep.b.example", &named), ("c.example", &other)] {
        let mut openssl = Command::new("openssl")
            .args(["s_client", "-connect", &connect, "-servername", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = accept(target);
        let mut begins = [0; 3];
        server.read_exact(&mut begins).unwrap();
        assert_eq!(begins, [0x16, 3, 1]);
        reset(server);
        openssl.wait().unwrap();
    }
    scene.finish();
}

/// What a client sees that a rule refuses, with something of its own still unread by us.
#[test]
fn a_client_that_is_refused_in_order_sees_an_end_and_no_reset() {
    for refuse in ["reset", "close"] {
        let (named, other) = (tcp_target(), tcp_target());
        let services = named_services([&named, &other], AMPLE, &format!("refuse = \"{refuse}\""));
        let scene = Scene::start(&services.replacen("action = \"pass\"", "action = \"block\"", 1));
        let mut client = tcp_client(scene.address(0));
        client.write_all(&client_hello(Some("a.example"))).unwrap();
        match refuse {
            "close" => assert_eq!(read_to_end(&mut client), Ok(vec![])),
            _ => assert_refused(&mut client),
        }
        drop(client);
        let denied = only_refusal(scene.finish());
        assert_eq!((denied.action.as_str(), denied.rule.as_deref()), (refuse, Some("named")));
    }
}
