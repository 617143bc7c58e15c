//! Listeners that are paused, and a relay that drains.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::*;
use schemas::vocab::Transport::{Tcp, Udp};

#[test]
fn clients_of_a_paused_listener_wait_until_it_is_resumed() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let (mut old, mut server) = (tcp_client(scene.address(0)), accept(&target));
    scene.pause(true);
    let mut waiting: Vec<_> = (0..20).map(|_| tcp_client(scene.address(0))).collect();
    pass(&mut old, &mut server, b"what runs goes on");
    assert_eq!(scene.account.live().count(), 1);
    assert_eq!(target_is_quiet(&target), Ok(()));
    scene.pause(false);
    for client in &mut waiting {
        // Whose it is does not matter: each is told the same.
        accept(&target).write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    for client in &mut waiting {
        assert_eq!(read_to_end(client), Ok(b"hello".to_vec()));
    }
    drop((waiting, old, server));
    assert_eq!(scene.finish().sessions.len(), 21);
}

#[test]
fn while_we_drain_clients_are_refused_and_what_runs_goes_on_and_it_can_be_taken_back() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let address = scene.address(0);
    let (mut old, mut server) = (tcp_client(address), accept(&target));
    for round in 0..3 {
        scene.controls().change_intakes(|intakes| assert!(intakes.set_draining(true)));
        until("the kernel refuses", || match TcpStream::connect(address) {
            Err(error) => error.kind() == ErrorKind::ConnectionRefused,
            // One of the threads still listens; who gets in is served.
            Ok(_) => false,
        });
        pass(&mut old, &mut server, b"what runs goes on");
        scene.controls().change_intakes(|intakes| assert!(intakes.set_draining(false)));
        // All threads listen again once every one of many clients is served.
        until("it listens again", || (0..20).all(|_| TcpStream::connect(address).is_ok()));
        assert!(scene.account.live().count() > round, "they have sessions");
    }
    drop((old, server, target));
    let rows = scene.finish_within(Duration::from_secs(1));
    assert_eq!(rows.sessions[0].end_reason, "done");
}

#[test]
fn new_clients_of_a_paused_udp_listener_are_dropped_and_counted() {
    let target = udp_socket(ANY);
    let scene = Scene::start(&one_service(Udp, &[target.local_addr().unwrap()]));
    let (old, new) = (udp_client(ANY, scene.address(0)), udp_client(ANY, scene.address(0)));
    let mut buffer = [0; 64];
    old.send(b"first").unwrap();
    target.recv_from(&mut buffer).unwrap();
    scene.pause(true);
    until("a datagram of a new client is dropped", || {
        new.send(b"new").unwrap();
        scene.counters().datagrams_paused.load(Ordering::Relaxed) > 0
    });
    old.send(b"what runs goes on").unwrap();
    until("it has come", || target.recv_from(&mut buffer).unwrap().0 == 17);
    scene.pause(false);
    target.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    until("the new client is heard", || {
        new.send(b"again").unwrap();
        target.recv_from(&mut buffer).is_ok()
    });
    assert_eq!(scene.finish().sessions.len(), 2);
}

/// Nobody connects for a moment.
fn target_is_quiet(target: &std::net::TcpListener) -> Result<(), ()> {
    target.set_nonblocking(true).unwrap();
    match target.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        _ => Err(()),
    }
}
