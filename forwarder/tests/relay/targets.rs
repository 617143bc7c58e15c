//! Several targets: whose turn it is, who stands in for whom, and what is learned of each.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forwarder::clock::Clock;
use forwarder::health::{TargetState, look_after};
use forwarder::names::Names;
use forwarder_core::config::Balance;
use forwarder_core::target::FIRST_REST;
use schemas::vocab::Transport::{self, Tcp, Udp};
use socket2::{Domain, Socket, Type};
use tokio::sync::oneshot;

use crate::support::*;

/// A relay to these targets.
fn balanced(transport: Transport, balance: Balance, targets: &[SocketAddr]) -> Scene {
    Scene::start(&with_key(&one_service(transport, targets), &format!("balance = \"{balance}\"")))
}

/// Where targets are that go and come back: nobody else takes a port of this address meanwhile.
const OWN: &str = "127.0.0.77:0";

/// A target that closes each connection at once, until it is dropped.
struct Greeter {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Greeter {
    fn start() -> Self {
        Self::at(OWN.parse().unwrap())
    }

    fn at(address: SocketAddr) -> Self {
        let listener = listener_at(address);
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(stream),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        Self { address, stop, thread: Some(std::thread::spawn(serve)) }
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A listener, also where connections of an earlier one are in TIME_WAIT.
fn listener_at(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(1024).unwrap();
    socket.into()
}

/// One session from the first byte to the last. Gives whether a target answered.
fn visit(scene: &Scene) -> bool {
    visit_from(scene, ANY)
}

fn visit_from(scene: &Scene, client: &str) -> bool {
    let mut client = tcp_client_from(client, scene.address(0));
    read_to_end(&mut client) == Ok(vec![])
}

/// Sessions by the port of the target that they went to.
fn by_port(rows: &schemas::wire::Rows) -> BTreeMap<i32, usize> {
    let mut ports = BTreeMap::new();
    for session in &rows.sessions {
        *ports.entry(session.target_port.unwrap()).or_default() += 1;
    }
    ports
}

fn state_of(scene: &Scene, target: SocketAddr) -> TargetState {
    let targets = scene.targets().snapshot(Instant::now());
    targets.iter().find(|view| view.target == target.to_string()).unwrap().state
}

fn failed_dials(scene: &Scene, target: SocketAddr) -> u64 {
    let targets = scene.targets().snapshot(Instant::now());
    targets.iter().find(|view| view.target == target.to_string()).unwrap().failed_dials
}

/// Sessions at each target, in the order of the file.
fn sessions(scene: &Scene) -> Vec<u64> {
    scene.targets().snapshot(Instant::now()).iter().map(|view| view.sessions).collect()
}

#[test]
fn all_threads_together_take_turns() {
    let targets: Vec<_> = (0..4).map(|_| Greeter::start()).collect();
    let addresses: Vec<_> = targets.iter().map(|target| target.address).collect();
    let scene = balanced(Tcp, Balance::RoundRobin, &addresses);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..25).for_each(|_| assert!(visit(&scene))));
        }
    });
    let rows = scene.finish();
    let counts: Vec<_> = by_port(&rows).into_values().collect();
    assert_eq!(counts, [50; 4]);
}

#[test]
fn the_target_with_the_fewest_sessions_is_next_and_every_end_gives_the_place_back() {
    let targets: Vec<_> = (0..3).map(|_| tcp_target()).collect();
    let addresses: Vec<_> = targets.iter().map(|target| target.local_addr().unwrap()).collect();
    let scene = balanced(Tcp, Balance::LeastSessions, &addresses);
    let mut clients = Vec::new();
    for count in 1..=30 {
        clients.push(tcp_client(scene.address(0)));
        until("it has its place", || sessions(&scene).iter().sum::<u64>() == count);
    }
    assert_eq!(sessions(&scene), [10, 10, 10]);
    let mut servers: Vec<_> =
        targets.iter().map(|target| (0..10).map(|_| accept(target)).collect::<Vec<_>>()).collect();

    // All ways to end: the target's FIN, its reset, the client's reset.
    let first = servers.remove(0);
    first.into_iter().for_each(drop);
    servers.remove(0).into_iter().for_each(reset);
    clients.into_iter().for_each(reset);
    until("all places are free", || sessions(&scene) == [0, 0, 0]);

    // And while it is dialled.
    drop(servers);
    drop(targets);
    let (silent, _held) = silent_target();
    let scene_of_silence = balanced(Tcp, Balance::LeastSessions, &[silent]);
    let client = tcp_client(scene_of_silence.address(0));
    until("it is dialled", || sessions(&scene_of_silence) == [1]);
    reset(client);
    until("its place is free", || sessions(&scene_of_silence) == [0]);
    assert_eq!(scene.finish().sessions.len(), 30);
}

#[test]
fn a_client_stays_with_its_target_and_a_lost_one_moves_only_its_own() {
    let mut targets: Vec<_> = (0..4).map(|_| Greeter::start()).collect();
    let addresses: Vec<_> = targets.iter().map(|target| target.address).collect();
    let scene = balanced(Tcp, Balance::SourceHash, &addresses);
    let clients: Vec<_> = (1..=40).map(|last| format!("127.0.0.{last}:0")).collect();
    for _ in 0..2 {
        clients.iter().for_each(|client| assert!(visit_from(&scene, client)));
    }
    let lost = i32::from(targets.pop().unwrap().address.port());
    clients.iter().for_each(|client| assert!(visit_from(&scene, client)));
    let rows = scene.finish();
    let ports: Vec<_> = rows.sessions.iter().map(|session| session.target_port.unwrap()).collect();
    let (before, rest) = ports.split_at(40);
    let (again, after) = rest.split_at(40);
    assert_eq!(before, again);
    assert!(before.contains(&lost), "some client was there: {before:?}");
    for (before, after) in before.iter().zip(after) {
        assert!(*after == *before || *before == lost, "a client moved without need");
        assert_ne!(*after, lost);
    }
}

#[test]
fn a_dead_target_costs_few_sessions_a_detour_and_none_its_life_and_is_taken_back() {
    let (alive, dead) = (Greeter::start(), Greeter::start());
    let address = dead.address;
    let scene = balanced(Tcp, Balance::FirstAvailable, &[address, alive.address]);
    assert!(visit(&scene));
    drop(dead);
    let begun = Instant::now();
    let mut visits = 0_u64;
    // 500 sessions a second while it is dead.
    while begun.elapsed() < Duration::from_millis(2500) {
        assert!(visit(&scene), "whoever finds it dead goes on to the other one");
        visits += 1;
        let due = begun + Duration::from_millis(2 * visits);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    // Three in a row at first, then one trial each time that it has rested: after 1 s, 3 s...
    let failed = failed_dials(&scene, address);
    assert!((3..=5).contains(&failed), "{failed} of {visits} sessions dialled it in vain");
    assert_eq!(state_of(&scene, address), TargetState::BackingOff);

    let back = Greeter::at(address);
    until("it is taken back", || visit(&scene) && state_of(&scene, address) == TargetState::Up);
    assert!(visit(&scene));
    let rows = scene.finish();
    assert!(rows.sessions.iter().all(|session| session.end_reason == "done"));
    let last = rows.sessions.last().unwrap();
    assert_eq!(last.target_port, Some(i32::from(back.address.port())));
}

#[test]
fn a_silent_target_delays_those_of_two_seconds_by_two_seconds() {
    let (silent, _held) = silent_target();
    let alive = Greeter::start();
    let scene = balanced(Tcp, Balance::FirstAvailable, &[silent, alive.address]);
    let mut clients = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2700) {
        clients.push(tcp_client(scene.address(0)));
        std::thread::sleep(Duration::from_millis(20));
    }
    for client in &mut clients {
        assert_eq!(read_to_end(client), Ok(vec![]));
    }
    let rows = scene.finish();
    let connect_us = |session: &schemas::table::Session| session.connect_us.unwrap();
    let delayed: Vec<_> =
        rows.sessions.iter().map(connect_us).filter(|took| *took > 1_000_000).collect();
    // Two seconds' worth; the two before the third of them wait for their share of the timeout.
    assert!(delayed.len() <= 2000 / 20 + 3, "{} of {}", delayed.len(), rows.sessions.len());
    assert!(delayed.iter().all(|took| *took < 8_000_000), "{delayed:?}");
    let soon = delayed.iter().filter(|took| **took < 4_000_000).count();
    assert!(soon + 2 >= delayed.len(), "{delayed:?}");
    assert!(connect_us(rows.sessions.last().unwrap()) < 1_000_000);
}

#[test]
fn all_targets_share_one_connect_timeout() {
    let silent: Vec<_> = (0..3).map(|_| silent_target()).collect();
    let addresses: Vec<_> = silent.iter().map(|(address, _)| *address).collect();
    let text = one_service(Tcp, &addresses) + "timeouts = { connect = \"300ms\" }\n";
    let scene = Scene::start(&text);
    let mut client = tcp_client(scene.address(0));
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    assert_eq!(end_of(&rows.sessions[0])[..2], ["connect_timeout", "connect"]);
    assert!(rows.sessions[0].duration_us < 2_000_000, "{}", rows.sessions[0].duration_us);
}

#[test]
fn a_lone_target_is_dialled_however_often_it_refused() {
    let (refusing, _held) = closed_port(Tcp);
    let scene = Scene::start(&one_service(Tcp, &[refusing]));
    (0..10).for_each(|_| assert!(!visit(&scene)));
    assert_eq!(failed_dials(&scene, refusing), 10);
    let rows = scene.finish();
    assert!(rows.sessions.iter().all(|session| session.end_reason == "target_refused"));
}

#[test]
fn a_reload_keeps_what_is_known_of_a_target() {
    let (refusing, _held) = closed_port(Tcp);
    let alive = Greeter::start();
    let text = one_service(Tcp, &[refusing, alive.address]);
    let mut scene = Scene::start(&text);
    (0..6).for_each(|_| assert!(visit(&scene)));
    let known = failed_dials(&scene, refusing);
    assert_eq!(known, 3);
    scene.reload(&text);
    assert_eq!(failed_dials(&scene, refusing), known);
    assert_eq!(state_of(&scene, refusing), TargetState::BackingOff);
}

/// Looks after the targets of a scene until it is dropped.
struct Prober {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    fn start(scene: &Scene) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (targets, account) = (Arc::clone(scene.targets()), scene.account.clone());
        let clock = Clock::start();
        let names = Names::start(clock).unwrap();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = look_after(targets, names, account, clock) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A relay to these targets that are checked often.
fn checked(targets: &[SocketAddr], rise: u32, fall: u32) -> Scene {
    let health = format!(
        "health = {{ every = \"50ms\", timeout = \"50ms\", rise = {rise}, fall = {fall} }}"
    );
    Scene::start(&with_key(&one_service(Tcp, targets), &health))
}

#[test]
fn checks_take_a_target_down_and_bring_it_back_and_the_account_tells() {
    let (alive, dead) = (Greeter::start(), Greeter::start());
    let address = dead.address;
    let scene = checked(&[address, alive.address], 2, 2);
    let prober = Prober::start(&scene);
    until("both are up", || scene.targets().snapshot(Instant::now()).len() == 2);
    drop(dead);
    until("it is down", || state_of(&scene, address) == TargetState::Down);
    let before = failed_dials(&scene, address);
    (0..20).for_each(|_| assert!(visit(&scene)));
    assert_eq!(failed_dials(&scene, address), before, "nobody is sent there");
    let _back = Greeter::at(address);
    until("it is up again", || state_of(&scene, address) == TargetState::Up);
    drop(prober);
    let rows = scene.finish();
    let told: Vec<_> = rows
        .events
        .iter()
        .filter(|event| event.message.contains(&address.to_string()))
        .map(|event| (event.kind.as_str(), event.severity.as_str(), event.service.as_deref()))
        .collect();
    let expected = [("target_down", "warning", Some("s")), ("target_up", "info", Some("s"))];
    assert_eq!(told, expected, "{:?}", rows.events);
}

#[test]
fn a_session_whose_targets_are_all_down_has_no_target_until_one_is_back() {
    let gone = Greeter::start();
    let address = gone.address;
    drop(gone);
    let scene = checked(&[address], 1, 1);
    let _prober = Prober::start(&scene);
    until("it is down", || state_of(&scene, address) == TargetState::Down);
    assert!(!visit(&scene));
    let _back = Greeter::at(address);
    until("it is back", || visit(&scene));
    let rows = scene.finish();
    let first = rows.sessions.iter().find(|session| session.end_reason == "no_target").unwrap();
    assert_eq!((first.target_port, first.errno), (None, None));
    assert_eq!(rows.sessions.last().unwrap().end_reason, "done");
}

#[test]
fn checks_do_not_disturb_the_targets_program() {
    let target = tcp_target();
    target.set_nonblocking(true).unwrap();
    let address = target.local_addr().unwrap();
    let (gone, _held) = closed_port(Tcp);
    let scene = checked(&[address, gone], 1, 3);
    let _prober = Prober::start(&scene);
    // While the other is found to be down after its checks, this one was checked as often.
    until("the other is down", || state_of(&scene, gone) == TargetState::Down);
    for _ in 0..20 {
        assert_eq!(target.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(state_of(&scene, address), TargetState::Up);
}

#[test]
fn without_checks_a_target_that_was_down_is_dialled_again() {
    let (gone, _held) = closed_port(Tcp);
    let mut scene = checked(&[gone], 1, 1);
    let _prober = Prober::start(&scene);
    until("it is down", || state_of(&scene, gone) == TargetState::Down);
    scene.reload(&one_service(Tcp, &[gone]));
    until("it is not", || state_of(&scene, gone) != TargetState::Down);
    assert!(!visit(&scene));
    assert_eq!(scene.finish().sessions[0].end_reason, "target_refused");
}

#[test]
fn datagrams_obey_the_balance_too() {
    let targets: Vec<_> = (0..2).map(|_| udp_socket(ANY)).collect();
    let addresses: Vec<_> = targets.iter().map(|target| target.local_addr().unwrap()).collect();
    let scene = balanced(Udp, Balance::RoundRobin, &addresses);
    let clients: Vec<_> = (0..40).map(|_| udp_client(ANY, scene.address(0))).collect();
    for client in &clients {
        client.send(b"hello").unwrap();
    }
    let mut buffer = [0; 16];
    for target in &targets {
        (0..20).for_each(|_| assert_eq!(target.recv_from(&mut buffer).unwrap().0, 5));
    }
    let counts: Vec<_> = by_port(&scene.finish()).into_values().collect();
    assert_eq!(counts, [20, 20]);
}

#[test]
fn a_target_that_is_listed_twice_gets_twice_as_many_clients() {
    let targets: Vec<_> = (0..2).map(|_| udp_socket(ANY)).collect();
    let [heavy, light] = [0, 1].map(|index: usize| targets[index].local_addr().unwrap());
    let scene = balanced(Udp, Balance::RoundRobin, &[heavy, light, heavy]);
    let clients: Vec<_> = (0..30).map(|_| udp_client(ANY, scene.address(0))).collect();
    for client in &clients {
        client.send(b"hello").unwrap();
    }
    until("all are there", || scene.account.live().count() == 30);
    let counts = by_port(&scene.finish());
    assert_eq!([heavy, light].map(|target| counts[&i32::from(target.port())]), [20, 10]);
}

#[test]
fn new_udp_clients_go_around_a_target_that_icmp_says_is_closed() {
    let closed = udp_socket(OWN).local_addr().unwrap();
    let target = udp_socket(ANY);
    let open = target.local_addr().unwrap();
    let scene = balanced(Udp, Balance::FirstAvailable, &[closed, open]);
    let mut buffer = [0; 16];
    let mut lost = Vec::new();
    until("somebody gets through", || {
        let client = udp_client(ANY, scene.address(0));
        client.send(b"hello").unwrap();
        target.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let arrived = target.recv_from(&mut buffer).is_ok();
        if !arrived {
            lost.push(client);
        }
        arrived
    });
    assert_eq!((lost.len(), failed_dials(&scene, closed)), (3, 3));
    assert_eq!(state_of(&scene, closed), TargetState::BackingOff);

    // It comes back and is sent clients again.
    let reborn = udp_socket(&closed.to_string());
    let begun = Instant::now();
    until("it is tried", || {
        let client = udp_client(ANY, scene.address(0));
        client.send(b"hello").unwrap();
        reborn.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        reborn.recv_from(&mut buffer).is_ok_and(|(len, relay)| {
            reborn.send_to(&buffer[..len], relay).unwrap();
            client.recv(&mut buffer).is_ok()
        })
    });
    assert!(begun.elapsed() < 10 * FIRST_REST);
    until("it is up", || state_of(&scene, closed) == TargetState::Up);
}
