//! The journal thread's work without its thread: numbers into rows, rows into the spool, slots back
//! to the table; each step such that a kill before or after it loses nothing and repeats nothing.
//!
//! For every frame: take the next row numbers; note them in the table (`entries` for usage rows,
//! `end_seq` for session rows, the tally of the running slot); append the frame; then free the
//! slots of sessions whose last row it held. If the append fails, what was noted is taken back and
//! the numbers are used again. A kill between any two steps leaves either a note without a frame,
//! which recovery takes back because its number is above the spool's last, or a frame with its note,
//! from which recovery goes on.

use std::sync::atomic::{AtomicU64, Ordering};

use schemas::table::{Denied, Event, Slot};
use schemas::vocab::{PerDirection, Quality, Severity, SlotStatus, Timestamp};
use schemas::wire::{BootEnd, EncodedRows};

use super::denials::{DenialBook, Key};
use super::frame::{Frame, Tally, newest_tally, next_of};
use super::layout::{Header, TableError, Words, header, state};
use super::row::Pages;
use super::session::Denial;
use super::slot::{Entry, Last, SlotView, int};
use super::table::CounterTable;

/// Denied rows in one frame.
const DENIED_PER_FRAME: usize = 1024;
/// Events that wait for the spool; the frame that takes them all stays below the frame's limit.
const MAX_EVENTS: usize = 256;
/// Longest message or attributes of an event, in bytes; a longer message is cut, longer attributes
/// are left out.
const MAX_EVENT_TEXT: usize = 1024;
/// Slots over which a stall is spread; of a longer one the rest is unknown and has no rows.
pub(super) const MAX_SPREAD_SLOTS: i64 = 288;
/// A step of the wall clock against the monotonic one that counts as one, in microseconds.
const CLOCK_STEP_US: i64 = 1_000_000;

/// Where frames go.
pub trait Spool {
    /// Why a frame could not be appended.
    type Error;

    /// Appends the frame, whole or not at all. `next_seq` is the row number after the frame's.
    ///
    /// # Errors
    /// Nothing was appended.
    fn append(&mut self, rows: EncodedRows, next_seq: i64) -> Result<(), Self::Error>;

    /// Appends the end of a boot.
    ///
    /// # Errors
    /// Nothing was appended.
    fn append_boot_end(&mut self, end: &BootEnd) -> Result<(), Self::Error>;
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// The monotonic clock, in microseconds since any fixed point.
    pub monotonic_us: i64,
}

/// One boot's account: the journal thread's side of its counter table.
#[derive(Debug)]
pub struct Ledger<'t> {
    pub(super) words: Words<'t>,
    /// The running boot's table, to give slots back to; `None` while recovering.
    pub(super) table: Option<&'t CounterTable>,
    pub(super) header: Header,
    pub(super) next_seq: u64,
    pub(super) tally: Tally,
    pub(super) pages: Pages,
    denials: DenialBook,
    events: Vec<Event>,
    last: Moment,
    clock_offset_us: i64,
    capture_dropped: u64,
    capture_dropped_before: u64,
    datagrams_dropped: u64,
    datagrams_dropped_before: u64,
}

impl<'t> Ledger<'t> {
    /// The account of a boot that begins at `now`.
    ///
    /// # Errors
    /// The table is not one.
    pub fn begin(table: &'static CounterTable, now: Moment) -> Result<Self, TableError> {
        let mut ledger = Self::over(table.words(), 0)?;
        ledger.table = Some(table);
        ledger.last = now;
        Ok(ledger)
    }

    /// The account of the boot in `words`, of which rows up to `last_seq` are in the spool.
    pub(super) fn over(words: Words<'t>, last_seq: u64) -> Result<Self, TableError> {
        let header = words.read_header()?;
        let last_poll = Timestamp(words.header(header::LAST_POLL).cast_signed());
        let tally = newest_tally(words).unwrap_or(Tally {
            slot_start: header.started.slot_start(header.slot_len_s).0,
            ..Tally::default()
        });
        Ok(Self {
            words,
            table: None,
            header,
            next_seq: last_seq + 1,
            tally,
            pages: Pages::default(),
            denials: DenialBook::default(),
            events: Vec::new(),
            last: Moment { wall: last_poll, monotonic_us: 0 },
            clock_offset_us: 0,
            capture_dropped: 0,
            capture_dropped_before: 0,
            datagrams_dropped: 0,
            datagrams_dropped_before: 0,
        })
    }

    /// The next row's number.
    pub fn next_seq(&self) -> i64 {
        int(self.next_seq)
    }

    /// Takes a refused attempt; it becomes a row at the next poll or at the slot's edge.
    pub fn deny(&mut self, denial: Denial) {
        self.denials.add(denial);
    }

    /// Takes an event; it becomes a row at the next poll. Beyond 256 waiting ones it is dropped,
    /// which happens only while the spool cannot be written. Its message is cut at 1 KiB.
    pub fn event(&mut self, mut event: Event) {
        if self.events.len() < MAX_EVENTS {
            event.message.truncate(event.message.floor_char_boundary(MAX_EVENT_TEXT));
            event.attributes = event.attributes.filter(|text| text.len() <= MAX_EVENT_TEXT);
            self.events.push(event);
        }
    }

    /// Takes the payload dropped from captures since the boot began, in bytes.
    pub fn capture_dropped(&mut self, bytes: u64) {
        self.capture_dropped = bytes;
    }

    /// Takes the datagrams that the kernel dropped from our receive queues since the boot began.
    pub fn datagrams_dropped(&mut self, datagrams: u64) {
        self.datagrams_dropped = datagrams;
    }

    /// Makes every row that is due at `now`.
    ///
    /// # Errors
    /// A frame could not be appended. Nothing is lost: the same rows are due at the next poll.
    pub fn poll<S: Spool>(&mut self, now: Moment, spool: &mut S) -> Result<(), S::Error> {
        self.words.set_header(header::LAST_POLL, now.wall.0.cast_unsigned());
        self.follow_clock(now, spool)?;
        self.pass_edges(now.wall, spool)?;
        self.write_ended(now.wall, spool)?;
        self.write_notes(spool)
    }

    /// Notes how the wall clock moved. After a step out of the running slot, that slot ends at once
    /// and the next is where the new clock says; a step backwards begins a new pass.
    fn follow_clock<S: Spool>(&mut self, now: Moment, spool: &mut S) -> Result<(), S::Error> {
        let step = (now.wall.0 - self.last.wall.0) - (now.monotonic_us - self.last.monotonic_us);
        if step.abs() >= CLOCK_STEP_US {
            let slot = now.wall.slot_start(self.header.slot_len_s).0;
            if slot != self.tally.slot_start {
                let back = slot < self.tally.slot_start;
                self.end_slot(now.wall, Share::ALL, spool)?;
                self.tally.slot_start = slot;
                let pass = self.words.header(header::CLOCK_PASS) + u64::from(back);
                self.words.set_header(header::CLOCK_PASS, pass);
            }
            self.event(Event {
                ts: now.wall.0,
                severity: Severity::Warning.as_str().to_owned(),
                kind: "clock_step".to_owned(),
                value: Some(step_seconds(step)),
                message: format!("the wall clock stepped by {:+.3} s", step_seconds(step)),
                ..Event::default()
            });
        }
        self.clock_offset_us += step;
        self.last = now;
        Ok(())
    }

    /// Ends every slot that is over at `wall`. Of several, none knows what was its own.
    fn pass_edges<S: Spool>(&mut self, wall: Timestamp, spool: &mut S) -> Result<(), S::Error> {
        let over = (wall.0 - self.tally.slot_start) / self.slot_len_us();
        if over > MAX_SPREAD_SLOTS {
            self.end_slot(wall, Share { of: 1, quality: Quality::Spread }, spool)?;
            self.tally.slot_start = wall.slot_start(self.header.slot_len_s).0;
        } else if over > 1 {
            for of in (1..=over.unsigned_abs()).rev() {
                self.end_slot(wall, Share { of, quality: Quality::Spread }, spool)?;
            }
        } else if over == 1 {
            self.end_slot(wall, Share::ALL, spool)?;
        }
        Ok(())
    }

    /// Ends the running slot: usage rows of every session with the slot's share, denied repeats, the
    /// slot's own row.
    fn end_slot<S: Spool>(
        &mut self,
        wall: Timestamp,
        share: Share,
        spool: &mut S,
    ) -> Result<(), S::Error> {
        let edge = self.tally.slot_start + self.slot_len_us();
        let mut open = 0_u64;
        let mut frame = self.frame();
        for (index, state) in self.states().iter().enumerate() {
            let state = state.load(Ordering::Acquire);
            let slot = SlotView::new(self.words, index);
            // A session may begin while this loop runs, a little after `wall`; one that began much
            // later began before the clock stepped back.
            let began_after = (edge..=wall.0 + CLOCK_STEP_US).contains(&slot.ts_start().0);
            open += u64::from(state == state::OPEN);
            if state == state::CLOSED && (1..edge).contains(&slot.ts_end().0) {
                let last = Last::Ended { found: wall };
                self.put_last_rows(&mut frame, index, last, share.quality);
            } else if matches!(state, state::OPEN | state::CLOSED) && !began_after {
                self.put_interim(&mut frame, index, share, edge);
            }
            if frame.is_full() {
                self.append(&mut frame, spool)?;
            }
        }
        self.append(&mut frame, spool)?;
        self.write_denied_rest(spool)?;
        self.write_slot(open, spool)
    }

    /// A usage row of a session that goes on, if it moved anything or has none yet.
    fn put_interim(&mut self, frame: &mut Frame, index: usize, share: Share, edge: i64) {
        let slot = SlotView::new(self.words, index);
        let from = slot.baseline();
        let to = share.between(from, slot.totals());
        if (to.bytes, to.datagrams) != (from.bytes, from.datagrams) || from.seq == 0 {
            self.put_usage(frame, index, (from, to), share.quality, (edge, false));
        }
    }

    /// Writes the last rows of every session that has ended, and frees its slot.
    fn write_ended<S: Spool>(&mut self, now: Timestamp, spool: &mut S) -> Result<(), S::Error> {
        let mut frame = self.frame();
        for (index, state) in self.states().iter().enumerate() {
            if state.load(Ordering::Acquire) == state::CLOSED {
                let last = Last::Ended { found: now };
                self.put_last_rows(&mut frame, index, last, Quality::Exact);
            }
            if frame.is_full() {
                self.append(&mut frame, spool)?;
            }
        }
        self.append(&mut frame, spool)
    }

    fn write_notes<S: Spool>(&mut self, spool: &mut S) -> Result<(), S::Error> {
        self.write_denied(self.denials.due(self.words), spool)?;
        self.denials.all_due_written();
        if !self.events.is_empty() {
            let mut frame = self.frame();
            for mut event in self.events.clone() {
                event.seq = Some(int(self.take_seq()));
                frame.rows.event(&event);
            }
            self.append(&mut frame, spool)?;
            self.events.clear();
        }
        Ok(())
    }

    fn write_denied_rest<S: Spool>(&mut self, spool: &mut S) -> Result<(), S::Error> {
        self.write_denied(self.denials.rest(self.words), spool)?;
        self.denials.clear();
        Ok(())
    }

    /// Writes refusals. Those that a frame has taken are not due again should the next one fail.
    fn write_denied<S: Spool>(
        &mut self,
        rows: Vec<(Key, Denied)>,
        spool: &mut S,
    ) -> Result<(), S::Error> {
        for chunk in rows.chunks(DENIED_PER_FRAME) {
            let mut frame = self.frame();
            for (_, row) in chunk {
                let seq = Some(int(self.take_seq()));
                frame.rows.denied(&Denied { seq, ..row.clone() });
            }
            self.append(&mut frame, spool)?;
            self.denials.written(chunk.iter().map(|(key, _)| *key));
        }
        Ok(())
    }

    /// Writes the running slot's row and begins the next slot.
    pub(super) fn write_slot<S: Spool>(
        &mut self,
        open_sessions: u64,
        spool: &mut S,
    ) -> Result<(), S::Error> {
        let tally = self.tally;
        let status = if tally.usage_rows == 0 { SlotStatus::NoData } else { SlotStatus::Ok };
        let capture_dropped = self.capture_dropped.saturating_sub(self.capture_dropped_before);
        let datagrams_dropped =
            self.datagrams_dropped.saturating_sub(self.datagrams_dropped_before);
        let row = Slot {
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
        };
        let mut frame = self.frame();
        frame.begins_slot = true;
        let seq = Some(int(self.take_seq()));
        frame.rows.slot(&Slot { seq, ..row });
        self.append(&mut frame, spool)?;
        self.clock_offset_us = 0;
        self.capture_dropped_before = self.capture_dropped;
        self.datagrams_dropped_before = self.datagrams_dropped;
        Ok(())
    }

    /// Ends the boot at `now`: the last slot's row, then the boot's end. Every session must have
    /// ended and been written by [`Ledger::poll`] before.
    ///
    /// # Errors
    /// A frame could not be appended; the table must be kept for the next start.
    pub fn finish<S: Spool>(&mut self, now: Moment, spool: &mut S) -> Result<(), S::Error> {
        self.poll(now, spool)?;
        self.write_denied_rest(spool)?;
        self.write_slot(0, spool)?;
        spool.append_boot_end(&self.boot_end(0, now.wall))
    }

    pub(super) fn boot_end(&self, unopened: u64, ended_at: Timestamp) -> BootEnd {
        BootEnd {
            node: self.header.node.clone(),
            boot: self.header.boot.to_string(),
            last_seq: int(self.next_seq - 1),
            last_session_no: int(self.words.header(header::NEXT_SESSION_NO) - 1),
            unopened: int(unopened),
            exact: true,
            ended_at: ended_at.0,
        }
    }

    /// The states of the slots that may hold a session.
    fn states(&self) -> &'t [AtomicU64] {
        match self.table {
            Some(table) => table.touched_states(),
            None => self.words.states(),
        }
    }

    pub(super) fn slot_len_us(&self) -> i64 {
        i64::from(self.header.slot_len_s) * 1_000_000
    }

    pub(super) fn clock_pass(&self) -> i32 {
        i32::try_from(self.words.header(header::CLOCK_PASS)).unwrap_or(i32::MAX)
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
