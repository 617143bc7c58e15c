//! The whole program: how it starts, runs short of descriptors, and ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use e2e_tests::endpoint::{Plan, Target, TcpServer};
use e2e_tests::process::{finished, kill, output};
use e2e_tests::wait::{self, DEADLINE};
use serde_json::Value;
use tempfile::TempDir;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn an_address_in_use_is_told_with_the_service_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let scene = Scene::new(&service(&address.to_string(), "127.0.0.1:9"));
    let output = output(&mut scene.command());
    assert_eq!(output.status.code(), Some(69));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("cannot listen on tcp://{address} (service s)")), "{text}");
    assert!(text.contains(&format!("ss -ltnp 'sport = :{}'", address.port())), "{text}");
}

#[test]
fn another_forwarder_on_the_same_address_is_an_address_in_use_too() {
    let scene = Scene::new(&service("127.0.0.1:0", "127.0.0.1:9"));
    let first = scene.start();
    let address = scene.listener();
    let second = Scene::new(&service(&address.to_string(), "127.0.0.1:9"));
    assert_eq!(output(&mut second.command()).status.code(), Some(69));
    assert_eq!(stop(first).status.code(), Some(0));
}

#[test]
fn sigterm_lets_a_running_session_end_in_its_time() {
    let target = Target::start(LOOPBACK);
    let scene = Scene::new(&service("127.0.0.1:0", &target.address().to_string()));
    let mut forwarder = scene.start();
    let mut client = connect(scene.listener());
    let mut server = target.accept();
    terminate(&forwarder);
    hear(&mut forwarder, "stopping");
    server.write_all(b"the rest").unwrap();
    drop(server);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"the rest");
    drop(client);
    assert_eq!(ended(forwarder).status.code(), Some(0));
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let target = Target::start(LOOPBACK);
    let scene = Scene::new(&service("127.0.0.1:0", &target.address().to_string()));
    let mut forwarder = scene.start();
    let mut client = connect(scene.listener());
    let _server = target.accept();
    terminate(&forwarder);
    hear(&mut forwarder, "stopping");
    let asked = Instant::now();
    assert_eq!(stop(forwarder).status.code(), Some(0));
    assert!(asked.elapsed() < DRAIN / 2, "took {:?}", asked.elapsed());
    let reset = client.read(&mut [0]).unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn without_descriptors_accepting_rests_without_spinning_and_goes_on_later() {
    const CLIENTS: usize = 60;
    let target = Target::start(LOOPBACK);
    let scene = Scene::new(&service("127.0.0.1:0", &target.address().to_string()));
    let forwarder = scene.start_with_descriptors(150);
    let clients: Vec<_> = (0..CLIENTS).map(|_| connect(scene.listener())).collect();
    until("accepting rests", || scene.counter("accept_pauses") > 0);
    let running = scene.status()["sessions"]["current"].as_u64().unwrap();
    assert!((1..CLIENTS as u64).contains(&running), "{running} run, the others wait");

    let (before, started) = (cpu_ticks(&forwarder), Instant::now());
    until("a second has passed", || started.elapsed() > Duration::from_secs(1));
    let used = cpu_ticks(&forwarder) - before;
    assert!(used < 30, "{used} of some 100 ticks on doing nothing");

    // Each client that leaves makes room for another; in the end all were served.
    for client in &clients {
        client.shutdown(std::net::Shutdown::Write).unwrap();
    }
    for _ in 0..CLIENTS {
        drop(target.accept());
    }
    assert_eq!(stop(forwarder).status.code(), Some(0));
}

#[test]
fn a_hundred_sessions_are_served_with_256_descriptors_and_none_of_them_for_a_pipe() {
    const CLIENTS: usize = 100;
    const LARGE: Plan = Plan { up: 16, down: 8 << 20 };
    const SMALL: Plan = Plan { up: 100, down: 10_000 };
    let server = TcpServer::start(LOOPBACK);
    let scene = Scene::new(&service("127.0.0.1:0", &server.address().to_string()));
    let forwarder = scene.start_with_descriptors(256);
    let mut first = connect(scene.listener());
    until("it is let in", || scene.status()["sessions"]["current"] == 1);
    let mut others: Vec<_> = (1..CLIENTS).map(|_| connect(scene.listener())).collect();
    until("accepting rests", || scene.counter("accept_pauses") > 0);

    // All descriptors are taken: a stream that is worth a pipe goes without.
    ask(&mut first, LARGE);
    hear_out(&mut first, LARGE);
    assert!(scene.counter("pipes_refused") > 0);
    // Nobody knows who of the others is in and who waits.
    others.iter_mut().for_each(|client| ask(client, SMALL));
    others.iter_mut().for_each(|client| hear_out(client, SMALL));
    assert_eq!(scene.status()["sessions"]["accepted"], CLIENTS);
    assert_eq!(stop(forwarder).status.code(), Some(0));
}

fn ask(client: &mut TcpStream, plan: Plan) {
    client.write_all(&plan.up_bytes()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
}

fn hear_out(client: &mut TcpStream, plan: Plan) {
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert!(received == plan.down_bytes(), "{} of {plan:?}", received.len());
}

#[test]
fn clients_that_say_nothing_at_the_door_hold_descriptors_only_for_a_while() {
    const SILENT: usize = 100;
    let target = Target::start(LOOPBACK);
    let header = "proxy_protocol = { accept = \"any\", trusted = [\"127.0.0.0/8\"] }\n[[rule]]";
    let service = service("127.0.0.1:0", &target.address().to_string());
    let service = service.replacen("[[rule]]", header, 1);
    let scene = Scene::new(&format!("preread = \"1s\"\n{service}"));
    let forwarder = scene.start_with_descriptors(150);
    let silent: Vec<_> = (0..SILENT).map(|_| connect(scene.listener())).collect();
    until("accepting rests", || scene.counter("accept_pauses") > 0);

    let mut client = connect(scene.listener());
    client.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 50123 443\r\nhere I am").unwrap();
    let mut heard = [0; 9];
    target.accept().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"here I am");
    drop(client);
    for mut client in silent {
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(stop(forwarder).status.code(), Some(0));
}

#[test]
fn a_recorder_that_is_absent_is_told_once_while_no_payload_is_lost() {
    let target = Target::start(LOOPBACK);
    let scene = Scene::new(&service("127.0.0.1:0", &target.address().to_string()));
    let forwarder = scene.start();
    drop(connect(scene.listener()));
    drop(target.accept());
    let output = stop(forwarder);
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(log.matches("cannot reach the recorder").count(), 1, "{log}");
    assert!(!log.contains("captured"), "{log}");
}

#[test]
fn payload_that_is_lost_for_want_of_a_recorder_is_told_and_counted() {
    let target = Target::start(LOOPBACK);
    let rules = service("127.0.0.1:0", &target.address().to_string()) + "capture = \"full\"\n";
    let scene = Scene::new(&rules);
    let mut forwarder = scene.start();
    let mut client = connect(scene.listener());
    client.write_all(b"payload").unwrap();
    let mut server = target.accept();
    server.read_exact(&mut [0; 7]).unwrap();
    hear(&mut forwarder, "captured payload is dropped");
    assert_eq!(scene.counter("capture_dropped_bytes"), 7);
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    // Two lines of some 200 bytes each; a pipe holds 64 KiB.
    const SESSIONS: usize = 400;
    let target = Target::start(LOOPBACK);
    let rules = service("127.0.0.1:0", &target.address().to_string())
        + "log = [\"connect\", \"disconnect\"]\n";
    let scene = Scene::new(&rules);
    let forwarder = scene.start();
    for _ in 0..SESSIONS {
        let mut client = connect(scene.listener());
        drop(target.accept());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    terminate(&forwarder);
    let mut forwarder = forwarder;
    let status = wait::until("the forwarder ends", || forwarder.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn nothing_is_ever_open_to_more_users_than_meant() {
    let rest = service("127.0.0.1:0", "127.0.0.1:9");
    let scene = Scene::new(&rest);
    let at = scene.dir.path();
    let file = at.join("forwarder.toml");
    let source = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, source.replace("admin.sock", "made/for/admin.sock")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$@\"", "sh"]).args(scene.run_line());
    let forwarder = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let socket = at.join("made/for/admin.sock");
    until("the socket is open to the group", || mode(&socket) == Some(0o660));
    until("the spool is there", || at.join("spool/id").exists());
    let status = std::fs::read_to_string(format!("/proc/{}/status", forwarder.0.id())).unwrap();
    assert!(status.contains("Umask:\t0077"), "{status}");
    for directory in ["made", "made/for"] {
        assert_eq!(mode(&at.join(directory)), Some(0o750), "{directory}");
    }
    assert_eq!(mode(&at.join("spool")), Some(0o700));
    assert_eq!(mode(&at.join("spool/id")), Some(0o600));
    assert_eq!(stop(forwarder).status.code(), Some(0));
}

#[test]
fn a_fifo_in_the_spool_is_told_by_name_and_not_waited_for() {
    let scene = Scene::new(&service("127.0.0.1:0", "127.0.0.1:9"));
    let spool = scene.dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let fifo = spool.join("00000000000000000001.seg");
    assert!(output(Command::new("mkfifo").arg(&fifo)).status.success());
    let output = output(&mut scene.command());
    assert_eq!(output.status.code(), Some(74));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("{} is not a regular file", fifo.display())), "{text}");
}

// === helpers ===

/// The permissions of a file; `None`: there is none.
fn mode(path: &std::path::Path) -> Option<u32> {
    path.metadata().ok().map(|metadata| metadata.permissions().mode() & 0o777)
}

/// Long enough for a test to show that nobody waited for it.
const DRAIN: Duration = Duration::from_secs(20);

#[test]
fn what_was_used_of_a_quota_outlives_a_kill_and_a_stop() {
    const KB: usize = 1000;
    let target = Target::start(LOOPBACK);
    let rules = service("127.0.0.1:0", &target.address().to_string())
        + "quota = { down = \"100 kB\", every = \"month\", tz = \"UTC\" }\n";
    let mut scene = Scene::new(&rules);
    for is_kill in [true, false] {
        let mut forwarder = scene.start();
        scene.bound = std::cell::OnceCell::new();
        let mut client = connect(scene.listener());
        let mut server = target.accept();
        server.write_all(&[1; 30 * KB]).unwrap();
        client.read_exact(&mut [0; 30 * KB]).unwrap();
        if is_kill {
            kill(&mut forwarder.0);
        } else {
            drop((client, server));
            assert_eq!(stop(forwarder).status.code(), Some(0));
        }
    }
    let _forwarder = scene.start();
    scene.bound = std::cell::OnceCell::new();
    let mut client = connect(scene.listener());
    let mut server = target.accept();
    // It fails as soon as the session has ended.
    drop(server.write_all(&[1; 300 * KB]));
    let (mut got, mut buffer) = (0, [0; 10 * KB]);
    while let Ok(more @ 1..) = client.read(&mut buffer) {
        got += more;
    }
    assert!(got <= 40 * KB, "{got} bytes of the 40 kB that were left");
    let refused = connect(scene.listener()).read(&mut [0]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset);
}

/// A directory with a configuration.
struct Scene {
    dir: TempDir,
    bound: std::cell::OnceCell<SocketAddr>,
}

fn service(listen: &str, target: &str) -> String {
    format!(
        "[[service]]\nname = \"s\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{target}\"]\n\
         [[rule]]\nname = \"all\"\naction = \"pass\"\n"
    )
}

impl Scene {
    fn new(services_and_rules: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let source = format!(
            "node = \"test\"\n\
             [recorder]\nendpoint = \"unix:{at}/recorder.sock\"\nspool = \"{at}/spool\"\n\
             [accounting]\ntable = 4096\n\
             [admin]\nsocket = \"{at}/admin.sock\"\n\
             [timeouts]\ndrain = \"{}s\"\n{services_and_rules}",
            DRAIN.as_secs()
        );
        std::fs::write(dir.path().join("forwarder.toml"), source).unwrap();
        Self { dir, bound: std::cell::OnceCell::new() }
    }

    fn run_line(&self) -> [String; 4] {
        let file = self.dir.path().join("forwarder.toml").display().to_string();
        [env!("CARGO_BIN_EXE_forwarder").to_owned(), "run".to_owned(), "-c".to_owned(), file]
    }

    fn command(&self) -> Command {
        let [program, args @ ..] = self.run_line();
        let mut command = Command::new(program);
        command.args(args);
        command
    }

    /// Starts it and waits until it answers.
    fn start(&self) -> Running {
        self.started(self.command())
    }

    /// The same with so few descriptors.
    fn start_with_descriptors(&self, descriptors: u32) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "sh"]);
        command.args(self.run_line());
        self.started(command)
    }

    fn started(&self, mut command: Command) -> Running {
        let running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
        until("the forwarder answers", || self.ask().is_some());
        running
    }

    fn ask(&self) -> Option<Value> {
        let socket = self.dir.path().join("admin.sock");
        let mut asking = Command::new(env!("CARGO_BIN_EXE_forwarder"));
        let output = output(asking.args(["status", "--json", "--socket"]).arg(socket));
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn status(&self) -> Value {
        self.ask().expect("the forwarder answers")
    }

    fn counter(&self, name: &str) -> u64 {
        self.status()["counters"][name].as_u64().unwrap()
    }

    /// Where the only listener is bound.
    fn listener(&self) -> SocketAddr {
        *self.bound.get_or_init(|| {
            let status = self.status();
            let shown = status["services"][0]["listeners"][0].as_str().unwrap();
            shown.trim_start_matches("tcp://").parse().unwrap()
        })
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A forwarder; killed when dropped, so that a test that fails leaves nobody behind who holds its
/// standard output.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

fn terminate(forwarder: &Running) {
    let pid = rustix::process::Pid::from_child(&forwarder.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// Reads the log until a line says `word`; the rest is read and forgotten.
fn hear(forwarder: &mut Running, word: &str) {
    let log = BufReader::new(forwarder.0.stderr.take().unwrap());
    let (say, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            // The test has heard enough; the forwarder still wants to be read.
            drop(say.send(line));
        }
    });
    while !heard.recv_timeout(DEADLINE).expect("the log says it in time").contains(word) {}
}

/// Sends SIGTERM and waits for the end.
fn stop(forwarder: Running) -> Output {
    terminate(&forwarder);
    ended(forwarder)
}

fn ended(mut forwarder: Running) -> Output {
    finished("the forwarder", &mut forwarder.0)
}

/// Processor time used so far, in ticks of 10 ms.
fn cpu_ticks(forwarder: &Running) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", forwarder.0.id())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    wait::until(what, || condition().then_some(()));
}
