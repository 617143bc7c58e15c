//! Batches over real loopback sockets.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::*;
use crate::option;

/// A socket on a free port of `ip`, whose reads give up.
fn bound(ip: &str) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

fn pair(ip: &str) -> (UdpSocket, UdpSocket) {
    let (one, other) = (bound(ip), bound(ip));
    one.connect(other.local_addr().unwrap()).unwrap();
    other.connect(one.local_addr().unwrap()).unwrap();
    (one, other)
}

fn single<'a>(payload: &'a [IoSlice<'a>]) -> Message<'a> {
    Message { datagrams: payload, segment: None }
}

fn answered_from(bind: &str, spoken_to: &[&str]) {
    let relay = bound(bind);
    let address = relay.local_addr().unwrap();
    option::enable_packet_info(&relay, address.ip()).unwrap();
    for to in spoken_to {
        let to = SocketAddr::new(to.parse().unwrap(), address.port());
        let client = bound(&to.ip().to_string());
        client.connect(to).unwrap();
        client.send(b"question").unwrap();
        let mut batch = Batch::default();
        assert_eq!(batch.receive_from(&relay).unwrap(), 1);
        assert_eq!((batch.payload(0), batch.is_truncated(0)), (&b"question"[..], false));
        let source = batch.source(0).unwrap();
        assert_eq!(source.peer, client.local_addr().unwrap());
        assert_eq!(source.local, Some(Local::new(to.ip())));
        let back = Destination::new(source.peer, source.local);
        let parts = [IoSlice::new(b"ans"), IoSlice::new(b"wer"), IoSlice::new(b"s")];
        let run = Message { datagrams: &parts, segment: Some(3) };
        assert_eq!(send(&relay, &back, &[single(&parts[..1]), run]).unwrap(), 2);
        // A connected socket only hears the address it spoke to.
        let mut buffer = [0; 64];
        let lens = [(); 4].map(|()| client.recv(&mut buffer).unwrap());
        assert_eq!(lens, [3, 3, 3, 1]);
    }
}

#[test]
fn a_client_is_answered_from_the_ipv4_address_it_spoke_to() {
    answered_from("0.0.0.0", &["127.0.0.2", "127.0.0.3"]);
}

#[test]
fn a_client_is_answered_from_the_ipv6_address_it_spoke_to() {
    answered_from("::", &["::1"]);
}

#[test]
fn a_batch_holds_what_waits_in_order_and_empty_datagrams_too() {
    let (relay, client) = pair("127.0.0.1");
    let mut batch = Batch::default();
    let numbers: Vec<[u8; 1]> = (0..70).map(|number| [number]).collect();
    let parts: Vec<_> =
        numbers.iter().map(|number| IoSlice::new(&number[..number[0] as usize % 2])).collect();
    let messages: Vec<_> = parts.chunks(1).map(single).collect();
    let peer = Destination::connected();
    assert_eq!(send(&client, &peer, &messages).unwrap(), BATCH, "no more than one call takes");
    assert_eq!(send(&client, &peer, &messages[BATCH..]).unwrap(), 6);
    let mut seen = Vec::new();
    for expected in [BATCH, 6] {
        assert_eq!(batch.receive(&relay).unwrap(), expected);
        seen.extend((0..expected).map(|index| batch.payload(index).to_vec()));
    }
    let sent: Vec<_> = parts.iter().map(|part| part.to_vec()).collect();
    assert_eq!(seen, sent);
    relay.set_nonblocking(true).unwrap();
    let nothing = batch.receive(&relay).unwrap_err();
    assert_eq!((nothing.kind(), batch.len()), (io::ErrorKind::WouldBlock, 0));
}

#[test]
fn the_largest_datagrams_and_runs_pass_whole() {
    for (ip, largest) in [("127.0.0.1", 65_507), ("::1", 65_527)] {
        let (relay, client) = pair(ip);
        let payload: Vec<u8> = (0..largest).map(|at| (at % 251) as u8).collect();
        let part = [IoSlice::new(&payload)];
        let peer = Destination::connected();
        assert_eq!(send(&client, &peer, &[single(&part)]).unwrap(), 1);
        let halves = [&payload[..LARGEST_RUN / 2 + 1], &payload[LARGEST_RUN / 2 + 1..LARGEST_RUN]];
        let halves = halves.map(IoSlice::new);
        let segment = u16::try_from(halves[0].len()).ok();
        let run = Message { datagrams: &halves, segment };
        assert_eq!(send(&client, &peer, &[run]).unwrap(), 1);
        let mut batch = Batch::default();
        assert_eq!(batch.receive(&relay).unwrap(), 3);
        assert!(batch.payload(0) == payload && !batch.is_truncated(0));
        assert!(batch.payload(1) == &*halves[0] && batch.payload(2) == &*halves[1]);
    }
}

#[test]
fn what_comes_before_a_failure_is_sent_and_the_failure_is_told_next() {
    let (relay, client) = pair("127.0.0.1");
    let large = vec![0; LARGEST_RUN + 1];
    let parts = [IoSlice::new(b"first"), IoSlice::new(&large), IoSlice::new(b"third")];
    let messages = parts.each_ref().map(|part| single(std::slice::from_ref(part)));
    let peer = Destination::connected();
    assert_eq!(send(&client, &peer, &messages).unwrap(), 1);
    let failure = send(&client, &peer, &messages[1..]).unwrap_err();
    assert_eq!(failure.raw_os_error(), Some(libc::EMSGSIZE));
    assert_eq!(send(&client, &peer, &messages[2..]).unwrap(), 1);
    let mut batch = Batch::default();
    assert_eq!(batch.receive(&relay).unwrap(), 2);
    assert_eq!([batch.payload(0), batch.payload(1)], [b"first", b"third"]);
}

#[test]
fn a_full_queue_tells_how_many_it_dropped() {
    let (relay, client) = pair("127.0.0.1");
    socket2::SockRef::from(&relay).set_recv_buffer_size(8 * 1024).unwrap();
    let mut batch = Batch::default();
    for _ in 0..500 {
        client.send(&[0; 100]).unwrap();
    }
    let dropped = 500 - u32::try_from(batch.receive(&relay).unwrap()).unwrap();
    assert!(dropped > 0);
    assert_eq!(option::drops(&relay).unwrap(), dropped);
}

#[test]
fn this_kernel_segments_or_says_that_it_does_not() {
    let socket = bound("127.0.0.1");
    assert_eq!(can_segment(), option::segment_size(&socket).is_ok());
}
