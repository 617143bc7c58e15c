//! The whole program: how it starts, runs short of descriptors, and ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn an_address_in_use_is_told_with_the_service_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let scene = Scene::new(&service(&address.to_string(), "127.0.0.1:9"));
    let output = scene.command().output().unwrap();
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
    assert_eq!(second.command().output().unwrap().status.code(), Some(69));
    assert_eq!(stop(first).status.code(), Some(0));
}

#[test]
fn sigterm_lets_a_running_session_end_in_its_time() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let scene = Scene::new(&service("127.0.0.1:0", &target.local_addr().unwrap().to_string()));
    let mut forwarder = scene.start();
    let mut client = connect(scene.listener());
    let (mut server, _) = target.accept().unwrap();
    terminate(&forwarder);
    hear(&mut forwarder, "stopping");
    server.write_all(b"the rest").unwrap();
    drop(server);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"the rest");
    drop(client);
    assert_eq!(wait(forwarder).status.code(), Some(0));
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let scene = Scene::new(&service("127.0.0.1:0", &target.local_addr().unwrap().to_string()));
    let mut forwarder = scene.start();
    let mut client = connect(scene.listener());
    let _server = target.accept().unwrap();
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
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    target.set_nonblocking(true).unwrap();
    let scene = Scene::new(&service("127.0.0.1:0", &target.local_addr().unwrap().to_string()));
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
    let mut served = 0;
    until("all are served", || {
        while let Ok((server, _)) = target.accept() {
            served += 1;
            drop(server);
        }
        served == CLIENTS
    });
    assert_eq!(stop(forwarder).status.code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    // Two lines of some 200 bytes each; a pipe holds 64 KiB.
    const SESSIONS: usize = 400;
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let rules = service("127.0.0.1:0", &target.local_addr().unwrap().to_string())
        + "log = [\"connect\", \"disconnect\"]\n";
    let scene = Scene::new(&rules);
    let forwarder = scene.start();
    for _ in 0..SESSIONS {
        let mut client = connect(scene.listener());
        drop(target.accept().unwrap());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    terminate(&forwarder);
    let mut forwarder = forwarder;
    until("the forwarder ends", || forwarder.try_wait().unwrap().is_some());
    assert_eq!(forwarder.wait().unwrap().code(), Some(0));
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
    let forwarder = command.stderr(Stdio::piped()).spawn().unwrap();
    let socket = at.join("made/for/admin.sock");
    until("the socket is open to the group", || mode(&socket) == Some(0o660));
    until("the spool is there", || at.join("spool/id").exists());
    let status = std::fs::read_to_string(format!("/proc/{}/status", forwarder.id())).unwrap();
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
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let forwarder = scene.command().stderr(Stdio::piped()).spawn().unwrap();
    let output = wait(forwarder);
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
    fn start(&self) -> Child {
        self.started(self.command())
    }

    /// The same with so few descriptors.
    fn start_with_descriptors(&self, descriptors: u32) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "sh"]);
        command.args(self.run_line());
        self.started(command)
    }

    fn started(&self, mut command: Command) -> Child {
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        until("the forwarder answers", || self.ask().is_some());
        child
    }

    fn ask(&self) -> Option<Value> {
        let socket = self.dir.path().join("admin.sock");
        let output = Command::new(env!("CARGO_BIN_EXE_forwarder"))
            .args(["status", "--json", "--socket"])
            .arg(socket)
            .output()
            .unwrap();
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

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

/// Reads the log until a line says `word`.
fn hear(child: &mut Child, word: &str) {
    let mut log = BufReader::new(child.stderr.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the log ended without {word:?}");
    }
}

/// Sends SIGTERM and waits for the end.
fn stop(child: Child) -> Output {
    terminate(&child);
    wait(child)
}

fn wait(mut child: Child) -> Output {
    until("the forwarder ends", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

/// Processor time used so far, in ticks of 10 ms.
fn cpu_ticks(child: &Child) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
