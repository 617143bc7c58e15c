//! One round of upkeep after the other, without a clock or a thread of its own.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemas::manifest::Part;
use schemas::table::Event;
use schemas::vocab::Severity;

use super::replaced::sweep;
use super::state::State;
use super::thread::UpkeepStatus;
use crate::compact::{self, Merged, Rhythm, Step, StepError};
use crate::files::Files;
use crate::publish::{PublishError, Publisher, Replacement};
use crate::retain::{Due, Keep, Uptime, Verdict, due, newest_slot};

/// First pause after trouble, and the longest, in microseconds.
const FIRST_PAUSE_US: i64 = 60_000_000;
const LONGEST_PAUSE_US: i64 = 3_600_000_000;
/// At most one day of a table goes in this time, in microseconds.
const BETWEEN_REMOVALS_US: i64 = 3_600_000_000;
/// Most parts that are remembered as not to be merged; beyond, compaction rests.
const MAX_LEFT_ALONE: usize = 10_000;
/// State that only tells how time goes on is written down this often, in microseconds.
const SAVE_EVERY_US: i64 = 600_000_000;

/// What is to be kept up.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// When parts are merged; `None`: never.
    pub compact: Option<Rhythm>,
    /// How long rows are kept.
    pub keep: Keep,
    /// What the disk has left, and how much of that is not for us, in bytes.
    pub room: fn(&Files) -> io::Result<Room>,
}

/// What a disk has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Free for us.
    pub free_bytes: u64,
    /// To be left free.
    pub reserve_bytes: u64,
}

/// The two times of a round.
#[derive(Debug, Clone)]
pub struct Told {
    /// What the wall clock says, in microseconds since 1970 UTC.
    pub wall_us: i64,
    /// How long the kernel has run.
    pub uptime: Uptime,
}

/// Why a step of compaction came to nothing.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(
        "{free_bytes} bytes are free, of which {reserve_bytes} are to stay free, and merging {directory} \
         takes up to {needed_bytes}; make room on the disk"
    )]
    Full { directory: String, free_bytes: u64, reserve_bytes: u64, needed_bytes: u64 },
    #[error("cannot ask how much room {path} has: {source}")]
    Room { path: String, source: io::Error },
}

/// Who keeps the tables up.
#[derive(Debug)]
pub struct Keeper {
    publisher: Arc<Mutex<Publisher>>,
    files: Files,
    settings: Settings,
    stop: Arc<AtomicBool>,
    state: State,
    saved_at: Option<Uptime>,
    /// Paths of parts that cannot be merged.
    left_alone: BTreeSet<String>,
    /// While compaction fails: when it is tried again, and the pause after that.
    paused: Option<(Uptime, i64)>,
    status: UpkeepStatus,
    events: Vec<Event>,
}

impl Keeper {
    /// Goes on where an earlier process was.
    pub fn new(
        publisher: Arc<Mutex<Publisher>>,
        settings: Settings,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let files = lock(&publisher).files().clone();
        let state = State::load(&files);
        Self {
            publisher,
            files,
            settings,
            stop,
            state,
            saved_at: None,
            left_alone: BTreeSet::new(),
            paused: None,
            status: UpkeepStatus::default(),
            events: Vec::new(),
        }
    }

    /// How it is going.
    pub fn status(&self) -> &UpkeepStatus {
        &self.status
    }

    /// Does what is to be done at this time, and returns what is to be told as events.
    pub fn round(&mut self, told: &Told) -> Vec<Event> {
        let before = self.state.clone();
        self.sweep(told);
        self.retain(told);
        if !self.is_stopping()
            && let Some(rhythm) = self.settings.compact
        {
            self.compact(rhythm, told);
        }
        self.save(&before, told);
        std::mem::take(&mut self.events)
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn sweep(&mut self, told: &Told) {
        match sweep(&self.files, &mut self.state.replaced, &told.uptime) {
            Ok(swept) => {
                self.status.replaced_files = swept.left;
                self.status.replaced_bytes = swept.left_bytes;
                if swept.deleted > 0 {
                    tracing::debug!(files = swept.deleted, "deleted what was replaced an hour ago");
                }
            }
            Err(error) => tracing::warn!("cannot delete what was replaced: {error}"),
        }
    }

    fn save(&mut self, before: &State, told: &Told) {
        let is_due = self.saved_at.as_ref().is_none_or(|saved_at| {
            told.uptime.since(saved_at).is_none_or(|us| us >= SAVE_EVERY_US)
        });
        let has_changed =
            before.removed != self.state.removed || before.replaced != self.state.replaced;
        if !is_due && !has_changed {
            return;
        }
        match self.state.save(&self.files) {
            Ok(()) => self.saved_at = Some(told.uptime.clone()),
            // It is tried again with the next round, and nothing goes for want of it.
            Err(error) => tracing::debug!("cannot write the state of upkeep: {error}"),
        }
    }

    // === Retention

    fn retain(&mut self, told: &Told) {
        let newest = newest_slot(lock(&self.publisher).manifest().parts());
        let now_us = match self.state.clock.look(told.wall_us, newest, &told.uptime) {
            Verdict::Go(now_us) => now_us,
            Verdict::NoSlots => return,
            Verdict::Paused { expected_us, told_us, begins } => {
                self.status.retention_paused = true;
                if begins {
                    let message = format!(
                        "retention pauses: the clock and the slots say {}, and it should be {}; \
                         it goes on when they agree again, or in a day",
                        date_time(told_us),
                        date_time(expected_us)
                    );
                    tracing::warn!("{message}");
                    self.tell(Severity::Warning, "retention", None, message, told);
                }
                return;
            }
        };
        self.status.retention_paused = false;
        for (table, keep) in self.settings.keep.tables() {
            let rests = self.state.removed.get(table).is_some_and(|removed| {
                told.uptime.since(removed).is_none_or(|us| us < BETWEEN_REMOVALS_US)
            });
            if rests {
                self.rest_on(table, told);
                continue;
            }
            let due = due(lock(&self.publisher).manifest().parts(), table, keep, now_us);
            if let Some(due) = due {
                self.remove(due, told);
            }
        }
    }

    /// Of another kernel's time nobody knows how long ago it was: the hour begins again.
    fn rest_on(&mut self, table: &str, told: &Told) {
        if let Some(removed) = self.state.removed.get_mut(table)
            && told.uptime.since(removed).is_none()
        {
            *removed = told.uptime.clone();
        }
    }

    fn remove(&mut self, due: Due, told: &Told) {
        let (table, rows, parts) = (due.retired.table.clone(), due.rows, due.paths.len());
        let before_us = due.retired.before_us;
        let removal =
            Replacement { add: Vec::new(), remove: due.paths, retired: vec![due.retired] };
        // Before, so that a crash in between costs an hour and not a day of rows.
        self.state.removed.insert(table.clone(), told.uptime.clone());
        if let Err(error) = self.state.save(&self.files) {
            tracing::warn!("retention waits: cannot write its state: {error}");
            return;
        }
        if let Err(error) = lock(&self.publisher).replace(removal) {
            tracing::warn!("cannot take old rows out of {table}: {error}; trying again in an hour");
            self.status.retention_failures += 1;
            return;
        }
        self.status.retired_parts += u64::try_from(parts).unwrap_or(u64::MAX);
        self.status.retired_rows += rows;
        let message = format!(
            "{rows} rows of {table} up to {} are past their age and were deleted ({parts} parts)",
            date_time(before_us)
        );
        tracing::info!("{message}");
        self.tell(Severity::Info, "retention", Some(rows), message, told);
    }

    // === Compaction

    fn compact(&mut self, rhythm: Rhythm, told: &Told) {
        if let Some((until, _)) = &self.paused
            && until.kernel_boot == told.uptime.kernel_boot
            && told.uptime.us < until.us
        {
            return;
        }
        loop {
            let steps = self.plan(rhythm, told.wall_us);
            if steps.is_empty() || self.left_alone.len() > MAX_LEFT_ALONE {
                break;
            }
            for step in &steps {
                if self.is_stopping() {
                    return;
                }
                match self.step(step) {
                    Ok(merged) => self.count(step, &merged, told),
                    Err(Trouble::Step(StepError::Stopped)) => return,
                    // The tables changed meanwhile; the next plan is made from what they are.
                    Err(Trouble::Publish(PublishError::Gone { .. })) => {}
                    Err(trouble) => {
                        if !self.leave_alone(step, &trouble, told) {
                            self.pause(&trouble, told);
                            return;
                        }
                    }
                }
            }
        }
        if self.paused.take().is_some() {
            self.status.compaction_error = None;
            tracing::info!("compaction works again");
        }
    }

    fn plan(&self, rhythm: Rhythm, now_us: i64) -> Vec<Step> {
        let publisher = lock(&self.publisher);
        let manifest = publisher.manifest();
        let parts = manifest.parts().filter(|part| !self.left_alone.contains(&part.path));
        compact::plan(parts, manifest.version(), rhythm, now_us)
    }

    fn step(&self, step: &Step) -> Result<Merged, Trouble> {
        self.check_room(step)?;
        let merged = compact::merge(&self.files, step, &|| self.is_stopping())?;
        let replacement = Replacement {
            add: merged.parts.clone(),
            remove: step.inputs.iter().map(|part| part.path.clone()).collect(),
            retired: Vec::new(),
        };
        let mut publisher = lock(&self.publisher);
        if let Err(error) = publisher.replace(replacement) {
            let is_in = |part: &Part| publisher.manifest().part(&part.path).is_some();
            if !merged.parts.iter().any(is_in) {
                compact::discard(&self.files, step);
            }
            return Err(error.into());
        }
        Ok(merged)
    }

    fn check_room(&self, step: &Step) -> Result<(), Trouble> {
        let room = (self.settings.room)(&self.files).map_err(|source| Trouble::Room {
            path: self.files.data().display().to_string(),
            source,
        })?;
        let Room { free_bytes, reserve_bytes } = room;
        let needed_bytes = step.input_bytes();
        if free_bytes >= reserve_bytes.saturating_add(needed_bytes) {
            return Ok(());
        }
        let directory = step.directory.clone();
        Err(Trouble::Full { directory, free_bytes, reserve_bytes, needed_bytes })
    }

    fn count(&mut self, step: &Step, merged: &Merged, told: &Told) {
        let as_u64 = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let status = &mut self.status;
        status.compaction_last_us = Some(told.wall_us);
        status.compactions += 1;
        status.merged_parts += as_u64(step.inputs.len());
        status.made_parts += as_u64(merged.parts.len());
        status.merged_rows += merged.rows;
        tracing::debug!(
            directory = step.directory,
            parts = step.inputs.len(),
            into = merged.parts.len(),
            rows = merged.rows,
            "compacted"
        );
    }

    /// Remembers the parts that no attempt will merge; false: there are none.
    fn leave_alone(&mut self, step: &Step, trouble: &Trouble, told: &Told) -> bool {
        let Trouble::Step(error) = trouble else { return false };
        let hopeless = error.hopeless(step, &self.files);
        if hopeless.is_empty() {
            return false;
        }
        let message = format!(
            "{error}; it stays as it is and is not compacted. analyze verify tells what of it is \
             readable"
        );
        tracing::error!("cannot compact: {message}");
        self.tell(Severity::Error, "compaction_failed", None, message, told);
        self.left_alone.extend(hopeless);
        self.status.compaction_failures += 1;
        self.status.left_alone = u64::try_from(self.left_alone.len()).unwrap_or(u64::MAX);
        true
    }

    fn pause(&mut self, trouble: &Trouble, told: &Told) {
        self.status.compaction_failures += 1;
        self.status.compaction_error = Some(trouble.to_string());
        let pause_us = match self.paused {
            None => {
                tracing::warn!(
                    "cannot compact: {trouble}. The tables stay as they are; trying again"
                );
                let message = trouble.to_string();
                self.tell(Severity::Warning, "compaction_failed", None, message, told);
                FIRST_PAUSE_US
            }
            Some((_, pause_us)) => (pause_us * 2).min(LONGEST_PAUSE_US),
        };
        let mut until = told.uptime.clone();
        until.us = until.us.saturating_add(pause_us);
        self.paused = Some((until, pause_us));
    }

    fn tell(
        &mut self,
        severity: Severity,
        kind: &str,
        value: Option<u64>,
        message: String,
        told: &Told,
    ) {
        self.events.push(Event {
            ts: told.wall_us,
            severity: severity.as_str().to_owned(),
            kind: kind.to_owned(),
            // Exact up to 2^53 rows.
            value: value.map(|rows| rows as f64),
            message,
            ..Event::default()
        });
    }
}

fn date_time(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us)
        .map_or_else(|_beyond| format!("{us} us since 1970"), |time| format!("{time:.0}"))
}

/// After a panic the value is as good as after an error: every step can be done again.
fn lock(mutex: &Mutex<Publisher>) -> MutexGuard<'_, Publisher> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
