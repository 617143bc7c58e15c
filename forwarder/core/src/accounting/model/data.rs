//! The data threads, and what they know to be true.

use std::collections::{BTreeMap, BTreeSet};

use schemas::vocab::{
    ClientAddr, CloseKind, DenyReason, Direction, EndPhase, EndReason, FirstFin, ListenAddr,
    PerDirection, Timestamp, Transport,
};

use super::world::SLOT_LEN_S;
use crate::accounting::{CounterTable, Ending, OpenSession, Opening};

pub(super) const SLOT_LEN_US: i64 = SLOT_LEN_S as i64 * 1_000_000;

/// What a data thread does.
#[derive(Debug, Clone)]
pub(super) enum Motion {
    Open { rule: usize },
    Move { session: proptest::sample::Index, up: bool, bytes: u64 },
    End { session: proptest::sample::Index },
}

/// A slot of a boot: pass of its clock, and start.
pub(super) type SlotKey = (String, i32, i64);

/// What a session really did.
#[derive(Debug, Clone, Default)]
pub(super) struct Truth {
    pub(super) rule: String,
    /// Of every other session.
    pub(super) proxied_client: Option<ClientAddr>,
    pub(super) bytes: PerDirection<u64>,
    /// Written when the process died, and not counted.
    pub(super) uncounted: u64,
    pub(super) ended: bool,
    /// How many sessions it was; 0: one with a slot of its own.
    pub(super) shared_by: u64,
    /// By the monotonic clock.
    pub(super) began_us: i64,
    pub(super) died_us: Option<i64>,
}

pub(super) struct Data {
    pub(super) boot: String,
    pub(super) table: &'static CounterTable,
    /// Ids and names of the rules in force.
    pub(super) rules: Vec<(u32, String)>,
    pub(super) running: Vec<OpenSession>,
    pub(super) truth: BTreeMap<(String, u64), Truth>,
    /// What moved in each slot, as long as that is certain.
    pub(super) moved: BTreeMap<SlotKey, PerDirection<u64>>,
    pub(super) uncertain: BTreeSet<SlotKey>,
    /// The slot that runs.
    pub(super) slot: SlotKey,
    pub(super) monotonic_us: i64,
    /// Wall clock less monotonic one, as the journal thread saw it last.
    pub(super) offset_us: i64,
    /// Something moved while the journal thread passed, or should have passed, a slot's edge.
    pub(super) was_busy: bool,
}

impl Data {
    pub(super) fn wall(&self) -> Timestamp {
        Timestamp(self.monotonic_us + self.offset_us)
    }

    /// Goes on while the journal thread works.
    pub(super) fn meanwhile(&mut self, motion: &Motion) {
        self.was_busy = true;
        self.go(motion);
    }

    pub(super) fn go(&mut self, motion: &Motion) {
        match motion {
            Motion::Open { rule } => self.open(*rule),
            Motion::Move { session, up, bytes } => self.move_bytes(*session, *up, *bytes),
            Motion::End { session } => {
                if !self.running.is_empty() {
                    self.end(session.index(self.running.len()));
                }
            }
        }
    }

    pub(super) fn truth_of(&mut self, number: u64) -> &mut Truth {
        self.truth.get_mut(&(self.boot.clone(), number)).expect("it was opened")
    }

    pub(super) fn open(&mut self, rule: usize) {
        let (id, name) = self.rules[rule].clone();
        let proxied = "[2001:db8::7]:65535".parse().unwrap();
        let proxied_client = (self.truth.len() % 2 == 1).then(|| ClientAddr::new(proxied));
        let opening = Opening {
            service: 1,
            rule: id,
            customer: 0,
            config_rev: 1,
            transport: Transport::Tcp,
            client: ClientAddr::new("127.0.0.2:4000".parse().unwrap()),
            proxied_client,
            listen: ListenAddr::new("127.0.0.1:80".parse().unwrap()),
            ts_start: self.wall(),
        };
        match self.table.open(&opening) {
            Ok(session) => {
                let key = (self.boot.clone(), session.number());
                let began_us = self.monotonic_us;
                let truth = self.truth.entry(key).or_insert_with(|| Truth {
                    rule: name.clone(),
                    proxied_client: proxied_client.filter(|_| !session.is_shared()),
                    began_us,
                    ..Truth::default()
                });
                assert_eq!(truth.rule, name, "only sessions of one rule share a number");
                truth.shared_by += u64::from(session.is_shared());
                self.running.push(session);
            }
            Err(refused) => assert_eq!(refused.reason, DenyReason::TableFull),
        }
    }

    fn move_bytes(&mut self, session: proptest::sample::Index, up: bool, bytes: u64) {
        if self.running.is_empty() {
            return;
        }
        let direction = if up { Direction::Up } else { Direction::Down };
        let session = &self.running[session.index(self.running.len())];
        let before = session.traffic()[direction].bytes;
        session.received(direction, bytes, self.wall());
        session.delivered(direction, bytes);
        assert_eq!(session.traffic()[direction].bytes, before + bytes, "its own total");
        let number = session.number();
        self.truth_of(number).bytes[direction] += bytes;
        // A slot may be over before the journal thread can end it.
        let start = self.slot.2;
        self.was_busy |= !(start..start + SLOT_LEN_US).contains(&self.wall().0);
        self.moved.entry(self.slot.clone()).or_default()[direction] += bytes;
    }

    /// The kernel took bytes of the first session, and the process died before it counted them.
    pub(super) fn write_uncounted(&mut self, bytes: u64) {
        let Some(session) = self.running.first() else { return };
        session.received(Direction::Up, bytes, self.wall());
        let number = session.number();
        self.truth_of(number).uncounted += bytes;
    }

    pub(super) fn end(&mut self, at: usize) {
        let session = self.running.swap_remove(at);
        let is_shared = session.is_shared();
        let number = session.number();
        session.end(Ending {
            reason: EndReason::Done,
            phase: EndPhase::Data,
            first_fin: FirstFin::Client,
            client_close: CloseKind::Fin,
            target_close: CloseKind::Fin,
            errno: 0,
            ts_end: self.wall(),
            duration_us: 1,
        });
        self.truth_of(number).ended |= !is_shared;
    }

    /// All ends in order, the accounts that sessions share too.
    pub(super) fn end_all(&mut self) {
        while !self.running.is_empty() {
            self.end(0);
        }
        let boot = self.boot.clone();
        let ours = self.truth.iter_mut().filter(|((of, _), _)| *of == boot);
        ours.for_each(|(_, truth)| truth.ended = true);
    }

    /// The process dies: nobody tells what runs that it has ended.
    pub(super) fn die(&mut self) {
        self.running.drain(..).for_each(std::mem::forget);
        let (boot, now) = (self.boot.clone(), Some(self.monotonic_us));
        let ours = self.truth.iter_mut().filter(|((of, _), truth)| *of == boot && !truth.ended);
        ours.for_each(|(_, truth)| truth.died_us = now);
    }
}
