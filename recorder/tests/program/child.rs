//! A recorder in a directory of its own.

use std::fs;
use std::io::{ErrorKind, PipeReader, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e_tests::process;

const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with a configuration, and perhaps a recorder that runs on it.
pub(crate) struct Scene {
    dir: tempfile::TempDir,
    running: Option<Child>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap(), running: None };
        scene.configure(&scene.data());
        scene
    }

    pub(crate) fn configure(&self, data: &std::path::Path) {
        let text = format!(
            "data = {:?}\nlisten = [\"unix:{}\"]\naccounting.publish_every = \"100ms\"\n\
             admin.socket = {:?}\n",
            data,
            self.socket().display(),
            self.path("admin.sock")
        );
        fs::write(self.config(), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("recorder.sock")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("recorder.toml")
    }

    /// Runs a command of the program to its end.
    pub(crate) fn run(&self, command: &str) -> Output {
        process::output(&mut self.command(command))
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_recorder"));
        command.args([name, "-c"]).arg(self.config()).env_remove("RUST_LOG");
        command
    }

    /// Starts the recorder and waits until it says that it is ready.
    pub(crate) fn start(&mut self) {
        self.start_as(self.command("run"), self.log_file());
    }

    /// As [`Self::start`], with files that may grow to 8 KiB, as if the disk were full then.
    pub(crate) fn start_on_a_full_disk(&mut self) {
        let mut command = Command::new("sh");
        // A process that ignores SIGXFSZ gets an error instead.
        let script = "trap '' XFSZ; ulimit -S -f 16; exec \"$0\" run -c \"$1\"";
        command.args(["-c", script, env!("CARGO_BIN_EXE_recorder")]).arg(self.config());
        self.start_as(command, self.log_file());
    }

    /// As [`Self::start`], with a standard error that takes no byte until somebody reads.
    pub(crate) fn start_with_a_log_that_nobody_reads(&mut self) -> PipeReader {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let room = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
        writer.write_all(&vec![b'.'; room]).unwrap();
        self.start_as(self.command("run"), writer.into());
        reader
    }

    /// Lets files grow.
    pub(crate) fn make_room(&self) {
        let pid = rustix::process::Pid::from_child(self.running.as_ref().unwrap());
        let unlimited = rustix::process::Rlimit { current: None, maximum: None };
        let resource = rustix::process::Resource::Fsize;
        rustix::process::prlimit(Some(pid), resource, unlimited).unwrap();
    }

    fn log_file(&self) -> Stdio {
        fs::File::options().create(true).append(true).open(self.path("log")).unwrap().into()
    }

    fn start_as(&mut self, mut command: Command, stderr: Stdio) {
        let notify = self.path("notify");
        drop(fs::remove_file(&notify));
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut child = command
            .env("NOTIFY_SOCKET", &notify)
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut message = [0; 256];
        loop {
            match socket.recv(&mut message) {
                Ok(len) if message[..len].starts_with(b"READY=1") => break,
                Ok(_) => {}
                Err(error) => {
                    let patient = [ErrorKind::WouldBlock, ErrorKind::Interrupted];
                    assert!(patient.contains(&error.kind()), "{error}");
                }
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the recorder ended ({status}):\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "the recorder is not ready:\n{}", self.log());
        }
        self.running = Some(child);
    }

    /// What the recorder wrote to stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            process::kill(&mut child);
        }
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let mut child = self.running.take()?;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        process::finished("the recorder", &mut child).status.code()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.kill();
    }
}
