//! Asking again and again: a view that redraws itself like `top`, or one answer after the other
//! where there is no terminal.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, poll, read};
use crossterm::style::Print;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{execute, queue};

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
    let first = text_of(&client::ask(socket, request)?);
    let screen = Screen::take()?;
    let mut text = first;
    loop {
        let next = Instant::now() + every;
        draw(&text)?;
        loop {
            if !poll(next.saturating_duration_since(Instant::now()))? {
                break;
            }
            match read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
                    match key.code {
                        KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                        KeyCode::Char('c') if ctrl => return Ok(()),
                        _ => {}
                    }
                }
                Event::Resize(..) => draw(&text)?,
                _ => {}
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

/// Draws as much of the text as there is room for.
fn draw(text: &str) -> io::Result<()> {
    let (columns, rows) = match size()? {
        // A terminal that does not know, as some serial ones.
        (0, _) | (_, 0) => (80, 24),
        known => known,
    };
    let mut out = io::stdout().lock();
    queue!(out, MoveTo(0, 0))?;
    for (row, line) in fitting(text, columns.into(), rows.into()).enumerate() {
        if row > 0 {
            queue!(out, Print("\r\n"))?;
        }
        queue!(out, Print(line), Clear(ClearType::UntilNewLine))?;
    }
    queue!(out, Clear(ClearType::FromCursorDown))?;
    out.flush()
}

fn fitting(text: &str, columns: usize, rows: usize) -> impl Iterator<Item = &str> {
    text.lines().take(rows).map(move |line| {
        let end = line.char_indices().nth(columns).map_or(line.len(), |(at, _)| at);
        &line[..end]
    })
}

/// The terminal, ours until dropped.
struct Screen;

impl Screen {
    fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nothing else to try with a terminal that is gone.
        drop(execute!(io::stdout(), Show, LeaveAlternateScreen));
        drop(disable_raw_mode());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_drawn_than_fits() {
        let text = "äbcdef\n12\n\nlast\n";
        assert_eq!(fitting(text, 3, 2).collect::<Vec<_>>(), ["äbc", "12"]);
        assert_eq!(fitting(text, 80, 9).collect::<Vec<_>>(), ["äbcdef", "12", "", "last"]);
        assert_eq!(fitting(text, 0, 9).collect::<String>(), "");
    }
}
