//! Asking again and again: a view that redraws itself like `top`, or one answer after the other
//! where there is no terminal.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::screen::{Screen, Seen, is_gone};
use super::show::text_of;
use super::{Request, client};
use schemas::exit::{Exit, Failure};

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Time between two of them.
    pub every: Duration,
    /// Each as one line of JSON.
    pub json: bool,
}

/// Asks the forwarder behind `socket` again and again, until a key says stop, whoever reads goes
/// away, or there is no answer.
///
/// # Errors
/// Nobody answers, or the terminal cannot be used.
pub fn watch(socket: &Path, request: &Request, view: View) -> Result<(), Failure> {
    let ended = if !view.json && io::stdout().is_terminal() {
        on_screen(socket, request, view.every)
    } else {
        as_stream(socket, request, view)
    };
    match ended {
        Err(Ended::Unwritten(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Ended::Unwritten(error)) => Err(Failure::io(&error, "cannot write to stdout")),
        Err(Ended::Unanswered(failure)) => Err(failure),
        Ok(()) => Ok(()),
    }
}

/// Why it went no further.
enum Ended {
    Unwritten(io::Error),
    Unanswered(Failure),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Unwritten(error)
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Unanswered(failure)
    }
}

fn as_stream(socket: &Path, request: &Request, view: View) -> Result<(), Ended> {
    let mut first = true;
    loop {
        let answer = client::ask(socket, request)?;
        let text = match view.json {
            true => {
                serde_json::to_string(&answer).map_err(|error| {
                    Failure::new(Exit::Bug, format!("an answer is no JSON: {error}"))
                })? + "\n"
            }
            false if first => text_of(&answer),
            false => format!("\n{}", text_of(&answer)),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        drop(out);
        first = false;
        std::thread::sleep(view.every);
    }
}

fn on_screen(socket: &Path, request: &Request, every: Duration) -> Result<(), Ended> {
    let mut text = text_of(&client::ask(socket, request)?);
    let mut screen = Screen::take()?;
    loop {
        let next = Instant::now() + every;
        loop {
            match screen.draw(&text) {
                // Nobody is left to be told anything.
                Err(error) if is_gone(&error) => return Ok(()),
                drawn => drawn?,
            }
            match screen.wait_until(next)? {
                Seen::Time => break,
                Seen::Resized => {}
                Seen::Enough => return Ok(()),
            }
        }
        text = match client::ask(socket, request) {
            Ok(answer) => text_of(&answer),
            Err(failure) => {
                // What is said about it belongs on the screen that stays.
                drop(screen);
                return Err(failure.into());
            }
        };
    }
}
