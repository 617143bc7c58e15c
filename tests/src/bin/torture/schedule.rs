//! What is done to the two programs and the link between them, and when: a function of the seed
//! alone.

use std::fmt;
use std::time::Duration;

use e2e_tests::dice::Dice;

/// One of the two, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    Forwarder,
    Recorder,
    Both,
}

/// What is done. What lasts goes on while the next actions come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// SIGKILL, and a start after so long.
    Kill { whom: Whom, away: Duration },
    /// SIGTERM, SIGKILL if it has not ended after so long, and a start.
    End { whom: Whom, grace: Option<Duration> },
    /// SIGSTOP, and SIGCONT after so long.
    Stop { whom: Whom, lasts: Duration },
    /// SIGHUP, with a rule of another name in the forwarder's file.
    Hup { whom: Whom },
    /// `recorder flush`.
    Flush,
    /// The link is cut after so many bytes.
    Cut { after: u64 },
    /// The link passes nothing on for so long.
    Stall { lasts: Duration },
    /// The link is cut and lets nobody in for so long.
    Refuse { lasts: Duration },
    /// The disk of one or both has so many bytes left for so long.
    Fill { whose: Whom, room: u64, lasts: Duration },
    /// The wall clock goes on by so much at once, so that hours and days are over and are merged.
    Leap { by: Duration },
}

/// An action and how long to wait before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) after: Duration,
    pub(crate) act: Act,
}

/// All actions of a run, without end.
#[derive(Debug)]
pub(crate) struct Schedule {
    dice: Dice,
    /// An ordered end takes its time; it is given to it.
    wait: bool,
}

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed, 1), wait: false }
    }

    fn whom(&mut self) -> Whom {
        match self.dice.of(1..=100) {
            1..=50 => Whom::Forwarder,
            51..=85 => Whom::Recorder,
            _ => Whom::Both,
        }
    }

    fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.dice.of(from..=to))
    }

    fn act(&mut self) -> Act {
        match self.dice.of(1..=100) {
            1..=62 => {
                let away = if self.dice.percent(70) { Duration::ZERO } else { self.ms(0, 400) };
                Act::Kill { whom: self.whom(), away }
            }
            63..=70 => {
                let grace = self.dice.percent(60).then(|| self.ms(0, 400));
                Act::End { whom: self.whom(), grace }
            }
            71..=75 => Act::Stop { whom: self.whom(), lasts: self.ms(5, 500) },
            76..=79 => Act::Hup { whom: self.whom() },
            80..=83 => Act::Flush,
            84..=91 => {
                // Mostly soon: in the greeting, in the first frames.
                let bits = self.dice.of(0..=17);
                Act::Cut { after: self.dice.of(0..=1 << bits) }
            }
            92..=94 => Act::Stall { lasts: self.ms(10, 2000) },
            95..=96 => Act::Refuse { lasts: self.ms(10, 2000) },
            97 => {
                let hours = if self.dice.percent(80) { 1 } else { self.dice.of(2..=30) };
                Act::Leap { by: Duration::from_secs(hours * 3600) }
            }
            _ => {
                let room = if self.dice.percent(50) { 0 } else { self.dice.of(0..=256 << 10) };
                Act::Fill { whose: self.whom(), room, lasts: self.ms(50, 2500) }
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = Action;

    /// Mostly soon, so that starts and recoveries are hit too; at times late, so that there is
    /// something to publish.
    fn next(&mut self) -> Option<Action> {
        let after = match self.dice.of(1..=100) {
            _ if self.wait => self.ms(500, 3000),
            1..=50 => self.ms(0, 60),
            51..=96 => self.ms(60, 280),
            _ => self.ms(500, 2500),
        };
        let act = self.act();
        self.wait = matches!(act, Act::End { grace: None, .. });
        Some(Action { after, act })
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forwarder => "forwarder",
            Self::Recorder => "recorder",
            Self::Both => "both",
        })
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { whom, away } => write!(f, "kill {whom}, start after {away:?}"),
            Self::End { whom, grace: None } => write!(f, "end {whom}"),
            Self::End { whom, grace: Some(grace) } => write!(f, "end {whom}, kill after {grace:?}"),
            Self::Stop { whom, lasts } => write!(f, "stop {whom} for {lasts:?}"),
            Self::Hup { whom } => write!(f, "reload {whom}"),
            Self::Flush => f.write_str("flush"),
            Self::Cut { after } => write!(f, "cut the link after {after} bytes"),
            Self::Stall { lasts } => write!(f, "stall the link for {lasts:?}"),
            Self::Fill { whose, room, lasts } => {
                write!(f, "leave {room} bytes of disk to {whose} for {lasts:?}")
            }
            Self::Leap { by } => write!(f, "put the clock on by {by:?}"),
            Self::Refuse { lasts } => write!(f, "refuse the link for {lasts:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_actions_again() {
        let actions = |seed| Schedule::new(seed).take(1000).collect::<Vec<_>>();
        assert_eq!(actions(7), actions(7));
        assert_ne!(actions(7), actions(8));
    }
}
