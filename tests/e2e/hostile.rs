//! Peers that do what they should not: it costs what it must, the account stays exact, and a session
//! beside them does not notice.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use e2e_tests::endpoint::{Target, connect};
use e2e_tests::scene::Scene;
use e2e_tests::{address, wait};
use socket2::Socket;

use crate::rows::{integer, text};

/// Round trips of which the neighbour takes the 99th percentile.
const ROUND_TRIPS: usize = 300;
/// A delay that is the machine's doing: below it no comparison tells anything.
const NOTICEABLE: Duration = Duration::from_millis(20);
/// How often it may be looked. Others on the machine only ever add to a delay, so that one look
/// without a delay shows that the forwarder adds none.
const LOOKS: usize = 3;
/// Most that the forwarder's anonymous memory may grow under any of this, of a debug build.
const MOST_MEMORY: u64 = 24 << 20;
/// Most that it may hold of each association that a storm began, ended ones' included, since an
/// allocator keeps what it once had: eight storms in a row came to 3.6 KiB and no further.
const PER_ASSOCIATION: u64 = 5 << 10;

/// What `analyze` is asked for the rows of the hostile service.
const HOSTILE_ROWS: &[&str] = &["sessions", "--service", "hostile"];

/// Descriptors that the forwarder may open and close for itself meanwhile, as for its recorder.
const OWN: usize = 8;

/// A scene with hostile peers on one service, and a session of another one that looks on.
struct Onlooker {
    scene: Scene,
    /// Where the hostile ones come in.
    listen: SocketAddr,
    client: TcpStream,
    echo: JoinHandle<u64>,
    /// A way past the forwarder: it tells what the machine does to anybody's round trips.
    direct: TcpStream,
    direct_echo: JoinHandle<u64>,
    sent: u64,
    quiet: Duration,
    memory: u64,
}

impl Onlooker {
    /// `service`: the hostile service's keys but its name and listener; `more`: further sections.
    fn start(transport: &str, service: &str, more: &str) -> Self {
        let target = Target::start(address::own());
        let mut scene = Scene::new();
        let (listen, beside) = (scene.free_address(), scene.free_address());
        scene.configure(&format!(
            "{more}\n[[service]]\nname = \"hostile\"\nlisten = [\"{transport}://{listen}\"]\n{service}\n\n\
             [[service]]\nname = \"beside\"\nlisten = [\"tcp://{beside}\"]\ntarget = [\"{}\"]\n\n\
             [[rule]]\nname = \"everyone\"\naction = \"pass\"\nlog = []\n",
            target.address()
        ));
        scene.start_recorder();
        scene.start_forwarder();
        let client = connect(SocketAddr::new(scene.ip(), 0), beside).unwrap();
        client.set_nodelay(true).unwrap();
        let echo = echo_of(target.accept());
        let direct = connect(SocketAddr::new(scene.ip(), 0), target.address()).unwrap();
        direct.set_nodelay(true).unwrap();
        let direct_echo = echo_of(target.accept());
        let memory = scene.forwarder().resident_bytes().unwrap();
        let quiet = Duration::ZERO;
        let mut onlooker =
            Self { scene, listen, client, echo, direct, direct_echo, sent: 0, quiet, memory };
        onlooker.quiet = onlooker.p99s()[0];
        onlooker
    }

    /// The 99th percentile of its round trips, and of those past the forwarder at the same time.
    fn p99s(&mut self) -> [Duration; 2] {
        let taken = (0..ROUND_TRIPS).map(|_| (self.round_trip(), round_trip(&mut self.direct)));
        let (through, past): (Vec<_>, Vec<_>) = taken.unzip();
        [through, past].map(|mut taken| {
            taken.sort_unstable();
            taken[ROUND_TRIPS * 99 / 100]
        })
    }

    /// Whether it has noticed something just now: what, and what the machine did to others.
    fn noticed(&mut self) -> Option<[Duration; 2]> {
        let [through, past] = self.p99s();
        // Through the forwarder a round trip waits for the processor twice as often.
        let bound = (2 * self.quiet).max(4 * past).max(NOTICEABLE);
        (through > bound).then_some([through, past])
    }

    /// How many descriptors the forwarder holds.
    fn descriptors(&mut self) -> usize {
        self.scene.forwarder().descriptors().unwrap().len()
    }

    fn round_trip(&mut self) -> Duration {
        self.sent += 1;
        round_trip(&mut self.client)
    }

    /// That it does not notice what goes on beside it, and that this costs no more than it may.
    #[track_caller]
    fn notices_nothing(&mut self) {
        let looks: Vec<_> = (0..LOOKS).map_while(|_| self.noticed()).collect();
        let quiet = self.quiet;
        assert!(looks.len() < LOOKS, "p99 was {quiet:?}, and is, with that of others: {looks:?}");
        self.takes_no_memory();
    }

    #[track_caller]
    fn takes_no_memory(&mut self) {
        self.takes_at_most(MOST_MEMORY);
    }

    #[track_caller]
    fn takes_at_most(&mut self, most: u64) {
        let grown = self.scene.forwarder().resident_bytes().unwrap().saturating_sub(self.memory);
        assert!(grown <= most, "{grown} bytes more memory than in quiet, {most} at most");
    }

    /// That nothing is done while nothing moves: no more than a third of one processor.
    #[track_caller]
    fn nothing_spins(&mut self) {
        let (before, started) = (self.scene.forwarder().processor_time().unwrap(), Instant::now());
        wait::until("a second has passed", || {
            (started.elapsed() > Duration::from_secs(1)).then_some(())
        });
        let used = self.scene.forwarder().processor_time().unwrap() - before;
        assert!(used < started.elapsed() * 3 / 10, "{used:?} of processor time on doing nothing");
    }

    /// Ends everything and gives the hostile service's rows.
    fn finish(self) -> Vec<serde_json::Value> {
        self.end().rows(HOSTILE_ROWS)
    }

    /// Ends everything and gives where it was. The onlooker's own row must be exact.
    fn end(mut self) -> Scene {
        drop((self.client, self.direct));
        assert_eq!(wait::joined("the echo ends", self.echo), self.sent);
        wait::joined("the echo past the forwarder ends", self.direct_echo);
        wait::until("all sessions end", || {
            (self.scene.status()["sessions"]["current"] == 0).then_some(())
        });
        assert!(self.scene.stop_forwarder().success());
        self.scene.flush();
        self.scene.analyze(&["verify"]).fine();
        let beside = self.scene.rows(&["sessions", "--service", "beside"]);
        let sent = i64::try_from(self.sent).unwrap();
        assert_eq!((beside.len(), text(&beside[0], "end_reason")), (1, "done"));
        for column in ["bytes_up", "bytes_down", "received_up", "received_down"] {
            assert_eq!(integer(&beside[0], column), sent, "{column}");
        }
        self.scene
    }
}

/// Answers each byte with itself, until the end; gives how many there were.
fn echo_of(mut server: TcpStream) -> JoinHandle<u64> {
    server.set_nodelay(true).unwrap();
    thread::spawn(move || {
        let (mut byte, mut echoed) = ([0], 0);
        while let Ok(1) = server.read(&mut byte) {
            server.write_all(&byte).unwrap();
            echoed += 1;
        }
        echoed
    })
}

fn round_trip(client: &mut TcpStream) -> Duration {
    let from = Instant::now();
    client.write_all(b"?").unwrap();
    client.read_exact(&mut [0]).unwrap();
    from.elapsed()
}

fn target_of(address: SocketAddr) -> String {
    format!("target = [\"{address}\"]")
}

fn reset(stream: TcpStream) {
    Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Writes until nobody takes more; says how many bytes were taken.
fn stuff(stream: &mut TcpStream) -> i64 {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let (chunk, mut taken) = (vec![0x5a; 64 << 10], 0);
    loop {
        match stream.write(&chunk) {
            Ok(len) => taken += i64::try_from(len).unwrap(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                return taken;
            }
        }
    }
}

#[test]
fn a_target_that_never_reads_and_a_client_that_hardly_does_hold_up_nobody_else() {
    const SESSIONS: u16 = 8;
    let target = Target::start(address::own());
    let mut onlooker = Onlooker::start("tcp", &target_of(target.address()), "");
    let ends: Vec<_> = (0..SESSIONS)
        .map(|number| {
            let client = connect(onlooker.scene.client(number), onlooker.listen).unwrap();
            (client, target.accept())
        })
        .collect();
    // Both directions of each session fill up, side by side.
    let stuffing: Vec<_> = ends
        .into_iter()
        .map(|(mut client, mut server)| {
            let up = thread::spawn(move || (stuff(&mut client), client));
            let down = thread::spawn(move || (stuff(&mut server), server));
            (up, down)
        })
        .collect();
    let mut stalled: Vec<_> = stuffing
        .into_iter()
        .map(|(up, down)| {
            (wait::joined("a client is stuffed", up), wait::joined("a target is stuffed", down))
        })
        .collect();
    onlooker.nothing_spins();
    onlooker.notices_nothing();
    // A byte a second, from each: what the relay moves on for it is not worth a wake-up more.
    for _ in 0..2 {
        for ((_, client), _) in &mut stalled {
            client.read_exact(&mut [0]).unwrap();
        }
        onlooker.nothing_spins();
    }
    onlooker.notices_nothing();

    // The client's last words; then all that was sent is read, so that the totals are known.
    for ((_, client), (_, server)) in &stalled {
        client.shutdown(Shutdown::Write).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
    }
    let mut wanted = Vec::new();
    for ((up, mut client), (down, mut server)) in stalled {
        let read = |stream: &mut TcpStream| {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            i64::try_from(rest.len()).unwrap()
        };
        assert_eq!((read(&mut server), read(&mut client)), (up, down - 2));
        wanted.push([up, up, down, down]);
    }
    let columns = ["received_up", "bytes_up", "received_down", "bytes_down"];
    let rows = onlooker.finish();
    let mut found: Vec<_> =
        rows.iter().map(|row| columns.map(|column| integer(row, column))).collect();
    wanted.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, wanted);
}

/// The next connection that brings a greeting: those of clients that reset before bring none.
fn greeted(target: &Target) -> TcpStream {
    loop {
        let (mut server, mut greeting) = (target.accept(), [0; 5]);
        if server.read_exact(&mut greeting).is_ok() && greeting == *b"hello" {
            return server;
        }
    }
}

#[test]
fn resets_in_every_state_have_a_reason_and_bother_nobody() {
    const ROUNDS: u16 = 20;
    let target = Target::start(address::own());
    let mut onlooker = Onlooker::start("tcp", &target_of(target.address()), "");
    let listen = onlooker.listen;
    let (mut at_least, mut passed) = (0, 0);
    for round in 0..ROUNDS {
        let client =
            |state: u16| connect(onlooker.scene.client(round * 8 + state), listen).unwrap();
        // While the target is dialled, or just after; with and without payload under way.
        reset(client(0));
        let mut early = client(1);
        early.write_all(b"early").unwrap();
        reset(early);
        let state = |number| {
            let mut client = client(number);
            client.write_all(b"hello").unwrap();
            (client, greeted(&target))
        };
        // By either side, in the middle.
        let (client, server) = state(2);
        reset(client);
        wait::until("the target is reset", || server.take_error().unwrap());
        let (client, server) = state(3);
        reset(server);
        wait::until("the client is reset", || client.take_error().unwrap());
        // After a half-close of one's own, and of the other's.
        let (client, server) = state(4);
        client.shutdown(Shutdown::Write).unwrap();
        reset(client);
        wait::until("the target is reset", || server.take_error().unwrap());
        let (mut client, server) = state(5);
        client.shutdown(Shutdown::Write).unwrap();
        reset(server);
        assert_eq!(
            client.read(&mut [0]).map_err(|error| error.kind()),
            Err(ErrorKind::ConnectionReset)
        );
        // While both directions are full.
        let (mut client, mut server) = state(6);
        if round == 0 {
            stuff(&mut client);
            stuff(&mut server);
        }
        reset(client);
        wait::until("the target is reset", || server.take_error().unwrap());
        at_least += 5;
        passed += 5 * 5;
    }
    onlooker.notices_nothing();
    let rows = onlooker.finish();
    assert!(rows.len() >= at_least, "{} rows", rows.len());
    let resets = ["client_reset", "target_reset", "client_abort"];
    for row in &rows {
        assert!(resets.contains(&text(row, "end_reason")), "{row}");
        assert!(integer(row, "bytes_up") <= integer(row, "received_up"), "{row}");
    }
    let up: i64 = rows.iter().map(|row| integer(row, "bytes_up")).sum();
    assert!(up >= passed, "{up} bytes were billed, and {passed} arrived");
}

#[test]
fn twenty_thousand_connects_to_a_target_that_never_answers_leave_nothing_behind() {
    const WAVES: usize = 40;
    const WAVE: usize = 500;
    // A listener whose queue is full drops every SYN.
    let mute = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    mute.bind(&SocketAddr::new(address::own(), 0).into()).unwrap();
    mute.listen(0).unwrap();
    let target = mute.local_addr().unwrap().as_socket().unwrap();
    let _in_its_queue = connect(SocketAddr::new(target.ip(), 0), target).unwrap();

    let mut onlooker = Onlooker::start("tcp", &target_of(target), "");
    let (listen, from) = (onlooker.listen, SocketAddr::new(onlooker.scene.ip(), 0));
    let before = onlooker.descriptors();
    let mut most = 0;
    for wave in 0..WAVES {
        let clients: Vec<_> = (0..WAVE).map(|_| connect(from, listen).unwrap()).collect();
        most = most.max(onlooker.descriptors());
        if wave == WAVES / 2 {
            onlooker.notices_nothing();
        }
        clients.into_iter().for_each(reset);
        wait::until("all descriptors are back", || {
            onlooker.descriptors().abs_diff(before).le(&OWN).then_some(())
        });
    }
    onlooker.notices_nothing();
    assert!(most <= before + 2 * WAVE + OWN, "{most} descriptors at once, {before} before");
    let rows = onlooker.finish();
    assert_eq!(rows.len(), WAVES * WAVE);
    let wrong = rows
        .iter()
        .find(|row| text(row, "end_phase") != "connect" || integer(row, "bytes_up") != 0);
    assert_eq!(wrong, None);
}

#[test]
fn a_closed_target_port_refuses_a_thousand_clients_and_each_is_accounted() {
    const CLIENTS: u16 = 1000;
    let closed = address::free(address::own());
    let mut onlooker = Onlooker::start("tcp", &target_of(closed), "");
    for number in 0..CLIENTS {
        // It ends at once, by FIN or by RST, perhaps while it is still being set up.
        if let Ok(mut client) = connect(onlooker.scene.client(number), onlooker.listen) {
            drop(client.read(&mut [0]));
        }
        if number % 100 == 0 {
            onlooker.round_trip();
        }
    }
    onlooker.notices_nothing();
    let rows = onlooker.finish();
    assert_eq!(rows.len(), usize::from(CLIENTS));
    assert!(rows.iter().all(|row| text(row, "end_reason") == "target_refused"), "{}", rows[0]);
}

/// One datagram from each of so many addresses, as fast as sockets can be made.
fn storm(clients: u16, to: SocketAddr) {
    for number in 0..clients {
        let [high, low] = number.to_be_bytes();
        let client = UdpSocket::bind((Ipv4Addr::new(127, 200, high, low), 0)).unwrap();
        client.send_to(b"storm", to).unwrap();
    }
}

/// Counts the datagrams of five bytes that reach a socket, until an empty one comes.
fn count_datagrams(socket: UdpSocket) -> JoinHandle<(i64, UdpSocket)> {
    socket.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    thread::spawn(move || {
        let mut received = 0;
        loop {
            match socket.recv(&mut [0; 64]).unwrap() {
                0 => return (received, socket),
                len => received += i64::from(len == 5),
            }
        }
    })
}

#[test]
fn storms_of_datagrams_from_ten_thousand_addresses_are_bounded_and_counted() {
    const CLIENTS: u16 = 10_000;
    let target = UdpSocket::bind((address::own(), 0)).unwrap();
    let at = target.local_addr().unwrap();
    let counting = count_datagrams(target);
    let timeouts = "[timeouts]\nudp_idle = \"2s\"\n";
    let mut onlooker = Onlooker::start("udp", &target_of(at), timeouts);
    let (mut sent, mut looks) = (0, Vec::new());
    for _ in 0..LOOKS {
        let listen = onlooker.listen;
        let raging = thread::spawn(move || storm(CLIENTS, listen));
        let noticed = onlooker.noticed();
        wait::joined("the storm is over", raging);
        sent += i64::from(CLIENTS);
        onlooker.takes_at_most(u64::from(CLIENTS) * PER_ASSOCIATION);
        wait::until("every association has ended", || {
            (onlooker.scene.status()["sessions"]["current"] == 1).then_some(())
        });
        let Some(noticed) = noticed else { break };
        looks.push(noticed);
    }
    let quiet = onlooker.quiet;
    assert!(looks.len() < LOOKS, "p99 was {quiet:?}, and in each storm, with others': {looks:?}");

    // All that ever comes is in the queue now: the last one tells so.
    UdpSocket::bind((address::own(), 0)).unwrap().send_to(b"", at).unwrap();
    let (received, target) = wait::joined("all is received", counting);
    let lost = i64::from(forwarder_sys::option::drops(&target).unwrap());
    let status = onlooker.scene.status();
    let refused = status["sessions"]["refused"].as_i64().unwrap();
    let counter = |name: &str| status["counters"][name].as_i64().unwrap();
    let [undeliverable, unsent] = ["datagrams_undeliverable", "datagrams_unsent"].map(counter);
    let scene = onlooker.end();
    let slots = scene.rows(&["sql", "select sum(datagrams_dropped)::bigint as dropped from slots"]);
    let (rows, dropped) = (scene.rows(HOSTILE_ROWS), integer(&slots[0], "dropped"));
    let sum = |column| rows.iter().map(|row| integer(row, column)).sum::<i64>();
    // How much a queue holds is the system's affair; what it drops is known of both of them.
    assert_eq!(sum("datagrams_up"), received + lost, "{received} received, {lost} lost");
    assert_eq!(sum("bytes_up"), 5 * (received + lost));
    let told = sum("datagrams_up") + refused + undeliverable + unsent + dropped;
    assert_eq!(told, sent, "{refused} {undeliverable} {unsent} {dropped}");
    assert!(received + lost >= 1000, "{received} arrived, {refused} were refused");
}
