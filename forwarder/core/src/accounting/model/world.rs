//! A forwarder's life, boot after boot, on one table and one spool.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::table::Slot;
use schemas::vocab::{
    BootId, ClientAddr, DenyAction, DenyReason, EndPhase, ListenAddr, SpoolId, Timestamp, Transport,
};

use super::data::{Data, SLOT_LEN_US, SlotKey};
use super::spool::MemorySpool;
use super::step::{Death, DeathOf, Leaves, RecoveryTrouble, Step};
use super::{DATA, MEANWHILE, data, with_fuse};
use crate::accounting::layout::TableError;
use crate::accounting::{CounterTable, Denial, Geometry, Header, Ledger, Moment, SpoolLevel};

thread_local! {
    /// Tables are `'static`; one region serves every boot of every history, one after the other.
    static REGION: &'static [AtomicU64] =
        (0..GEOMETRY.words()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
}

const GEOMETRY: Geometry = Geometry { slots: 8 };
/// Slots that sessions share, fewer than there are rules.
const SHARED: usize = 2;
pub(super) const SLOT_LEN_S: i32 = 2;
const START_US: i64 = 1_800_000_000_000_000;
/// Steps of the clock may lead behind the time that has certainly passed.
const BUILT_US: i64 = START_US - 20_000_000;

pub(super) struct World {
    /// Wall clock less monotonic one.
    offset_us: i64,
    boots: u64,
    words: &'static [AtomicU64],
    ledger: Option<Ledger<'static>>,
    /// Refusals that rows must tell of; `None` once a death may have taken repeats along.
    pub(super) denied: Option<u64>,
    /// Boots whose end need not be exact.
    pub(super) losses: BTreeSet<String>,
    /// Sessions with a number and no more at the death of their boot, at most.
    pub(super) unopened: BTreeMap<String, i64>,
    pub(super) spool: MemorySpool,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            offset_us: START_US,
            boots: 0,
            words: REGION.with(|region| *region),
            ledger: None,
            denied: Some(0),
            losses: BTreeSet::new(),
            unopened: BTreeMap::new(),
            spool: MemorySpool::new(),
        };
        DATA.set(None);
        world.boot();
        world
    }

    fn boot_id(&self) -> BootId {
        BootId::from_random(self.boots)
    }

    fn now(&self) -> Moment {
        let monotonic_us = data(|data| data.monotonic_us);
        Moment { wall: Timestamp(monotonic_us + self.offset_us), monotonic_us }
    }

    fn advance(&self, ms: i64) {
        data(|data| data.monotonic_us += ms * 1000);
    }

    /// A new boot, with rules that no boot before had.
    fn boot(&mut self) {
        MEANWHILE.take();
        self.boots += 1;
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        let before = DATA.take();
        let monotonic_us = before.as_ref().map_or(0, |data| data.monotonic_us);
        let wall = Timestamp(monotonic_us + self.offset_us);
        let header = Header {
            node: "edge".to_owned(),
            boot: self.boot_id(),
            started: wall,
            slot_len_s: SLOT_LEN_S,
            spool_id: SpoolId(1),
            spool_path: "/spool".to_owned(),
            kernel_boot: 7,
        };
        let table = CounterTable::create(self.words, GEOMETRY, &header).unwrap();
        let table: &'static CounterTable = Box::leak(Box::new(table.with_overflow_of(SHARED)));
        assert_eq!(table.name_id("web"), Some(1));
        let rules = (0..3).map(|nth| {
            let name = format!("rule-{nth}-of-{}", self.boots);
            (table.name_id(&name).unwrap(), name)
        });
        let known = before.map(|data| (data.truth, data.moved, data.uncertain));
        let (truth, moved, uncertain) = known.unwrap_or_default();
        DATA.set(Some(Data {
            boot: self.boot_id().to_string(),
            table,
            rules: rules.collect(),
            running: Vec::new(),
            truth,
            moved,
            uncertain,
            slot: (String::new(), 0, 0),
            monotonic_us,
            offset_us: self.offset_us,
            was_busy: false,
        }));
        let mut ledger = Ledger::begin(table, self.now()).unwrap();
        ledger.trust_clock_from(Timestamp(BUILT_US));
        if let Some(since) = self.spool.history().nothing_ran_since() {
            ledger.nothing_ran_since(since);
        }
        self.ledger = Some(ledger);
        self.follow_slot();
    }

    /// Tells the data threads which slot runs.
    fn follow_slot(&self) {
        let ledger = self.ledger.as_ref().unwrap();
        let key = (self.boot_id().to_string(), ledger.clock_pass(), ledger.tally.slot_start);
        data(|data| data.slot = key);
    }

    fn poll(&mut self) -> Result<(), &'static str> {
        let offset_us = self.offset_us;
        self.ledger.as_mut().unwrap().before_clock();
        data(|data| data.offset_us = offset_us);
        let now = self.now();
        let outcome = self.ledger.as_mut().unwrap().poll(now, &mut self.spool);
        self.forget_certainty();
        self.follow_slot();
        outcome
    }

    /// What moved while the journal thread passed from slot to slot may be in any of them.
    fn forget_certainty(&self) {
        let ledger = self.ledger.as_ref().unwrap();
        let boot = self.boot_id().to_string();
        let key = |slot: &Slot| (boot.clone(), slot.clock_pass, slot.slot_start);
        let rows = self.spool.rows().filter(|rows| rows.boot == boot);
        let ran: Vec<SlotKey> = rows.flat_map(|rows| &rows.slots).map(key).collect();
        let now = (boot.clone(), ledger.clock_pass(), ledger.tally.slot_start);
        data(|data| {
            if data.was_busy {
                let before = data.slot.clone();
                // There may be more edges to pass.
                data.was_busy = before == now || data.wall().0 >= now.2 + SLOT_LEN_US;
                let from = ran.iter().position(|key| *key == before).unwrap_or(ran.len());
                let passed = ran[from..].iter().cloned();
                data.uncertain.extend(passed.chain([before, now]));
            }
        });
    }

    fn die(&mut self, death: &Death) {
        self.advance(death.after_ms);
        match death.of {
            DeathOf::Poll => {
                MEANWHILE.set(death.meanwhile.clone().into());
                let _died = with_fuse(death.points, || self.poll()).is_none();
            }
            DeathOf::Opening => {
                if with_fuse(death.points % 2, || data(|data| data.open(0))).is_none() {
                    *self.unopened.entry(self.boot_id().to_string()).or_default() += 1;
                }
            }
        }
        MEANWHILE.take();
        data(|data| {
            data.write_uncounted(death.uncounted);
            data.die();
        });
        self.denied = None;
        self.advance(death.away_ms);
        self.start_again(death.leaves, &death.in_recovery);
    }

    /// The next start: closes the account of the boot that died, and begins a new one.
    fn start_again(&mut self, leaves: Leaves, troubles: &[RecoveryTrouble]) {
        self.spool.level = SpoolLevel::Normal;
        self.spool.appends_left = None;
        let table = match leaves {
            Leaves::All => true,
            Leaves::TableAndPrefix(from) => {
                self.spool.lose_tail(from);
                true
            }
            Leaves::Prefix(from) | Leaves::PrefixAndForeignTable(from) => {
                self.spool.lose_tail(from);
                self.losses.insert(self.boot_id().to_string());
                false
            }
        };
        let foreign = matches!(leaves, Leaves::PrefixAndForeignTable(_));
        for trouble in troubles {
            let done = match trouble {
                RecoveryTrouble::Killed { points } => {
                    with_fuse(*points, || self.recover(table, foreign)) == Some(Ok(()))
                }
                RecoveryTrouble::Full { appends } => {
                    self.spool.appends_left = Some(*appends);
                    let done = self.recover(table, foreign).is_ok();
                    self.spool.appends_left = None;
                    done
                }
            };
            if done {
                break;
            }
        }
        self.recover(table, foreign).unwrap();
        self.spool.sync();
        self.forget_certainty();
        self.boot();
    }

    fn recover(&mut self, table: bool, foreign: bool) -> Result<(), &'static str> {
        let history = self.spool.history();
        if table && !history.has_ended(self.boot_id()) {
            match Ledger::recover(self.words, &history, &mut self.spool) {
                Ok(done) => {
                    done?;
                }
                Err(TableError::Ahead) => {
                    self.losses.insert(self.boot_id().to_string());
                }
                Err(error) => panic!("{error}"),
            }
        }
        let mut history = self.spool.history();
        let lost = self.losses.contains(self.boot_id().as_str());
        if foreign || (table && lost) {
            history.table(&Ledger::identify(self.words).unwrap());
        }
        history.end_lost_boots("edge", &mut self.spool).map(drop)
    }

    fn restart(&mut self, appends: Option<u32>, away_ms: i64) {
        data(Data::end_all);
        let now = self.now();
        let ledger = self.ledger.as_mut().unwrap();
        ledger.close_overflow();
        ledger.before_clock();
        self.spool.appends_left = appends;
        let finished = ledger.finish(now, &mut self.spool).is_ok();
        self.spool.appends_left = None;
        self.advance(away_ms);
        if finished {
            self.forget_certainty();
            self.spool.sync();
            self.boot();
        } else {
            // The table keeps the rest for the next start; repeats of refusals are not in it.
            self.denied = None;
            self.start_again(Leaves::All, &[]);
        }
    }

    /// Ends the last boot in order.
    pub(super) fn end(&mut self) {
        self.spool.level = SpoolLevel::Normal;
        self.restart(None, 0);
        // The boot that this began has nothing to tell.
        self.boots -= 1;
    }

    fn deny(&mut self, client: u8) {
        let client = std::net::SocketAddr::from(([127, 0, 1, client], 5000));
        self.denied = self.denied.map(|count| count + 1);
        let ts = data(|data| data.wall());
        self.ledger.as_mut().unwrap().deny(Denial {
            service: 1,
            rule: 0,
            limit: 0,
            customer: 0,
            transport: Transport::Tcp,
            client: ClientAddr::new(client),
            listen: ListenAddr::new("127.0.0.1:80".parse().unwrap()),
            phase: EndPhase::Policy,
            reason: DenyReason::NoRule,
            action: DenyAction::Reset,
            bytes: 0,
            ts,
        });
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Data(motion) => data(|data| data.go(motion)),
            Step::Deny { client } => self.deny(*client),
            Step::Poll { after_ms, meanwhile, then_sync } => {
                self.advance(*after_ms);
                MEANWHILE.set(meanwhile.clone().into());
                let failed = self.poll().is_err();
                MEANWHILE.take();
                assert!(!failed || self.spool.level == SpoolLevel::Full);
                if *then_sync {
                    self.spool.sync();
                }
            }
            Step::FailingPoll { after_ms, appends } => {
                self.advance(*after_ms);
                self.spool.appends_left = Some(*appends);
                // Whether it fails depends on how much was due.
                let _failed = self.poll().is_err();
                self.spool.appends_left = None;
            }
            Step::Level(level) => self.spool.level = *level,
            Step::ShiftClock { seconds } => self.offset_us += seconds * 1_000_000,
            Step::Die(death) => self.die(death),
            Step::Restart { appends, away_ms } => self.restart(*appends, *away_ms),
        }
    }

    /// Every boot that ended.
    pub(super) fn boots(&self) -> impl Iterator<Item = String> {
        (1..=self.boots).map(|boot| BootId::from_random(boot).to_string())
    }
}
