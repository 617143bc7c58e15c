//! A relay in this process with a real account, and the peers around it.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forwarder::accounting::{self, Account, JournalThread};
use forwarder::capture::CaptureLane;
use forwarder::clock::Clock;
use forwarder::health::Registry;
use forwarder::names::Names;
use forwarder::relay::{Bindings, Controls, Rejudged, Relay, Selection, Tuning};
use forwarder_core::config::{Config, Environment, Host, Target, WhenFull};
use journal::Entry;
use schemas::table::{Event, Session};
use schemas::vocab::{EndReason, Timestamp, Transport};
use schemas::wire::{FrameKind, Rows};
use socket2::SockRef;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Long enough for anything on a busy machine; reached only when a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Data threads of a relay under test: more than one, so that listeners are shared.
const THREADS: usize = 2;

/// An address with a port that the kernel picks.
pub(crate) const ANY: &str = "127.0.0.1:0";

/// How a relay under test differs from one that users run.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Room for so many sessions.
    pub(crate) table: usize,
    pub(crate) tuning: Tuning,
    /// Where captured payload goes.
    pub(crate) capture: CaptureLane,
}

impl Default for Setup {
    fn default() -> Self {
        Self { table: 4096, tuning: Tuning::default(), capture: CaptureLane::default() }
    }
}

/// A relay, its account and where both write.
pub(crate) struct Scene {
    relay: Relay,
    names: Names,
    pub(crate) account: Account,
    journal: JournalThread,
    control: Runtime,
    dir: TempDir,
}

impl Scene {
    /// A relay with these services and rules; listeners may use port 0.
    pub(crate) fn start(services_and_rules: &str) -> Self {
        Self::start_with_table(services_and_rules, 4096)
    }

    /// The same with room for so many sessions.
    pub(crate) fn start_with_table(services_and_rules: &str, table: usize) -> Self {
        Self::start_with(services_and_rules, Setup { table, ..Setup::default() })
    }

    /// With room for so many sessions, and none beyond.
    pub(crate) fn start_refusing_beyond(services_and_rules: &str, table: usize) -> Self {
        let setup = Setup { table, ..Setup::default() };
        Self::start_changed(services_and_rules, setup, |config| {
            config.recorder.when_full = WhenFull::RefuseNew;
        })
    }

    /// The same, set up in another way.
    pub(crate) fn start_with(services_and_rules: &str, setup: Setup) -> Self {
        Self::start_changed(services_and_rules, setup, |_| {})
    }

    /// A relay whose only service goes to a target that no file may name.
    pub(crate) fn start_towards(transport: Transport, target: SocketAddr) -> Self {
        let allowed = one_service(transport, &["127.0.0.1:9".parse().unwrap()]);
        Self::start_changed(&allowed, Setup::default(), |config| {
            config.services[0].targets =
                vec![Target { host: Host::Address(target.ip()), port: Some(target.port()) }];
        })
    }

    /// A relay that moves payload in another way than usual.
    pub(crate) fn start_tuned(services_and_rules: &str, tuning: Tuning) -> Self {
        Self::start_with(services_and_rules, Setup { table: 65_536, tuning, ..Setup::default() })
    }

    /// The same with a configuration that is changed after it was read.
    pub(crate) fn start_changed(
        services_and_rules: &str,
        setup: Setup,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let Setup { table, tuning, capture } = setup;
        let dir = tempfile::tempdir().unwrap();
        let mut config = configuration(dir.path(), table, services_and_rules);
        change(&mut config);
        let clock = Clock::start();
        let (account, journal) = accounting::start(&config, clock).unwrap();
        let control = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let names = Names::start(clock).unwrap();
        control.block_on(names.follow(&config, None));
        let bindings = Bindings::bind(&config, names.directory(), THREADS).unwrap();
        let relay =
            Relay::start(&config, bindings, account.clone(), capture, names.clone(), clock, tuning)
                .unwrap();
        Self { relay, names, account, journal, control, dir }
    }

    /// Where the `index`th listener of the file is bound.
    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.relay.bound()[index].address
    }

    /// How many listeners are bound.
    pub(crate) fn bound(&self) -> usize {
        self.relay.bound().len()
    }

    /// Puts other services and rules in force.
    pub(crate) fn reload(&mut self, services_and_rules: &str) {
        let config = configuration(self.dir.path(), 4096, services_and_rules);
        self.control.block_on(self.names.follow(&config, None));
        self.control.block_on(self.relay.reload(&config)).unwrap();
    }

    /// Ends sessions from outside.
    pub(crate) fn end(&self, which: &Selection, reason: EndReason) -> usize {
        self.control.block_on(self.controls().end(which.clone(), reason))
    }

    /// Asks the rules in force again about what runs.
    pub(crate) fn rejudge(&self) -> Rejudged {
        self.control.block_on(self.controls().rejudge())
    }

    /// A way into the running relay.
    pub(crate) fn controls(&self) -> Controls {
        self.relay.controls()
    }

    /// Pauses the first listener, or resumes it.
    pub(crate) fn pause(&self, paused: bool) {
        let listener = self.relay.bound()[0].listener;
        let controls = self.controls();
        controls.change_intakes(|intakes| assert!(intakes.set_paused(listener, paused)));
        // An errand that comes back has found every listener with the change before it.
        self.control.block_on(controls.sights());
    }

    /// Where all listeners are bound.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.relay.bound().iter().map(|bound| bound.address).collect()
    }

    /// What happened to listeners by interface name since the last time.
    pub(crate) fn listener_news(&mut self, now: Timestamp) -> Vec<Event> {
        self.relay.news().tell(now)
    }

    /// Puts in force what names mean by now.
    pub(crate) fn follow_names(&mut self) {
        self.control.block_on(self.relay.follow_names()).unwrap();
    }

    /// What looking up names has counted.
    pub(crate) fn name_counters(&self) -> HashMap<&'static str, u64> {
        self.names.counters().all().into_iter().collect()
    }

    /// What is known of the targets.
    pub(crate) fn targets(&self) -> &Arc<Registry> {
        self.relay.targets()
    }

    /// The relay's own counters.
    pub(crate) fn counters(&self) -> &forwarder::relay::Counters {
        self.relay.counters()
    }

    /// How far everybody is with the limits, at most so many.
    pub(crate) fn limits(&self, most: usize) -> Vec<forwarder::limits::LimitUse> {
        self.relay.limits().snapshot(most).0
    }

    /// What limits count.
    pub(crate) fn limit_counters(&self) -> &forwarder::limits::Counters {
        self.relay.limits().counters()
    }

    /// Waits until every TCP session has ended, stops, and gives every row of the account.
    pub(crate) fn finish(self) -> Rows {
        self.finish_within(DEADLINE)
    }

    /// The same, but sessions that are left after `patience` end as drained.
    pub(crate) fn finish_within(mut self, patience: Duration) -> Rows {
        self.control.block_on(async {
            self.relay.drain(patience).await.unwrap();
            self.relay.limits().close();
            assert!(self.journal.finish().await, "the last rows are durable");
        });
        self.journal.close();
        let spool = self.dir.path().join("spool");
        let mut all = Rows::default();
        for entry in journal::scan(&spool).unwrap() {
            if let Entry::Frame(frame, _) = entry.unwrap()
                && frame.kind == FrameKind::Rows
            {
                let rows: Rows = prost::Message::decode(frame.payload).unwrap();
                all.sessions.extend(rows.sessions);
                all.usage.extend(rows.usage);
                all.denied.extend(rows.denied);
                all.slots.extend(rows.slots);
                all.events.extend(rows.events);
            }
        }
        all.sessions.sort_by_key(|session| session.session_no);
        all
    }
}

fn configuration(dir: &Path, table: usize, services_and_rules: &str) -> Config {
    let dir = dir.display();
    let source = format!(
        "node = \"test\"\n\
         [recorder]\nendpoint = \"unix:{dir}/recorder.sock\"\nspool = \"{dir}/spool\"\n\
         [accounting]\nslot = \"1s\"\ntable = {table}\n\
         [admin]\nsocket = \"{dir}/admin.sock\"\n\
         {services_and_rules}"
    );
    let environment = Environment {
        host_name: "test".to_owned(),
        local_addresses: Vec::new(),
        congestion_controls: Vec::new(),
        files: std::collections::BTreeMap::new(),
    };
    Config::parse(&source, "forwarder.toml", &environment)
        .unwrap_or_else(|faults| panic!("{faults}"))
}

/// One service with one listener and these targets, and a rule that passes everyone.
pub(crate) fn one_service(transport: Transport, targets: &[SocketAddr]) -> String {
    service_on(&format!("{transport}://{ANY}"), targets)
}

/// The same with a listener of the caller's.
pub(crate) fn service_on(listen: &str, targets: &[SocketAddr]) -> String {
    let targets: Vec<_> = targets.iter().map(|target| format!("\"{target}\"")).collect();
    format!(
        "[[service]]\nname = \"s\"\nlisten = [\"{listen}\"]\ntarget = [{}]\n\
         [[rule]]\nname = \"all\"\naction = \"pass\"\n",
        targets.join(", ")
    )
}

/// The same with one more key of the service.
pub(crate) fn with_key(one_service: &str, key: &str) -> String {
    one_service.replacen("\n[[rule]]", &format!("\n{key}\n[[rule]]"), 1)
}

/// How a session ended: reason, phase, first FIN, client's close, target's close.
pub(crate) fn end_of(session: &Session) -> [&str; 5] {
    [
        &session.end_reason,
        &session.end_phase,
        &session.first_fin,
        &session.client_close,
        &session.target_close,
    ]
}

/// Payload received and delivered, up and down, in bytes.
pub(crate) fn bytes_of(session: &Session) -> [i64; 4] {
    [session.received_up, session.bytes_up, session.received_down, session.bytes_down]
}

/// A TCP listener of a target.
pub(crate) fn tcp_target() -> TcpListener {
    TcpListener::bind(ANY).unwrap()
}

/// A UDP socket with a deadline.
pub(crate) fn udp_socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// A UDP socket that talks to `to` alone, with a deadline.
pub(crate) fn udp_client(bind: &str, to: SocketAddr) -> UdpSocket {
    let socket = udp_socket(bind);
    socket.connect(to).unwrap();
    socket
}

/// A connection to `to` with a deadline on everything.
pub(crate) fn tcp_client(to: SocketAddr) -> TcpStream {
    with_deadline(TcpStream::connect(to).unwrap())
}

/// The same from an address of the caller's.
pub(crate) fn tcp_client_from(bind: &str, to: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&bind.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.into()
}

/// The next connection a target gets, with a deadline on everything.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let started = Instant::now();
    listener.set_nonblocking(true).unwrap();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return with_deadline(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(started.elapsed() < DEADLINE, "nobody connected");
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn with_deadline(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads until the end and says how it came: `Ok` by FIN with everything read, `Err` otherwise.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map(|_| all).map_err(|error| error.kind())
}

/// Sends `question` one way and waits for it at the other end: the session stands.
pub(crate) fn pass(from: &mut TcpStream, to: &mut TcpStream, payload: &[u8]) {
    from.write_all(payload).unwrap();
    let mut got = vec![0; payload.len()];
    to.read_exact(&mut got).unwrap();
    assert_eq!(got, payload);
}

/// A port of 127.0.0.1 that nobody listens on, and a guard that keeps it so.
pub(crate) fn closed_port(transport: Transport) -> (SocketAddr, socket2::Socket) {
    let kind = match transport {
        Transport::Tcp => socket2::Type::STREAM,
        Transport::Udp => socket2::Type::DGRAM,
    };
    // Bound, not listening: a TCP connect is refused. A UDP socket would receive, so it is closed.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// A listener whose queue is full: the kernel drops further attempts, so connects hang.
pub(crate) fn silent_target() -> (SocketAddr, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&ANY.parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = vec![listener];
    for _ in 0..4 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        // Either it enters the queue or it hangs: both fill it.
        drop(filler.connect(&address));
        held.push(filler);
    }
    (address.as_socket().unwrap(), held)
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    e2e_tests::wait::until(what, || condition().then_some(()));
}

/// Bytes that repeat with a prime period, so that a shift shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// A small generator: tests need variety, not chance.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

pub(crate) fn piece(seed: u64, at: usize, buffer: &mut [u8]) {
    for (offset, byte) in buffer.iter_mut().enumerate() {
        *byte = ((at + offset) as u64).wrapping_mul(2 * seed + 1).to_le_bytes()[1]
            ^ (at + offset) as u8;
    }
}

pub(crate) fn send_in_pieces(stream: &mut TcpStream, len: usize, seed: u64) {
    let mut dice = Dice(seed);
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while at < len {
        let roll = dice.roll();
        let most = if roll.is_multiple_of(16) { 1 } else { 1 + roll as usize % buffer.len() };
        let part = &mut buffer[..most.min(len - at)];
        piece(seed, at, part);
        stream.write_all(part).unwrap();
        at += part.len();
    }
}

pub(crate) fn expect_in_pieces(stream: &mut TcpStream, len: usize, seed: u64) {
    let mut dice = Dice(seed + 7);
    let (mut buffer, mut expected) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    let mut at = 0;
    loop {
        let roll = dice.roll();
        let most = match roll % 32 {
            0..8 => 1,
            8 => {
                // The stall is the point: buffers on the way fill up.
                std::thread::sleep(Duration::from_millis(roll % 5));
                buffer.len()
            }
            _ => 1 + roll as usize % buffer.len(),
        };
        let got = stream.read(&mut buffer[..most]).unwrap();
        if got == 0 {
            assert_eq!(at, len, "everything arrived before the FIN");
            return;
        }
        piece(seed, at, &mut expected[..got]);
        assert!(buffer[..got] == expected[..got], "byte for byte, near {at}");
        at += got;
    }
}

/// Writes until nothing more goes in, and gives how much went.
pub(crate) fn fill(stream: &mut TcpStream) -> i64 {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let chunk = vec![0; 64 << 10];
    let mut sent = 0;
    while let Ok(len) = stream.write(&chunk) {
        sent += len as i64;
    }
    sent
}
