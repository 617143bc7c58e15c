//! A forwarder of the test's own, and the peers around it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e_tests::process::{kill, output};
use rustix::process::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A forwarder in a directory of its own; both are gone when dropped.
pub(crate) struct Running {
    pub(crate) process: Child,
    pub(crate) dir: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

impl Running {
    pub(crate) fn start(rest: &str) -> Self {
        Self::start_with_table(rest, 64)
    }

    /// The same with room for so many sessions.
    pub(crate) fn start_with_table(rest: &str, table: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("weir-").tempdir().unwrap();
        write_with_table(dir.path(), "edge-1", rest, table);
        let mut process = command(dir.path(), &["run"]);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let process = process.stderr(log).spawn().unwrap();
        let running = Self { process, dir };
        wait_for("an answer", || running.ask(&["status"]).status.success().then_some(()));
        running
    }

    pub(crate) fn write(&self, rest: &str) {
        write(self.dir.path(), "edge-1", rest);
    }

    pub(crate) fn ask(&self, arguments: &[&str]) -> Output {
        output(&mut command(self.dir.path(), arguments))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.ask(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Where a service listens for TCP.
    pub(crate) fn address(&self, service: usize) -> SocketAddr {
        let status = self.json(&["status"]);
        let listeners = status["services"][service]["listeners"].as_array().unwrap().clone();
        let tcp = listeners.iter().find_map(|text| text.as_str().unwrap().strip_prefix("tcp://"));
        tcp.unwrap().parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

pub(crate) fn file(dir: &Path) -> PathBuf {
    dir.join("forwarder.toml")
}

pub(crate) fn write(dir: &Path, node: &str, rest: &str) {
    write_with_table(dir, node, rest, 64);
}

fn write_with_table(dir: &Path, node: &str, rest: &str, table: usize) {
    let path = dir.display();
    let text = format!(
        "node = \"{node}\"\n[recorder]\nendpoint = \"unix:{path}/recorder.sock\"\n\
         spool = \"{path}/spool\"\n[accounting]\ntable = {table}\n[admin]\n\
         socket = \"{path}/admin.sock\"\n{rest}"
    );
    std::fs::write(file(dir), text).unwrap();
}

pub(crate) fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forwarder"));
    command.args(arguments).arg("-c").arg(file(dir)).stdin(Stdio::null());
    command
}

pub(crate) fn service(name: &str, listen: &str, target: SocketAddr) -> String {
    format!("[[service]]\nname = \"{name}\"\nlisten = [{listen}]\ntarget = [\"{target}\"]\n")
}

pub(crate) const EVERYONE: &str =
    "[[rule]]\nname = \"everyone\"\naction = \"pass\"\ncustomer = \"acme\"\n";

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The forwarder's process.
pub(crate) fn process(forwarder: &Running) -> Pid {
    Pid::from_raw(forwarder.process.id().try_into().unwrap()).unwrap()
}

/// A server that says its word to whoever connects, and then listens until they leave.
pub(crate) fn server(word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                drop(stream.write_all(word.as_bytes()));
                drop(stream.read_to_end(&mut Vec::new()));
            });
        }
    });
    address
}

/// Connects and hears the server's word.
pub(crate) fn hear(address: SocketAddr, word: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = vec![0; word.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, word.as_bytes());
    stream
}
