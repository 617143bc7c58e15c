//! Real threads on one table: data threads that open, move and end as fast as they can, in slots of
//! their own and in shared ones, while the journal thread makes rows.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prost::Message;
use schemas::vocab::{
    BootId, ClientAddr, CloseKind, Direction, EndPhase, EndReason, FirstFin, ListenAddr, SpoolId,
    Timestamp, Transport,
};
use schemas::wire::{BootEnd, EncodedRows, Rows};

use super::*;

const THREADS: u64 = 3;
const SESSIONS: u64 = 3000;
const START_US: i64 = 1_800_000_000_000_000;
/// Far more than it takes.
const MOST_POLLS: i64 = 10_000_000;

#[derive(Debug, Default)]
struct Kept {
    frames: Vec<Rows>,
    end: Option<BootEnd>,
}

impl Spool for Kept {
    type Error = std::convert::Infallible;

    fn append(&mut self, rows: EncodedRows, _next_seq: i64) -> Result<(), Self::Error> {
        self.frames.push(Rows::decode(rows.bytes()).unwrap());
        Ok(())
    }

    fn append_boot_end(&mut self, end: &BootEnd) -> Result<(), Self::Error> {
        self.end = Some(end.clone());
        Ok(())
    }
}

fn table() -> &'static CounterTable {
    // Fewer slots than sessions at once: most of the time some of them share one.
    let geometry = Geometry { slots: 6 };
    let words: &'static [AtomicU64] =
        (0..geometry.words()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
    let header = Header {
        node: "edge".to_owned(),
        boot: BootId::from_random(1),
        started: Timestamp(START_US),
        slot_len_s: 1,
        spool_id: SpoolId(1),
        spool_path: "/spool".to_owned(),
        kernel_boot: 7,
    };
    let table = CounterTable::create(words, geometry, &header).unwrap().with_overflow_of(2);
    Box::leak(Box::new(table))
}

/// Carries sessions, three at once, and gives what moved in each by its number.
fn carry(table: &'static CounterTable, rules: [u32; 2]) -> BTreeMap<u64, u64> {
    let mut moved = BTreeMap::new();
    let mut running: Vec<OpenSession> = Vec::new();
    let at = Timestamp(START_US);
    for nth in 0..SESSIONS {
        let opening = Opening {
            service: 1,
            rule: rules[usize::from(nth % 3 == 0)],
            customer: 0,
            config_rev: 1,
            transport: Transport::Tcp,
            client: ClientAddr::new(([127, 0, 0, 2], 4000).into()),
            proxied_client: None,
            listen: ListenAddr::new(([127, 0, 0, 1], 80).into()),
            ts_start: at,
        };
        // There is a shared slot for each rule, so nobody is refused.
        running.push(table.open(&opening).unwrap());
        for session in &running {
            let bytes = nth % 1000 + 1;
            session.received(Direction::Up, bytes, at);
            session.delivered(Direction::Up, bytes);
            *moved.entry(session.number()).or_default() += bytes;
        }
        let ending = Ending {
            reason: EndReason::Done,
            phase: EndPhase::Data,
            first_fin: FirstFin::Client,
            client_close: CloseKind::Fin,
            target_close: CloseKind::Fin,
            errno: 0,
            ts_end: at,
            duration_us: 1,
        };
        let keep = if nth + 1 < SESSIONS { 2 } else { 0 };
        while running.len() > keep {
            running.remove(0).end(ending);
        }
    }
    moved
}

#[test]
fn threads_that_open_move_and_end_at_once_leave_exact_totals() {
    let table = table();
    table.name_id("web").unwrap();
    let rules = ["office", "guests"].map(|name| table.name_id(name).unwrap());
    let moment =
        |ms: i64| Moment { wall: Timestamp(START_US + ms * 1000), monotonic_us: ms * 1000 };
    let mut ledger = Ledger::begin(table, moment(0)).unwrap();
    let mut spool = Kept::default();
    let mut ms = 0;
    let mut moved: BTreeMap<u64, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|_| scope.spawn(move || carry(table, rules))).collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            ms += 7;
            assert!(ms / 7 < MOST_POLLS, "the threads do not come to an end");
            ledger.poll(moment(ms), &mut spool).unwrap();
            for session in table.live() {
                let up = session.traffic.up;
                assert!(up.bytes <= up.received, "delivered before it was received: {up:?}");
            }
        }
        for thread in threads {
            for (number, bytes) in thread.join().unwrap() {
                *moved.entry(number).or_default() += bytes;
            }
        }
    });
    ledger.close_overflow();
    ledger.finish(moment(ms + 1), &mut spool).unwrap();
    assert_eq!(table.used(), 0);

    let end = spool.end.unwrap();
    let rows = || spool.frames.iter();
    let told: BTreeMap<u64, u64> = rows()
        .flat_map(|rows| &rows.sessions)
        .map(|row| (row.session_no.cast_unsigned(), row.bytes_up.cast_unsigned()))
        .collect();
    let numbers: Vec<_> = (1..=end.last_session_no.cast_unsigned()).collect();
    assert_eq!(rows().map(|rows| rows.sessions.len()).sum::<usize>(), numbers.len(), "once each");
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), numbers, "dense");
    assert_eq!(told, moved);
    let usage: i64 = rows().flat_map(|rows| &rows.usage).map(|row| row.bytes_up).sum();
    assert_eq!(usage.cast_unsigned(), moved.values().sum::<u64>());
    let slots: i64 = rows().flat_map(|rows| &rows.slots).map(|row| row.bytes_up).sum();
    assert_eq!(slots, usage);
    let joined: u64 = rows()
        .flat_map(|rows| &rows.sessions)
        .filter_map(|row| row.attributes.as_deref())
        .map(|text| text.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() - 1)
        .sum();
    assert_eq!(
        numbers.len() as u64 + joined,
        THREADS * SESSIONS,
        "every session is in one account"
    );
    assert_eq!(spool.frames[0].seqs().min(), Some(1));
}
