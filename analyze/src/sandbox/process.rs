//! The process that runs a statement, seen from the one that asks.

use std::env;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use schemas::config::show_size;

use super::message::{Channel, Reply, Request};
use super::{ARGUMENT, Limits, serve};
use crate::failure::Failure;
use crate::scratch::{self, Helper};

/// How long a process that was to be ready, or over its limit of time, may still take.
const GRACE: Duration = Duration::from_secs(30);

/// The only variable it keeps: where the loader may have found DuckDB.
const LOADER: &str = "LD_LIBRARY_PATH";

/// A process that runs one statement; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    helper: Arc<Helper>,
    channel: Channel,
    limits: Limits,
    started: Instant,
}

/// How the process ended.
#[derive(Debug)]
pub(super) enum End {
    /// It said so itself.
    Said(Result<(), Failure>),
    /// Ctrl-C.
    Interrupted,
}

impl Process {
    /// Starts the process that writes its report to `out`, and asks it.
    ///
    /// # Errors
    /// 70 when it cannot be started.
    pub(super) fn start(request: &Request, out: Stdio) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::Internal(format!("cannot start the process that runs SQL: {error}"))
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_write_timeout(Some(GRACE)).map_err(failed)?;
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        command.arg(ARGUMENT).env_clear().envs(env::var_os(LOADER).map(|path| (LOADER, path)));
        command.stdin(OwnedFd::from(theirs)).stdout(out);
        let helper = scratch::employ(|| command.spawn()).map_err(failed)?;
        // The command holds the other end of the socket: without it, silence means its end.
        drop(command);
        let channel = Channel::new(ours);
        let process = Self { helper, channel, limits: request.limits(), started: Instant::now() };
        match process.channel.send(request) {
            // Why it has gone is told by its end.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(error)),
            _ => Ok(process),
        }
    }

    /// Waits for its end; `on_confined` is told whether the kernel confines it.
    pub(super) fn end(mut self, on_confined: impl FnOnce(bool)) -> Result<End, Failure> {
        let mut on_confined = Some(on_confined);
        loop {
            match self.receive()? {
                Some(Reply::Confined(confined)) => {
                    if let Some(on_confined) = on_confined.take() {
                        on_confined(confined);
                    }
                }
                Some(Reply::Ended(result)) => return Ok(End::Said(result)),
                None => return self.died(),
            }
        }
    }

    fn receive(&mut self) -> Result<Option<Reply>, Failure> {
        let failed = |error: io::Error| {
            Failure::Internal(format!("cannot understand the process that runs SQL: {error}"))
        };
        let left = match self.limits.time {
            None => None,
            // It ends itself at its limit; this is for one that does not.
            Some(time) => match (time + GRACE).checked_sub(self.started.elapsed()) {
                None | Some(Duration::ZERO) => return Err(serve::out_of_time(time)),
                left => left,
            },
        };
        self.channel.stream().set_read_timeout(left).map_err(failed)?;
        match self.channel.receive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(serve::out_of_time(self.limits.time.unwrap_or_default()))
            }
            // Killed before it had read everything that we sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            other => other.map_err(failed),
        }
    }

    /// What it means that it ended without a word.
    fn died(&self) -> Result<End, Failure> {
        let status = self.helper.wait().map_err(|error| {
            Failure::Internal(format!("cannot wait for the process that runs SQL: {error}"))
        })?;
        let by = |signal: Signal| status.signal() == Some(signal.as_raw());
        if self.helper.was_interrupted() || by(Signal::INT) || by(Signal::TERM) {
            return Ok(End::Interrupted);
        }
        Err(match self.limits.time {
            Some(time) if by(Signal::XCPU) => serve::out_of_time(time),
            _ if by(Signal::KILL) || by(Signal::ABORT) => self.out_of_memory(status),
            _ => Failure::Internal(format!(
                "the process that runs SQL ended without an answer ({status})"
            )),
        })
    }

    /// Where memory cannot be had, an allocator ends its process.
    fn out_of_memory(&self, status: ExitStatus) -> Failure {
        Failure::Usage(format!(
            "the process that ran the statement was ended ({status}), most likely because the answer takes more memory than --memory {} leaves for it; ask for fewer rows, or for --format csv, which is written as it comes",
            show_size(self.limits.memory)
        ))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its end of the socket may be closed already.
        drop(self.channel.stream().shutdown(Shutdown::Both));
        self.helper.dismiss();
    }
}
