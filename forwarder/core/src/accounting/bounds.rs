//! What happens at the bounds of a frame and of a slot, which random histories do not reach.

use std::sync::atomic::AtomicU64;

use prost::Message;
use schemas::table::Event;
use schemas::vocab::{
    BootId, ClientAddr, CloseKind, DenyAction, DenyReason, Direction, EgressAddr, EndPhase,
    EndReason, FirstFin, ListenAddr, Quality, SpoolId, TargetAddr, Timestamp, Transport,
};
use schemas::wire::{BootEnd, EncodedRows, MAX_ACCOUNTING_PAYLOAD, Rows};

use super::*;

const START_US: i64 = 1_800_000_000_000_000;
const SECOND_US: i64 = 1_000_000;
const LONGEST_ADDRESS: &str = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";

/// Keeps the frames; can be told to fail.
#[derive(Debug, Default)]
struct Kept {
    frames: Vec<Rows>,
    left: Option<u32>,
    level: Option<SpoolLevel>,
}

impl Spool for Kept {
    type Error = &'static str;

    fn append(&mut self, rows: EncodedRows, _next_seq: i64) -> Result<(), &'static str> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or("no space left")?;
        }
        self.frames.push(Rows::decode(rows.bytes()).unwrap());
        Ok(())
    }

    fn append_boot_end(&mut self, _end: &BootEnd) -> Result<(), &'static str> {
        Ok(())
    }

    fn level(&self) -> SpoolLevel {
        self.level.unwrap_or(SpoolLevel::Normal)
    }
}

impl Kept {
    /// Start in seconds since the first, status, and bytes up of every row of `slots`.
    fn slots(&self) -> Vec<(i64, &str, i64)> {
        let rows = self.frames.iter().flat_map(|frame| &frame.slots);
        rows.map(|row| ((row.slot_start - START_US) / SECOND_US, row.status.as_str(), row.bytes_up))
            .collect()
    }

    /// Bytes up and quality of every row of `usage`.
    fn usage(&self) -> Vec<(i64, i32)> {
        let rows = self.frames.iter().flat_map(|frame| &frame.usage);
        rows.map(|row| (row.bytes_up, row.quality)).collect()
    }
}

fn table(slots: usize) -> &'static CounterTable {
    let geometry = Geometry { slots };
    let words: &'static [AtomicU64] =
        (0..geometry.words()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
    let header = Header {
        node: "n".repeat(63),
        boot: BootId::from_random(1),
        started: Timestamp(START_US),
        slot_len_s: 1,
        spool_id: SpoolId(1),
        spool_path: "/spool".to_owned(),
        kernel_boot: 7,
    };
    Box::leak(Box::new(CounterTable::create(words, geometry, &header).unwrap()))
}

fn at(after_us: i64) -> Moment {
    Moment { wall: Timestamp(START_US + after_us), monotonic_us: after_us }
}

fn open(table: &'static CounterTable, name: u32, after_us: i64) -> OpenSession {
    let opening = Opening {
        service: name,
        rule: name,
        customer: name,
        config_rev: name,
        transport: Transport::Tcp,
        client: ClientAddr::new(LONGEST_ADDRESS.parse().unwrap()),
        proxied_client: Some(ClientAddr::new(LONGEST_ADDRESS.parse().unwrap())),
        listen: ListenAddr::new(LONGEST_ADDRESS.parse().unwrap()),
        ts_start: at(after_us).wall,
    };
    table.open(&opening).unwrap()
}

fn ending(after_us: i64) -> Ending {
    Ending {
        reason: EndReason::HalfCloseTimeout,
        phase: EndPhase::HalfClosed,
        first_fin: FirstFin::Client,
        client_close: CloseKind::Timeout,
        target_close: CloseKind::Timeout,
        errno: 110,
        ts_end: at(after_us).wall,
        duration_us: u64::MAX,
    }
}

#[test]
fn a_frame_of_the_longest_rows_fits_the_link() {
    const SESSIONS: usize = 2048;
    let table = table(SESSIONS);
    let mut ledger = Ledger::begin(table, at(0)).unwrap();
    let name = table.name_id(&"n".repeat(63)).unwrap();
    let host = table.name_id(&"h".repeat(253)).unwrap();
    for _ in 0..SESSIONS {
        let session = open(table, name, 1);
        session.dialling(TargetAddr::new(LONGEST_ADDRESS.parse().unwrap()), host);
        let egress = EgressAddr::new(LONGEST_ADDRESS.parse().unwrap());
        session.connected(egress, at(1).wall, u64::MAX);
        for direction in [Direction::Up, Direction::Down] {
            session.received(direction, u64::MAX >> 12, at(1).wall);
            session.delivered_datagrams(direction, 1, u64::MAX >> 12);
        }
        session.captured(u64::MAX, u64::MAX);
        let peer = Some(Peer { rtt_us: u32::MAX, retransmits: u32::MAX, acknowledged: 0 });
        session.peers(Peers { client: peer, target: peer });
        session.end(ending(2));
    }
    for client in 0..4096_u32 {
        ledger.deny(denial(name, client));
    }
    for _ in 0..4096 {
        ledger.event(Event {
            kind: "k".repeat(32),
            service: Some("s".repeat(63)),
            rule: Some("r".repeat(63)),
            customer: Some("c".repeat(63)),
            message: "ü".repeat(100_000),
            attributes: Some("x".repeat(100_000)),
            ..Event::default()
        });
    }
    let mut spool = Kept::default();
    ledger.poll(at(3), &mut spool).unwrap();
    let rows: usize = spool.frames.iter().map(|frame| frame.sessions.len()).sum();
    assert_eq!(rows, SESSIONS);
    assert!(spool.frames.iter().any(|frame| !frame.events.is_empty()));
    for frame in &spool.frames {
        let len = frame.encoded_len();
        assert!(len <= MAX_ACCOUNTING_PAYLOAD, "{len} bytes, {} sessions", frame.sessions.len());
    }
}

fn denial(name: u32, client: u32) -> Denial {
    let ip = std::net::Ipv6Addr::from_bits(u128::MAX - u128::from(client));
    Denial {
        service: name,
        rule: name,
        limit: 0,
        customer: name,
        transport: Transport::Udp,
        client: ClientAddr::new((ip, 65535).into()),
        listen: ListenAddr::new(LONGEST_ADDRESS.parse().unwrap()),
        phase: EndPhase::Policy,
        reason: DenyReason::TableFull,
        action: DenyAction::Drop,
        bytes: 65_507,
        ts: at(1).wall,
    }
}

#[test]
fn refusals_are_told_once_though_the_spool_fills_up_between_their_frames() {
    let table = table(1);
    let mut ledger = Ledger::begin(table, at(0)).unwrap();
    (0..3000).for_each(|client| ledger.deny(denial(0, client)));
    let mut spool = Kept { left: Some(1), ..Kept::default() };
    ledger.poll(at(2), &mut spool).unwrap_err();
    spool.left = None;
    ledger.poll(at(3), &mut spool).unwrap();
    // Repeats of all of them, told at the slot's edge, in which the spool fills up again.
    (0..3000).for_each(|client| ledger.deny(denial(0, client)));
    spool.left = Some(2);
    ledger.poll(at(SECOND_US), &mut spool).unwrap_err();
    spool.left = None;
    ledger.poll(at(SECOND_US + 1), &mut spool).unwrap();
    let told: i64 = spool.frames.iter().flat_map(|frame| &frame.denied).map(|row| row.count).sum();
    assert_eq!(told, 6000);
}

/// Polls at the start and after a stall of so many slots; gives the usage rows of two sessions: one
/// that went on, and one that ended in the first slot.
fn after_a_stall(slots: i64) -> [Vec<schemas::table::Usage>; 2] {
    let table = table(2);
    let mut ledger = Ledger::begin(table, at(0)).unwrap();
    let mut spool = Kept::default();
    let (long, short) = (open(table, 0, 1), open(table, 0, 1));
    for session in [&long, &short] {
        session.received(Direction::Up, 1000, at(2).wall);
        session.delivered(Direction::Up, 1000);
    }
    short.end(ending(SECOND_US / 2));
    ledger.poll(at(slots * SECOND_US + 5), &mut spool).unwrap();
    long.end(ending(slots * SECOND_US + 6));
    ledger.poll(at(slots * SECOND_US + 7), &mut spool).unwrap();
    let usage = || spool.frames.iter().flat_map(|frame| frame.usage.clone());
    [1, 2].map(|number| usage().filter(|row| row.session_no == number).collect())
}

#[test]
fn what_a_stall_spread_over_slots_is_never_called_exact() {
    for slots in [2, 5, 288, 289, 100_000] {
        let [long, _] = after_a_stall(slots);
        let (last, spread) = long.split_last().unwrap();
        assert_eq!((last.bytes_up, last.quality), (0, Quality::Exact as i32));
        assert!(
            spread.iter().all(|row| row.quality == Quality::Spread as i32),
            "{slots}: {spread:?}"
        );
        assert_eq!(spread.iter().map(|row| row.bytes_up).sum::<i64>(), 1000);
    }
    let [long, _] = after_a_stall(1);
    assert!(long.iter().all(|row| row.quality == Quality::Exact as i32), "{long:?}");
}

#[test]
fn nothing_is_spread_over_slots_after_a_sessions_end() {
    let [_, short] = after_a_stall(5);
    assert_eq!(short.len(), 1, "{short:?}");
    assert_eq!((short[0].slot_start, short[0].bytes_up), (START_US, 1000));
    assert_eq!(short[0].active_us, SECOND_US / 2 - 1);
}

/// The row of a session that ended as `reason` after 5000 bytes up and 100 down.
fn row_after(reason: EndReason, peers: Peers, recovered: bool) -> schemas::table::Session {
    let table = table(1);
    let mut ledger = Ledger::begin(table, at(0)).unwrap();
    let mut spool = Kept::default();
    let session = open(table, 0, 1);
    session.dialling(TargetAddr::new(LONGEST_ADDRESS.parse().unwrap()), 7);
    session.delivered(Direction::Up, 5000);
    session.delivered(Direction::Down, 100);
    session.peers(peers);
    session.end(Ending { reason, ..ending(2) });
    if recovered {
        let words = table.words().all();
        Ledger::recover(words, &SpoolHistory::default(), &mut spool).unwrap().unwrap();
    } else {
        ledger.poll(at(3), &mut spool).unwrap();
    }
    spool.frames.iter().find_map(|frame| frame.sessions.first().cloned()).unwrap()
}

#[test]
fn what_tcp_told_of_the_peers_is_in_the_row_and_survives_a_kill() {
    let client = Some(Peer { rtt_us: 1500, retransmits: 3, acknowledged: 40 });
    // It acknowledged our FIN too.
    let target = Some(Peer { rtt_us: 0, retransmits: 0, acknowledged: 5001 });
    for recovered in [false, true] {
        let row = row_after(EndReason::ClientReset, Peers { client, target }, recovered);
        assert_eq!((row.unacked_up, row.unacked_down), (Some(0), Some(60)));
        assert_eq!((row.rtt_client_us, row.retrans_client), (Some(1500), Some(3)));
        assert_eq!((row.rtt_target_us, row.retrans_target), (None, Some(0)), "never measured");
        assert_eq!(row.target_port, Some(65_535), "beside the peers the slot keeps its own");

        let row = row_after(EndReason::Done, Peers { client, target }, recovered);
        assert_eq!((row.unacked_up, row.unacked_down), (None, None), "the end was in order");
        assert_eq!(row.retrans_client, Some(3));

        let row = row_after(EndReason::TargetRefused, Peers { client, target: None }, recovered);
        assert_eq!((row.unacked_up, row.unacked_down), (None, Some(60)));
        assert_eq!((row.rtt_target_us, row.retrans_target), (None, None));

        let row = row_after(EndReason::TargetReset, Peers::default(), recovered);
        assert_eq!((row.unacked_up, row.rtt_client_us, row.retrans_client), (None, None, None));
    }
}

/// Moves ten bytes and polls, once in each of so many slots from `first` on.
fn move_in_slots(
    ledger: &mut Ledger<'_>,
    spool: &mut Kept,
    session: &OpenSession,
    slots: std::ops::Range<i64>,
) {
    for slot in slots {
        session.received(Direction::Up, 10, at(slot * SECOND_US).wall);
        session.delivered(Direction::Up, 10);
        ledger.poll(at((slot + 1) * SECOND_US), spool).unwrap();
    }
}

#[test]
fn a_spool_that_is_nearly_full_gets_one_row_for_all_the_slots_that_were_left_out() {
    let table = table(1);
    let mut ledger = Ledger::begin(table, at(0)).unwrap();
    let mut spool = Kept::default();
    let session = open(table, 0, 1);
    move_in_slots(&mut ledger, &mut spool, &session, 0..1);
    spool.level = Some(SpoolLevel::NoInterims);
    move_in_slots(&mut ledger, &mut spool, &session, 1..3);
    spool.level = None;
    move_in_slots(&mut ledger, &mut spool, &session, 3..5);
    session.end(ending(5 * SECOND_US + 1));
    ledger.poll(at(5 * SECOND_US + 2), &mut spool).unwrap();
    let slots =
        [(0, "OK", 10), (1, "SKIPDATA", 0), (2, "SKIPDATA", 0), (3, "SKIPDATA", 30), (4, "OK", 10)];
    assert_eq!(spool.slots(), slots);
    assert_eq!(spool.usage(), [(10, 0), (30, 2), (10, 0), (0, 0)]);
    let row = spool.frames.iter().find_map(|frame| frame.sessions.first()).unwrap();
    assert_eq!((row.bytes_up, row.quality), (50, Quality::Spread as i32));
}

#[test]
fn no_slot_is_told_while_the_clock_is_before_the_day_the_program_was_built() {
    let table = table(1);
    let mut ledger = Ledger::begin(table, at(0)).unwrap();
    ledger.trust_clock_from(at(1000 * SECOND_US).wall);
    let mut spool = Kept::default();
    let session = open(table, 0, 1);
    move_in_slots(&mut ledger, &mut spool, &session, 0..2);
    // The clock is set; the old slot ends, and the first row tells of the whole time.
    let set = |after_us: i64| Moment {
        wall: at(2000 * SECOND_US + after_us).wall,
        monotonic_us: after_us,
    };
    ledger.poll(set(2 * SECOND_US + 1), &mut spool).unwrap();
    ledger.poll(set(3 * SECOND_US), &mut spool).unwrap();
    std::mem::forget(session);
    let slots =
        [(0, "SKIPDATA", 0), (1, "SKIPDATA", 0), (2, "SKIPDATA", 0), (2002, "SKIPDATA", 20)];
    assert_eq!(spool.slots(), slots);
    Ledger::recover(table.words().all(), &history(&spool), &mut spool).unwrap().unwrap();
    let row = spool.frames.iter().find_map(|frame| frame.sessions.first()).unwrap();
    assert_eq!(row.end_reason, "lost");
    assert_eq!(row.duration_us, 3 * SECOND_US - 1, "by the clock it would be half an hour");
    let steps = spool.frames.iter().flat_map(|frame| &frame.events);
    assert_eq!(steps.filter(|event| event.kind == "clock_step").count(), 1);
}

fn history(spool: &Kept) -> SpoolHistory {
    let mut history = SpoolHistory::default();
    spool.frames.iter().for_each(|rows| history.rows(rows));
    history
}

#[test]
fn the_first_row_of_a_boot_tells_of_the_time_in_which_nothing_ran() {
    let ended = |exact, ended_at: i64| {
        let boot = BootId::from_random(9).to_string();
        let end = BootEnd { boot, exact, ended_at: at(ended_at).wall.0, ..BootEnd::default() };
        let mut history = SpoolHistory::default();
        history.boot_end(&end);
        history.nothing_ran_since()
    };
    assert_eq!(SpoolHistory::default().nothing_ran_since(), None);
    assert_eq!(ended(false, 5), None, "nobody knows how long it ran");
    // Its last slot is not known, so it is taken to be as long as a slot can be.
    assert_eq!(ended(true, 5), Some(at(300 * SECOND_US).wall));

    let table = table(1);
    let mut spool = Kept { left: Some(0), ..Kept::default() };
    let mut ledger = Ledger::begin(table, at(0)).unwrap();
    ledger.nothing_ran_since(at(-3600 * SECOND_US).wall);
    ledger.poll(at(1), &mut spool).unwrap_err();
    spool.left = None;
    ledger.poll(at(2), &mut spool).unwrap();
    // Killed and recovered, it is not told twice.
    Ledger::recover(table.words().all(), &history(&spool), &mut spool).unwrap().unwrap();
    assert_eq!(spool.slots(), [(-3600, "DOWN", 0), (0, "NODATA", 0)]);
    let down = &spool.frames[0].slots[0];
    assert_eq!((down.seq, down.slot_len_s), (Some(1), 3600));
}

#[test]
fn a_boot_whose_clock_is_behind_the_last_one_tells_of_no_time_before_it() {
    let table = table(1);
    let mut spool = Kept::default();
    let mut ledger = Ledger::begin(table, at(0)).unwrap();
    ledger.nothing_ran_since(at(7 * SECOND_US).wall);
    ledger.poll(at(SECOND_US), &mut spool).unwrap();
    assert_eq!(spool.slots(), [(0, "NODATA", 0)]);
}

#[test]
fn clients_beyond_four_thousand_in_a_slot_are_counted_without_their_address() {
    let table = table(1);
    let mut ledger = Ledger::begin(table, at(0)).unwrap();
    let mut spool = Kept::default();
    (0..5000).for_each(|client| ledger.deny(denial(0, client)));
    ledger.poll(at(2), &mut spool).unwrap();
    let denied: Vec<_> = spool.frames.iter().flat_map(|frame| &frame.denied).collect();
    assert_eq!(denied.len(), 4097);
    let counts = |known: bool| {
        let rows = denied.iter().filter(move |row| row.client_ip.is_some() == known);
        rows.map(|row| row.count).collect::<Vec<_>>()
    };
    assert_eq!(counts(true), [1; 4096]);
    assert_eq!(counts(false), [904]);
}
