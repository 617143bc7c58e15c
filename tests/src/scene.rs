//! A forwarder, a recorder and the reports about them, in a directory that goes away with the test.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{address, binary};

/// One forwarder and one recorder with everything they write. Both are killed, and the directory
/// removed, when it is dropped.
#[derive(Debug)]
pub struct Scene {
    // The processes are declared before the directory, so that they are gone before it is.
    forwarder: Option<Process>,
    recorder: Option<Process>,
    ip: IpAddr,
    dir: TempDir,
}

impl Scene {
    /// An empty scene: a directory, an address, and a recorder's configuration.
    ///
    /// # Panics
    /// The directory for temporary files is not writable.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("weir-").tempdir();
        let dir = dir.expect("the directory for temporary files is writable");
        let scene = Self { forwarder: None, recorder: None, ip: address::own(), dir };
        scene.configure_recorder("");
        scene
    }

    /// A scene whose recorder and forwarder run, the latter with these services and rules.
    ///
    /// # Panics
    /// They do not start.
    pub fn running(services_and_rules: &str) -> Self {
        let mut scene = Self::new();
        scene.start_recorder();
        scene.configure(services_and_rules);
        scene.start_forwarder();
        scene
    }

    /// The scene's own loopback address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// An address of this scene that nobody listens on.
    pub fn free_address(&self) -> SocketAddr {
        address::free(self.ip)
    }

    /// The address of this scene's client number `number`; with fewer than 20,000 of them no two are
    /// the same, so that each finds its row in the account.
    pub fn client(&self, number: u16) -> SocketAddr {
        SocketAddr::new(self.ip, 10_000 + number)
    }

    /// A path in the scene's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The recorder's data directory.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The forwarder's configuration file.
    pub fn forwarder_config(&self) -> PathBuf {
        self.path("forwarder.toml")
    }

    /// The recorder's configuration file.
    pub fn recorder_config(&self) -> PathBuf {
        self.path("recorder.toml")
    }

    /// Writes the forwarder's configuration: slots of a second, a small table, and what is given.
    pub fn configure(&self, services_and_rules: &str) {
        self.write_forwarder_config(
            "[accounting]\nslot = \"1s\"\ntable = 4096\n",
            services_and_rules,
        );
    }

    /// Writes the forwarder's configuration with an `[accounting]` table of the caller's.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write_forwarder_config(&self, accounting: &str, services_and_rules: &str) {
        let dir = self.dir.path().display();
        let text = format!(
            "node = \"edge-1\"\n\n[recorder]\nendpoint = \"unix:{dir}/recorder.sock\"\nspool = \"{dir}/spool\"\n\n\
             {accounting}\n[admin]\nsocket = \"{dir}/forwarder.sock\"\n\n{services_and_rules}"
        );
        fs::write(self.forwarder_config(), text).expect("the scene's directory is writable");
    }

    /// Writes the recorder's configuration: publishes every second, and what is given.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn configure_recorder(&self, tables: &str) {
        let dir = self.dir.path().display();
        let text = format!(
            "data = \"{dir}/data\"\nlisten = [\"unix:{dir}/recorder.sock\"]\n\n\
             [accounting]\npublish_every = \"1s\"\n\n[admin]\nsocket = \"{dir}/recorder-admin.sock\"\n\n{tables}"
        );
        fs::write(self.recorder_config(), text).expect("the scene's directory is writable");
    }

    /// Starts the recorder and waits until it is ready.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_recorder(&mut self) {
        let mut command = self.command("recorder", &["run"]);
        self.recorder = Some(Process::ready("recorder", &mut command, self.path("recorder.log")));
    }

    /// Starts the forwarder and waits until it is ready.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_forwarder(&mut self) {
        self.start_forwarder_program("forwarder");
    }

    /// Starts another forwarder than the usual one and waits until it is ready.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_forwarder_program(&mut self, program: &str) {
        let mut command = Command::new(binary::path(program));
        command.args(["run", "-c"]).arg(self.forwarder_config());
        command.stdin(Stdio::null()).env_remove("RUST_LOG").current_dir(self.dir.path());
        self.forwarder =
            Some(Process::ready("forwarder", &mut command, self.path("forwarder.log")));
    }

    /// Starts the forwarder after a word to the shell, such as `ulimit -n 100`, and waits until it
    /// is ready.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_forwarder_after(&mut self, word: &str) {
        let mut command = self.command_after(word, "forwarder");
        self.forwarder =
            Some(Process::ready("forwarder", &mut command, self.path("forwarder.log")));
    }

    /// Starts the recorder after a word to the shell, and waits until it is ready.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_recorder_after(&mut self, word: &str) {
        let mut command = self.command_after(word, "recorder");
        self.recorder = Some(Process::ready("recorder", &mut command, self.path("recorder.log")));
    }

    /// The command that runs `forwarder` or `recorder` after a word to the shell.
    pub fn command_after(&self, word: &str, program: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{word}; exec \"$0\" run -c \"$1\"")]);
        command.arg(binary::path(program)).arg(self.path(&format!("{program}.toml")));
        command.stdin(Stdio::null()).env_remove("RUST_LOG").current_dir(self.dir.path());
        command
    }

    /// What the running forwarder says of itself.
    ///
    /// # Panics
    /// It does not answer.
    pub fn status(&self) -> Value {
        let said = self.run("forwarder", &["status", "--json"]).fine();
        serde_json::from_str(&said.stdout).expect("the status is JSON")
    }

    /// The running forwarder.
    ///
    /// # Panics
    /// It was not started.
    pub fn forwarder(&mut self) -> &mut Process {
        self.forwarder.as_mut().expect("the scene has a forwarder")
    }

    /// The running recorder.
    ///
    /// # Panics
    /// It was not started.
    pub fn recorder(&mut self) -> &mut Process {
        self.recorder.as_mut().expect("the scene has a recorder")
    }

    /// Ends the forwarder in order.
    pub fn stop_forwarder(&mut self) -> ExitStatus {
        self.forwarder().terminate()
    }

    /// Ends the recorder in order.
    pub fn stop_recorder(&mut self) -> ExitStatus {
        self.recorder().terminate()
    }

    /// A command of `forwarder` or `recorder` with this scene's configuration file.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let config = self.path(&format!("{program}.toml"));
        let mut command = Command::new(binary::path(program));
        command.args(arguments).arg("-c").arg(config);
        command.stdin(Stdio::null()).env_remove("RUST_LOG").current_dir(self.dir.path());
        command
    }

    /// Runs a command of `forwarder` or `recorder` to its end.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Said {
        Said::of(&mut self.command(program, arguments))
    }

    /// Publishes everything that the recorder has received.
    ///
    /// # Panics
    /// The recorder cannot.
    pub fn flush(&self) {
        self.run("recorder", &["flush"]).fine();
    }

    /// Runs `analyze` over the scene's data.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn analyze(&self, arguments: &[&str]) -> Said {
        Said::of(&mut analyze(&self.data(), arguments))
    }

    /// The rows of a report.
    ///
    /// # Panics
    /// The report fails or is not an array of objects.
    pub fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.analyze(&[arguments, &["--format", "json"]].concat()).fine();
        match serde_json::from_str(&said.stdout) {
            Ok(Value::Array(rows)) => rows,
            other => {
                panic!("{arguments:?} did not answer with an array: {other:?}\n{}", said.stdout)
            }
        }
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

/// `analyze` over a data directory.
pub fn analyze(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::path("analyze"));
    command.arg("--data").arg(data).args(arguments).stdin(Stdio::null());
    command
}

/// What a command answered.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; -1: a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Said {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// It cannot be started, or does not end in time.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = process::output(command);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Passes on the answer of a command that ended fine.
    ///
    /// # Panics
    /// It did not.
    #[track_caller]
    pub fn fine(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Checks the exit code and that one sentence on stderr holds all of `words`.
    ///
    /// # Panics
    /// One of them is otherwise.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        let seen = format!("stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert_eq!(self.code, code, "{seen}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing in\n{seen}");
        }
    }
}
