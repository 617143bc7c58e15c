//! TCP sessions through the relay, over real loopback connections.

use std::io::{ErrorKind, Read as _, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::support::*;
use schemas::vocab::Transport::Tcp;

#[test]
fn a_session_that_ends_in_order_is_counted_to_the_byte() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"question");
    pass(&mut server, &mut client, b"an answer");
    let (from, egress) = (client.local_addr().unwrap(), server.peer_addr().unwrap());
    drop(client);
    assert_eq!(read_to_end(&mut server), Ok(vec![]));
    drop(server);
    let listen = scene.address(0);
    let rows = scene.finish();
    let [session] = &rows.sessions[..] else { panic!("{rows:?}") };
    assert_eq!(end_of(session), ["done", "half_closed", "client", "fin", "fin"]);
    assert_eq!(bytes_of(session), [8, 8, 9, 9]);
    assert_eq!(
        (session.client_ip.as_str(), session.client_port),
        ("127.0.0.1", i32::from(from.port()))
    );
    assert_eq!(session.listen_port, i32::from(listen.port()));
    assert_eq!(session.egress_port, Some(i32::from(egress.port())));
    assert_eq!(session.target_port, Some(i32::from(target.local_addr().unwrap().port())));
    assert!(session.connect_us.is_some() && session.ts_first_up.is_some());
}

#[test]
fn half_closed_client_still_receives_the_rest() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut client = tcp_client(scene.address(0));
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut server = accept(&target);
    assert_eq!(read_to_end(&mut server), Ok(b"question".to_vec()));
    let rest = pattern(10 << 20);
    let sender = {
        let rest = rest.clone();
        std::thread::spawn(move || server.write_all(&rest).unwrap())
    };
    assert!(read_to_end(&mut client).unwrap() == rest, "the rest arrives whole");
    sender.join().unwrap();
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["done", "half_closed", "client", "fin", "fin"]);
    assert_eq!(bytes_of(&rows.sessions[0]), [8, 8, 10 << 20, 10 << 20]);
}

#[test]
fn half_closed_target_still_receives_the_rest() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    server.write_all(b"220 hello").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), Ok(b"220 hello".to_vec()));
    let rest = pattern(10 << 20);
    let sender = {
        let rest = rest.clone();
        std::thread::spawn(move || client.write_all(&rest).unwrap())
    };
    assert!(read_to_end(&mut server).unwrap() == rest, "the rest arrives whole");
    sender.join().unwrap();
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["done", "half_closed", "target", "fin", "fin"]);
    assert_eq!(bytes_of(&rows.sessions[0]), [10 << 20, 10 << 20, 9, 9]);
}

#[test]
fn a_clients_reset_reaches_the_target_as_a_reset() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"half a mess");
    reset(client);
    assert_eq!(read_to_end(&mut server), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["client_reset", "data", "none", "rst", "rst"]);
    assert_eq!(rows.sessions[0].errno, Some(104));
}

#[test]
fn a_targets_reset_reaches_the_client_as_a_reset() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"question");
    reset(server);
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["target_reset", "data", "none", "rst", "rst"]);
}

#[test]
fn a_reset_is_seen_while_the_other_side_does_not_read() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    let sent = fill(&mut client);
    reset(client);
    // What lies in the target's buffer before the reset may or may not be readable.
    assert_eq!(read_to_end(&mut server), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    let session = &rows.sessions[0];
    assert_eq!(end_of(session), ["client_reset", "data", "none", "rst", "rst"]);
    let [received, delivered, ..] = bytes_of(session);
    assert!(delivered <= received && received <= sent, "{delivered} {received} {sent}");
}

#[test]
fn a_reset_after_a_half_close_is_seen_though_nobody_reads_that_side() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut server), Ok(vec![]));
    reset(client);
    until("the target is reset", || server.write(b"x").is_err());
    let rows = scene.finish();
    let [reason, phase, first_fin, ..] = end_of(&rows.sessions[0]);
    assert_eq!([reason, phase, first_fin], ["client_reset", "half_closed", "client"]);
}

#[test]
fn streams_survive_random_stalls_and_reads_of_one_byte_in_both_directions() {
    const LEN: usize = 64 << 20;
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let client = tcp_client(scene.address(0));
    let server = accept(&target);
    let ends: Vec<_> = [(client, 1), (server, 2)]
        .into_iter()
        .flat_map(|(stream, seed)| {
            let mut writer = stream.try_clone().unwrap();
            let mut reader = stream;
            let write = std::thread::spawn(move || {
                send_in_pieces(&mut writer, LEN, seed);
                writer.shutdown(Shutdown::Write).unwrap();
            });
            // Each end reads what the other one's seed made.
            let read = std::thread::spawn(move || expect_in_pieces(&mut reader, LEN, 3 - seed));
            [write, read]
        })
        .collect();
    for end in ends {
        end.join().unwrap();
    }
    let rows = scene.finish();
    assert_eq!(bytes_of(&rows.sessions[0]), [LEN as i64; 4]);
    assert_eq!(rows.sessions[0].end_reason, "done");
}

#[test]
fn a_refused_target_refuses_the_client_and_is_a_session() {
    let (refusing, _held) = closed_port(Tcp);
    let scene = Scene::start(&one_service(Tcp, &[refusing]));
    let mut client = tcp_client(scene.address(0));
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    let session = &rows.sessions[0];
    assert_eq!(end_of(session), ["target_refused", "connect", "none", "rst", "none"]);
    assert_eq!((session.errno, session.connect_us), (Some(111), None));
    assert_eq!(session.target_port, Some(i32::from(refusing.port())));
}

#[test]
fn a_target_without_a_way_to_it_is_unreachable() {
    // A connect to a multicast address fails in the kernel, before any packet.
    let scene = Scene::start_towards(Tcp, "224.0.0.1:9".parse().unwrap());
    let mut client = tcp_client(scene.address(0));
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0])[..2], ["target_unreachable", "connect"]);
}

#[test]
fn a_target_that_does_not_answer_is_given_up_in_time() {
    let (silent, _held) = silent_target();
    let text = one_service(Tcp, &[silent]) + "timeouts = { connect = \"200ms\" }\n";
    let scene = Scene::start(&text);
    let mut client = tcp_client(scene.address(0));
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0])[..2], ["connect_timeout", "connect"]);
    assert!((200_000..5_000_000).contains(&rows.sessions[0].duration_us));
}

#[test]
fn a_client_that_resets_while_its_target_is_dialled_is_an_abort() {
    let (silent, _held) = silent_target();
    let scene = Scene::start(&one_service(Tcp, &[silent]));
    let client = tcp_client(scene.address(0));
    until("the session is open", || scene.account.live().count() == 1);
    reset(client);
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["client_abort", "connect", "none", "rst", "none"]);
}

#[test]
fn targets_take_turns_and_a_dead_one_is_stepped_over() {
    let (refusing, _held) = closed_port(Tcp);
    let (first, second) = (tcp_target(), tcp_target());
    let targets = [first.local_addr().unwrap(), refusing, second.local_addr().unwrap()];
    let scene = Scene::start(&one_service(Tcp, &targets));
    for target in [&first, &second, &second, &first, &first, &second] {
        let mut client = tcp_client(scene.address(0));
        let mut server = accept(target);
        pass(&mut client, &mut server, b"here");
    }
    let rows = scene.finish();
    let ports: Vec<_> = rows.sessions.iter().map(|session| session.target_port.unwrap()).collect();
    let [a, _, b] = targets.map(|target| i32::from(target.port()));
    assert_eq!(ports, [a, b, b, a, a, b], "those that stand in for the dead one take turns too");
}

#[test]
fn a_silent_session_ends_when_its_rule_says_so() {
    let target = tcp_target();
    let text =
        one_service(Tcp, &[target.local_addr().unwrap()]) + "timeouts = { tcp_idle = \"150ms\" }\n";
    let scene = Scene::start(&text);
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"question");
    assert_eq!(read_to_end(&mut client), Ok(vec![]));
    assert_eq!(read_to_end(&mut server), Ok(vec![]));
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["idle_timeout", "data", "none", "timeout", "timeout"]);
}

#[test]
fn a_half_closed_session_ends_when_the_other_side_stays_silent() {
    let target = tcp_target();
    let text = one_service(Tcp, &[target.local_addr().unwrap()])
        + "timeouts = { half_closed = \"150ms\" }\n";
    let scene = Scene::start(&text);
    let mut client = tcp_client(scene.address(0));
    let _server = accept(&target);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), Ok(vec![]));
    let rows = scene.finish();
    let expected = ["half_close_timeout", "half_closed", "client", "timeout", "timeout"];
    assert_eq!(end_of(&rows.sessions[0]), expected);
}

#[test]
fn clients_and_targets_may_be_of_different_families() {
    let (v4, v6) = (tcp_target(), std::net::TcpListener::bind("[::1]:0").unwrap());
    for (listen, target) in [("tcp://[::1]:0", &v4), ("tcp://127.0.0.1:0", &v6)] {
        let scene = Scene::start(&service_on(listen, &[target.local_addr().unwrap()]));
        let mut client = tcp_client(scene.address(0));
        let mut server = accept(target);
        pass(&mut client, &mut server, b"question");
        pass(&mut server, &mut client, b"answer");
        drop((client, server));
        assert_eq!(scene.finish().sessions.len(), 1);
    }
}

#[test]
fn a_client_of_a_wildcard_listener_is_shown_with_the_address_it_used() {
    let target = tcp_target();
    let scene = Scene::start(&service_on("tcp://0.0.0.0:0", &[target.local_addr().unwrap()]));
    let to = (std::net::Ipv4Addr::new(127, 0, 0, 7), scene.address(0).port());
    let mut client = tcp_client(to.into());
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"question");
    drop((client, server));
    assert_eq!(scene.finish().sessions[0].listen_ip, "127.0.0.7");
}

#[test]
fn a_target_may_be_a_name() {
    let target = tcp_target();
    let port = target.local_addr().unwrap().port();
    let text =
        one_service(Tcp, &[]).replace("target = []", &format!("target = [\"localhost:{port}\"]"));
    let scene = Scene::start(&text);
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"question");
    drop((client, server));
    assert_eq!(scene.finish().sessions[0].target_name.as_deref(), Some("localhost"));
}

#[test]
fn a_name_that_does_not_resolve_in_time_is_told_apart() {
    let text = one_service(Tcp, &[]).replace("target = []", "target = [\"nowhere.invalid:80\"]")
        + "timeouts = { connect = \"200ms\" }\n";
    let scene = Scene::start(&text);
    let mut client = tcp_client(scene.address(0));
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0])[..2], ["resolve_failed", "resolve"]);
    assert_eq!(rows.sessions[0].target_ip, None);
}

#[test]
fn a_refused_client_is_reset_and_gets_no_session() {
    let target = tcp_target();
    let passing = one_service(Tcp, &[target.local_addr().unwrap()]);
    let text = format!(
        "{passing}services = [\"s\"]\nfrom = [\"127.0.0.1\"]\n\
         [[rule]]\nname = \"guests\"\nfrom = [\"127.0.0.2\"]\naction = \"block\"\n"
    );
    let scene = Scene::start(&text);
    for guest in ["127.0.0.2:0", "127.0.0.3:0"] {
        let mut client = tcp_client_from(guest, scene.address(0));
        assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    }
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"question");
    drop((client, server));
    let rows = scene.finish();
    let denied: Vec<_> = rows
        .denied
        .iter()
        .map(|row| (row.client_ip.as_deref().unwrap(), row.reason.as_str(), row.rule.as_deref()))
        .collect();
    assert_eq!(denied, [("127.0.0.2", "rule", Some("guests")), ("127.0.0.3", "no_rule", None)]);
    assert!(rows.denied.iter().all(|row| row.action == "reset" && row.phase == "policy"));
    assert_eq!(rows.sessions.iter().map(|row| row.session_no).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_full_table_refuses_and_says_so() {
    let target = tcp_target();
    let text = one_service(Tcp, &[target.local_addr().unwrap()]);
    let scene = Scene::start_refusing_beyond(&text, 64);
    let held: Vec<_> = (0..64)
        .map(|_| {
            let mut client = tcp_client(scene.address(0));
            let mut server = accept(&target);
            pass(&mut client, &mut server, b"in");
            (client, server)
        })
        .collect();
    let mut late = tcp_client(scene.address(0));
    assert_eq!(read_to_end(&mut late), Err(ErrorKind::ConnectionReset));
    drop(held);
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 64);
    assert_eq!(rows.denied[0].reason, "table_full");
}

#[test]
fn a_target_that_is_our_own_listener_is_a_loop_at_once() {
    let elsewhere = tcp_target();
    let listen = |targets: &[std::net::SocketAddr]| service_on("tcp://0.0.0.0:0", targets);
    let mut scene = Scene::start(&listen(&[elsewhere.local_addr().unwrap()]));
    let port = scene.address(0).port();
    for own in ["127.0.0.1", "127.0.0.9"] {
        scene.reload(&listen(&[format!("{own}:{port}").parse().unwrap()]));
        let mut client = tcp_client(scene.address(0));
        assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    }
    let rows = scene.finish();
    let reasons: Vec<_> = rows.sessions.iter().map(|row| row.end_reason.as_str()).collect();
    assert_eq!(reasons, ["loop", "loop"]);
}

#[test]
fn a_reload_moves_new_sessions_and_leaves_running_ones_and_listeners_alone() {
    let (old, new) = (tcp_target(), tcp_target());
    let text = |target: &std::net::TcpListener| one_service(Tcp, &[target.local_addr().unwrap()]);
    let mut scene = Scene::start(&text(&old));
    let mut running = tcp_client(scene.address(0));
    let mut server = accept(&old);
    pass(&mut running, &mut server, b"before");
    let address = scene.address(0);
    scene.reload(&text(&new));
    assert_eq!(scene.address(0), address);
    pass(&mut server, &mut running, b"after");
    let mut client = tcp_client(address);
    let mut moved = accept(&new);
    pass(&mut client, &mut moved, b"elsewhere");
    drop((running, server, client, moved));
    assert_eq!(scene.finish().sessions.len(), 2);
}

#[test]
fn a_removed_listener_refuses_and_an_added_one_serves() {
    let target = tcp_target();
    let targets = [target.local_addr().unwrap()];
    let mut scene = Scene::start(&service_on("tcp://127.0.0.1:0", &targets));
    let removed = scene.address(0);
    let mut running = tcp_client(removed);
    let mut server = accept(&target);
    scene.reload(&service_on("tcp://127.0.0.2:0", &targets));
    until("the old listener is closed", || std::net::TcpStream::connect(removed).is_err());
    pass(&mut running, &mut server, b"still here");
    let mut client = tcp_client(scene.address(0));
    let mut second = accept(&target);
    pass(&mut client, &mut second, b"new");
    drop((running, server, client, second));
    scene.finish();
}

#[test]
fn what_is_left_after_the_drain_is_reset_and_accounted_as_drained() {
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"question");
    let rows = scene.finish_within(Duration::from_millis(50));
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    assert_eq!(read_to_end(&mut server), Err(ErrorKind::ConnectionReset));
    assert_eq!(end_of(&rows.sessions[0]), ["drained", "drain", "none", "rst", "rst"]);
    assert_eq!(bytes_of(&rows.sessions[0]), [8, 8, 0, 0]);
}

#[test]
fn bytes_behind_an_urgent_one_arrive_though_nothing_follows_them() {
    use rustix::net::{SendFlags, send};
    let target = tcp_target();
    let scene = Scene::start(&one_service(Tcp, &[target.local_addr().unwrap()]));
    let client = tcp_client(scene.address(0));
    // All of it waits before the relay reads for the first time: it is still dialling.
    send(&client, b"before!", SendFlags::OOB).unwrap();
    send(&client, b"behind", SendFlags::empty()).unwrap();
    let mut server = accept(&target);
    let mut received = [0; 12];
    server.read_exact(&mut received).unwrap();
    // The urgent byte itself is no part of the stream (tcp(7)).
    assert_eq!(&received, b"beforebehind");
    drop((client, server));
    assert_eq!(bytes_of(&scene.finish().sessions[0])[..2], [12, 12]);
}
