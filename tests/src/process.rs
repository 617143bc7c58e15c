//! Child processes that never outlive their test, and whose words are kept.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::wait;

/// How long the output of a program that has ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Kept open, so that its later words to systemd find somebody.
    notify: Option<UnixDatagram>,
}

impl Process {
    /// Starts `command` with stdout and stderr going to `log` and waits until it says READY=1 as
    /// systemd would have it.
    ///
    /// # Panics
    /// It cannot be started, or ends before it is ready; the message holds what it wrote.
    pub fn ready(name: &str, command: &mut Command, log: PathBuf) -> Self {
        let notify = log.with_extension("notify");
        // Bound under a path of its own for each start; a leftover of the last one is in the way.
        drop(fs::remove_file(&notify));
        let socket = UnixDatagram::bind(&notify).expect("the scene's directory is writable");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("20 ms is not zero");
        let mut process = Self::start(name, command.env("NOTIFY_SOCKET", &notify), log);
        wait::until(&format!("{name} is ready"), || {
            let mut message = [0; 4096];
            let len = socket.recv(&mut message).unwrap_or(0);
            if message[..len].windows(7).any(|part| part == b"READY=1") {
                return Some(());
            }
            if let Some(status) = process.exited() {
                panic!("{name} ended before it was ready ({status}):\n{}", process.log());
            }
            None
        });
        process.notify = Some(socket);
        process
    }

    /// Starts `command` with stdout and stderr going to the end of `log`.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command, log: PathBuf) -> Self {
        let out = File::options().create(true).append(true).open(&log);
        let out = out.expect("the scene's directory is writable");
        let err = out.try_clone().expect("a descriptor is free");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.to_owned(), child, log, notify: None }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it has ended, and how.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Sends it a signal; nothing happens if it has ended.
    ///
    /// # Panics
    /// We may not signal our own child.
    pub fn signal(&self, signal: Signal) {
        let sent = kill_process(Pid::from_child(&self.child), signal);
        assert!(matches!(sent, Ok(()) | Err(Errno::SRCH)), "{signal:?} to {}: {sent:?}", self.name);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end in time.
    pub fn end(&mut self) -> ExitStatus {
        let waited = wait::within(wait::DEADLINE, || self.exited());
        waited.unwrap_or_else(|| panic!("{} does not end:\n{}", self.name, self.log()))
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Panics
    /// It does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Kills it without a chance to say a word.
    pub fn kill(&mut self) {
        kill(&mut self.child);
    }

    /// Its own resident memory in bytes; the counter table, which it shares, is not among it.
    ///
    /// # Errors
    /// It has ended, or this is not Linux.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let status = fs::read_to_string(self.proc("status"))?;
        status
            .lines()
            .find_map(|line| {
                line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok()
            })
            .map(|kib: u64| kib * 1024)
            .ok_or_else(|| io::Error::other("its status names no RssAnon"))
    }
}

/// What only Linux says of a process.
impl Process {
    /// The numbers of its open descriptors, lowest first.
    ///
    /// # Errors
    /// It has ended, or this is not Linux.
    pub fn descriptors(&self) -> io::Result<Vec<u64>> {
        let entries = fs::read_dir(self.proc("fd"))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut numbers: Vec<u64> = names.collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Processor time used so far, in user and kernel mode, to 10 ms.
    ///
    /// # Errors
    /// It has ended, or this is not Linux.
    pub fn processor_time(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(self.proc("stat"))?;
        // proc_pid_stat(5): the name may hold anything, so count from its end; fields 14 and 15.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let ticks = fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Sets its soft limit of open files.
    ///
    /// # Panics
    /// We may not: it is above the hard one.
    pub fn limit_descriptors(&self, soft: u64) {
        let pid = Some(Pid::from_child(&self.child));
        let now = prlimit(pid, Resource::Nofile, getrlimit(Resource::Nofile));
        let hard = now.expect("we may limit our own child").maximum;
        let limit = Rlimit { current: Some(soft), maximum: hard };
        prlimit(pid, Resource::Nofile, limit).expect("we may limit our own child");
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.id().to_string()).join(name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Nobody speaks there any more; there is none if it was not waited for.
        drop(fs::remove_file(self.log.with_extension("notify")));
    }
}

/// Runs `command` to its end, as `Command::output` does, but not for longer than
/// [`wait::DEADLINE`].
///
/// # Panics
/// It cannot be started, or does not end in time; the message holds what it wrote.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    try_output(command).unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// As [`output`], for a program that may not be here.
///
/// # Errors
/// It cannot be started.
///
/// # Panics
/// It does not end in time; the message holds what it wrote.
#[track_caller]
pub fn try_output(command: &mut Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    Ok(finished(&format!("{command:?}"), &mut child))
}

/// Waits for the end of a child, and gives what it wrote to those of stdout and stderr that are
/// piped. Its stdin is closed.
///
/// # Panics
/// It does not end within [`wait::DEADLINE`]; it is killed, and the message holds what it wrote.
#[track_caller]
pub fn finished(name: &str, child: &mut Child) -> Output {
    drop(child.stdin.take());
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let status = wait::within(wait::DEADLINE, || child.try_wait().expect("it is our child"));
    if status.is_none() {
        kill(child);
    }
    // A grandchild that holds the other end open is not waited for.
    let [stdout, stderr] =
        [stdout, stderr].map(|bytes| bytes.recv_timeout(LAST_WORDS).unwrap_or_default());
    let Some(status) = status else {
        let [out, err] = [&stdout, &stderr].map(|bytes| String::from_utf8_lossy(bytes));
        let seconds = wait::DEADLINE.as_secs();
        panic!("{name} does not end in {seconds} s\nstdout:\n{out}\nstderr:\n{err}");
    };
    Output { status, stdout, stderr }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What came before an error is better than nothing.
            drop(stream.read_to_end(&mut bytes));
        }
        drop(send.send(bytes));
    });
    receive
}

/// Kills a child and waits until the system has taken it away.
pub fn kill(child: &mut Child) {
    drop(child.kill());
    _ = wait::within(wait::DEADLINE, || child.try_wait().ok().flatten());
}
