//! The last samples of a counter, as many as an interval needs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Sample;

/// Steps in which an interval slides.
const STEPS: u32 = 60;

/// The shortest step.
const MIN_STEP: Duration = Duration::from_secs(1);

/// How much older than the interval a sample may be that stands at its beginning: looks come a
/// little late each, and without this an interval of few steps would lose a whole one.
pub(super) const LATE: Duration = Duration::from_millis(50);

/// Samples that reach back one interval and a step.
#[derive(Debug)]
pub(super) struct Window {
    every: Duration,
    samples: VecDeque<(Instant, Sample)>,
}

impl Window {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, samples: VecDeque::new() }
    }

    /// Takes a sample, unless it comes before the step is over. Steps may be a little short: whoever
    /// comes at each tick of a clock does not come at the instant.
    pub(super) fn push(&mut self, now: Instant, sample: Sample) -> bool {
        let step = (self.every / STEPS).max(MIN_STEP);
        if let Some((last, _)) = self.samples.back()
            && now.saturating_duration_since(*last) < step - step / 4
        {
            return false;
        }
        self.samples.push_back((now, sample));
        // One that is as old as the interval stays, and none that is older than it.
        while let Some((second, _)) = self.samples.get(1)
            && now.saturating_duration_since(*second) >= self.every
        {
            self.samples.pop_front();
        }
        true
    }

    /// The oldest sample that is not older than the interval, but for [`LATE`].
    pub(super) fn within(&self, now: Instant) -> Sample {
        let age = |at: &Instant| now.saturating_duration_since(*at);
        let mut samples = self.samples.iter();
        let found = samples.find(|(at, _)| age(at) <= self.every + LATE);
        found.map(|(_, sample)| *sample).unwrap_or_default()
    }

    /// The newest sample that is at least as old as the interval; `None`: there is none yet.
    pub(super) fn covering(&self, now: Instant) -> Option<Sample> {
        let (at, sample) = self.samples.front()?;
        (now.saturating_duration_since(*at) >= self.every).then_some(*sample)
    }
}
