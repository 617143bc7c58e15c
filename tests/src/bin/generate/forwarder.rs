//! A forwarder: what it accounts for, slot by slot, in one run after the other.

use std::mem;
use std::vec;

use anyhow::Result;
use e2e_tests::dice::Dice;
use schemas::table::{Denied, Event, Slot, Usage};
use schemas::vocab::BootId;
use schemas::wire::{BootEnd, EncodedRows};

use crate::calendar::{self, SLOT_S, SLOT_US, Shift};
use crate::session::Life;
use crate::store::Store;
use crate::truth::Truth;
use crate::world::{SERVICES, World};

/// Rows of a frame, as many as make up less than a frame's bound.
const ROWS_PER_FRAME: usize = 1024;
/// Sessions for one refused client.
const PER_REFUSED: u64 = 50;

/// Where rows go, and who counts them.
pub(crate) struct Sinks<'s> {
    pub(crate) store: &'s mut Store,
    pub(crate) truth: &'s mut Truth,
}

/// A forwarder.
pub(crate) struct Forwarder<'w> {
    world: &'w World,
    /// The number of its spool.
    spool: usize,
    dice: Dice,
    shifts: vec::IntoIter<Shift>,
    running: Option<Run>,
    /// Runs so far.
    runs: u64,
}

/// One run of it.
struct Run {
    shift: Shift,
    boot: String,
    seq: i64,
    sessions: i64,
    open: Vec<Life>,
    tally: Slot,
    frame: EncodedRows,
    rows: usize,
}

impl<'w> Forwarder<'w> {
    pub(crate) fn new(world: &'w World, spool: usize, shifts: Vec<Shift>, seed: u64) -> Self {
        let dice = Dice::new(seed, spool as u64);
        let mut shifts = shifts.into_iter();
        let running = shifts.next().map(|shift| Run::new(shift, seed, spool as u64));
        Self { world, spool, dice, shifts, running, runs: 1 }
    }

    /// Whether it runs in a slot.
    pub(crate) fn runs_in(&self, slot: usize) -> bool {
        self.running.as_ref().is_some_and(|run| run.shift.slots.contains(&slot))
    }

    /// Sessions that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.running.as_ref().map_or(0, |run| run.open.len())
    }

    /// Accounts for a slot in which so many sessions begin.
    pub(crate) fn account(
        &mut self,
        slot: usize,
        sessions: u64,
        seed: u64,
        to: &mut Sinks<'_>,
    ) -> Result<()> {
        if !self.runs_in(slot) {
            return Ok(());
        }
        let Some(run) = &mut self.running else { return Ok(()) };
        if slot == run.shift.slots.start {
            run.start();
        }
        run.tally = Slot { slot_start: calendar::start(slot), ..Slot::default() };
        let last = run.shift.ends && slot + 1 == run.shift.slots.end;
        let begin = calendar::start(slot);
        for mut life in mem::take(&mut run.open) {
            life.go_on(&mut self.dice);
            run.pass(life, slot, last, &mut self.dice, to);
            run.flush_if_full(self.spool, to)?;
        }
        for number in 0..sessions {
            let (number, sessions) = (number.cast_signed(), sessions.cast_signed());
            let start = begin + SLOT_US * number / sessions;
            run.sessions += 1;
            let mut life = Life::begin(self.world, run.sessions, start, &mut self.dice);
            life.go_on(&mut self.dice);
            run.pass(life, slot, last, &mut self.dice, to);
            run.flush_if_full(self.spool, to)?;
        }
        run.refuse(sessions, &mut self.dice);
        run.end_slot(slot);
        if last {
            run.stop(slot);
        }
        run.flush(self.spool, to)?;
        if last {
            to.store.end(self.spool, &run.end(slot))?;
            let next = self.shifts.next();
            let number = self.runs * 16 + self.spool as u64;
            self.runs += 1;
            self.running = next.map(|shift| Run::new(shift, seed, number));
        }
        Ok(())
    }
}

impl Run {
    fn new(shift: Shift, seed: u64, number: u64) -> Self {
        let boot = BootId::from_random(Dice::new(seed, 1000 + number).throw()).to_string();
        Self {
            frame: EncodedRows::of(shift.node, &boot),
            shift,
            boot,
            seq: 0,
            sessions: 0,
            open: Vec::new(),
            tally: Slot::default(),
            rows: 0,
        }
    }

    fn next(&mut self) -> Option<i64> {
        self.seq += 1;
        self.rows += 1;
        Some(self.seq)
    }

    fn event(&mut self, ts: i64, kind: &str, message: &str) {
        let (severity, kind, message) = ("info".to_owned(), kind.to_owned(), message.to_owned());
        let event = Event { seq: self.next(), ts, severity, kind, message, ..Event::default() };
        self.frame.event(&event);
    }

    fn start(&mut self) {
        let begin = self.shift.slots.start;
        self.event(calendar::start(begin), "boot", "the forwarder started");
        let down = self.shift.down;
        if down > 0 {
            let slot = Slot {
                seq: self.next(),
                slot_start: calendar::start(begin - down),
                slot_len_s: SLOT_S * i32::try_from(down).unwrap_or_default(),
                status: "DOWN".to_owned(),
                ..Slot::default()
            };
            self.frame.slot(&slot);
        }
    }

    /// Writes what a session has to say of a slot, and keeps it if it goes on.
    fn pass(
        &mut self,
        mut life: Life,
        slot: usize,
        drain: bool,
        dice: &mut Dice,
        to: &mut Sinks<'_>,
    ) {
        let until = calendar::start(slot + 1);
        if drain && !life.ends_before(until) {
            life.drain(until - 1);
        }
        let ended = life.ends_before(until);
        if !ended && self.shift.skipped.contains(&slot) {
            life.skip();
        } else if let Some(mut usage) = life.usage(slot, ended) {
            usage.seq = self.next();
            self.count(&usage);
            to.truth.count(life.customer, slot, &usage);
            self.frame.usage(&usage);
        }
        if ended {
            let mut session = life.ended(dice);
            session.seq = self.next();
            to.truth.ended();
            self.frame.session(&session);
        } else {
            self.open.push(life);
        }
    }

    fn count(&mut self, usage: &Usage) {
        self.tally.usage_rows += 1;
        self.tally.bytes_up += usage.bytes_up;
        self.tally.bytes_down += usage.bytes_down;
        self.tally.first_seq = self.tally.first_seq.or(usage.seq);
        self.tally.last_seq = usage.seq;
    }

    /// Clients of a network that may not come: one row for each that tries, however often.
    fn refuse(&mut self, sessions: u64, dice: &mut Dice) {
        for _ in 0..sessions.div_ceil(PER_REFUSED) {
            let first =
                self.tally.slot_start + i64::from(SLOT_S) * 1000 * (dice.of(0..=400)).cast_signed();
            let service = &SERVICES[usize::from(dice.percent(50))];
            let denied = Denied {
                seq: self.next(),
                ts_first: first,
                ts_last: first + (dice.of(0..=100_000_000)).cast_signed(),
                service: service.name.to_owned(),
                rule: Some("no-guests".to_owned()),
                transport: service.transport().to_owned(),
                client_ip: Some(format!("192.0.2.{}", dice.of(1..=254))),
                client_port: Some(40_000),
                listen_ip: "192.0.2.1".to_owned(),
                listen_port: service.listen_port,
                phase: "policy".to_owned(),
                reason: "rule".to_owned(),
                action: "reset".to_owned(),
                count: (1 << dice.of(0..=10)).into(),
                ..Denied::default()
            };
            self.frame.denied(&denied);
        }
    }

    fn end_slot(&mut self, slot: usize) {
        let seq = self.next();
        let status = match self.tally.usage_rows {
            _ if self.shift.skipped.contains(&slot) => "SKIPDATA",
            0 => "NODATA",
            _ => "OK",
        };
        let slot = Slot {
            seq,
            slot_len_s: SLOT_S,
            status: status.to_owned(),
            open_sessions: i64::try_from(self.open.len()).unwrap_or_default(),
            clock_offset_us: Some(0),
            datagrams_dropped: Some(0),
            ..mem::take(&mut self.tally)
        };
        self.frame.slot(&slot);
    }

    fn stop(&mut self, slot: usize) {
        let now = calendar::start(slot + 1) - 1;
        self.event(now, "shutdown", "stopping: running sessions have 5s to end");
    }

    fn end(&self, slot: usize) -> BootEnd {
        BootEnd {
            node: self.shift.node.to_owned(),
            boot: self.boot.clone(),
            last_seq: self.seq,
            last_session_no: self.sessions,
            unopened: 0,
            exact: true,
            ended_at: calendar::start(slot + 1) - 1,
        }
    }

    fn flush_if_full(&mut self, spool: usize, to: &mut Sinks<'_>) -> Result<()> {
        if self.rows >= ROWS_PER_FRAME { self.flush(spool, to) } else { Ok(()) }
    }

    fn flush(&mut self, spool: usize, to: &mut Sinks<'_>) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let empty = EncodedRows::of(self.shift.node, &self.boot);
        let full = mem::replace(&mut self.frame, empty);
        to.store.rows(spool, full, mem::take(&mut self.rows))
    }
}
