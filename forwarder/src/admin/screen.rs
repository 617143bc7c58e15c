//! The terminal of somebody who watches: what is drawn there, what is pressed, and when it goes.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::Print;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{execute, queue};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Ctrl-C as a byte, which no signal comes from while the terminal is raw.
const CTRL_C: u8 = 3;

const ESCAPE: u8 = 0x1b;

/// The terminal, ours until dropped.
pub(super) struct Screen {
    /// Where keys come from.
    keys: File,
    /// Signals come here instead of ending us, so that the terminal is never left as it is now.
    signals: SignalFd,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is time.
    Time,
    /// The terminal has another size.
    Resized,
    /// Who watches has seen enough, we are to end, or the terminal is gone.
    Enough,
}

impl Screen {
    /// Takes the terminal. For programs with one thread: signals are held off in this one alone.
    pub(super) fn take() -> io::Result<Self> {
        let stdin = io::stdin();
        let keys = match stdin.is_terminal() {
            true => File::from(stdin.as_fd().try_clone_to_owned()?),
            false => File::open("/dev/tty")?,
        };
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGWINCH] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags)?;
        enable_raw_mode()?;
        let screen = Self { keys, signals };
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Waits for a key or a signal that matters, until `next` at most.
    pub(super) fn wait_until(&mut self, next: Instant) -> io::Result<Seen> {
        loop {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Seen::Time);
            }
            match self.look(left)? {
                Some(seen) => return Ok(seen),
                None => continue,
            }
        }
    }

    fn look(&mut self, left: Duration) -> io::Result<Option<Seen>> {
        let patience = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut events =
            [PollFd::new(&self.keys, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        match poll(&mut events, Some(&patience)) {
            Err(Errno::INTR) => return Ok(None),
            polled => polled?,
        };
        let [keys, signals] = events.map(|event| event.revents());
        if !signals.is_empty() {
            return Ok(self.signals.read_signal()?.map(|signal| {
                match signal.ssi_signo == Signal::SIGWINCH as u32 {
                    true => Seen::Resized,
                    false => Seen::Enough,
                }
            }));
        }
        // A terminal that hung up is readable for ever and has nothing to read.
        if keys.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Ok(Some(Seen::Enough));
        }
        if !keys.contains(PollFlags::IN) {
            return Ok(None);
        }
        let mut pressed = [0; 64];
        Ok(match self.keys.read(&mut pressed) {
            Ok(0) => Some(Seen::Enough),
            Ok(count) => says_enough(&pressed[..count]).then_some(Seen::Enough),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) if is_gone(&error) => Some(Seen::Enough),
            Err(error) => return Err(error),
        })
    }

    /// Draws as much of the text as there is room for.
    pub(super) fn draw(&self, text: &str) -> io::Result<()> {
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
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nothing else to try with a terminal that is gone.
        drop(execute!(io::stdout(), Show, LeaveAlternateScreen));
        drop(disable_raw_mode());
    }
}

/// Whether an error says that the terminal hung up.
pub(super) fn is_gone(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::IO)
}

/// Whether `q`, Esc or Ctrl-C is among what was pressed. Keys such as arrows are an Esc with more
/// behind it.
fn says_enough(pressed: &[u8]) -> bool {
    match pressed {
        [ESCAPE] => true,
        [ESCAPE, ..] => false,
        keys => keys.iter().any(|key| matches!(*key, b'q' | ESCAPE | CTRL_C)),
    }
}

fn fitting(text: &str, columns: usize, rows: usize) -> impl Iterator<Item = &str> {
    text.lines().take(rows).map(move |line| {
        let end = line.char_indices().nth(columns).map_or(line.len(), |(at, _)| at);
        &line[..end]
    })
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

    #[test]
    fn q_escape_and_control_c_are_enough_and_an_arrow_is_not() {
        for enough in [&b"q"[..], b"\x1b", b"\x03", b"xxq", b"x\x03"] {
            assert!(says_enough(enough), "{enough:?}");
        }
        for other in [&b"x"[..], b"\x1b[A", b"\x1bOP", b"\x1b[M q!"] {
            assert!(!says_enough(other), "{other:?}");
        }
    }
}
