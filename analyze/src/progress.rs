//! A sign of life for whoever waits longer than a second at a terminal.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::ProgressBar;

/// What is faster than this needs no sign.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two turns of the spinner.
const TURN: Duration = Duration::from_millis(100);

/// Shows a spinner on stderr until it is dropped.
#[derive(Debug)]
pub struct Progress {
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts waiting; `what` is said after a second, if stderr is a terminal.
    pub fn start(what: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self { running: None };
        }
        let (done, waiting) = mpsc::channel::<()>();
        let what = format!("{what}…");
        let show = move || {
            if waiting.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::new_spinner().with_message(what);
            bar.enable_steady_tick(TURN);
            // The sender says nothing; it is dropped when the work is done.
            let ended = waiting.recv();
            debug_assert!(ended.is_err(), "nothing is ever sent");
            bar.finish_and_clear();
        };
        // Without a thread there is no spinner; the work goes on.
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(show).ok();
        Self { running: thread.map(|thread| (done, thread)) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.running.take() {
            drop(done);
            // The thread cannot panic, and if it did the work would not be the worse for it.
            drop(thread.join());
        }
    }
}
