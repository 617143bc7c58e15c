//! The process that runs one statement, from within.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use schemas::config::{show_duration, show_size};
use schemas::exit::Exit;
use serde_json::Value;

use super::confine;
use super::message::{Channel, Reply, Request};
use crate::cli::OutputArgs;
use crate::database::Database;
use crate::failure::Failure;
use crate::period;
use crate::progress::Progress;
use crate::report::{self, Style};

/// How long the first request may be in coming.
const PATIENCE: Duration = Duration::from_secs(60);
/// A statement that is over its time is interrupted again this often: an interrupt between two of
/// DuckDB's steps is lost.
const INSISTENCE: Duration = Duration::from_millis(100);

/// Answers the request on standard input. To be called before this process has a second thread:
/// those that exist already would not be confined.
pub fn serve() -> Exit {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let asked = stdin.and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut channel = Channel::new(stream);
        Ok((channel.receive::<Request>()?, channel))
    });
    let Ok((Some(request), channel)) = asked else {
        // Without stderr the exit code has to say it alone.
        drop(writeln!(io::stderr(), "analyze: this command is for analyze itself; use `sql`"));
        return Exit::Usage;
    };
    let result = answer(&request, &channel);
    // Who does not hear it has ended, and so do we.
    drop(channel.send(&Reply::Ended(result)));
    Exit::Fine
}

fn answer(request: &Request, channel: &Channel) -> Result<(), Failure> {
    // Read now: the database of zones is out of reach soon.
    let zone = period::zone(&request.zone)?;
    let limits = request.limits();
    confine::limit(limits)?;
    let confined = confine::close_off(&request.readable, &request.scratch)?;
    let lost = |error: io::Error| Failure::Internal(format!("cannot answer: {error}"));
    channel.send(&Reply::Confined(confined)).map_err(lost)?;
    channel.stream().set_read_timeout(None).map_err(lost)?;
    let stream = channel.stream().try_clone().map_err(lost)?;
    start("watch", move || end_with(stream))?;

    let progress = Progress::start("running your statement");
    let database = Database::open_parts(&request.tables, &request.scratch, limits.memory)?;
    let expired = Arc::new(AtomicBool::new(false));
    let (done, clock) = mpsc::channel::<()>();
    if let Some(time) = limits.time {
        let (interrupt, expired) = (database.interrupter(), Arc::clone(&expired));
        start("timer", move || {
            let mut wait = time;
            while clock.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                expired.store(true, Ordering::Relaxed);
                interrupt();
                wait = INSISTENCE;
            }
        })?;
    }
    let explain = |failure: Failure| match (failure, limits.time) {
        (Failure::ReaderGone, _) => Failure::ReaderGone,
        (_, Some(time)) if expired.load(Ordering::Relaxed) => out_of_time(time),
        (Failure::Internal(text), _) if text.contains("Out of Memory Error") => {
            out_of_memory(limits.memory)
        }
        // What DuckDB does not like about the reader's statement is no bug of ours.
        (Failure::Internal(text), _) => Failure::Usage(text),
        (other, _) => other,
    };
    only_one_select(&database.parse(&request.statement).map_err(explain)?)?;
    let rows = database.stream("run your statement", &request.statement).map_err(explain)?;
    drop(progress);
    let output = OutputArgs { format: request.format, output: None };
    let style = Style { output: &output, zone: &zone, basis: None };
    let written = report::write(rows, &style).map_err(explain);
    drop(done);
    written
}

/// The sentence for a statement that took too long.
pub(super) fn out_of_time(time: Duration) -> Failure {
    Failure::Usage(format!(
        "the statement was not done after {} and was ended; narrow it, or give it more with --timeout (0s: no limit)",
        show_duration(time)
    ))
}

fn out_of_memory(memory: u64) -> Failure {
    Failure::Usage(format!(
        "the statement needs more memory than {} and was ended; narrow it, or give it more with --memory",
        show_size(memory)
    ))
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(body);
    started.map(drop).map_err(|error| Failure::Internal(format!("cannot start a thread: {error}")))
}

/// Ends this process with the one that asked, however that ended.
fn end_with(mut asking: UnixStream) {
    // Nothing more is ever said on the socket.
    let heard = asking.read(&mut [0]);
    debug_assert!(!matches!(heard, Ok(1..)), "one request per process");
    if kill_process(getpid(), Signal::KILL).is_err() {
        process::exit(i32::from(Exit::Bug.code()));
    }
}

/// Refuses what `parsed`, the parser's own account of a statement, does not call one SELECT.
fn only_one_select(parsed: &str) -> Result<(), Failure> {
    let parsed: Value = serde_json::from_str(parsed).map_err(|error| {
        Failure::Internal(format!("cannot understand what DuckDB's parser says: {error}"))
    })?;
    if parsed["error"] != Value::Bool(false) {
        let text = parsed["error_message"].as_str().unwrap_or_default();
        let text = match parsed["error_type"].as_str() {
            Some("not implemented") => {
                "sql takes one SELECT and nothing that writes, attaches, installs or sets; use `-o FILE --format csv` to keep the answer".to_owned()
            }
            _ => format!("the statement is not SQL that DuckDB understands: {text}"),
        };
        return Err(Failure::Usage(text));
    }
    match parsed["statements"].as_array().map_or(0, Vec::len) {
        1 => Ok(()),
        0 => Err(Failure::Usage("there is no statement to run".to_owned())),
        count => Err(Failure::Usage(format!("sql takes one statement, these are {count}"))),
    }
}
