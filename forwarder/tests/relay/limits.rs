//! Limits that sessions share: how many may be, how many may come, how much may go.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::*;
use forwarder::relay::Tuning;
use forwarder_core::config::Refuse;
use forwarder_core::session::Route;
use schemas::vocab::Transport::{Tcp, Udp};

/// Limits of the rule that [`one_service`] makes, which is the last thing in its file.
fn limited(services_and_rules: &str, limits: &str) -> String {
    format!("{services_and_rules}{limits}")
}

/// Whether a refused client sees this: a reset, or a clean end.
fn sees(client: &mut TcpStream, reset: bool) {
    let expected = if reset { Err(ErrorKind::ConnectionReset) } else { Ok(vec![]) };
    assert_eq!(read_to_end(client), expected);
}

#[test]
fn the_session_after_the_last_that_may_be_is_refused_until_one_ends() {
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    let scene = Scene::start(&limited(&service, "[[rule.limit]]\nper = \"rule\"\nsessions = 2\n"));
    let mut pairs: Vec<_> =
        (0..2).map(|_| (tcp_client(scene.address(0)), accept(&target))).collect();
    sees(&mut tcp_client(scene.address(0)), true);
    let (client, server) = pairs.pop().unwrap();
    drop((client, server));
    until("its place is free", || scene.limits(100)[0].in_use == 1);
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"the freed place");
    drop((pairs, client, server));
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 3);
    let [denied] = &rows.denied[..] else { panic!("{:?}", rows.denied) };
    assert_eq!(denied.rule.as_deref(), Some("all"));
    assert_eq!(denied.limit.as_deref(), Some("rule sessions"));
    assert_eq!((&*denied.reason, &*denied.action), ("limit_sessions", "reset"));
}

#[test]
fn a_rule_may_close_whom_it_refuses_in_order() {
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    let limit = "[[rule.limit]]\nper = \"client/8\"\nsessions = 1\n";
    let scene = Scene::start_changed(&limited(&service, limit), Setup::default(), |config| {
        config.rules[0].refuse = Refuse::Close;
    });
    let _first = (tcp_client(scene.address(0)), accept(&target));
    sees(&mut tcp_client_from("127.0.0.9:0", scene.address(0)), false);
    drop(_first);
    let rows = scene.finish();
    assert_eq!(rows.denied[0].limit.as_deref(), Some("client/8 sessions"));
    assert_eq!(rows.denied[0].action, "close");
}

#[test]
fn one_greedy_client_is_refused_while_another_gets_in_and_coming_again_does_not_help() {
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    let limit = "[[rule.limit]]\nper = \"client\"\nnew_sessions = \"3/1h\"\n";
    let scene = Scene::start(&limited(&service, limit));
    for _ in 0..3 {
        let mut client = tcp_client_from("127.0.0.2:0", scene.address(0));
        let mut server = accept(&target);
        pass(&mut client, &mut server, b"in and out");
    }
    for _ in 0..5 {
        sees(&mut tcp_client_from("127.0.0.2:0", scene.address(0)), true);
    }
    let mut client = tcp_client_from("127.0.0.3:0", scene.address(0));
    let mut server = accept(&target);
    pass(&mut client, &mut server, b"somebody else");
    drop((client, server));
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 4);
    assert!(rows.denied.iter().all(|row| row.limit.as_deref() == Some("client new_sessions")));
    assert_eq!(rows.denied.iter().map(|row| row.count).sum::<i64>(), 5);
    assert!(rows.denied.iter().all(|row| row.reason == "limit_rate"));
}

#[test]
fn a_reload_goes_on_counting_and_changes_what_is_allowed() {
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    let with = |sessions: u32| {
        limited(&service, &format!("[[rule.limit]]\nper = \"rule\"\nsessions = {sessions}\n"))
    };
    let mut scene = Scene::start(&with(2));
    let first = (tcp_client(scene.address(0)), accept(&target));
    let second = (tcp_client(scene.address(0)), accept(&target));
    scene.reload(&with(2));
    sees(&mut tcp_client(scene.address(0)), true);
    scene.reload(&with(3));
    let third = (tcp_client(scene.address(0)), accept(&target));
    scene.reload(&with(1));
    drop(first);
    until("it has ended", || scene.limits(100)[0].in_use == 2);
    sees(&mut tcp_client(scene.address(0)), true);
    drop((second, third));
    assert_eq!(scene.finish().sessions.len(), 3);
}

#[test]
fn associations_count_as_sessions_and_datagrams_of_others_are_dropped() {
    let target = udp_socket(ANY);
    let service = one_service(Udp, &[target.local_addr().unwrap()]);
    let scene = Scene::start(&limited(&service, "[[rule.limit]]\nper = \"rule\"\nsessions = 1\n"));
    let mut buffer = [0; 64];
    let first = udp_client(ANY, scene.address(0));
    first.send(b"first").unwrap();
    target.recv_from(&mut buffer).unwrap();
    let second = udp_client(ANY, scene.address(0));
    for _ in 0..3 {
        second.send(b"dropped").unwrap();
    }
    until("all were refused", || scene.counters().denied.load(Ordering::Relaxed) == 3);
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 1);
    assert_eq!(rows.denied.iter().map(|row| row.count).sum::<i64>(), 3);
    let first = &rows.denied[0];
    assert_eq!((first.limit.as_deref(), &*first.action), (Some("rule sessions"), "drop"));
}

/// Downloads through a relay with so many sessions for `time`, and gives what each got.
fn download(limits: &str, route: Route, sessions: usize, time: Duration) -> (Vec<u64>, Duration) {
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    let tuning = Tuning { route, ..Tuning::default() };
    let scene = Scene::start_tuned(&limited(&service, limits), tuning);
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..sessions {
        clients.push(tcp_client(scene.address(0)));
        servers.push(accept(&target));
    }
    let started = Instant::now();
    let got = std::thread::scope(|scope| {
        for mut server in servers {
            scope.spawn(move || {
                // It ends when the client does.
                while server.write_all(&[7; 64 << 10]).is_ok() {}
            });
        }
        let clients = clients.into_iter().map(|mut client| {
            scope.spawn(move || {
                let (mut got, mut buffer) = (0, vec![0; 64 << 10]);
                while started.elapsed() < time {
                    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                    got += client.read(&mut buffer).unwrap_or(0) as u64;
                }
                reset(client);
                got
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let took = started.elapsed();
    drop(scene);
    (got, took)
}

#[test]
fn a_bandwidth_is_kept_to_by_any_number_of_downloads_and_shared_alike() {
    let limit = "[[rule.limit]]\nper = \"rule\"\nbandwidth = { down = \"1 MB/s\" }\n";
    for sessions in [1, 4, 16, 64] {
        for route in [Route::Copy, Route::Splice] {
            let (got, took) = download(limit, route, sessions, Duration::from_secs(4));
            let (total, allowed) = (got.iter().sum::<u64>(), 1_000_000.0 * took.as_secs_f64());
            let ratio = total as f64 / allowed;
            println!("{sessions} {route:?}: {ratio:.3} of the bandwidth");
            assert!(ratio <= 1.05, "{sessions} {route:?}: {ratio} of what is allowed");
            // A busy machine may be slower than the limit.
            assert!(ratio >= 0.8, "{sessions} {route:?}: {ratio} of what is allowed");
            let share = total / sessions as u64;
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            assert!(least * 2 > share && *most < share * 2, "{least} to {most} of {share}");
        }
    }
}

#[test]
fn both_directions_share_one_bandwidth_and_other_rules_are_not_slowed() {
    let target = tcp_target();
    let to = target.local_addr().unwrap();
    let rules = format!(
        "[[service]]\nname = \"slow\"\nlisten = [\"tcp://{ANY}\"]\ntarget = [\"{to}\"]\n\
         [[service]]\nname = \"free\"\nlisten = [\"tcp://127.0.0.2:0\"]\ntarget = [\"{to}\"]\n\
         [[rule]]\nname = \"limited\"\nservices = [\"slow\"]\naction = \"pass\"\n\
         [[rule.limit]]\nper = \"rule\"\nbandwidth = {{ both = \"200 kB/s\", burst = \"4 KiB\" }}\n\
         [[rule]]\nname = \"unlimited\"\naction = \"pass\"\n"
    );
    let scene = Scene::start(&rules);
    let slow = (tcp_client(scene.address(0)), accept(&target));
    let free = (tcp_client(scene.address(1)), accept(&target));
    let started = Instant::now();
    let bytes = pattern(300_000);
    std::thread::scope(|scope| {
        for (from, to) in [&slow, &free].map(|(a, b)| (a, b)) {
            for (from, to) in [(from, to), (to, from)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let bytes = &bytes;
                scope.spawn(move || {
                    from.write_all(bytes).unwrap();
                    from.shutdown(Shutdown::Write).unwrap();
                });
                scope.spawn(move || {
                    assert!(read_to_end(&mut to).unwrap() == *bytes);
                });
            }
        }
        scope.spawn(|| {
            until("the unlimited one is through", || {
                scene.account.live().all(|session| session.number == 1)
            });
            assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        });
    });
    let took = started.elapsed().as_secs_f64();
    assert!((2.9..9.0).contains(&took), "600 kB at 200 kB/s in {took} s");
    drop((slow, free));
    assert!(scene.finish().sessions.iter().all(|session| session.end_reason == "done"));
}

#[test]
fn a_fin_comes_after_all_the_bytes_that_a_limit_holds_back() {
    for (route, capture) in [(Route::Copy, "off"), (Route::Splice, "off"), (Route::Splice, "full")]
    {
        for down in [false, true] {
            let target = tcp_target();
            let service = one_service(Tcp, &[target.local_addr().unwrap()]);
            let service = format!("{service}capture = \"{capture}\"\n");
            let limit = "timeouts = { tcp_idle = \"300ms\" }\n\
                         [[rule.limit]]\nper = \"client\"\n\
                         bandwidth = { up = \"8 KiB/s\", down = \"8 KiB/s\", burst = \"2 KiB\" }\n";
            let tuning = Tuning { route, ..Tuning::default() };
            let scene = Scene::start_tuned(&limited(&service, limit), tuning);
            let client = tcp_client(scene.address(0));
            let server = accept(&target);
            let (mut from, mut to) = if down { (server, client) } else { (client, server) };
            let (bytes, started) = (pattern(32 << 10), Instant::now());
            from.write_all(&bytes).unwrap();
            from.shutdown(Shutdown::Write).unwrap();
            assert!(read_to_end(&mut to).unwrap() == bytes, "{route:?}, down: {down}");
            let took = started.elapsed().as_secs_f64();
            assert!(took >= 3.6, "{took} s for 30 KiB at 8 KiB/s");
            drop((from, to));
            let rows = scene.finish();
            assert_eq!(rows.sessions[0].end_reason, "done", "held back is not idle");
        }
    }
}

#[test]
fn a_session_that_waits_for_a_slow_limit_is_not_idle_and_shows_as_held_back() {
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    let limit = "timeouts = { tcp_idle = \"200ms\" }\n\
                 [[rule.limit]]\nper = \"rule\"\nbandwidth = { up = \"40 bit/s\" }\n";
    let scene = Scene::start(&limited(&service, limit));
    let mut client = tcp_client(scene.address(0));
    let mut server = accept(&target);
    // The burst goes at once, and then five bytes a second.
    let (bytes, started) = (pattern(2048 + 5), Instant::now());
    client.write_all(&bytes).unwrap();
    let mut got = vec![0; bytes.len()];
    server.read_exact(&mut got[..2048]).unwrap();
    until("it is held back", || scene.limits(100)[0].held_back == 1);
    server.read_exact(&mut got[2048..]).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    assert!(got == bytes);
    let waits = scene.limit_counters().held_back.load(Ordering::Relaxed);
    assert!(waits >= 4, "each wait counts, and there were {waits}");
    let held_us = scene.limit_counters().held_back_us.load(Ordering::Relaxed);
    let most = started.elapsed().as_micros();
    assert!((800_000..=most).contains(&held_us.into()), "held back for {held_us} of {most} us");
    drop((client, server));
    scene.finish();
}

#[test]
fn datagrams_over_a_bandwidth_are_dropped_and_counted_in_both_directions() {
    let target = udp_socket(ANY);
    let service = one_service(Udp, &[target.local_addr().unwrap()]);
    let limit = "[[rule.limit]]\nper = \"client\"\n\
                 bandwidth = { up = \"8 kbit/s\", down = \"8 kbit/s\", burst = \"4 KiB\" }\n";
    let scene = Scene::start(&limited(&service, limit));
    let client = udp_client(ANY, scene.address(0));
    for _ in 0..10 {
        client.send(&[1; 1000]).unwrap();
    }
    let mut buffer = [0; 2000];
    let (_, relay) = target.recv_from(&mut buffer).unwrap();
    for _ in 0..3 {
        target.recv_from(&mut buffer).unwrap();
    }
    for _ in 0..10 {
        target.send_to(&[2; 1000], relay).unwrap();
    }
    for _ in 0..4 {
        client.recv(&mut buffer).unwrap();
    }
    until("the rest is dropped", || {
        scene.limit_counters().datagrams_dropped.load(Ordering::Relaxed) >= 11
    });
    let state = scene.limits(100);
    assert!(state.iter().all(|state| state.datagrams_dropped >= 11), "{state:?}");
    let rows = scene.finish();
    let session = &rows.sessions[0];
    let passed = session.datagrams_up + session.datagrams_down;
    assert!((8..=9).contains(&passed), "{passed} of 20");
    assert_eq!(bytes_of(session).map(|bytes| bytes % 1000), [0; 4]);
    let dropped: i64 = rows.slots.iter().filter_map(|slot| slot.datagrams_dropped).sum();
    assert_eq!(dropped + passed, 20);
}
