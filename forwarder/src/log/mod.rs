//! The log: lines are made by whoever has something to say, and written by a thread of their own.
//!
//! Whoever logs never waits for whoever reads: a reader that has stopped, or a disk that is full,
//! would otherwise stop the relay and the journal thread too. What does not fit into the queue, and
//! what the outlet does not take, is counted.
//!
//! Until a configuration says otherwise, lines go to standard error.

mod line;
mod outlet;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forwarder_core::config::{Log, LogFormat, LogLevel, LogTo};
use schemas::exit::{Exit, Failure};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use line::Shape;
use outlet::{Outlet, Syslog, Unwritten};

/// Lines that wait to be written; more are dropped and counted.
const WAITING_LINES: usize = 8192;

/// How long the end waits for lines that wait to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long opening a log file may take while the forwarder runs.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);

/// What chooses the level before the configuration does.
const LEVEL_VARIABLE: &str = "RUST_LOG";

/// The running log. Dropped, it writes what waits, for about a second at most.
#[derive(Debug)]
pub(crate) struct LogThread {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    level: reload::Handle<EnvFilter, Registry>,
    in_force: Mutex<Log>,
    told_lost: AtomicU64,
}

/// What the log thread and those who log share.
#[derive(Debug, Default)]
struct Shared {
    /// A [`Shape`], as a number.
    shape: AtomicU8,
    lost: AtomicU64,
    /// Why the last line that was not taken was not.
    cause: Mutex<Option<io::Error>>,
    /// Another outlet is there.
    is_replaced: AtomicBool,
    replacement: Mutex<Option<Outlet>>,
}

#[derive(Debug)]
enum Message {
    Line {
        urgency: u8,
        line: String,
    },
    /// Say when everything before is written.
    Flush(SyncSender<()>),
}

/// Counts the lines that were not written.
#[derive(Debug, Clone)]
pub struct LostLines(Arc<Shared>);

impl LostLines {
    /// Lines that nobody will read: too many waited, or what they were written to did not take
    /// them.
    pub fn count(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

/// A log as a configuration wants it, opened and not in force yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    log: Log,
    /// `None`: lines go where they went.
    outlet: Option<Outlet>,
}

impl LogThread {
    /// Starts the thread and leads every log line of the process to it.
    pub(crate) fn start() -> Self {
        let (queue, waiting) = sync_channel(WAITING_LINES);
        let shared = Arc::new(Shared::default());
        let in_force = Log { to: LogTo::Stderr, format: LogFormat::Text, level: LogLevel::Info };
        let (filter, level) = reload::Layer::new(filter(in_force.level));
        let lines = Lines { queue: queue.clone(), shared: Arc::clone(&shared) };
        if tracing_subscriber::registry().with(filter).with(lines).try_init().is_err() {
            tracing::debug!("somebody else writes the log already");
        }
        let writer = Writer { outlet: Outlet::Stderr, shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new().name("log".to_owned());
        if let Err(error) = thread.spawn(move || writer.run(&waiting)) {
            // Nobody else could say it.
            eprintln!("cannot start the log's thread: {error}; nothing is logged");
        }
        let in_force = Mutex::new(in_force);
        Self { queue, shared, level, in_force, told_lost: AtomicU64::new(0) }
    }

    /// Whether lines go elsewhere than to standard error.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.in_force().to != LogTo::Stderr
    }

    /// Counts the lines that were not written.
    pub(crate) fn lost(&self) -> LostLines {
        LostLines(Arc::clone(&self.shared))
    }

    /// Opens what another configuration writes to, if that is not what is written to already.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub(crate) fn prepare(&self, log: &Log) -> Result<Prepared, Failure> {
        let is_new = self.in_force().to != log.to;
        Ok(Prepared { log: log.clone(), outlet: is_new.then(|| open(&log.to)).transpose()? })
    }

    /// As [`LogThread::prepare`], while others go on.
    ///
    /// # Errors
    /// A file cannot be opened, or not in time.
    pub(crate) async fn prepare_aside(self: &Arc<Self>, log: &Log) -> Result<Prepared, Failure> {
        let (this, log) = (Arc::clone(self), log.clone());
        aside(move || this.prepare(&log)).await
    }

    /// Lets lines be as `prepared` has it from here on.
    pub(crate) fn put_in_force(&self, prepared: Prepared) {
        let Prepared { log, outlet } = prepared;
        self.shared.shape.store(shape(&log) as u8, Ordering::Relaxed);
        if let Some(outlet) = outlet {
            self.shared.replace(outlet);
        }
        if self.in_force().level != log.level
            && let Err(error) = self.level.reload(filter(log.level))
        {
            tracing::warn!(%error, "log.level stays as it was");
        }
        *self.in_force() = log;
    }

    /// Opens the log file again, which somebody may have renamed. If that fails, the old one is
    /// written on.
    pub(crate) async fn reopen(&self) {
        let to = self.in_force().to.clone();
        if !matches!(to, LogTo::File(_)) {
            return;
        }
        match aside(move || open(&to)).await {
            Ok(outlet) => self.shared.replace(outlet),
            Err(failure) => tracing::error!("{failure}; lines go on to the file that was open"),
        }
    }

    /// Says how many lines were lost since it said so last. To be called now and then.
    pub(crate) fn tell_lost(&self) {
        let lost = self.shared.lost.load(Ordering::Relaxed);
        let told = self.told_lost.swap(lost, Ordering::Relaxed);
        if lost > told {
            let cause = self.shared.cause.lock().unwrap_or_else(PoisonError::into_inner).take();
            let cause = cause.map_or_else(|| "too many waited".to_owned(), |one| one.to_string());
            tracing::warn!(lines = lost - told, cause, "log lines were lost");
        }
    }

    fn in_force(&self) -> std::sync::MutexGuard<'_, Log> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        let (done, is_done) = sync_channel(1);
        let deadline = std::time::Instant::now() + LAST_WORDS;
        let mut flush = Message::Flush(done);
        // A full queue has room again in a moment, if anything is read at all.
        while let Err(TrySendError::Full(again)) = self.queue.try_send(flush) {
            if std::time::Instant::now() >= deadline {
                return;
            }
            flush = again;
            std::thread::sleep(Duration::from_millis(10));
        }
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        if let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(left) {
            // Whoever should read the lines does not; there is nobody to tell.
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Runs what waits for a disk where it holds up nobody.
async fn aside<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::time::timeout(OPEN_PATIENCE, tokio::task::spawn_blocking(open)).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => Err(Failure::new(Exit::Bug, format!("opening the log: {error}"))),
        Err(_) => {
            let seconds = OPEN_PATIENCE.as_secs();
            Err(Failure::new(Exit::Io, format!("the log file did not open within {seconds} s")))
        }
    }
}

/// Opens what lines are to be written to.
fn open(to: &LogTo) -> Result<Outlet, Failure> {
    match to {
        LogTo::Stderr => Ok(Outlet::Stderr),
        LogTo::File(path) => match outlet::open(path) {
            Ok(file) => Ok(Outlet::File(file, false)),
            Err(error) => {
                Err(Failure::io(&error, format!("cannot open the log file {}", path.display())))
            }
        },
        LogTo::Syslog => {
            let mut syslog = Syslog::new(Path::new(outlet::SYSLOG).to_owned());
            if let Err(error) = syslog.find() {
                let path = outlet::SYSLOG;
                tracing::warn!(%error, path, "the system's log is not there; it is looked for again with every line, and lines until then are lost");
            }
            Ok(Outlet::Syslog(syslog))
        }
    }
}

fn shape(log: &Log) -> Shape {
    match (log.format, &log.to) {
        (LogFormat::Json, _) => Shape::Json,
        (LogFormat::Text, LogTo::Syslog) => Shape::Bare,
        (LogFormat::Text, LogTo::Stderr | LogTo::File(_)) => Shape::Text,
    }
}

/// What is said at a level, unless the environment says otherwise. Of what only developers want to
/// know, other people's crates have too much to say.
fn filter(level: LogLevel) -> EnvFilter {
    let asked = std::env::var(LEVEL_VARIABLE).unwrap_or_default();
    if !asked.is_empty() {
        return EnvFilter::builder().parse_lossy(asked);
    }
    let directives = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "info,forwarder=debug,forwarder_core=debug,journal=debug",
        LogLevel::Trace => "info,forwarder=trace,forwarder_core=trace,journal=trace",
    };
    EnvFilter::builder().parse_lossy(directives)
}

impl Shared {
    fn shape(&self) -> Shape {
        let shape = self.shape.load(Ordering::Relaxed);
        let all = [Shape::Text, Shape::Bare, Shape::Json];
        all.into_iter().find(|one| *one as u8 == shape).unwrap_or(Shape::Text)
    }

    fn replace(&self, outlet: Outlet) {
        *self.replacement.lock().unwrap_or_else(PoisonError::into_inner) = Some(outlet);
        self.is_replaced.store(true, Ordering::Release);
    }
}

/// Makes lines of events.
#[derive(Debug)]
struct Lines {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let urgency = urgency(*event.metadata().level());
        for line in line::lines(self.shared.shape(), jiff::Timestamp::now(), event) {
            if self.queue.try_send(Message::Line { urgency, line }).is_err() {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The severity of RFC 5424.
fn urgency(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// The log's thread.
struct Writer {
    outlet: Outlet,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Message>) {
        while let Ok(message) = waiting.recv() {
            match message {
                Message::Line { urgency, line } => self.write(urgency, &line),
                // Who waited for it may have given up.
                Message::Flush(done) => drop(done.try_send(())),
            }
        }
    }

    fn write(&mut self, urgency: u8, line: &str) {
        loop {
            if self.shared.is_replaced.swap(false, Ordering::Acquire) {
                let mut replacement =
                    self.shared.replacement.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(outlet) = replacement.take() {
                    self.outlet = outlet;
                }
            }
            let shared = &self.shared;
            let is_replaced = || shared.is_replaced.load(Ordering::Relaxed);
            match self.outlet.write(urgency, line, is_replaced) {
                Ok(()) => return,
                Err(Unwritten::Abandoned) => {}
                Err(Unwritten::Failed(error)) => {
                    let cause = &self.shared.cause;
                    *cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    self.shared.lost.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}
