//! The life of a TCP session: what each happening on its two connections leads to.
//!
//! The shell reports [`Event`]s and does what the [`Command`] says. A FIN on one side becomes a FIN
//! on the other once everything before it is delivered, while the opposite direction goes on; a
//! reset on one side becomes a reset on the other, so that a cut stream never looks complete.

use std::time::{Duration, Instant};

use schemas::vocab::{CloseKind, Direction, EndPhase, EndReason, FirstFin, PerDirection};

use super::DialFailure;
use crate::config::Timeouts;

/// Linux's "connection timed out": keepalive or retransmission gave up.
const ETIMEDOUT: i32 = 110;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The target's name is looked up.
    Resolving,
    /// The target is dialled.
    Connecting,
    /// Both directions are open.
    Open,
    /// The sender of this direction has finished; the other direction goes on.
    HalfClosed(Direction),
    /// It is over.
    Ended,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A target's name is looked up.
    Resolve,
    /// A target is dialled.
    Dial,
    /// No target could be reached; the failure is the last one's.
    DialFailed(DialFailure),
    /// The client's connection broke with this error number before the target was connected.
    ClientGone(i32),
    /// The target's connection stands.
    Connected,
    /// The sender of the direction sent FIN, and all payload before it is delivered.
    Finished(Direction),
    /// Reading from the sender of the direction gave this error number.
    ReadFailed(Direction, i32),
    /// Writing to the receiver of the direction gave this error number.
    WriteFailed(Direction, i32),
    /// Somebody wants the session to end for this reason.
    Ordered(EndReason),
    /// We are stopping and the drain deadline has passed.
    Drained,
    /// The task that carried the session panicked.
    Broken,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Nothing.
    Continue,
    /// Send FIN to the receiver of the direction.
    Shutdown(Direction),
    /// Report the end, then close both connections.
    End(End),
}

/// How a session ended and how its connections are to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The first cause.
    pub reason: EndReason,
    /// The phase it struck in.
    pub phase: EndPhase,
    /// Which side sent its FIN first.
    pub first_fin: FirstFin,
    /// How the client's connection was closed.
    pub client_close: CloseKind,
    /// How the target's connection was closed.
    pub target_close: CloseKind,
    /// The error number that ended it; 0: none.
    pub errno: i32,
    /// Close the client's connection with a reset.
    pub reset_client: bool,
    /// Close the target's connection with a reset.
    pub reset_target: bool,
}

/// One session's life.
#[derive(Debug, Clone)]
pub struct TcpSession {
    state: State,
    tcp_idle: Duration,
    half_closed: Duration,
    /// When it is over, whatever moves.
    latest_end: Option<Instant>,
    half_closed_at: Option<Instant>,
    first_fin: FirstFin,
}

impl TcpSession {
    /// A session whose verdict was pass, and that began at `started`.
    pub fn new(timeouts: &Timeouts, started: Instant) -> Self {
        Self {
            state: State::Connecting,
            tcp_idle: timeouts.tcp_idle,
            half_closed: timeouts.half_closed,
            latest_end: after(started, timeouts.max_duration),
            half_closed_at: None,
            first_fin: FirstFin::None,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the sender of `direction` has finished.
    pub fn is_finished(&self, direction: Direction) -> bool {
        self.state == State::HalfClosed(direction)
    }

    /// When [`TcpSession::handle_timeout`] is due if payload last moved at `last_moved`.
    pub fn poll_timeout(&self, last_moved: Instant) -> Option<Instant> {
        self.next_timeout(last_moved).map(|(at, _)| at)
    }

    /// Ends the session if it has been silent for too long, or has lasted for too long. `owed`:
    /// payload of the direction was received and is not delivered; its receiver gets a reset, anyone
    /// else a FIN. What has lasted too long is cut: more may be on its way.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        last_moved: Instant,
        owed: PerDirection<bool>,
    ) -> Command {
        match self.next_timeout(last_moved) {
            Some((at, EndReason::MaxDuration)) if at <= now => {
                let end = self.cut(EndReason::MaxDuration);
                self.finish(end)
            }
            Some((at, reason)) if at <= now => {
                let end = End {
                    client_close: CloseKind::Timeout,
                    target_close: CloseKind::Timeout,
                    reset_client: owed.down,
                    reset_target: owed.up,
                    ..self.end(reason)
                };
                self.finish(end)
            }
            Some(_) | None => Command::Continue,
        }
    }

    /// What `event` leads to. Events after the end lead to nothing.
    pub fn handle(&mut self, event: Event, now: Instant) -> Command {
        match (self.state, event) {
            (State::Ended, _) => Command::Continue,
            (_, Event::Broken) => {
                let end = self.cut(EndReason::Internal);
                self.finish(end)
            }
            (_, Event::Ordered(reason)) => {
                let end = self.cut(reason);
                self.finish(end)
            }
            (_, Event::Drained) => {
                let end = End { phase: EndPhase::Drain, ..self.cut(EndReason::Drained) };
                self.finish(end)
            }
            (State::Resolving | State::Connecting, event) => self.handle_dialling(event),
            (State::Open | State::HalfClosed(_), event) => self.handle_relaying(event, now),
        }
    }

    fn handle_dialling(&mut self, event: Event) -> Command {
        match event {
            Event::Resolve => self.enter(State::Resolving),
            Event::Dial => self.enter(State::Connecting),
            Event::Connected => self.enter(State::Open),
            Event::DialFailed(failure) => {
                let end = End { errno: failure.errno(), ..self.cut(failure.reason()) };
                self.finish(end)
            }
            Event::ClientGone(errno) => {
                let end = End { errno, ..self.cut(EndReason::ClientAbort) };
                self.finish(end)
            }
            Event::Finished(_) | Event::ReadFailed(..) | Event::WriteFailed(..) => {
                Command::Continue
            }
            Event::Ordered(_) | Event::Drained | Event::Broken => Command::Continue,
        }
    }

    fn handle_relaying(&mut self, event: Event, now: Instant) -> Command {
        match event {
            Event::Finished(direction) => self.finished(direction, now),
            Event::ReadFailed(Direction::Up, errno)
            | Event::WriteFailed(Direction::Down, errno) => {
                let end = self.client_broke(errno);
                self.finish(end)
            }
            Event::ReadFailed(Direction::Down, errno)
            | Event::WriteFailed(Direction::Up, errno) => {
                let end = self.target_broke(errno);
                self.finish(end)
            }
            Event::Resolve | Event::Dial | Event::DialFailed(_) | Event::ClientGone(_) => {
                Command::Continue
            }
            Event::Connected | Event::Ordered(_) | Event::Drained | Event::Broken => {
                Command::Continue
            }
        }
    }

    fn finished(&mut self, direction: Direction, now: Instant) -> Command {
        match self.state {
            State::Open => {
                self.state = State::HalfClosed(direction);
                self.half_closed_at = Some(now);
                self.first_fin = match direction {
                    Direction::Up => FirstFin::Client,
                    Direction::Down => FirstFin::Target,
                };
                Command::Shutdown(direction)
            }
            State::HalfClosed(first) if first != direction => {
                let end = End {
                    client_close: CloseKind::Fin,
                    target_close: CloseKind::Fin,
                    ..self.end(EndReason::Done)
                };
                self.finish(end)
            }
            State::HalfClosed(_) | State::Resolving | State::Connecting | State::Ended => {
                Command::Continue
            }
        }
    }

    fn client_broke(&self, errno: i32) -> End {
        if errno == ETIMEDOUT {
            let end = self.cut(EndReason::WriteStall);
            return End { errno, client_close: CloseKind::Timeout, ..end };
        }
        End { errno, ..self.cut(EndReason::ClientReset) }
    }

    fn target_broke(&self, errno: i32) -> End {
        if errno == ETIMEDOUT {
            let end = self.cut(EndReason::WriteStall);
            return End { errno, target_close: CloseKind::Timeout, ..end };
        }
        End { errno, ..self.cut(EndReason::TargetReset) }
    }

    /// An end at which nobody is closed yet.
    fn end(&self, reason: EndReason) -> End {
        End {
            reason,
            phase: self.phase(),
            first_fin: self.first_fin,
            client_close: CloseKind::None,
            target_close: CloseKind::None,
            errno: 0,
            reset_client: false,
            reset_target: false,
        }
    }

    /// An end that cuts the streams short: a reset to everyone connected.
    fn cut(&self, reason: EndReason) -> End {
        let target = matches!(self.state, State::Open | State::HalfClosed(_));
        End {
            client_close: CloseKind::Rst,
            target_close: if target { CloseKind::Rst } else { CloseKind::None },
            reset_client: true,
            reset_target: target,
            ..self.end(reason)
        }
    }

    fn phase(&self) -> EndPhase {
        match self.state {
            State::Resolving => EndPhase::Resolve,
            State::Connecting => EndPhase::Connect,
            State::Open | State::Ended => EndPhase::Data,
            // The second FIN of an orderly end strikes here too.
            State::HalfClosed(_) => EndPhase::HalfClosed,
        }
    }

    fn enter(&mut self, state: State) -> Command {
        self.state = state;
        Command::Continue
    }

    fn finish(&mut self, end: End) -> Command {
        self.state = State::Ended;
        Command::End(end)
    }

    /// The next timeout and what it would end the session for.
    fn next_timeout(&self, last_moved: Instant) -> Option<(Instant, EndReason)> {
        let idle = after(last_moved, self.tcp_idle).map(|at| (at, EndReason::IdleTimeout));
        let silence = match self.state {
            State::Open => idle,
            State::HalfClosed(_) => {
                let since = self.half_closed_at.map_or(last_moved, |at| at.max(last_moved));
                let half = after(since, self.half_closed);
                let half = half.map(|at| (at, EndReason::HalfCloseTimeout));
                [idle, half].into_iter().flatten().min_by_key(|(at, _)| *at)
            }
            State::Resolving | State::Connecting => None,
            State::Ended => return None,
        };
        let latest = self.latest_end.map(|at| (at, EndReason::MaxDuration));
        [silence, latest].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// A wait of zero is never over.
fn after(from: Instant, wait: Duration) -> Option<Instant> {
    if wait.is_zero() { None } else { from.checked_add(wait) }
}

#[cfg(test)]
mod tests;
