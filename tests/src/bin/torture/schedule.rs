//! What is done to the two programs, and when: a function of the seed alone.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;

/// One of the two, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    Forwarder,
    Recorder,
    Both,
}

/// What is done. A program that is away is started again by the action that took it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// SIGKILL, and a start after so long.
    Kill { whom: Whom, away: Duration },
}

/// An action and how long to wait before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) after: Duration,
    pub(crate) act: Act,
}

/// All actions of a run, without end.
#[derive(Debug)]
pub(crate) struct Schedule(Dice);

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Dice::new(seed, 1))
    }
}

impl Iterator for Schedule {
    type Item = Action;

    /// Mostly soon, so that starts and recoveries are hit too; at times late, so that there is
    /// something to publish.
    fn next(&mut self) -> Option<Action> {
        let dice = &mut self.0;
        let after = match dice.of(1..=100) {
            1..=30 => dice.of(0..=80),
            31..=90 => dice.of(80..=500),
            _ => dice.of(500..=2500),
        };
        let whom = match dice.of(1..=100) {
            1..=50 => Whom::Forwarder,
            51..=85 => Whom::Recorder,
            _ => Whom::Both,
        };
        let away = if dice.percent(70) { 0 } else { dice.of(0..=400) };
        let act = Act::Kill { whom, away: Duration::from_millis(away) };
        Some(Action { after: Duration::from_millis(after), act })
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
