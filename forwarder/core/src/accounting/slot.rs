//! A slot as the journal thread reads it: numbers back into rows.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::table::{Session, Usage};
use schemas::vocab::{
    ClientAddr, CloseKind, EndPhase, EndReason, FirstFin, ListenAddr, PerDirection, Quality,
    TargetAddr, Timestamp, Transport,
};

use super::layout::{SLOT_WORDS, Words, slot};
use super::names;
use super::peer::is_abnormal;
use super::session::{CONNECTED, HAS_CLIENT_PEER, HAS_TARGET, HAS_TARGET_PEER, Traffic};

/// A running session, for people who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// Its number in this boot.
    pub number: u64,
    /// The service's name.
    pub service: String,
    /// The rule's name.
    pub rule: String,
    /// The customer's name.
    pub customer: Option<String>,
    /// TCP or UDP.
    pub transport: Transport,
    /// The socket peer.
    pub client: ClientAddr,
    /// The local address it used.
    pub listen: ListenAddr,
    /// Whom we dialled, once we did.
    pub target: Option<TargetAddr>,
    /// Wall clock at accept.
    pub ts_start: Timestamp,
    /// Whether the target's connection stands.
    pub connected: bool,
    /// The totals so far.
    pub traffic: PerDirection<Traffic>,
}

/// The running totals that a usage row was made from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The row's number; 0: there was none yet.
    pub(super) seq: u64,
    /// The row's number within the session.
    pub(super) interval_seq: u64,
    /// `total_x` of the row.
    pub(super) bytes: PerDirection<u64>,
    /// Datagrams so far.
    pub(super) datagrams: PerDirection<u64>,
}

/// One slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotView<'a> {
    table: Words<'a>,
    words: &'a [AtomicU64; SLOT_WORDS],
}

impl<'a> SlotView<'a> {
    pub(super) fn new(table: Words<'a>, index: usize) -> Self {
        Self { table, words: table.slot(index) }
    }

    fn get(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Acquire)
    }

    fn set(&self, word: usize, value: u64) {
        self.words[word].store(value, Ordering::Relaxed);
    }

    pub(super) fn number(&self) -> u64 {
        self.get(slot::SESSION_NO)
    }

    pub(super) fn ts_start(&self) -> Timestamp {
        Timestamp(self.get(slot::TS_START).cast_signed())
    }

    pub(super) fn ts_end(&self) -> Timestamp {
        Timestamp(self.get(slot::TS_END).cast_signed())
    }

    pub(super) fn end_seq(&self) -> u64 {
        self.get(slot::END_SEQ)
    }

    pub(super) fn set_end_seq(&self, seq: u64) {
        self.set(slot::END_SEQ, seq);
    }

    pub(super) fn mark_spread(&self) {
        self.set(slot::SPREAD, 1);
    }

    /// `bytes` before `received`: read the other way round, a chunk between the two reads would
    /// show as delivered without having been received.
    fn traffic(&self) -> PerDirection<Traffic> {
        let traffic = |received, bytes, datagrams| {
            let bytes = self.get(bytes);
            Traffic { bytes, datagrams: self.get(datagrams), received: self.get(received) }
        };
        PerDirection {
            up: traffic(slot::RECEIVED_UP, slot::BYTES_UP, slot::DATAGRAMS_UP),
            down: traffic(slot::RECEIVED_DOWN, slot::BYTES_DOWN, slot::DATAGRAMS_DOWN),
        }
    }

    /// The running totals as they are, as an entry without numbers.
    pub(super) fn totals(&self) -> Entry {
        let traffic = self.traffic();
        Entry {
            seq: 0,
            interval_seq: 0,
            bytes: traffic.map(|t| t.bytes),
            datagrams: traffic.map(|t| t.datagrams),
        }
    }

    fn entry(&self, at: usize) -> Entry {
        Entry {
            seq: self.get(at),
            interval_seq: self.get(at + 1),
            bytes: PerDirection { up: self.get(at + 2), down: self.get(at + 3) },
            datagrams: PerDirection { up: self.get(at + 4), down: self.get(at + 5) },
        }
    }

    /// The entry of the last usage row; zero when there was none. An entry taken back keeps its
    /// totals but no number, and means nothing.
    pub(super) fn baseline(&self) -> Entry {
        let [a, b] = slot::ENTRIES.map(|at| self.entry(at));
        let newer = if b.seq > a.seq { b } else { a };
        if newer.seq == 0 { Entry::default() } else { newer }
    }

    /// Notes a usage row in the older entry and returns which one that was. `seq` is stored last:
    /// an entry counts only once it is whole.
    pub(super) fn note(&self, entry: Entry) -> usize {
        let [a, b] = slot::ENTRIES;
        let at = if self.get(a) <= self.get(b) { a } else { b };
        self.words[at].store(0, Ordering::Release);
        self.set(at + 1, entry.interval_seq);
        self.set(at + 2, entry.bytes.up);
        self.set(at + 3, entry.bytes.down);
        self.set(at + 4, entry.datagrams.up);
        self.set(at + 5, entry.datagrams.down);
        self.words[at].store(entry.seq, Ordering::Release);
        at
    }

    /// Takes back what [`SlotView::note`] noted.
    pub(super) fn forget(&self, at: usize) {
        self.words[at].store(0, Ordering::Release);
    }

    /// Whether the spool, which ends at `last_seq`, has lost rows that were in it: one entry above
    /// it belongs to a frame that was never appended, two cannot.
    pub(super) fn is_ahead_of(&self, last_seq: u64) -> bool {
        slot::ENTRIES.iter().all(|at| self.get(*at) > last_seq)
    }

    /// Takes back every number above `last_seq`: its row never reached the spool.
    pub(super) fn forget_above(&self, last_seq: u64) {
        for at in slot::ENTRIES {
            if self.get(at) > last_seq {
                self.forget(at);
            }
        }
        if self.end_seq() > last_seq {
            self.set_end_seq(0);
        }
    }

    fn ids(&self, word: usize) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.get(word).to_le_bytes();
        (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
    }

    fn port(&self, shift: u32) -> u16 {
        let [low, high, ..] = (self.get(slot::PORTS) >> shift).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    fn ip(&self, word: usize) -> IpAddr {
        let bits = u128::from(self.get(word)) | u128::from(self.get(word + 1)) << 64;
        IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical()
    }

    fn transport(&self) -> Transport {
        let [code, ..] = self.get(slot::KIND_TARGET_NAME).to_le_bytes();
        Transport::from_code(code).unwrap_or(Transport::Tcp)
    }

    fn has(&self, flag: u64) -> bool {
        self.get(slot::KIND_TARGET_NAME) & flag != 0
    }

    fn customer(&self) -> Option<String> {
        names::optional_name(self.table, self.ids(slot::CUSTOMER_CONFIG).0)
    }

    pub(super) fn live(&self) -> LiveSession {
        let (service, rule) = self.ids(slot::SERVICE_RULE);
        let at = |ip, shift| SocketAddr::new(self.ip(ip), self.port(shift));
        LiveSession {
            number: self.number(),
            service: names::name(self.table, service),
            rule: names::name(self.table, rule),
            customer: self.customer(),
            transport: self.transport(),
            client: ClientAddr::new(at(slot::CLIENT_IP, 0)),
            listen: ListenAddr::new(at(slot::LISTEN_IP, 16)),
            target: self.has(HAS_TARGET).then(|| TargetAddr::new(at(slot::TARGET_IP, 48))),
            ts_start: self.ts_start(),
            connected: self.has(CONNECTED),
            traffic: self.traffic(),
        }
    }

    /// The usage row between two totals; slot and numbers are the caller's to fill in.
    pub(super) fn usage_row(&self, from: Entry, to: Entry) -> Usage {
        let (service, rule) = self.ids(slot::SERVICE_RULE);
        let (_, config_rev) = self.ids(slot::CUSTOMER_CONFIG);
        Usage {
            session_no: int(self.number()),
            service: names::name(self.table, service),
            rule: names::name(self.table, rule),
            config_rev: names::name(self.table, config_rev),
            customer: self.customer(),
            transport: self.transport().as_str().to_owned(),
            client_ip: self.ip(slot::CLIENT_IP).to_string(),
            target_ip: self.has(HAS_TARGET).then(|| self.ip(slot::TARGET_IP).to_string()),
            bytes_up: int(to.bytes.up.saturating_sub(from.bytes.up)),
            bytes_down: int(to.bytes.down.saturating_sub(from.bytes.down)),
            datagrams_up: int(to.datagrams.up.saturating_sub(from.datagrams.up)),
            datagrams_down: int(to.datagrams.down.saturating_sub(from.datagrams.down)),
            total_up: int(to.bytes.up),
            total_down: int(to.bytes.down),
            interval_seq: i32::try_from(to.interval_seq).unwrap_or(i32::MAX),
            is_first: to.interval_seq == 0,
            ..Usage::default()
        }
    }

    /// The session's row as far as the slot knows; how it ended is the caller's to fill in.
    fn session_row(&self) -> Session {
        let (service, rule) = self.ids(slot::SERVICE_RULE);
        let (_, config_rev) = self.ids(slot::CUSTOMER_CONFIG);
        let (_, target_name) = self.ids(slot::KIND_TARGET_NAME);
        let (dialled, connected) = (self.has(HAS_TARGET), self.has(CONNECTED));
        let traffic = self.traffic();
        let client = self.has(HAS_CLIENT_PEER).then(|| self.ids(slot::CLIENT_PEER));
        let target = self.has(HAS_TARGET_PEER).then(|| self.ids(slot::TARGET_PEER));
        let rtt = |peer: Option<(u32, u32)>| Some(i64::from(peer?.0)).filter(|rtt| *rtt > 0);
        let some_time = |word| Some(self.get(word).cast_signed()).filter(|ts| *ts != 0);
        Session {
            session_no: int(self.number()),
            service: names::name(self.table, service),
            rule: names::name(self.table, rule),
            config_rev: names::name(self.table, config_rev),
            customer: self.customer(),
            transport: self.transport().as_str().to_owned(),
            client_ip: self.ip(slot::CLIENT_IP).to_string(),
            client_port: self.port(0).into(),
            listen_ip: self.ip(slot::LISTEN_IP).to_string(),
            listen_port: self.port(16).into(),
            egress_ip: connected.then(|| self.ip(slot::EGRESS_IP).to_string()),
            egress_port: connected.then(|| self.port(32).into()),
            target_ip: dialled.then(|| self.ip(slot::TARGET_IP).to_string()),
            target_port: dialled.then(|| self.port(48).into()),
            target_name: names::optional_name(self.table, target_name),
            ts_start: self.ts_start().0,
            ts_connected: some_time(slot::TS_CONNECTED).filter(|_| connected),
            ts_first_up: some_time(slot::TS_FIRST_UP),
            ts_first_down: some_time(slot::TS_FIRST_DOWN),
            connect_us: connected.then(|| int(self.get(slot::CONNECT_US))),
            bytes_up: int(traffic.up.bytes),
            bytes_down: int(traffic.down.bytes),
            received_up: int(traffic.up.received),
            received_down: int(traffic.down.received),
            datagrams_up: int(traffic.up.datagrams),
            datagrams_down: int(traffic.down.datagrams),
            rtt_client_us: rtt(client),
            rtt_target_us: rtt(target),
            retrans_client: client.map(|(_, retransmits)| retransmits.into()),
            retrans_target: target.map(|(_, retransmits)| retransmits.into()),
            captured_bytes: int(self.get(slot::CAPTURED)),
            capture_dropped_bytes: int(self.get(slot::CAPTURE_DROPPED)),
            ..Session::default()
        }
    }

    /// The row of a session that has its end. One that was dropped without an end knows no time:
    /// it gets `found`.
    pub(super) fn ended_row(&self, found: Timestamp) -> Session {
        let [reason, phase, first_fin, client, target, e0, e1, e2] =
            self.get(slot::END).to_le_bytes();
        let errno = i32::from_le_bytes([e0, e1, e2, 0]);
        let spread = self.get(slot::SPREAD) != 0;
        let (ts_end, duration_us) = match self.ts_end().0 {
            0 => (found.0, found.0.saturating_sub(self.ts_start().0).max(0)),
            ts_end => (ts_end, int(self.get(slot::DURATION_US))),
        };
        let reason = EndReason::from_code(reason);
        let cut = reason.is_some_and(is_abnormal);
        let (up, down) = self.ids(slot::UNACKED);
        Session {
            ts_end,
            duration_us,
            unacked_up: (cut && self.has(HAS_TARGET_PEER)).then_some(up.into()),
            unacked_down: (cut && self.has(HAS_CLIENT_PEER)).then_some(down.into()),
            end_reason: word(reason.map(EndReason::as_str)),
            end_phase: word(EndPhase::from_code(phase).map(EndPhase::as_str)),
            first_fin: word(FirstFin::from_code(first_fin).map(FirstFin::as_str)),
            client_close: word(CloseKind::from_code(client).map(CloseKind::as_str)),
            target_close: word(CloseKind::from_code(target).map(CloseKind::as_str)),
            errno: (errno != 0).then_some(errno),
            quality: if spread { Quality::Spread } else { Quality::Exact } as i32,
            ..self.session_row()
        }
    }

    /// The row of a session whose process died at about `died`.
    pub(super) fn lost_row(&self, died: Timestamp) -> Session {
        let start = self.ts_start().0;
        let phase = if self.has(CONNECTED) { EndPhase::Data } else { EndPhase::Connect };
        Session {
            ts_end: died.0.max(start),
            duration_us: died.0.saturating_sub(start).max(0),
            end_reason: EndReason::Lost.as_str().to_owned(),
            end_phase: phase.as_str().to_owned(),
            first_fin: FirstFin::None.as_str().to_owned(),
            client_close: CloseKind::None.as_str().to_owned(),
            target_close: CloseKind::None.as_str().to_owned(),
            quality: Quality::Recovered as i32,
            ..self.session_row()
        }
    }
}

/// A term of a table; a code that no version of ours wrote becomes `internal`.
fn word(term: Option<&'static str>) -> String {
    term.unwrap_or(EndReason::Internal.as_str()).to_owned()
}

/// A counter as the tables hold it.
pub(super) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
