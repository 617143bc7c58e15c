//! The edges of slots: what every session is given for the slot that ends, the slot's own row, and
//! what becomes of both when the wall clock steps, the journal thread was held up, or the spool has
//! no room for interim rows.

use std::sync::atomic::Ordering;

use schemas::table::{Event, Slot};
use schemas::vocab::{PerDirection, Quality, Severity, SlotStatus, Timestamp};

use super::frame::{Frame, Tally, next_of};
use super::layout::{header, state};
use super::ledger::{Ledger, Moment};
use super::slot::{Entry, Last, SlotView, int};
use super::spool::{Spool, SpoolLevel};

/// Slots over which a stall is spread; of a longer one the rest is unknown and has no rows.
const MAX_SPREAD_SLOTS: i64 = 288;
/// A step of the wall clock against the monotonic one that counts as one, in microseconds.
const CLOCK_STEP_US: i64 = 1_000_000;
/// How late an edge may be noticed for what moved since to pass as moved before it, in microseconds.
const LATE_US: i64 = 1_000_000;

/// How a slot ends.
#[derive(Debug, Clone, Copy)]
struct Edge {
    /// Now.
    wall: Timestamp,
    /// When the slot ended, by its own clock.
    ended: i64,
    share: Share,
    /// It ends because the wall clock stepped out of it.
    by_step: bool,
    /// The slot that begins.
    next: Tally,
}

impl Ledger<'_> {
    /// Notes how the wall clock moved since the last poll, and tells of a step.
    pub(super) fn look_at_clock(&mut self, now: Moment) {
        let step = (now.wall.0 - self.last.wall.0) - (now.monotonic_us - self.last.monotonic_us);
        self.last = now;
        self.clock_offset_us += step;
        if step.abs() < CLOCK_STEP_US {
            return;
        }
        self.step_to_follow_us += step;
        self.note_step(now.wall, step);
        self.event(Event {
            ts: now.wall.0,
            severity: Severity::Warning.as_str().to_owned(),
            kind: "clock_step".to_owned(),
            value: Some(step_seconds(step)),
            message: format!("the wall clock stepped by {:+.3} s", step_seconds(step)),
            ..Event::default()
        });
    }

    /// After a step of the wall clock out of the running slot, that slot ends at once and the next is
    /// where the new clock says; a step backwards begins a new pass.
    pub(super) fn follow_clock<S: Spool>(
        &mut self,
        wall: Timestamp,
        spool: &mut S,
    ) -> Result<(), S::Error> {
        let slot = wall.slot_start(self.header.slot_len_s).0;
        if self.step_to_follow_us != 0 && slot != self.tally.slot_start {
            let back = slot < self.tally.slot_start;
            let by_its_clock = wall.0 - self.step_to_follow_us;
            let edge = Edge {
                wall,
                ended: by_its_clock.min(self.slot_end()),
                share: Share::noticed(by_its_clock - self.slot_end()),
                by_step: true,
                next: Tally::of_slot(slot, self.tally.clock_pass + u64::from(back)),
            };
            self.end_slot(edge, spool)?;
        }
        self.step_to_follow_us = 0;
        Ok(())
    }

    /// Notes in every running session how the clock moved under it, so that a session which never
    /// tells its own duration does not get one that the clock made up.
    fn note_step(&self, wall: Timestamp, step: i64) {
        for index in self.used_slots() {
            let slot = SlotView::new(self.words, index);
            let is_open = self.words.state(index).load(Ordering::Acquire) == state::OPEN;
            // One that began since the clock was read may have begun by either.
            let by_new_clock = slot.number() >= self.began_before_clock
                && (wall.0..wall.0 + CLOCK_STEP_US).contains(&slot.ts_start().0);
            if is_open && !by_new_clock {
                slot.add_clock_step(step);
            }
        }
    }

    /// Ends every slot that is over at `wall`. Of several, none knows what was its own.
    pub(super) fn pass_edges<S: Spool>(
        &mut self,
        wall: Timestamp,
        spool: &mut S,
    ) -> Result<(), S::Error> {
        let (late, len) = (wall.0 - self.slot_end(), self.slot_len_us());
        let over = if late < 0 { 0 } else { late / len + 1 };
        if over > MAX_SPREAD_SLOTS {
            let next = wall.slot_start(self.header.slot_len_s).0;
            self.pass_edge(wall, Share::SPREAD, next, spool)?;
        } else if over > 1 {
            for of in (1..=over.unsigned_abs()).rev() {
                let share = Share { of, ..Share::SPREAD };
                self.pass_edge(wall, share, self.slot_end(), spool)?;
            }
        } else if over == 1 {
            self.pass_edge(wall, Share::noticed(late), self.slot_end(), spool)?;
        }
        Ok(())
    }

    fn pass_edge<S: Spool>(
        &mut self,
        wall: Timestamp,
        share: Share,
        next: i64,
        spool: &mut S,
    ) -> Result<(), S::Error> {
        let next = Tally::of_slot(next, self.tally.clock_pass);
        let ended = self.slot_end();
        self.end_slot(Edge { wall, ended, share, by_step: false, next }, spool)
    }

    /// Ends the running slot: usage rows of every session with the slot's share, denied repeats, the
    /// slot's own row.
    fn end_slot<S: Spool>(&mut self, edge: Edge, spool: &mut S) -> Result<(), S::Error> {
        let slot_end = self.slot_end();
        let interims = spool.level() < SpoolLevel::NoInterims && slot_end > self.clock_from.0;
        let (mut open, mut shed) = (0_u64, false);
        let mut frame = self.frame();
        for index in self.used_slots() {
            let state = self.words.state(index).load(Ordering::Acquire);
            let slot = SlotView::new(self.words, index);
            // A session may begin while this loop runs, a little after `wall`. Where clocks meet,
            // its number tells more than what it says of its time.
            let soon = slot_end..=edge.wall.0 + CLOCK_STEP_US;
            let began_after = if edge.by_step {
                slot.number() >= self.began_before_clock
            } else {
                soon.contains(&slot.ts_start().0) && !slot.saw_clock_step()
            };
            open += u64::from(state == state::OPEN);
            if state == state::CLOSED && (1..slot_end).contains(&slot.ts_end().0) {
                let last = Last::Ended { found: edge.wall };
                self.put_last_rows(&mut frame, index, last, edge.share.quality);
            } else if matches!(state, state::OPEN | state::CLOSED) && !began_after {
                shed |= self.put_interim(&mut frame, index, &edge, interims);
            }
            if frame.is_full() {
                self.append(&mut frame, spool)?;
            }
        }
        self.append(&mut frame, spool)?;
        self.write_denied_rest(spool)?;
        // What moved after the edge went into the slot before it.
        let next_shed = shed && edge.share.quality == Quality::Spread;
        self.write_slot(open, shed, Tally { shed: next_shed, ..edge.next }, spool)
    }

    /// A usage row of a session that goes on, if it moved anything or has none yet. Gives whether
    /// the slot's rows do not tell what the session moved in it.
    fn put_interim(
        &mut self,
        frame: &mut Frame,
        index: usize,
        edge: &Edge,
        interims: bool,
    ) -> bool {
        let slot = SlotView::new(self.words, index);
        let (from, totals) = (slot.baseline(), slot.totals());
        let moved = totals.has_moved_since(from);
        if !interims {
            if moved {
                slot.owe(from);
            }
            return moved;
        }
        let to = edge.share.between(from, totals);
        if to.has_moved_since(from) || from.seq == 0 {
            self.put_usage(frame, index, (from, to), edge.share.quality, (edge.ended, false));
        }
        moved && edge.share.quality == Quality::Spread
    }

    /// Writes the running slot's row and begins the next slot. `shed`: its usage rows do not tell
    /// all that moved in it.
    pub(super) fn write_slot<S: Spool>(
        &mut self,
        open_sessions: u64,
        shed: bool,
        next: Tally,
        spool: &mut S,
    ) -> Result<(), S::Error> {
        let tally = self.tally;
        let status = match tally.usage_rows {
            _ if shed || tally.shed => SlotStatus::SkipData,
            0 => SlotStatus::NoData,
            _ => SlotStatus::Ok,
        };
        let capture_dropped = self.capture_dropped.saturating_sub(self.capture_dropped_before);
        let datagrams_dropped =
            self.datagrams_dropped.saturating_sub(self.datagrams_dropped_before);
        let mut frame = self.frame();
        frame.begins_slot = Some(next);
        let seq = self.take_seq();
        frame.rows.slot(&Slot {
            seq: Some(int(seq)),
            slot_start: tally.slot_start,
            slot_len_s: self.header.slot_len_s,
            clock_pass: self.clock_pass(),
            status: status.as_str().to_owned(),
            open_sessions: int(open_sessions),
            usage_rows: int(tally.usage_rows),
            bytes_up: int(tally.bytes.up),
            bytes_down: int(tally.bytes.down),
            first_seq: (tally.first_seq != 0).then_some(int(tally.first_seq)),
            last_seq: (tally.first_seq != 0).then_some(int(tally.seq)),
            clock_offset_us: self.table.map(|_| self.clock_offset_us),
            capture_dropped_bytes: int(capture_dropped),
            datagrams_dropped: self.table.map(|_| int(datagrams_dropped)),
            ..Slot::default()
        });
        self.append(&mut frame, spool)?;
        self.clock_offset_us = 0;
        self.capture_dropped_before = self.capture_dropped;
        self.datagrams_dropped_before = self.datagrams_dropped;
        Ok(())
    }

    /// Writes the row of the time before this boot in which nothing ran. It is the first row of its
    /// boot, or there is none: so neither can a kill lose it nor a recovery write it twice.
    pub(super) fn write_down<S: Spool>(&mut self, spool: &mut S) -> Result<(), S::Error> {
        let since = self.words.header(header::DOWN_SINCE).cast_signed();
        let until = self.header.started.slot_start(self.header.slot_len_s).0;
        let seconds = i32::try_from((until - since) / 1_000_000).unwrap_or(i32::MAX);
        if self.next_seq > 1 || since <= 0 || seconds <= 0 {
            return Ok(());
        }
        let mut frame = self.frame();
        let seq = self.take_seq();
        frame.rows.slot(&Slot {
            seq: Some(int(seq)),
            slot_start: since,
            slot_len_s: seconds,
            status: SlotStatus::Down.as_str().to_owned(),
            ..Slot::default()
        });
        self.append(&mut frame, spool)
    }

    /// The slot behind the running one, of which nothing is known yet.
    pub(super) fn following(&self) -> Tally {
        Tally::of_slot(self.slot_end(), self.tally.clock_pass)
    }

    pub(super) fn slot_len_us(&self) -> i64 {
        i64::from(self.header.slot_len_s) * 1_000_000
    }

    /// Where the running slot ends.
    pub(super) fn slot_end(&self) -> i64 {
        self.tally.slot_start + self.slot_len_us()
    }

    pub(super) fn clock_pass(&self) -> i32 {
        i32::try_from(self.tally.clock_pass).unwrap_or(i32::MAX)
    }
}

/// What the slot that ends gets of the traffic since the last usage row.
#[derive(Debug, Clone, Copy)]
struct Share {
    /// One part of so many, at least 1.
    of: u64,
    /// How sure it is that this was the slot's own traffic.
    quality: Quality,
}

impl Share {
    const ALL: Self = Self { of: 1, quality: Quality::Exact };
    const SPREAD: Self = Self { of: 1, quality: Quality::Spread };

    /// All of it, for an edge that is noticed `late` microseconds after it was; negative: before.
    const fn noticed(late: i64) -> Self {
        if late > LATE_US { Self::SPREAD } else { Self::ALL }
    }

    /// The totals up to which the slot counts.
    fn between(self, from: Entry, totals: Entry) -> Entry {
        let part = |from: u64, to: u64| from + to.saturating_sub(from) / self.of;
        let pair = |from: PerDirection<u64>, to: PerDirection<u64>| PerDirection {
            up: part(from.up, to.up),
            down: part(from.down, to.down),
        };
        Entry {
            bytes: pair(from.bytes, totals.bytes),
            datagrams: pair(from.datagrams, totals.datagrams),
            ..next_of(from, totals)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a step of the clock, for people")]
fn step_seconds(step_us: i64) -> f64 {
    step_us as f64 / 1e6
}
