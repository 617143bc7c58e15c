//! Targets that are told who the client is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use forwarder_core::config::ProxyVersion;
use forwarder_core::preamble::{Answer, proxy};

use crate::preamble::{assert_refused, header, service_with};
use crate::support::*;

/// A relay that tells its target who the client is.
fn that_introduces(target: &TcpListener, version: ProxyVersion) -> Scene {
    Scene::start(&service_with(&format!("send = \"{version}\""), target))
}

/// Reads a header as a target does, and not a byte more.
fn read_header(server: &mut TcpStream) -> (Vec<u8>, proxy::Header) {
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        bytes.extend(byte);
        match proxy::parse(&bytes, None) {
            Answer::Incomplete => {}
            Answer::Done(header) => return (bytes, header),
            Answer::Malformed(why) => panic!("{why}: {bytes:?}"),
        }
    }
}

#[test]
fn a_target_is_told_who_the_client_is_before_the_payload() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let target = tcp_target();
        let scene = that_introduces(&target, version);
        let mut client = tcp_client(scene.address(0));
        let from = client.local_addr().unwrap();
        let mut server = accept(&target);
        // Without a word of the client: the target may be the one who speaks first.
        let (bytes, header) = read_header(&mut server);
        assert_eq!(header.client, Some(from));
        assert_eq!(bytes, *proxy::write(version, from, scene.address(0)));
        pass(&mut server, &mut client, b"220 ready");
        pass(&mut client, &mut server, b"question");
        // More than any buffer on the way holds, so that the pipes carry it, too.
        let payload = pattern(3 << 20);
        let sender = std::thread::spawn(move || client.write_all(&payload).map(|()| client));
        let mut got = vec![0; 3 << 20];
        server.read_exact(&mut got).unwrap();
        assert!(got == pattern(3 << 20));
        drop((sender.join().unwrap().unwrap(), server));
        let session = scene.finish().sessions.remove(0);
        let up = 8 + (3 << 20);
        assert_eq!(bytes_of(&session), [up, up, 9, 9], "the header is no payload");
    }
}

#[test]
fn a_rule_may_tell_its_targets_otherwise_than_the_service() {
    for (of_rule, first) in [("", Some(b'\r')), ("off", None), ("v1", Some(b'P'))] {
        let target = tcp_target();
        let mut service = service_with("send = \"v2\"", &target);
        if !of_rule.is_empty() {
            service += &format!("proxy_protocol = \"{of_rule}\"\n");
        }
        let scene = Scene::start(&service);
        let mut client = tcp_client(scene.address(0));
        client.write_all(b"x").unwrap();
        let mut server = accept(&target);
        if let Some(first) = first {
            assert_eq!(read_header(&mut server).0[0], first);
        }
        let mut got = [0];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"x");
        drop((client, server));
        scene.finish();
    }
}

#[test]
fn a_chain_of_proxies_names_the_first_client() {
    let target = tcp_target();
    let both = "accept = \"any\", trusted = [\"127.0.0.1\"], send = \"v2\"";
    let scene = Scene::start(&service_with(both, &target));
    for (from, version) in
        [("192.0.2.7:9", ProxyVersion::V1), ("[2001:db8::7]:9", ProxyVersion::V2)]
    {
        let mut client = tcp_client(scene.address(0));
        client.write_all(&header(version, from)).unwrap();
        let (_, header) = read_header(&mut accept(&target));
        assert_eq!(header.client, Some(from.parse().unwrap()));
    }
    scene.finish();
}

#[test]
fn what_a_target_never_acknowledged_leaves_the_header_out() {
    let target = tcp_target();
    let scene = that_introduces(&target, ProxyVersion::V2);
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    read_header(&mut server);
    pass(&mut client, &mut server, b"question");
    reset(server);
    assert_refused(&mut client);
    let session = scene.finish().sessions.remove(0);
    assert_eq!(session.end_reason, "target_reset");
    assert_eq!((session.bytes_up, session.unacked_up), (8, Some(0)));
}
