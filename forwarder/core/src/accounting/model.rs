//! The account against a plain model: random traffic, polls, failing appends, kills at any point of
//! a poll or of a recovery, and clocks that step. After every history the spool must tell exactly
//! what the model knows.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use prost::Message;
use schemas::table::{Session, Usage};
use schemas::vocab::{
    BootId, ClientAddr, CloseKind, DenyAction, DenyReason, Direction, EndPhase, EndReason,
    FirstFin, ListenAddr, PerDirection, SpoolId, Timestamp, Transport,
};
use schemas::wire::{BootEnd, EncodedRows, Rows};

use super::*;

thread_local! {
    /// Crash points to pass before the kill; `None`: no kill is planned.
    static FUSE: Cell<Option<u32>> = const { Cell::new(None) };
}

thread_local! {
    /// Tables are `'static`; one region serves every boot of every history, one after the other.
    static REGION: &'static [AtomicU64] =
        (0..GEOMETRY.words()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
}

/// Marks the unwinding that stands for a kill.
struct Kill;

pub(super) fn crash_point() {
    match FUSE.get() {
        Some(0) => {
            FUSE.set(None);
            std::panic::resume_unwind(Box::new(Kill));
        }
        Some(left) => FUSE.set(Some(left - 1)),
        None => {}
    }
}

#[derive(Debug, Clone)]
enum Action {
    Open,
    Move { session: prop::sample::Index, up: bool, bytes: u64 },
    End { session: prop::sample::Index },
    Deny { client: u8 },
    Poll { after_ms: i64 },
    FailingPoll { after_ms: i64, appends: u32 },
    StepClock { seconds: i64 },
    Kill { after_ms: i64, points: u32, in_recovery: Vec<u32> },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Action>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        6 => Just(Action::Open),
        10 => (index(), any::<bool>(), 0_u64..5000).prop_map(|(session, up, bytes)| Action::Move { session, up, bytes }),
        4 => index().prop_map(|session| Action::End { session }),
        2 => (0_u8..4).prop_map(|client| Action::Deny { client }),
        6 => (1_i64..2500).prop_map(|after_ms| Action::Poll { after_ms }),
        2 => (1_i64..2500, 0_u32..4).prop_map(|(after_ms, appends)| Action::FailingPoll { after_ms, appends }),
        1 => (-30_i64..30).prop_map(|seconds| Action::StepClock { seconds }),
        2 => (1_i64..1500, 0_u32..40, prop::collection::vec(0_u32..20, 0..3))
            .prop_map(|(after_ms, points, in_recovery)| Action::Kill { after_ms, points, in_recovery }),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(step, 1..80)
}

/// A spool that keeps what it is given, and can be told to fail.
#[derive(Debug, Default)]
struct MemorySpool {
    rows: Vec<Rows>,
    ends: Vec<BootEnd>,
    appends_left: Option<u32>,
}

impl Spool for MemorySpool {
    type Error = &'static str;

    fn append(&mut self, encoded: EncodedRows, next_seq: i64) -> Result<(), &'static str> {
        if let Some(left) = &mut self.appends_left {
            *left = left.checked_sub(1).ok_or("no space left")?;
        }
        let rows = Rows::decode(encoded.bytes()).unwrap();
        assert_eq!(rows.seqs().max(), Some(next_seq - 1));
        assert_eq!(rows.seqs().min(), encoded.first_seq());
        let sessions: BTreeSet<_> = rows.usage.iter().map(|r| r.session_no).collect();
        assert_eq!(sessions.len(), rows.usage.len(), "two usage rows of a session in one frame");
        self.rows.push(rows);
        crash_point();
        Ok(())
    }

    fn append_boot_end(&mut self, end: &BootEnd) -> Result<(), &'static str> {
        self.ends.push(end.clone());
        crash_point();
        Ok(())
    }
}

impl MemorySpool {
    fn history(&self) -> SpoolHistory {
        let mut history = SpoolHistory::default();
        self.rows.iter().for_each(|rows| history.rows(rows));
        self.ends.iter().for_each(|end| history.boot_end(end));
        history
    }
}

/// What a session really did.
#[derive(Debug, Clone, Copy, Default)]
struct Truth {
    /// Of every other session.
    proxied_client: Option<ClientAddr>,
    bytes: PerDirection<u64>,
    ended: bool,
}

struct World {
    wall_us: i64,
    monotonic_us: i64,
    boots: u64,
    words: &'static [AtomicU64],
    table: &'static CounterTable,
    ledger: Option<Ledger<'static>>,
    running: Vec<OpenSession>,
    truth: BTreeMap<(String, u64), Truth>,
    /// Refusals that rows must tell of; `None` once a kill may have taken repeats along.
    denied: Option<u64>,
    spool: MemorySpool,
}

const GEOMETRY: Geometry = Geometry { slots: 8 };
const SLOT_LEN_S: i32 = 1;

fn fresh_table(boot: u64, wall_us: i64) -> (&'static [AtomicU64], &'static CounterTable) {
    let words = REGION.with(|region| *region);
    words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    let header = Header {
        node: "edge".to_owned(),
        boot: BootId::from_random(boot),
        started: Timestamp(wall_us),
        slot_len_s: SLOT_LEN_S,
        spool_id: SpoolId(1),
        spool_path: "/spool".to_owned(),
        kernel_boot: 7,
    };
    let table = CounterTable::create(words, GEOMETRY, &header).unwrap();
    assert!(table.name_id("web").is_some());
    (words, Box::leak(Box::new(table)))
}

impl World {
    fn new() -> Self {
        let wall_us = 1_800_000_000_000_000;
        let (words, table) = fresh_table(1, wall_us);
        let mut world = Self {
            wall_us,
            monotonic_us: 0,
            boots: 1,
            words,
            table,
            ledger: None,
            running: Vec::new(),
            truth: BTreeMap::new(),
            denied: Some(0),
            spool: MemorySpool::default(),
        };
        world.ledger = Some(Ledger::begin(table, world.now()).unwrap());
        world
    }

    fn now(&self) -> Moment {
        Moment { wall: Timestamp(self.wall_us), monotonic_us: self.monotonic_us }
    }

    fn boot(&self) -> BootId {
        BootId::from_random(self.boots)
    }

    fn advance(&mut self, ms: i64) {
        self.wall_us += ms * 1000;
        self.monotonic_us += ms * 1000;
    }

    fn truth_of(&mut self, number: u64) -> &mut Truth {
        let key = (self.boot().to_string(), number);
        self.truth.get_mut(&key).unwrap()
    }

    fn open(&mut self) {
        let client = "127.0.0.2:4000".parse().unwrap();
        let listen = "127.0.0.1:80".parse().unwrap();
        let proxied = "[2001:db8::7]:65535".parse().unwrap();
        let proxied_client = (self.truth.len() % 2 == 1).then(|| ClientAddr::new(proxied));
        let opening = Opening {
            service: 1,
            rule: 1,
            customer: 0,
            config_rev: 1,
            transport: Transport::Tcp,
            client: ClientAddr::new(client),
            proxied_client,
            listen: ListenAddr::new(listen),
            ts_start: Timestamp(self.wall_us),
        };
        match self.table.open(&opening) {
            Ok(session) => {
                let truth = Truth { proxied_client, ..Truth::default() };
                self.truth.insert((self.boot().to_string(), session.number()), truth);
                self.running.push(session);
            }
            Err(refused) => assert_eq!(refused.reason, DenyReason::TableFull),
        }
    }

    fn move_bytes(&mut self, session: prop::sample::Index, up: bool, bytes: u64) {
        if self.running.is_empty() {
            return;
        }
        let direction = if up { Direction::Up } else { Direction::Down };
        let session = &self.running[session.index(self.running.len())];
        session.received(direction, bytes, Timestamp(self.wall_us));
        session.delivered(direction, bytes);
        let number = session.number();
        self.truth_of(number).bytes[direction] += bytes;
    }

    fn end(&mut self, at: usize) {
        let session = self.running.swap_remove(at);
        self.truth_of(session.number()).ended = true;
        session.end(Ending {
            reason: EndReason::Done,
            phase: EndPhase::Data,
            first_fin: FirstFin::Client,
            client_close: CloseKind::Fin,
            target_close: CloseKind::Fin,
            errno: 0,
            ts_end: Timestamp(self.wall_us),
            duration_us: 1,
        });
    }

    fn deny(&mut self, client: u8) {
        let client = std::net::SocketAddr::from(([127, 0, 1, client], 5000));
        let listen = "127.0.0.1:80".parse().unwrap();
        self.denied = self.denied.map(|count| count + 1);
        let ts = Timestamp(self.wall_us);
        self.ledger.as_mut().unwrap().deny(Denial {
            service: 1,
            rule: 0,
            limit: 0,
            customer: 0,
            transport: Transport::Tcp,
            client: ClientAddr::new(client),
            listen: ListenAddr::new(listen),
            phase: EndPhase::Policy,
            reason: DenyReason::NoRule,
            action: DenyAction::Reset,
            bytes: 0,
            ts,
        });
    }

    fn poll(&mut self) -> Result<(), &'static str> {
        let now = self.now();
        self.ledger.as_mut().unwrap().poll(now, &mut self.spool)
    }

    /// Dies at the given crash point of a poll, or right after it.
    fn kill(&mut self, points: u32, in_recovery: &[u32]) {
        FUSE.set(Some(points));
        let died = catch_unwind(AssertUnwindSafe(|| self.poll()));
        FUSE.set(None);
        if let Ok(done) = died {
            done.unwrap();
        }
        self.running.drain(..).for_each(std::mem::forget);
        self.denied = None;
        for points in in_recovery {
            FUSE.set(Some(*points));
            let died = catch_unwind(AssertUnwindSafe(|| self.recover()));
            FUSE.set(None);
            if died.is_ok() {
                break;
            }
        }
        self.recover();
        self.boot_again();
    }

    fn recover(&mut self) {
        let history = self.spool.history();
        if history.has_ended(self.boot()) {
            return;
        }
        Ledger::recover(self.words, &history, &mut self.spool).unwrap().unwrap();
    }

    fn restart(&mut self) {
        while !self.running.is_empty() {
            self.end(0);
        }
        let now = self.now();
        self.ledger.as_mut().unwrap().finish(now, &mut self.spool).unwrap();
        self.boot_again();
    }

    fn boot_again(&mut self) {
        self.boots += 1;
        (self.words, self.table) = fresh_table(self.boots, self.wall_us);
        self.ledger = Some(Ledger::begin(self.table, self.now()).unwrap());
    }

    fn step(&mut self, step: &Action) {
        match step {
            Action::Open => self.open(),
            Action::Move { session, up, bytes } => self.move_bytes(*session, *up, *bytes),
            Action::End { session } => {
                if !self.running.is_empty() {
                    self.end(session.index(self.running.len()));
                }
            }
            Action::Deny { client } => self.deny(*client),
            Action::Poll { after_ms } => {
                self.advance(*after_ms);
                self.poll().unwrap();
            }
            Action::FailingPoll { after_ms, appends } => {
                self.advance(*after_ms);
                self.spool.appends_left = Some(*appends);
                // Whether it fails depends on how much was due.
                let _failed = self.poll().is_err();
                self.spool.appends_left = None;
            }
            Action::StepClock { seconds } => self.wall_us += seconds * 1_000_000,
            Action::Kill { after_ms, points, in_recovery } => {
                self.advance(*after_ms);
                self.kill(*points, in_recovery);
            }
            Action::Restart => self.restart(),
        }
    }

    fn check(&self) {
        let usage: Vec<(&str, &Usage)> = self
            .spool
            .rows
            .iter()
            .flat_map(|f| f.usage.iter().map(|r| (f.boot.as_str(), r)))
            .collect();
        let sessions: Vec<(&str, &Session)> = self
            .spool
            .rows
            .iter()
            .flat_map(|f| f.sessions.iter().map(|r| (f.boot.as_str(), r)))
            .collect();
        self.check_numbers(&sessions);
        for ((boot, number), truth) in &self.truth {
            let number = i64::try_from(*number).unwrap();
            let rows: Vec<_> =
                sessions.iter().filter(|(b, r)| b == boot && r.session_no == number).collect();
            assert_eq!(rows.len(), 1, "rows of session {boot}-{number}");
            let row = rows[0].1;
            assert_eq!((row.end_reason == "lost"), !truth.ended, "{row:?}");
            assert_eq!(row.bytes_up, i64::try_from(truth.bytes.up).unwrap());
            assert_eq!(row.bytes_down, i64::try_from(truth.bytes.down).unwrap());
            let proxied = truth.proxied_client;
            assert_eq!(row.proxied_client_ip, proxied.map(|client| client.ip().to_string()));
            assert_eq!(row.proxied_client_port, proxied.map(|client| client.port().into()));
            let intervals: Vec<_> = usage
                .iter()
                .filter(|(b, r)| b == boot && r.session_no == number)
                .map(|(_, r)| *r)
                .collect();
            check_intervals(row, &intervals);
        }
        assert_eq!(sessions.len(), self.truth.len());
        self.check_slots(&usage);
        if let Some(denied) = self.denied {
            let told: i64 = self.spool.rows.iter().flat_map(|f| &f.denied).map(|r| r.count).sum();
            assert_eq!(u64::try_from(told).unwrap(), denied);
        }
    }

    /// Row numbers without gap, session numbers dense, one end per boot that was written.
    fn check_numbers(&self, sessions: &[(&str, &Session)]) {
        for boot in (1..=self.boots).map(BootId::from_random) {
            let frames = self.spool.rows.iter().filter(|f| f.boot == boot.as_str());
            let mut seqs: Vec<i64> = frames.flat_map(|f| f.seqs().collect::<Vec<_>>()).collect();
            seqs.sort_unstable();
            let expected: Vec<i64> = (1..).take(seqs.len()).collect();
            assert_eq!(seqs, expected, "row numbers of boot {boot}");
            let mut ends = self.spool.ends.iter().filter(|e| e.boot == boot.as_str());
            let end = ends.next().expect("every boot has an end");
            assert!(ends.all(|again| again == end), "a second end may only repeat the first");
            assert!(end.exact);
            assert_eq!(end.last_seq, i64::try_from(seqs.len()).unwrap());
            let rows = sessions.iter().filter(|(b, _)| *b == boot.as_str()).count();
            assert_eq!(end.last_session_no - end.unopened, i64::try_from(rows).unwrap());
        }
    }

    /// What a slot's row says is the sum of its usage rows.
    fn check_slots(&self, usage: &[(&str, &Usage)]) {
        for frame in &self.spool.rows {
            for slot in &frame.slots {
                let of_slot = usage.iter().filter(|(b, r)| {
                    *b == frame.boot
                        && r.slot_start == slot.slot_start
                        && r.clock_pass == slot.clock_pass
                });
                let rows: Vec<_> = of_slot.collect();
                assert_eq!(slot.usage_rows, i64::try_from(rows.len()).unwrap(), "{slot:?}");
                assert_eq!(slot.bytes_up, rows.iter().map(|(_, r)| r.bytes_up).sum::<i64>());
                assert_eq!(slot.bytes_down, rows.iter().map(|(_, r)| r.bytes_down).sum::<i64>());
            }
        }
    }
}

fn check_intervals(row: &Session, intervals: &[&Usage]) {
    assert_eq!(intervals.len(), usize::try_from(row.intervals).unwrap(), "{row:?}");
    let mut total = PerDirection::default();
    for (nth, usage) in intervals.iter().enumerate() {
        total.up += usage.bytes_up;
        total.down += usage.bytes_down;
        assert_eq!(usize::try_from(usage.interval_seq).unwrap(), nth);
        assert_eq!((usage.total_up, usage.total_down), (total.up, total.down));
        assert_eq!(usage.is_first, nth == 0);
        assert_eq!(usage.is_final, nth + 1 == intervals.len());
    }
    assert_eq!((row.bytes_up, row.bytes_down), (total.up, total.down));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn every_history_of_kills_and_failures_leaves_an_exact_account(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.restart();
        // The boot that this began has no row yet; end it too.
        world.restart();
        world.boots -= 1;
        world.check();
    }
}
