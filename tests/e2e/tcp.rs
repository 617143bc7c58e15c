//! TCP sessions as clients and servers experience them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;

use e2e_tests::endpoint::{Plan, Target, TcpServer, connect, exchange};
use e2e_tests::scene::Scene;
use e2e_tests::{address, descriptors, wait};

use crate::rows::{integer, text};

/// A scene with one TCP service for everyone, and where to reach it.
pub(crate) fn scene_with(target: SocketAddr, more: &str) -> (Scene, SocketAddr) {
    let mut scene = Scene::new();
    let listen = scene.free_address();
    scene.configure(&format!(
        "{more}\n[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{target}\"]\n\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\n"
    ));
    scene.start_recorder();
    scene.start_forwarder();
    (scene, listen)
}

#[test]
fn half_closed_client_still_receives_the_rest() {
    let target = Target::start(address::own());
    let (scene, listen) = scene_with(target.address(), "");
    let mut client = connect(scene.client(0), listen).unwrap();
    let mut server = target.accept();

    client.write_all(b"that was all").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut asked = String::new();
    server.read_to_string(&mut asked).unwrap();
    // Only after the client's end of stream has come through does the server begin.
    server.write_all(b"and this is the answer").unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!((asked.as_str(), answer.as_str()), ("that was all", "and this is the answer"));
}

#[test]
fn the_families_cross_both_ways() {
    for (inside, outside) in [
        ("[::1]".to_owned(), address::own()),
        (Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.into()),
    ] {
        let server = TcpServer::start(inside.trim_matches(['[', ']']).parse().unwrap());
        let mut scene = Scene::new();
        let listen = address::free(outside);
        scene.configure(&format!(
            "[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{}\"]\n\n\
             [[rule]]\nname = \"everyone\"\naction = \"pass\"\n",
            server.address()
        ));
        scene.start_recorder();
        scene.start_forwarder();
        exchange(SocketAddr::new(outside, 0), listen, Plan { up: 100_000, down: 200_000 }).unwrap();
    }
}

#[test]
fn a_target_that_refuses_ends_the_session_and_is_accounted() {
    let nobody = address::free(address::own());
    let (mut scene, listen) = scene_with(nobody, "");
    // It ends at once, by FIN or by RST, perhaps while it is still being set up.
    if let Ok(mut client) = connect(scene.client(0), listen) {
        drop(client.read(&mut [0; 1]));
    }
    assert!(scene.stop_forwarder().success());
    scene.flush();
    let rows = scene.rows(&["sessions"]);
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (text(&rows[0], "end_reason"), text(&rows[0], "end_phase")),
        ("target_refused", "connect")
    );
    assert_eq!(rows[0]["ts_connected"], serde_json::Value::Null);
}

#[test]
fn a_reset_of_the_client_reaches_the_target_and_the_account() {
    let target = Target::start(address::own());
    let (mut scene, listen) = scene_with(target.address(), "");
    let mut client = connect(scene.client(0), listen).unwrap();
    let mut server = target.accept();
    client.write_all(b"begin").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();

    let socket = socket2::Socket::from(client);
    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(socket);
    let seen = server.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(seen, Err(std::io::ErrorKind::ConnectionReset));
    assert!(scene.stop_forwarder().success());
    scene.flush();
    let rows = scene.rows(&["sessions"]);
    assert_eq!(text(&rows[0], "end_reason"), "client_reset");
    assert_eq!(integer(&rows[0], "bytes_up"), 5);
}

#[test]
fn a_long_relay_uses_no_more_memory_than_a_short_one() {
    const MIB: u64 = 1 << 20;
    let server = TcpServer::start(address::own());
    let (mut scene, listen) = scene_with(server.address(), "");
    exchange(scene.client(0), listen, Plan { up: MIB, down: MIB }).unwrap();
    let short = scene.forwarder().resident_bytes().unwrap();

    let from = scene.client(1);
    let long =
        thread::spawn(move || exchange(from, listen, Plan { up: 256 * MIB, down: 256 * MIB }));
    let mut most = 0;
    wait::until("the long relay ends", || {
        most = most.max(scene.forwarder().resident_bytes().unwrap());
        long.is_finished().then_some(())
    });
    wait::joined("the long relay ends", long).unwrap();
    assert!(most < short + 2 * MIB, "{short} bytes after 1 MiB, {most} bytes during 256 MiB");
}

#[test]
fn an_idle_session_costs_less_than_16_kib() {
    let sessions = descriptors::sessions(1000, 100, 2);
    let target = Target::start(address::own());
    let (mut scene, listen) = scene_with(target.address(), "");
    // One after the other, so that no queue of the kernel's fills, however slow the machine.
    let mut ends = vec![session(&mut scene, &target, listen, 0)];
    // The first one pays for what all of them share.
    let before = scene.forwarder().resident_bytes().unwrap();
    ends.extend((1..=sessions).map(|number| session(&mut scene, &target, listen, number)));
    let after = scene.forwarder().resident_bytes().unwrap();
    let each = after.saturating_sub(before) / u64::from(sessions);
    assert!(each < 16 << 10, "{each} bytes of forwarder memory for an idle session");
}

/// Both ends of client number `number`'s session.
#[track_caller]
fn session(
    scene: &mut Scene,
    target: &Target,
    listen: SocketAddr,
    number: u16,
) -> (TcpStream, TcpStream) {
    let client = connect(scene.client(number), listen)
        .unwrap_or_else(|error| panic!("session {number}: {error}\n{}", scene.forwarder().log()));
    let server = target.next().unwrap_or_else(|| {
        panic!("session {number} never reached its target\n{}", scene.forwarder().log())
    });
    (client, server)
}
