//! Clients and targets by name, with a name server that does what tests want.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use e2e_tests::name_server::{NameServer, Says, reverse};
use schemas::vocab::Transport;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::support::{ANY, DEADLINE, Scene, udp_client, udp_socket, until};

/// How long a lookup may take in these tests.
const RESOLVE: Duration = Duration::from_millis(500);

/// A target that says `word` to whoever connects, and hangs up.
fn speaker(at: &str, word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // Who has gone does not want to know.
            drop(stream.write_all(word.as_bytes()));
        }
    });
    address
}

/// A client with this address.
pub(crate) fn client(ip: &str, to: SocketAddr) -> TcpStream {
    let ip: IpAddr = ip.parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    SockRef::from(&socket).set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// What the client with this address is told: a target's word, or nothing.
fn hears(scene: &Scene, listener: usize, ip: &str) -> String {
    let mut word = String::new();
    // A reset tells nothing.
    drop(client(ip, scene.address(listener)).read_to_string(&mut word));
    word
}

/// The beginning of a configuration that asks this server.
fn asking(server: &NameServer, more: &str) -> String {
    let resolve = RESOLVE.as_millis();
    format!(
        "[dns]\nservers = [\"{}\"]\n{more}\n[timeouts]\nresolve = \"{resolve}ms\"\n",
        server.address
    )
}

fn service(name: &str, target: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nlisten = [\"tcp://127.0.0.1:0\"]\ntarget = [\"{target}\"]\n"
    )
}

fn rule(name: &str, rest: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\n{rest}\n")
}

const PASS: &str = "action = \"pass\"";
const BLOCK: &str = "action = \"block\"";

fn to_speaker(server: &NameServer, more: &str, rules: &[String]) -> Scene {
    let target = speaker("127.0.0.1:0", "hello").to_string();
    Scene::start(&(asking(server, more) + &service("s", &target) + &rules.concat()))
}

#[test]
fn a_client_is_known_by_the_names_that_have_its_address() {
    let server = NameServer::start();
    server.pointers("127.0.0.2", 60, &["PC2.Example.COM."]);
    server.host("pc2.example.com.", 60, &["127.0.0.2"]);
    // Not within the domain, though it ends like it.
    server.pointers("127.0.0.3", 60, &["badexample.com."]);
    server.host("badexample.com.", 60, &["127.0.0.3"]);
    // Forged: the name belongs to another.
    server.pointers("127.0.0.4", 60, &["pc2.example.com."]);
    // One of several is good.
    let names = ["x.example.org.", "nowhere.example.com.", "pc5.sub.example.com."];
    server.pointers("127.0.0.5", 60, &names);
    server.host("pc5.sub.example.com.", 60, &["127.0.0.9", "127.0.0.5"]);
    server.pointers("127.0.0.7", 60, &["example.com."]);
    server.host("example.com.", 60, &["127.0.0.7"]);
    let rules = [rule("friends", &format!("from = [\".example.com\"]\n{PASS}"))];
    let scene = to_speaker(&server, "", &rules);
    for (client, word) in [
        ("127.0.0.2", "hello"),
        ("127.0.0.3", ""),
        ("127.0.0.4", ""),
        ("127.0.0.5", "hello"),
        ("127.0.0.6", ""),
        ("127.0.0.7", "hello"),
    ] {
        assert_eq!(hears(&scene, 0, client), word, "{client}");
    }
    let rows = scene.finish();
    assert_eq!((rows.sessions.len(), rows.denied.len()), (3, 3));
}

#[test]
fn a_name_that_is_not_known_blocks_where_blocking_is_said_and_does_not_pass() {
    let server = NameServer::start();
    server.hang(true);
    let guests = rule("guests", &format!("from = [\".example.com\"]\n{BLOCK}"));
    let others = rule("others", &format!("from = [\".example.org\"]\n{PASS}"));
    let scene = to_speaker(&server, "", &[guests, rule("all", PASS)]);
    let started = Instant::now();
    assert_eq!(hears(&scene, 0, "127.0.0.2"), "");
    assert!(started.elapsed() >= RESOLVE, "the answer is waited for");
    let rows = scene.finish();
    assert_eq!((rows.denied[0].rule.as_deref(), rows.sessions.len()), (Some("guests"), 0));

    let scene = to_speaker(&server, "", &[others]);
    assert_eq!(hears(&scene, 0, "127.0.0.2"), "");
    assert_eq!(scene.finish().denied[0].reason, "no_rule");

    let skip = format!("from = [\".example.com\"]\nunknown_name = \"skip\"\n{BLOCK}");
    let scene = to_speaker(&server, "", &[rule("guests", &skip), rule("all", PASS)]);
    assert_eq!(hears(&scene, 0, "127.0.0.2"), "hello");
}

#[test]
fn a_domain_is_blocked_by_confirmed_name_only() {
    let server = NameServer::start();
    server.pointers("127.0.0.2", 60, &["pc.example.com."]);
    server.host("pc.example.com.", 60, &["127.0.0.2"]);
    server.pointers("127.0.0.3", 60, &["pc.badexample.com."]);
    server.host("pc.badexample.com.", 60, &["127.0.0.3"]);
    let guests = rule("guests", &format!("from = [\".example.com\"]\n{BLOCK}"));
    let scene = to_speaker(&server, "", &[guests, rule("all", PASS)]);
    assert_eq!(hears(&scene, 0, "127.0.0.2"), "");
    assert_eq!(hears(&scene, 0, "127.0.0.3"), "hello");
}

#[test]
fn nobody_gets_around_a_rule_that_blocks_a_domain_by_having_no_name() {
    let server = NameServer::start();
    // Forged: the name has another address. The other client has no name at all.
    server.pointers("127.0.0.3", 60, &["pc.example.net."]);
    let heard = |unknown: &str| {
        let guests = rule("guests", &format!("from = [\".example.com\"]\n{unknown}{BLOCK}"));
        let scene = to_speaker(&server, "", &[guests, rule("all", PASS)]);
        ["127.0.0.3", "127.0.0.4"].map(|client| hears(&scene, 0, client))
    };
    assert_eq!(heard(""), ["", ""]);
    assert_eq!(heard("unknown_name = \"skip\"\n"), ["hello", "hello"]);
}

#[test]
fn a_client_without_a_name_is_refused_where_one_is_required() {
    let server = NameServer::start();
    server.pointers("127.0.0.2", 60, &["pc.example.com."]);
    server.host("pc.example.com.", 60, &["127.0.0.2"]);
    server.pointers("127.0.0.3", 60, &["forged.example.com."]);
    let heard = |more: &str| {
        let scene = to_speaker(&server, more, &[rule("all", PASS)]);
        let heard = ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(|client| hears(&scene, 0, client));
        let rows = scene.finish();
        assert!(rows.denied.iter().all(|row| row.reason == "unknown_name"), "{:?}", rows.denied);
        heard
    };
    assert_eq!(heard(""), ["hello", "hello", "hello"]);
    assert_eq!(heard("require_ptr = true"), ["hello", "hello", ""]);
    assert_eq!(heard("require_confirmed = true"), ["hello", "", ""]);
}

#[test]
fn clients_that_left_while_their_name_is_looked_up_are_forgotten() {
    let server = NameServer::start();
    server.hang(true);
    let rules = [rule("friends", &format!("from = [\".example.com\"]\n{PASS}"))];
    let scene = to_speaker(&server, "", &rules);
    for _ in 0..20 {
        let leaving = client("127.0.0.2", scene.address(0));
        until("its name is looked up", || scene.name_counters()["name_askers"] > 0);
        SockRef::from(&leaving).set_linger(Some(Duration::ZERO)).unwrap();
        drop(leaving);
        until("nobody wants to know it any more", || scene.name_counters()["name_askers"] == 0);
    }
    assert!(scene.name_counters()["name_in_flight"] <= 1);
}

#[test]
fn one_question_is_asked_once_for_many_clients_and_an_empty_answer_is_kept() {
    let server = NameServer::start();
    let rules = [rule("friends", &format!("from = [\".example.com\"]\n{PASS}"))];
    let scene = to_speaker(&server, "", &rules);
    std::thread::scope(|threads| {
        for _ in 0..50 {
            threads.spawn(|| assert_eq!(hears(&scene, 0, "127.0.0.2"), ""));
        }
    });
    assert_eq!(server.times_asked(&reverse("127.0.0.2")), 1);
    let counted = scene.name_counters();
    assert_eq!((counted["name_lookups"], counted["name_negative"]), (1, 1));
    assert_eq!((counted["name_hits"], counted["name_in_flight"]), (49, 0));
}

#[test]
fn a_name_server_that_hangs_holds_up_nobody_who_needs_no_name() {
    let server = NameServer::start();
    let target = speaker("127.0.0.1:0", "hello").to_string();
    let named = format!("services = [\"named\"]\nfrom = [\".example.com\"]\n{PASS}");
    let plain = format!("services = [\"plain\"]\n{PASS}");
    let config = asking(&server, "").replace("500ms", "5s")
        + &service("named", &target)
        + &service("plain", &target).replace("127.0.0.1:0", "127.0.0.3:0")
        + &rule("named", &named)
        + &rule("plain", &plain);
    let scene = Scene::start(&config);
    let slowest = || {
        let mut took: Vec<_> = (0..300)
            .map(|_| {
                let started = Instant::now();
                assert_eq!(hears(&scene, 1, "127.0.0.1"), "hello");
                started.elapsed()
            })
            .collect();
        took.sort_unstable();
        took[296]
    };
    let before = slowest();
    server.hang(true);
    // The hosts file knows what 127.0.0.1 is called.
    let waiting: Vec<_> = (0..200).map(|_| client("127.0.0.2", scene.address(0))).collect();
    until("somebody asks", || server.times_asked_anything() > 0);
    let during = slowest();
    println!("p99 of accept to answer: {before:?} before, {during:?} while the server hangs");
    assert!(during < before * 4 + Duration::from_millis(20), "{before:?}, then {during:?}");
    drop(waiting);
}

#[test]
fn a_targets_name_is_followed_when_it_moves() {
    let server = NameServer::start();
    let old = speaker("127.0.0.1:0", "old");
    speaker(&format!("127.0.0.2:{}", old.port()), "new");
    server.alias("www.example.com.", 1, "web.example.com.");
    server.host("web.example.com.", 1, &["127.0.0.1"]);
    let target = format!("www.example.com:{}", old.port());
    let scene = Scene::start(&(asking(&server, "") + &service("s", &target) + &rule("all", PASS)));
    assert_eq!(hears(&scene, 0, "127.0.0.1"), "old");
    server.host("web.example.com.", 1, &["127.0.0.2"]);
    until("the target moves", || hears(&scene, 0, "127.0.0.1") == "new");

    // The last address is used while nobody answers.
    let asked = server.times_asked_anything();
    server.hang(true);
    until("it is asked again", || server.times_asked_anything() > asked + 2);
    assert_eq!(hears(&scene, 0, "127.0.0.1"), "new");
    let rows = scene.finish();
    let last = rows.sessions.last().unwrap();
    assert_eq!(last.target_name.as_deref(), Some("www.example.com"));
    assert_eq!(last.target_ip.as_deref(), Some("127.0.0.2"));
}

#[test]
fn a_failed_dial_has_its_targets_name_looked_up_again() {
    let server = NameServer::start();
    let new = speaker("127.0.0.2:0", "new");
    // Nobody listens there, and will not for an hour.
    server.host("web.example.com.", 3600, &["127.0.0.1"]);
    let target = format!("web.example.com:{}", new.port());
    let scene = Scene::start(&(asking(&server, "") + &service("s", &target) + &rule("all", PASS)));
    server.host("web.example.com.", 3600, &["127.0.0.2"]);
    until("the target is found", || hears(&scene, 0, "127.0.0.1") == "new");
    assert!(server.times_asked("web.example.com.") <= 4, "twice, for two families");
}

#[test]
fn a_target_that_nobody_can_name_ends_its_sessions_in_time() {
    let server = NameServer::start();
    server.hang(true);
    let started = Instant::now();
    let config = asking(&server, "") + &service("s", "web.example.com:80") + &rule("all", PASS);
    let scene = Scene::start(&config);
    assert!(started.elapsed() < RESOLVE * 4, "the start waits for names, and not for ever");
    assert_eq!(hears(&scene, 0, "127.0.0.1"), "");
    server.hang(false);
    server.say("web.example.com.", Says::Failure);
    assert_eq!(hears(&scene, 0, "127.0.0.1"), "");
    let rows = scene.finish();
    assert_eq!(rows.sessions.len(), 2);
    assert!(rows.sessions.iter().all(|session| session.end_reason == "resolve_failed"));
    let phases = rows.sessions.iter().map(|session| session.end_phase.as_str());
    assert!(phases.into_iter().all(|phase| phase == "resolve"));
}

#[test]
fn a_rules_host_name_is_followed() {
    let server = NameServer::start();
    server.host("friend.example.com.", 1, &["127.0.0.2"]);
    let from = format!("from = [\"friend.example.com\"]\n{PASS}");
    let mut scene = to_speaker(&server, "", &[rule("friend", &from)]);
    assert_eq!(hears(&scene, 0, "127.0.0.2"), "hello");
    assert_eq!(hears(&scene, 0, "127.0.0.3"), "");
    server.host("friend.example.com.", 1, &["127.0.0.3"]);
    until("the friend moves", || {
        scene.follow_names();
        hears(&scene, 0, "127.0.0.3") == "hello"
    });
    assert_eq!(hears(&scene, 0, "127.0.0.2"), "");
    assert_eq!(server.times_asked(&reverse("127.0.0.3")), 0, "nobody asks what a client is called");
}

#[test]
fn a_host_name_in_a_rule_that_was_never_known_blocks_or_does_not_pass() {
    let server = NameServer::start();
    server.say("friend.example.com.", Says::Silence);
    server.say("foe.example.com.", Says::Failure);
    let friend = rule("friend", &format!("from = [\"friend.example.com\"]\n{PASS}"));
    let foe = rule("foe", &format!("from = [\"foe.example.com\"]\n{BLOCK}"));
    let mut scene = to_speaker(&server, "", &[friend, foe, rule("all", PASS)]);
    assert_eq!(hears(&scene, 0, "127.0.0.2"), "");
    server.host("foe.example.com.", 60, &["127.0.0.3"]);
    until("the foe is known", || {
        scene.follow_names();
        hears(&scene, 0, "127.0.0.2") == "hello"
    });
    assert_eq!(hears(&scene, 0, "127.0.0.3"), "");
    let rows = scene.finish();
    assert!(rows.denied.iter().all(|row| row.rule.as_deref() == Some("foe")));
    assert_eq!(rows.sessions[0].transport, Transport::Tcp.as_str());
}

/// A configuration whose UDP clients are told apart by name, and this target.
fn datagrams(server: &NameServer, target: SocketAddr) -> String {
    let listen = "[[service]]\nname = \"s\"\nlisten = [\"udp://127.0.0.1:0\"]\n";
    asking(server, "")
        + &format!("{listen}target = [\"{target}\"]\n")
        + &rule("friends", &format!("from = [\".example.com\"]\n{PASS}"))
}

#[test]
fn datagrams_wait_for_their_clients_name_in_order() {
    let server = NameServer::start();
    server.pointers("127.0.0.2", 60, &["pc2.example.com."]);
    server.host("pc2.example.com.", 60, &["127.0.0.2"]);
    let target = udp_socket(ANY);
    let scene = Scene::start(&datagrams(&server, target.local_addr().unwrap()));
    let friend = udp_client("127.0.0.2:0", scene.address(0));
    let stranger = udp_client("127.0.0.3:0", scene.address(0));
    stranger.send(b"let me in").unwrap();
    for number in 0..20 {
        friend.send(&[number]).unwrap();
    }
    let mut buffer = [0; 16];
    for number in 0..20 {
        let (len, from) = target.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..len], [number]);
        target.send_to(&[number], from).unwrap();
        assert_eq!(friend.recv(&mut buffer).unwrap(), 1);
    }
    until("the stranger is refused", || scene.account.opened_and_denied().1 == 1);
    let rows = scene.finish();
    assert_eq!((rows.sessions.len(), rows.sessions[0].datagrams_up), (1, 20));
    assert_eq!(rows.denied[0].reason, "no_rule");
}

#[test]
fn datagrams_of_many_strangers_do_not_become_as_many_lookups() {
    let server = NameServer::start();
    server.hang(true);
    let target = udp_socket(ANY);
    let scene = Scene::start(&datagrams(&server, target.local_addr().unwrap()));
    let started = Instant::now();
    const STRANGERS: u64 = 2000;
    for number in 0..STRANGERS {
        let from = format!("127.1.{}.{}:0", number / 250, number % 250 + 1);
        udp_client(&from, scene.address(0)).send(b"?").unwrap();
    }
    until("all are refused", || scene.account.opened_and_denied().1 >= STRANGERS * 9 / 10);
    let counted = scene.name_counters();
    // Each lookup takes its time, and no more than 64 are under way.
    let most = 64 * (1 + started.elapsed().as_nanos() / RESOLVE.as_nanos());
    assert!(u128::from(counted["name_lookups"]) <= most, "{counted:?}, at most {most}");
    assert!(counted["name_refused"] > 0, "{counted:?}");
    until("nothing is under way", || scene.name_counters()["name_in_flight"] == 0);
    assert_eq!(scene.finish().sessions.len(), 0);
}
