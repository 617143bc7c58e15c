//! Log lines to standard error, written by a thread of their own.
//!
//! Whoever logs never waits for whoever reads: a reader that has stopped would otherwise stop the
//! lanes and the write-ahead log too.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that wait to be written; more are dropped and counted.
const WAITING_LINES: usize = 8192;

/// The thread. Dropped, it writes what waits, for about a second at most.
#[derive(Debug)]
pub(crate) struct LogLines {
    dropped: Dropped,
    _guard: WorkerGuard,
}

/// Counts the lines that were not written because too many waited. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dropped(ErrorCounter);

impl LogLines {
    /// Starts the thread and leads every log line of the process to it.
    pub(crate) fn start() -> Self {
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(WAITING_LINES)
            .lossy(true)
            .thread_name("log lines")
            .finish(io::stderr());
        let dropped = Dropped(writer.error_counter());
        let level =
            EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(level)
            .with_writer(writer)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false);
        if subscriber.try_init().is_err() {
            tracing::debug!("somebody else writes the log already");
        }
        Self { dropped, _guard: guard }
    }

    /// The counter of lines that were not written.
    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

impl Dropped {
    /// How many since the start.
    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.0.dropped_lines()).unwrap_or(u64::MAX)
    }
}
