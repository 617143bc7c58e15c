//! The journal thread's work without its thread: numbers into rows, rows into the spool, slots back
//! to the table; each step such that a kill before or after it loses nothing and repeats nothing.
//!
//! For every frame: take the next row numbers; note them in the table (`entries` for usage rows,
//! `end_seq` for session rows, the tally of the running slot); append the frame; then free the
//! slots of sessions whose last row it held. If the append fails, what was noted is taken back and
//! the numbers are used again. A kill between any two steps leaves either a note without a frame,
//! which recovery takes back because its number is above the spool's last, or a frame with its note,
//! from which recovery goes on.

use std::iter::Chain;
use std::ops::Range;
use std::sync::atomic::Ordering;

use schemas::table::{Denied, Event};
use schemas::vocab::{Quality, Severity, Timestamp};
use schemas::wire::BootEnd;

use super::denials::{DenialBook, Key};
use super::frame::{Tally, newest_tally};
use super::layout::{Header, TableError, Words, header, state};
use super::row::Pages;
use super::session::Denial;
use super::slot::{Last, int};
use super::spool::Spool;
use super::table::CounterTable;

/// Denied rows in one frame.
const DENIED_PER_FRAME: usize = 1024;
/// Events that wait for the spool; the frame that takes them all stays below the frame's limit.
const MAX_EVENTS: usize = 256;
/// Longest message or attributes of an event, in bytes; a longer message is cut, longer attributes
/// are left out.
const MAX_EVENT_TEXT: usize = 1024;

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
    /// Length of the last frame. The next one is probably as long.
    pub(super) frame_bytes: usize,
    denials: DenialBook,
    events: Vec<Event>,
    /// Events that could not wait.
    events_lost: u64,
    /// A wall clock before it is wrong.
    pub(super) clock_from: Timestamp,
    pub(super) last: Moment,
    /// Steps of the wall clock that the running slot has not followed yet, in microseconds.
    pub(super) step_to_follow_us: i64,
    pub(super) clock_offset_us: i64,
    /// Sessions below this number began before the clock was read.
    pub(super) began_before_clock: u64,
    pub(super) capture_dropped: u64,
    pub(super) capture_dropped_before: u64,
    pub(super) datagrams_dropped: u64,
    pub(super) datagrams_dropped_before: u64,
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
        let first_slot = header.started.slot_start(header.slot_len_s).0;
        let tally = newest_tally(words).unwrap_or(Tally::of_slot(first_slot, 0));
        Ok(Self {
            words,
            table: None,
            header,
            next_seq: last_seq + 1,
            tally,
            pages: Pages::default(),
            frame_bytes: 0,
            denials: DenialBook::default(),
            events: Vec::new(),
            events_lost: 0,
            clock_from: Timestamp(i64::MIN),
            last: Moment { wall: last_poll, monotonic_us: 0 },
            step_to_follow_us: 0,
            clock_offset_us: 0,
            began_before_clock: u64::MAX,
            capture_dropped: 0,
            capture_dropped_before: 0,
            datagrams_dropped: 0,
            datagrams_dropped_before: 0,
        })
    }

    /// Takes a time that has certainly passed, as when this program was built: while the wall clock
    /// shows an earlier one, slots mean nothing and no interim rows are made.
    pub fn trust_clock_from(&mut self, time: Timestamp) {
        self.clock_from = time;
    }

    /// Takes the time up to which an earlier boot's rows tell what moved. From then to the first
    /// slot of this boot nothing ran: the boot's first row says so. To be called before the first
    /// poll.
    pub fn nothing_ran_since(&mut self, time: Timestamp) {
        self.words.set_header(header::DOWN_SINCE, time.0.cast_unsigned());
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
    /// which happens only while the spool cannot be written, and another event tells how many.
    /// Its message is cut at 1 KiB.
    pub fn event(&mut self, mut event: Event) {
        if self.events.len() < MAX_EVENTS {
            event.message.truncate(event.message.floor_char_boundary(MAX_EVENT_TEXT));
            event.attributes = event.attributes.filter(|text| text.len() <= MAX_EVENT_TEXT);
            self.events.push(event);
        } else {
            self.events_lost += 1;
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

    /// To be called before the wall clock is read for a poll, and the data threads' labels follow it:
    /// should it have stepped, sessions that began until now began by the old one.
    pub fn before_clock(&mut self) {
        self.began_before_clock = self.words.header(header::NEXT_SESSION_NO);
    }

    /// Makes every row that is due at `now`.
    ///
    /// # Errors
    /// A frame could not be appended. Nothing is lost: the same rows are due at the next poll.
    pub fn poll<S: Spool>(&mut self, now: Moment, spool: &mut S) -> Result<(), S::Error> {
        self.words.set_header(header::LAST_POLL, now.wall.0.cast_unsigned());
        self.look_at_clock(now);
        self.write_down(spool)?;
        self.follow_clock(now.wall, spool)?;
        self.pass_edges(now.wall, spool)?;
        self.write_ended(now.wall, spool)?;
        self.write_notes(spool)
    }

    /// Writes the last rows of every session that has ended, and frees its slot.
    fn write_ended<S: Spool>(&mut self, now: Timestamp, spool: &mut S) -> Result<(), S::Error> {
        let mut frame = self.frame();
        for index in self.used_slots() {
            if self.words.state(index).load(Ordering::Acquire) == state::CLOSED {
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
            self.tell_lost_events();
        }
        Ok(())
    }

    fn tell_lost_events(&mut self) {
        let lost = std::mem::take(&mut self.events_lost);
        if lost > 0 {
            self.event(Event {
                ts: self.last.wall.0,
                severity: Severity::Warning.as_str().to_owned(),
                kind: "reports_lost".to_owned(),
                message: format!("{lost} events could not wait for the spool and have no row"),
                ..Event::default()
            });
        }
    }

    pub(super) fn write_denied_rest<S: Spool>(&mut self, spool: &mut S) -> Result<(), S::Error> {
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

    /// Ends the accounts that many sessions shared, as far as none of those runs; they become rows
    /// at the next poll. To be called when no session begins any more.
    pub fn close_overflow(&self) {
        if let Some(table) = self.table {
            table.close_overflow();
        }
    }

    /// Ends the boot at `now`: the last slot's row, then the boot's end. Every session must have
    /// ended and been written by [`Ledger::poll`] before.
    ///
    /// # Errors
    /// A frame could not be appended; the table must be kept for the next start.
    pub fn finish<S: Spool>(&mut self, now: Moment, spool: &mut S) -> Result<(), S::Error> {
        self.poll(now, spool)?;
        self.write_denied_rest(spool)?;
        self.write_slot(0, false, self.following(), spool)?;
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

    /// The slots that may hold a session.
    pub(super) fn used_slots(&self) -> Chain<Range<usize>, Range<usize>> {
        match self.table {
            Some(table) => table.used_slots(),
            None => (0..self.words.slot_count()).chain(0..0),
        }
    }
}
