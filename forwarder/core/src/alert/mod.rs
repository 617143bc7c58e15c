//! Alerts: too little traffic, too much, or too many sessions that one side ended.
//!
//! An alert looks at an interval that slides in steps. What has crossed a threshold is never
//! claimed by chance of the steps: too little is judged over an interval that is not shorter than
//! asked, too much and too many over one that is not longer, but for the 50 ms that a look may be late. So the first are silent until one whole
//! interval has passed, and nothing moved at all is too little too.
//!
//! Whoever holds the counters gives samples of them; the shares are compared in whole numbers.

mod window;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use schemas::vocab::{EndReason, FirstFin};

use crate::config::{Alert, EndedBy, Watch};
use window::Window;

/// What is counted of the sessions that an alert watches, since some fixed time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Payload delivered, both directions together, in bytes.
    pub bytes: u64,
    /// Sessions that began.
    pub begun: u64,
    /// Those of them that are over.
    pub over: u64,
    /// Those of them that the client ended first.
    pub by_client: u64,
    /// Those of them that the target ended first.
    pub by_target: u64,
}

/// What an alert found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Less payload than the threshold, in bytes.
    TooLittle,
    /// More payload than the threshold, in bytes.
    TooMuch,
    /// More ends by one side than the threshold.
    TooManyEnds,
}

/// An alert began or is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which alert.
    pub alert: Alert,
    /// What it found or had found.
    pub finding: Finding,
    /// The figure that decided.
    pub value: u64,
    /// What it is compared with.
    pub threshold: u64,
    /// How long it lasted; `None`: it begins.
    pub lasted: Option<Duration>,
}

/// An alert that another configuration no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared {
    /// Which alert.
    pub alert: Alert,
    /// How long it lasted, if it was on.
    pub lasted: Option<Duration>,
}

/// The alerts of the configuration in force.
#[derive(Debug, Default)]
pub struct Alerts {
    list: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    alert: Alert,
    window: Window,
    on: Option<(Finding, Instant)>,
}

impl Alerts {
    /// Takes over another configuration's alerts. One that is the same in every key goes on; the
    /// others of before are gone.
    pub fn reload(&mut self, alerts: &[Alert], now: Instant) -> Vec<Cleared> {
        let mut before = std::mem::take(&mut self.list);
        self.list = alerts
            .iter()
            .map(|alert| match before.iter().position(|old| old.alert == *alert) {
                Some(same) => before.remove(same),
                None => {
                    Watched { alert: alert.clone(), window: Window::new(alert.every), on: None }
                }
            })
            .collect();
        let lasted = |on: (Finding, Instant)| now.saturating_duration_since(on.1);
        let cleared = |old: Watched| Cleared { lasted: old.on.map(lasted), alert: old.alert };
        before.into_iter().map(cleared).collect()
    }

    /// The alerts in the order of the file, and whether each is on.
    pub fn list(&self) -> impl Iterator<Item = (&Alert, bool)> {
        self.list.iter().map(|watched| (&watched.alert, watched.on.is_some()))
    }

    /// Judges anew the alert with this index in [`Alerts::list`]. Samples that come sooner than a
    /// step of its interval are passed over.
    ///
    /// # Panics
    /// There is no alert with that index.
    pub fn sample(&mut self, index: usize, now: Instant, sample: Sample) -> Vec<Change> {
        let Watched { alert, window, on } = &mut self.list[index];
        if !window.push(now, sample) {
            return Vec::new();
        }
        let found = judge(alert.watch, window, now, sample);
        let was = on.map(|(finding, _)| finding);
        if was == found.finding {
            return Vec::new();
        }
        let change = |finding, lasted| Change {
            alert: alert.clone(),
            finding,
            value: found.value(finding),
            threshold: threshold(alert.watch, finding),
            lasted,
        };
        let mut changes = Vec::new();
        if let Some((finding, since)) = on.take() {
            changes.push(change(finding, Some(now.saturating_duration_since(since))));
        }
        if let Some(finding) = found.finding {
            *on = Some((finding, now));
            changes.push(change(finding, None));
        }
        changes
    }
}

/// What an interval shows.
struct Found {
    finding: Option<Finding>,
    /// What is compared with a threshold that nothing may exceed.
    most: u64,
    /// What is compared with one that nothing may fall short of.
    least: u64,
}

impl Found {
    /// The figure that decides about a finding: that it begins, or that it is over.
    fn value(&self, finding: Finding) -> u64 {
        match finding {
            Finding::TooLittle => self.least,
            Finding::TooMuch | Finding::TooManyEnds => self.most,
        }
    }
}

fn judge(watch: Watch, window: &Window, now: Instant, sample: Sample) -> Found {
    let inner = window.within(now);
    match watch {
        Watch::Traffic { below, above } => {
            let most = sample.bytes.saturating_sub(inner.bytes);
            let outer = window.covering(now).map(|outer| sample.bytes.saturating_sub(outer.bytes));
            let finding = match (below, outer) {
                _ if above.is_some_and(|above| most > above) => Some(Finding::TooMuch),
                (Some(below), Some(bytes)) if bytes < below => Some(Finding::TooLittle),
                _ => None,
            };
            Found { finding, most, least: outer.unwrap_or(most) }
        }
        Watch::Ends { by, above, share_permille } => {
            let of = |sample: Sample| match by {
                EndedBy::Client => sample.by_client,
                EndedBy::Target => sample.by_target,
            };
            let ends = of(sample).saturating_sub(of(inner));
            // Those that were there when the interval began, and those that came since.
            let sessions = sample.begun.saturating_sub(inner.over);
            let share =
                u128::from(ends) * 1000 >= u128::from(share_permille) * u128::from(sessions);
            let finding = (ends > above && share).then_some(Finding::TooManyEnds);
            Found { finding, most: ends, least: ends }
        }
    }
}

fn threshold(watch: Watch, finding: Finding) -> u64 {
    match (watch, finding) {
        (Watch::Traffic { below, .. }, Finding::TooLittle) => below.unwrap_or(0),
        (Watch::Traffic { above, .. }, _) => above.unwrap_or(0),
        (Watch::Ends { above, .. }, _) => above,
    }
}

/// The side that ended a session first, by FIN or by failing; `None`: neither of them did.
pub fn ended_by(first_fin: FirstFin, reason: EndReason) -> Option<EndedBy> {
    match (first_fin, reason) {
        (FirstFin::Client, _)
        | (FirstFin::None, EndReason::ClientAbort | EndReason::ClientReset) => {
            Some(EndedBy::Client)
        }
        (FirstFin::Target, _)
        | (
            FirstFin::None,
            EndReason::TargetReset
            | EndReason::TargetRefused
            | EndReason::TargetUnreachable
            | EndReason::ConnectTimeout,
        ) => Some(EndedBy::Target),
        (FirstFin::None, _) => None,
    }
}
