//! A frame in the making: rows get their numbers, the table notes them, the spool takes the frame,
//! and what has ended is freed; or everything is taken back.

use std::sync::atomic::Ordering;

use schemas::vocab::{PerDirection, Quality};
use schemas::wire::EncodedRows;

use super::layout::{Words, header, state};
use super::ledger::Ledger;
use super::slot::{Entry, Last, SlotView, UNFINISHED, int};
use super::spool::Spool;

/// Sessions in one frame: their last two rows, with the longest names there can be, stay below the
/// limit of 1 MiB.
const SESSIONS_PER_FRAME: usize = 512;

/// A frame in the making, and what was noted for it.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) rows: EncodedRows,
    usage_rows: u64,
    bytes: PerDirection<u64>,
    /// A usage row covers more than the running slot.
    sheds: bool,
    sessions: Vec<Noted>,
    /// The frame holds the running slot's row: with it this slot begins.
    pub(super) begins_slot: Option<Tally>,
}

impl Frame {
    /// Whether the frame holds as many sessions as it may.
    pub(super) fn is_full(&self) -> bool {
        self.sessions.len() >= SESSIONS_PER_FRAME
    }

    fn first_seq(&self) -> Option<u64> {
        self.rows.first_seq().and_then(|seq| u64::try_from(seq).ok())
    }
}

/// What was noted in a slot for a frame.
#[derive(Debug)]
struct Noted {
    index: usize,
    entry: usize,
    /// What that entry was.
    before: Entry,
    ends: bool,
}

/// What the running slot has seen so far; kept twice in the table's header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) seq: u64,
    pub(super) slot_start: i64,
    /// Steps of the wall clock backwards before the slot began.
    pub(super) clock_pass: u64,
    /// Its usage rows do not tell what moved in the slot and in no other.
    pub(super) shed: bool,
    pub(super) usage_rows: u64,
    pub(super) bytes: PerDirection<u64>,
    /// 0: no row yet.
    pub(super) first_seq: u64,
}

impl Tally {
    /// Of a slot that begins.
    pub(super) fn of_slot(slot_start: i64, clock_pass: u64) -> Self {
        Self { slot_start, clock_pass, ..Self::default() }
    }
}

impl Ledger<'_> {
    /// The last usage row and the session row, which share a frame.
    pub(super) fn put_last_rows(
        &mut self,
        frame: &mut Frame,
        index: usize,
        last: Last,
        quality: Quality,
    ) {
        let slot = SlotView::new(self.words, index);
        slot.fill_last(&mut self.pages, last);
        let from = slot.baseline();
        let to = next_of(from, slot.totals());
        let until = self.pages.session.ts_end;
        self.put_usage(frame, index, (from, to), quality, (until, true));
        let seq = self.take_seq();
        slot.set_end_seq(seq);
        crash_point();
        let row = &mut self.pages.session;
        row.seq = Some(int(seq));
        row.intervals = i32::try_from(to.interval_seq + 1).unwrap_or(i32::MAX);
        frame.rows.session(row);
    }

    /// Adds a usage row of the running slot, and notes it. `until` is how far the session lived
    /// within the slot, and whether it is its last row.
    pub(super) fn put_usage(
        &mut self,
        frame: &mut Frame,
        index: usize,
        (from, mut to): (Entry, Entry),
        quality: Quality,
        (until, is_final): (i64, bool),
    ) {
        let slot = SlotView::new(self.words, index);
        let covers_more = slot.owes(from);
        let quality = match quality {
            Quality::Exact if covers_more => Quality::Spread,
            // That nothing moved is known however long nobody looked.
            Quality::Spread if !to.has_moved_since(from) => Quality::Exact,
            quality => quality,
        };
        let seq = self.take_seq();
        to.seq = seq;
        if quality == Quality::Spread {
            slot.mark_spread();
        }
        crash_point();
        let (entry, before) = slot.note(to);
        crash_point();
        slot.fill_usage(&mut self.pages, from, to);
        let slot_end = self.slot_end();
        let alive_from = slot.ts_start().0.max(self.tally.slot_start);
        let clock_pass = self.clock_pass();
        let row = &mut self.pages.usage;
        row.seq = Some(int(seq));
        row.slot_start = self.tally.slot_start;
        row.slot_len_s = self.header.slot_len_s;
        row.clock_pass = clock_pass;
        row.is_final = is_final;
        row.active_us = (until.min(slot_end) - alive_from).max(0);
        row.quality = if slot.is_shared() { Quality::PartlyLost } else { quality } as i32;
        if frame.sessions.is_empty() {
            frame.rows.reserve(self.frame_bytes);
        }
        frame.usage_rows += 1;
        frame.sheds |= covers_more || quality == Quality::Spread;
        frame.bytes.up += to.bytes.up.saturating_sub(from.bytes.up);
        frame.bytes.down += to.bytes.down.saturating_sub(from.bytes.down);
        frame.sessions.push(Noted { index, entry, before, ends: is_final });
        frame.rows.usage(row);
    }

    pub(super) fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// A frame without rows. What is added to it must be added in the order of the numbers.
    pub(super) fn frame(&self) -> Frame {
        Frame {
            rows: EncodedRows::of(&self.header.node, self.header.boot.as_str()),
            usage_rows: 0,
            bytes: PerDirection::default(),
            sheds: false,
            sessions: Vec::new(),
            begins_slot: None,
        }
    }

    /// Notes the tally, appends the frame and frees what has ended; or takes everything back.
    pub(super) fn append<S: Spool>(
        &mut self,
        frame: &mut Frame,
        spool: &mut S,
    ) -> Result<(), S::Error> {
        let Some(first_seq) = frame.first_seq() else { return Ok(()) };
        let frame = std::mem::replace(frame, self.frame());
        self.frame_bytes = frame.rows.bytes().len();
        let tally = self.tally_after(&frame, first_seq);
        let (nth, before) = note_tally(self.words, tally);
        crash_point();
        match spool.append(frame.rows, int(self.next_seq)) {
            Ok(()) => {
                self.tally = tally;
                self.free(&frame.sessions, frame.begins_slot.is_some(), tally.seq);
                Ok(())
            }
            Err(error) => {
                write_tally(self.words, nth, before);
                crash_point();
                for noted in &frame.sessions {
                    let slot = SlotView::new(self.words, noted.index);
                    slot.take_back(noted.entry, noted.before);
                    if noted.ends {
                        slot.set_end_seq(0);
                    }
                }
                self.next_seq = first_seq;
                Err(error)
            }
        }
    }

    fn tally_after(&self, frame: &Frame, first_seq: u64) -> Tally {
        let seq = self.next_seq - 1;
        if let Some(next) = frame.begins_slot {
            return Tally { seq, ..next };
        }
        let mut bytes = self.tally.bytes;
        bytes += frame.bytes;
        Tally {
            seq,
            shed: self.tally.shed || frame.sheds,
            usage_rows: self.tally.usage_rows + frame.usage_rows,
            bytes,
            first_seq: if self.tally.first_seq == 0 { first_seq } else { self.tally.first_seq },
            ..self.tally
        }
    }

    /// Frees what has ended with the frame up to row `seq`. Such a frame, and one that ended a slot,
    /// cannot be told again from the table, which says so first.
    fn free(&self, sessions: &[Noted], ended_slot: bool, seq: u64) {
        if ended_slot || sessions.iter().any(|noted| noted.ends) {
            self.words.set_header(header::TOLD_THROUGH, seq);
        }
        for noted in sessions.iter().filter(|noted| noted.ends) {
            crash_point();
            match self.table {
                Some(table) => table.release(noted.index),
                None => self.words.state(noted.index).store(state::FREE, Ordering::Release),
            }
        }
    }
}

/// The totals as the entry that follows `from`.
pub(super) fn next_of(from: Entry, totals: Entry) -> Entry {
    let interval_seq = if from.seq == 0 { 0 } else { from.interval_seq + 1 };
    Entry { interval_seq, ..totals }
}

/// A point at which the tests kill the process.
#[cfg(not(test))]
pub(super) const fn crash_point() {}
#[cfg(test)]
pub(super) use super::model::crash_point;

fn tally_at(words: Words<'_>, nth: usize) -> Tally {
    let get = |offset| words.header(header::TALLIES[nth] + offset);
    let pass = words.header(header::TALLY_PASSES[nth]);
    Tally {
        seq: get(0),
        slot_start: get(1).cast_signed(),
        clock_pass: pass >> 1,
        shed: pass & 1 != 0,
        usage_rows: get(2),
        bytes: PerDirection { up: get(3), down: get(4) },
        first_seq: get(5),
    }
}

/// The tally of the last frame; `None` before the first.
pub(super) fn newest_tally(words: Words<'_>) -> Option<Tally> {
    let [a, b] = [0, 1].map(|nth| tally_at(words, nth));
    Some(if b.seq > a.seq { b } else { a }).filter(|tally| tally.seq != 0)
}

/// Notes a tally in the older entry, and returns which one that was and what it was.
fn note_tally(words: Words<'_>, tally: Tally) -> (usize, Tally) {
    let [a, b] = header::TALLIES;
    let nth = usize::from(words.header(a) > words.header(b));
    let before = tally_at(words, nth);
    write_tally(words, nth, tally);
    (nth, before)
}

/// As with a session's entry, the number is stored last, and until then is one that no spool has
/// reached.
fn write_tally(words: Words<'_>, nth: usize, tally: Tally) {
    let at = header::TALLIES[nth];
    words.set_header(at, UNFINISHED);
    crash_point();
    words.set_header(at + 1, tally.slot_start.cast_unsigned());
    words.set_header(at + 2, tally.usage_rows);
    words.set_header(at + 3, tally.bytes.up);
    words.set_header(at + 4, tally.bytes.down);
    words.set_header(at + 5, tally.first_seq);
    words.set_header(header::TALLY_PASSES[nth], tally.clock_pass << 1 | u64::from(tally.shed));
    crash_point();
    words.set_header(at, tally.seq);
}

/// Whether the spool, which ends at `last_seq`, has lost frames that the table told of. One tally
/// above it may belong to a frame that was never appended, two cannot.
pub(super) fn is_ahead_of(words: Words<'_>, last_seq: u64) -> bool {
    words.header(header::TOLD_THROUGH) > last_seq
        || header::TALLIES.iter().all(|at| words.header(*at) > last_seq)
}

/// Takes back the tallies above `last_seq`.
pub(super) fn forget_tallies_above(words: Words<'_>, last_seq: u64) {
    for at in header::TALLIES {
        if words.header(at) > last_seq {
            words.set_header(at, 0);
        }
    }
}
