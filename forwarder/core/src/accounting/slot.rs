//! A slot as the journal thread reads it: numbers back into rows.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::table::Session;
use schemas::vocab::{
    ClientAddr, CloseKind, EndPhase, EndReason, FirstFin, ListenAddr, PerDirection, Quality,
    TargetAddr, Timestamp, Transport,
};

use super::frame::crash_point;
use super::layout::{SLOT_WORDS, Words, slot};
use super::names;
use super::peer::is_abnormal;
use super::row::{Pages, say};
use super::session::{
    CONNECTED, HAS_CLIENT_PEER, HAS_PROXIED_CLIENT, HAS_TARGET, HAS_TARGET_PEER, IS_SHARED,
    Opening, Traffic, end_word,
};

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
    /// The client behind it, if it is a trusted proxy and has named one.
    pub proxied_client: Option<ClientAddr>,
    /// The local address it used.
    pub listen: ListenAddr,
    /// Whom we dialled, once we did.
    pub target: Option<TargetAddr>,
    /// Wall clock at accept.
    pub ts_start: Timestamp,
    /// Whether the target's connection stands.
    pub connected: bool,
    /// How many run under this number: 1, or those that share a slot of a full table.
    pub sessions: u64,
    /// The totals so far.
    pub traffic: PerDirection<Traffic>,
}

/// Instead of a row's number: the note is being written.
pub(super) const UNFINISHED: u64 = u64::MAX;

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

impl Entry {
    /// Whether anything was delivered since `from`.
    pub(super) fn has_moved_since(self, from: Self) -> bool {
        (self.bytes, self.datagrams) != (from.bytes, from.datagrams)
    }
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

    /// Leaves out the usage row behind `last`: the next one covers its time too. With that row the
    /// mark means nothing any more, and if the row is taken back it does again.
    pub(super) fn owe(&self, last: Entry) {
        self.set(slot::OWES, last.seq + 1);
    }

    /// Whether the usage row behind `last` covers the time of one that was left out.
    pub(super) fn owes(&self, last: Entry) -> bool {
        self.get(slot::OWES) == last.seq + 1
    }

    /// Whether many sessions share it.
    pub(super) fn is_shared(&self) -> bool {
        self.has(IS_SHARED)
    }

    /// How many sessions run in it.
    fn sharing(&self) -> u64 {
        if !self.is_shared() {
            return 1;
        }
        let running = self.get(slot::RUNNING);
        if running == slot::SHUT { 0 } else { running }
    }

    /// Whether it is the slot that sessions with such an opening share.
    pub(super) fn is_shared_by(&self, opening: &Opening) -> bool {
        self.is_shared()
            && self.ids(slot::SERVICE_RULE) == (opening.service, opening.rule)
            && self.ids(slot::CUSTOMER_CONFIG).0 == opening.customer
            && self.transport() == opening.transport
    }

    /// Lets no session join any more and notes the end, if none is left. Its time is the one at
    /// which it is found.
    pub(super) fn shut(&self) -> bool {
        let exchange = self.words[slot::RUNNING].compare_exchange(
            0,
            slot::SHUT,
            // Acquire: what the last session delivered is counted before its end is.
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        if exchange.is_ok() {
            let closed = (CloseKind::None, CloseKind::None);
            let end = end_word(EndReason::Drained, EndPhase::Drain, FirstFin::None, closed, 0);
            self.set(slot::END, end);
        }
        exchange.is_ok()
    }

    /// The wall clock stepped while the session ran.
    pub(super) fn add_clock_step(&self, step_us: i64) {
        let steps = self.get(slot::CLOCK_STEPS).cast_signed().saturating_add(step_us);
        self.set(slot::CLOCK_STEPS, steps.cast_unsigned());
    }

    /// Whether the session began by another clock than the one that shows now.
    pub(super) fn saw_clock_step(&self) -> bool {
        self.get(slot::CLOCK_STEPS) != 0
    }

    /// How long the session had run at `at`, in microseconds, without its clock's steps.
    fn lasted_until(&self, at: Timestamp) -> i64 {
        let by_clock = at.0.saturating_sub(self.ts_start().0);
        by_clock.saturating_sub(self.get(slot::CLOCK_STEPS).cast_signed()).max(0)
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

    /// The entry of the last usage row; zero when there was none. An entry without a number means
    /// nothing.
    pub(super) fn baseline(&self) -> Entry {
        let [a, b] = slot::ENTRIES.map(|at| self.entry(at));
        let newer = if b.seq > a.seq { b } else { a };
        if newer.seq == 0 { Entry::default() } else { newer }
    }

    /// Notes a usage row in the older entry, and returns which one that was and what it was.
    pub(super) fn note(&self, entry: Entry) -> (usize, Entry) {
        let [a, b] = slot::ENTRIES;
        let at = if self.get(a) <= self.get(b) { a } else { b };
        let before = self.entry(at);
        self.write_entry(at, entry);
        (at, before)
    }

    /// Takes back what [`SlotView::note`] noted. The older entry is not lost by it: should the spool
    /// lose the row of the newer one, it would pass for the first row of the session.
    pub(super) fn take_back(&self, at: usize, before: Entry) {
        self.write_entry(at, before);
    }

    /// The number is stored last, so that an entry counts only once it is whole; until then it is a
    /// number that no spool has reached.
    fn write_entry(&self, at: usize, entry: Entry) {
        self.words[at].store(UNFINISHED, Ordering::Release);
        crash_point();
        self.set(at + 1, entry.interval_seq);
        self.set(at + 2, entry.bytes.up);
        self.set(at + 3, entry.bytes.down);
        self.set(at + 4, entry.datagrams.up);
        self.set(at + 5, entry.datagrams.down);
        crash_point();
        self.words[at].store(entry.seq, Ordering::Release);
    }

    fn forget(&self, at: usize) {
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

    fn ip_bits(&self, word: usize) -> u128 {
        u128::from(self.get(word)) | u128::from(self.get(word + 1)) << 64
    }

    fn ip(&self, word: usize) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self.ip_bits(word))).to_canonical()
    }

    fn transport(&self) -> Transport {
        let [code, ..] = self.get(slot::KIND_TARGET_NAME).to_le_bytes();
        Transport::from_code(code).unwrap_or(Transport::Tcp)
    }

    fn proxied_client_port(&self) -> u16 {
        let [low, high, ..] = self.get(slot::PROXIED_CLIENT_PORT).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    fn proxied_client(&self) -> Option<ClientAddr> {
        let (ip, port) = (self.ip(slot::PROXIED_CLIENT_IP), self.proxied_client_port());
        self.has(HAS_PROXIED_CLIENT).then(|| ClientAddr::new(SocketAddr::new(ip, port)))
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
            proxied_client: self.proxied_client(),
            listen: ListenAddr::new(at(slot::LISTEN_IP, 16)),
            target: self.has(HAS_TARGET).then(|| TargetAddr::new(at(slot::TARGET_IP, 48))),
            ts_start: self.ts_start(),
            connected: self.has(CONNECTED),
            sessions: self.sharing(),
            traffic: self.traffic(),
        }
    }

    /// Fills in the usage row between two totals; slot, times and numbers of the row are the
    /// caller's to fill in.
    pub(super) fn fill_usage(&self, pages: &mut Pages, from: Entry, to: Entry) {
        let Pages { usage: row, usage_texts: texts, .. } = pages;
        let ids = [self.ids(slot::SERVICE_RULE), self.ids(slot::CUSTOMER_CONFIG)];
        let named = [&mut row.service, &mut row.rule, &mut row.config_rev];
        texts.names(self.table, ids, named, &mut row.customer);
        say(self.transport().as_str(), &mut row.transport);
        texts.client.show(self.ip_bits(slot::CLIENT_IP), &mut row.client_ip);
        let dialled = self.has(HAS_TARGET);
        texts.target.show_if(dialled, self.ip_bits(slot::TARGET_IP), &mut row.target_ip);
        row.session_no = int(self.number());
        row.bytes_up = int(to.bytes.up.saturating_sub(from.bytes.up));
        row.bytes_down = int(to.bytes.down.saturating_sub(from.bytes.down));
        row.datagrams_up = int(to.datagrams.up.saturating_sub(from.datagrams.up));
        row.datagrams_down = int(to.datagrams.down.saturating_sub(from.datagrams.down));
        row.total_up = int(to.bytes.up);
        row.total_down = int(to.bytes.down);
        row.interval_seq = i32::try_from(to.interval_seq).unwrap_or(i32::MAX);
        row.is_first = to.interval_seq == 0;
    }

    /// Fills in the session's row as far as the slot knows; how it ended, `seq` and `intervals` are
    /// the caller's to fill in.
    pub(super) fn fill_session(&self, pages: &mut Pages) {
        let Pages { session: row, session_texts: texts, .. } = pages;
        let ids = [self.ids(slot::SERVICE_RULE), self.ids(slot::CUSTOMER_CONFIG)];
        let (_, target_name) = self.ids(slot::KIND_TARGET_NAME);
        let (dialled, connected) = (self.has(HAS_TARGET), self.has(CONNECTED));
        let proxied = self.has(HAS_PROXIED_CLIENT);
        let named = [&mut row.service, &mut row.rule, &mut row.config_rev];
        texts.names(self.table, ids, named, &mut row.customer);
        say(self.transport().as_str(), &mut row.transport);
        texts.client.show(self.ip_bits(slot::CLIENT_IP), &mut row.client_ip);
        texts.listen.show(self.ip_bits(slot::LISTEN_IP), &mut row.listen_ip);
        texts.egress.show_if(connected, self.ip_bits(slot::EGRESS_IP), &mut row.egress_ip);
        texts.target.show_if(dialled, self.ip_bits(slot::TARGET_IP), &mut row.target_ip);
        texts.target_name(self.table, target_name, &mut row.target_name);
        let proxied_bits = self.ip_bits(slot::PROXIED_CLIENT_IP);
        texts.proxied_client.show_if(proxied, proxied_bits, &mut row.proxied_client_ip);
        row.session_no = int(self.number());
        row.client_port = self.port(0).into();
        row.listen_port = self.port(16).into();
        row.egress_port = connected.then(|| self.port(32).into());
        row.target_port = dialled.then(|| self.port(48).into());
        row.proxied_client_port = proxied.then(|| self.proxied_client_port().into());
        let some_time = |word| Some(self.get(word).cast_signed()).filter(|ts| *ts != 0);
        row.ts_start = self.ts_start().0;
        row.ts_connected = some_time(slot::TS_CONNECTED).filter(|_| connected);
        row.ts_first_up = some_time(slot::TS_FIRST_UP);
        row.ts_first_down = some_time(slot::TS_FIRST_DOWN);
        row.connect_us = connected.then(|| int(self.get(slot::CONNECT_US)));
        let joined = self.is_shared().then(|| self.get(slot::JOINED));
        row.attributes = joined.map(|sessions| format!("{{\"overflow_sessions\":{sessions}}}"));
        self.fill_counters(row);
    }

    fn fill_counters(&self, row: &mut Session) {
        let traffic = self.traffic();
        row.bytes_up = int(traffic.up.bytes);
        row.bytes_down = int(traffic.down.bytes);
        row.received_up = int(traffic.up.received);
        row.received_down = int(traffic.down.received);
        row.datagrams_up = int(traffic.up.datagrams);
        row.datagrams_down = int(traffic.down.datagrams);
        row.captured_bytes = int(self.get(slot::CAPTURED));
        row.capture_dropped_bytes = int(self.get(slot::CAPTURE_DROPPED));
        let client = self.has(HAS_CLIENT_PEER).then(|| self.ids(slot::CLIENT_PEER));
        let target = self.has(HAS_TARGET_PEER).then(|| self.ids(slot::TARGET_PEER));
        let rtt = |peer: Option<(u32, u32)>| Some(i64::from(peer?.0)).filter(|rtt| *rtt > 0);
        row.rtt_client_us = rtt(client);
        row.rtt_target_us = rtt(target);
        row.retrans_client = client.map(|(_, retransmits)| retransmits.into());
        row.retrans_target = target.map(|(_, retransmits)| retransmits.into());
    }

    /// Fills in the session's row, which needs `seq` and `intervals` besides.
    pub(super) fn fill_last(&self, pages: &mut Pages, last: Last) {
        self.fill_session(pages);
        match last {
            Last::Ended { found } => self.fill_end(&mut pages.session, found),
            Last::Lost { died } => self.fill_loss(&mut pages.session, died),
        }
        if self.is_shared() {
            // The sum is exact; whose it was is not known.
            pages.session.quality = Quality::PartlyLost as i32;
        }
    }

    /// The end of a session that has one. One that was dropped without an end knows no time: it
    /// gets `found`.
    fn fill_end(&self, row: &mut Session, found: Timestamp) {
        let [reason, phase, first_fin, client, target, e0, e1, e2] =
            self.get(slot::END).to_le_bytes();
        let errno = i32::from_le_bytes([e0, e1, e2, 0]);
        let reason = EndReason::from_code(reason);
        let cut = reason.is_some_and(is_abnormal);
        let (up, down) = self.ids(slot::UNACKED);
        let spread = self.get(slot::SPREAD) != 0;
        (row.ts_end, row.duration_us) = match self.ts_end().0 {
            0 => (found.0, self.lasted_until(found)),
            ts_end => (ts_end, int(self.get(slot::DURATION_US))),
        };
        row.unacked_up = (cut && self.has(HAS_TARGET_PEER)).then_some(up.into());
        row.unacked_down = (cut && self.has(HAS_CLIENT_PEER)).then_some(down.into());
        say(term(reason.map(EndReason::as_str)), &mut row.end_reason);
        say(term(EndPhase::from_code(phase).map(EndPhase::as_str)), &mut row.end_phase);
        say(term(FirstFin::from_code(first_fin).map(FirstFin::as_str)), &mut row.first_fin);
        say(term(CloseKind::from_code(client).map(CloseKind::as_str)), &mut row.client_close);
        say(term(CloseKind::from_code(target).map(CloseKind::as_str)), &mut row.target_close);
        row.errno = (errno != 0).then_some(errno);
        row.quality = if spread { Quality::Spread } else { Quality::Exact } as i32;
    }

    /// The end of a session whose process died at about `died`.
    fn fill_loss(&self, row: &mut Session, died: Timestamp) {
        let start = self.ts_start().0;
        let phase = if self.has(CONNECTED) { EndPhase::Data } else { EndPhase::Connect };
        row.ts_end = died.0.max(start);
        row.duration_us = self.lasted_until(died);
        row.unacked_up = None;
        row.unacked_down = None;
        say(EndReason::Lost.as_str(), &mut row.end_reason);
        say(phase.as_str(), &mut row.end_phase);
        say(FirstFin::None.as_str(), &mut row.first_fin);
        say(CloseKind::None.as_str(), &mut row.client_close);
        say(CloseKind::None.as_str(), &mut row.target_close);
        row.errno = None;
        row.quality = Quality::Recovered as i32;
    }
}

/// Why a session gets its last rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Last {
    /// It has its end; `found` is the time at which that was noticed.
    Ended { found: Timestamp },
    /// Its process died.
    Lost { died: Timestamp },
}

/// A term of a table; a code that no version of ours wrote becomes `internal`.
fn term(text: Option<&'static str>) -> &'static str {
    text.unwrap_or(EndReason::Internal.as_str())
}

/// A counter as the tables hold it.
pub(super) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
