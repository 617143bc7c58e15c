//! One session's slot in the counter table, as the data thread that carries it sees it.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::vocab::{
    ClientAddr, CloseKind, DenyAction, DenyReason, Direction, EgressAddr, EndPhase, EndReason,
    FirstFin, ListenAddr, PerDirection, TargetAddr, Timestamp, Transport,
};

use super::frame::crash_point;
use super::layout::{SLOT_WORDS, Words, halves, slot, state};
use super::peer::{Peer, Peers};

/// What is known of a session when its verdict is given. Names are ids into the table's name area
/// (registered once per configuration), so that opening a session allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    /// Id of the service's name.
    pub service: u32,
    /// Id of the rule's name.
    pub rule: u32,
    /// Id of the customer's name; 0: none.
    pub customer: u32,
    /// Id of the configuration's revision.
    pub config_rev: u32,
    /// TCP or UDP.
    pub transport: Transport,
    /// The socket peer.
    pub client: ClientAddr,
    /// The client behind it, if it is a trusted proxy and has named one.
    pub proxied_client: Option<ClientAddr>,
    /// The local address it used.
    pub listen: ListenAddr,
    /// Wall clock at accept.
    pub ts_start: Timestamp,
}

/// How a session ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// The first cause.
    pub reason: EndReason,
    /// The phase it struck in.
    pub phase: EndPhase,
    /// Which side sent its FIN first.
    pub first_fin: FirstFin,
    /// How the client's connection was closed.
    pub client_close: CloseKind,
    /// How the target's connection was closed.
    pub target_close: CloseKind,
    /// The error number that ended it; 0: none.
    pub errno: i32,
    /// Wall clock at the end.
    pub ts_end: Timestamp,
    /// From start to end by the monotonic clock, in microseconds.
    pub duration_us: u64,
}

/// The running totals of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Payload read from one side, in bytes.
    pub received: u64,
    /// Payload the kernel accepted for the other side, in bytes.
    pub bytes: u64,
    /// UDP: datagrams the kernel accepted for the other side.
    pub datagrams: u64,
}

/// An attempt that was refused. Names are ids into the table's name area, as in [`Opening`].
#[derive(Debug, Clone, Copy)]
pub struct Denial {
    /// Id of the service's name.
    pub service: u32,
    /// Id of the name of the rule that refused; 0: none did.
    pub rule: u32,
    /// Id of the name of the limit that refused, as in `client/24 sessions`; 0: none did.
    pub limit: u32,
    /// Id of the name of that rule's customer; 0: none.
    pub customer: u32,
    /// TCP or UDP.
    pub transport: Transport,
    /// The socket peer.
    pub client: ClientAddr,
    /// The local address it used.
    pub listen: ListenAddr,
    /// Accept, policy or drain.
    pub phase: EndPhase,
    /// Why.
    pub reason: DenyReason,
    /// What the client saw.
    pub action: DenyAction,
    /// Payload of a dropped datagram, in bytes.
    pub bytes: u64,
    /// When.
    pub ts: Timestamp,
}

/// The account takes no further session: the client is to be refused with this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no account can be kept: {reason}")]
pub struct Refused {
    /// `table_full` or `spool_full`.
    pub reason: DenyReason,
}

/// Bits of the slot's kind word above the transport's code.
pub(super) const HAS_TARGET: u64 = 1 << 8;
pub(super) const CONNECTED: u64 = 1 << 9;
/// The client's peer word, and what it has not acknowledged, are there.
pub(super) const HAS_CLIENT_PEER: u64 = 1 << 10;
/// The target's peer word, and what it has not acknowledged, are there.
pub(super) const HAS_TARGET_PEER: u64 = 1 << 11;
/// The words of the client behind a proxy are there. Tables of older versions never say so.
pub(super) const HAS_PROXIED_CLIENT: u64 = 1 << 12;

/// The slot is shared by many sessions.
pub(super) const IS_SHARED: u64 = 1 << 13;

/// The slot of a running session. One thread writes it; the methods are single stores into mapped
/// memory, never a system call, lock or allocation. Dropped without [`OpenSession::end`] it is
/// closed as `internal`.
///
/// An overflow slot is written by many threads: there payload is added by atomic additions, what
/// only one of the sessions could tell (target, peers, end) is left out, and each session keeps its
/// own totals besides, which costs it an allocation.
#[derive(Debug)]
pub struct OpenSession {
    words: &'static [AtomicU64; SLOT_WORDS],
    state: &'static AtomicU64,
    number: u64,
    /// What this session added to a slot that it shares.
    own: Option<Box<OwnTotals>>,
}

/// One session's part of the counters from [`slot::RECEIVED_UP`] to [`slot::DATAGRAMS_DOWN`].
type OwnTotals = [Cell<u64>; slot::DATAGRAMS_DOWN + 1 - slot::RECEIVED_UP];

impl OpenSession {
    pub(super) fn begin(table: Words<'static>, index: usize, opening: &Opening) -> Self {
        let session = Self::fill(table, index, opening);
        let ports = u64::from(opening.client.port()) | u64::from(opening.listen.port()) << 16;
        session.set(slot::PORTS, ports);
        session.set_ip(slot::CLIENT_IP, opening.client.get());
        session.set_ip(slot::LISTEN_IP, opening.listen.get());
        if let Some(proxied) = opening.proxied_client {
            session.set_ip(slot::PROXIED_CLIENT_IP, proxied.get());
            session.set(slot::PROXIED_CLIENT_PORT, proxied.port().into());
            let kind = session.get(slot::KIND_TARGET_NAME);
            session.set(slot::KIND_TARGET_NAME, kind | HAS_PROXIED_CLIENT);
        }
        session.state.store(state::OPEN, Ordering::Release);
        session
    }

    /// The first of many sessions in a slot: its client stands for none of them.
    pub(super) fn begin_shared(table: Words<'static>, index: usize, opening: &Opening) -> Self {
        let mut session = Self::fill(table, index, opening);
        session.own = Some(Box::default());
        session.set(slot::PORTS, u64::from(opening.listen.port()) << 16);
        session.set_ip(slot::LISTEN_IP, opening.listen.get());
        session.set(slot::KIND_TARGET_NAME, u64::from(opening.transport.code()) | IS_SHARED);
        session.set(slot::RUNNING, 1);
        session.set(slot::JOINED, 1);
        session.state.store(state::OPEN, Ordering::Release);
        session
    }

    /// One more session in a slot that is shared.
    pub(super) fn join(table: Words<'static>, index: usize) -> Result<Self, Refused> {
        let (words, state) = (table.slot(index), table.state(index));
        let number = words[slot::SESSION_NO].load(Ordering::Relaxed);
        let one_more = |running| (running != slot::SHUT).then_some(running + 1);
        words[slot::RUNNING]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_shut| Refused { reason: DenyReason::TableFull })?;
        words[slot::JOINED].fetch_add(1, Ordering::Relaxed);
        Ok(Self { words, state, number, own: Some(Box::default()) })
    }

    /// Claims a slot and gives the session in it a number.
    fn fill(table: Words<'static>, index: usize, opening: &Opening) -> Self {
        let state = table.state(index);
        state.store(state::FILLING, Ordering::Release);
        crash_point();
        let words = table.slot(index);
        for word in words {
            word.store(0, Ordering::Relaxed);
        }
        let number = table.take_session_no();
        crash_point();
        let session = Self { words, state, number, own: None };
        session.set(slot::SESSION_NO, session.number);
        session.set(slot::SERVICE_RULE, pair(opening.service, opening.rule));
        session.set(slot::CUSTOMER_CONFIG, pair(opening.customer, opening.config_rev));
        session.set(slot::KIND_TARGET_NAME, u64::from(opening.transport.code()));
        session.set(slot::TS_START, opening.ts_start.0.cast_unsigned());
        session
    }

    /// A session of which nothing is kept, for measuring what the account costs.
    pub(super) fn unaccounted(table: Words<'static>) -> Self {
        static NOWHERE: [AtomicU64; SLOT_WORDS] = [const { AtomicU64::new(0) }; SLOT_WORDS];
        Self { words: &NOWHERE, state: &NOWHERE[0], number: table.take_session_no(), own: None }
    }

    fn get(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Relaxed)
    }

    fn set(&self, word: usize, value: u64) {
        if cfg!(feature = "no-account") {
            return;
        }
        self.words[word].store(value, Ordering::Relaxed);
    }

    /// Release, so that counters reach the journal thread in the order they were stored, and
    /// `bytes` never shows more than `received`.
    ///
    /// In a shared slot the same holds: the additions to `bytes` are one release sequence, so whoever
    /// reads (Acquire) a sum sees what each thread in it had stored before its part, its addition to
    /// `received` included.
    fn add(&self, word: usize, more: u64) {
        if cfg!(feature = "no-account") {
            return;
        }
        let Some(own) = &self.own else {
            self.words[word].store(self.get(word).wrapping_add(more), Ordering::Release);
            return;
        };
        self.words[word].fetch_add(more, Ordering::Release);
        let own = &own[word - slot::RECEIVED_UP];
        own.set(own.get().wrapping_add(more));
    }

    /// Whether the session shares slot and number with others. Its payload is not captured: nobody
    /// could tell whose it was.
    pub const fn is_shared(&self) -> bool {
        self.own.is_some()
    }

    fn set_ip(&self, word: usize, address: SocketAddr) {
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let [low, high] = halves(ip.to_bits());
        self.set(word, low);
        self.set(word + 1, high);
    }

    /// The session's number in this boot.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Which target is dialled, and the id of its configured name (0: configured as an address).
    pub fn dialling(&self, target: TargetAddr, target_name: u32) {
        if self.is_shared() {
            return;
        }
        self.set_ip(slot::TARGET_IP, target.get());
        let ports = self.get(slot::PORTS) & 0x0000_ffff_ffff_ffff;
        self.set(slot::PORTS, ports | u64::from(target.port()) << 48);
        let kind = self.get(slot::KIND_TARGET_NAME) & 0xffff_ffff;
        self.set(slot::KIND_TARGET_NAME, kind | HAS_TARGET | u64::from(target_name) << 32);
    }

    /// The target's connection stands, `connect_us` microseconds after the verdict.
    pub fn connected(&self, egress: EgressAddr, ts: Timestamp, connect_us: u64) {
        if self.is_shared() {
            return;
        }
        self.set_ip(slot::EGRESS_IP, egress.get());
        let ports = self.get(slot::PORTS) & 0xffff_0000_ffff_ffff;
        self.set(slot::PORTS, ports | u64::from(egress.port()) << 32);
        self.set(slot::TS_CONNECTED, ts.0.cast_unsigned());
        self.set(slot::CONNECT_US, connect_us);
        self.set(slot::KIND_TARGET_NAME, self.get(slot::KIND_TARGET_NAME) | CONNECTED);
    }

    /// `bytes` of payload were read from the sender of `direction`. To be called before they are
    /// written on. `ts` is kept if they are the direction's first.
    pub fn received(&self, direction: Direction, bytes: u64, ts: Timestamp) {
        let (received, first) = match direction {
            Direction::Up => (slot::RECEIVED_UP, slot::TS_FIRST_UP),
            Direction::Down => (slot::RECEIVED_DOWN, slot::TS_FIRST_DOWN),
        };
        if self.get(first) == 0 {
            self.set(first, ts.0.cast_unsigned());
        }
        self.add(received, bytes);
    }

    /// The kernel accepted `bytes` of payload for the receiver of `direction`. To be called after
    /// the write and before any shutdown.
    pub fn delivered(&self, direction: Direction, bytes: u64) {
        let word = match direction {
            Direction::Up => slot::BYTES_UP,
            Direction::Down => slot::BYTES_DOWN,
        };
        self.add(word, bytes);
    }

    /// The kernel accepted `count` datagrams, of `bytes` together, for the receiver of `direction`.
    pub fn delivered_datagrams(&self, direction: Direction, count: u64, bytes: u64) {
        self.delivered(direction, bytes);
        let word = match direction {
            Direction::Up => slot::DATAGRAMS_UP,
            Direction::Down => slot::DATAGRAMS_DOWN,
        };
        self.add(word, count);
    }

    /// Payload handed to the capture lane, and dropped before it, so far and in all.
    pub fn captured(&self, handed: u64, dropped: u64) {
        if self.is_shared() {
            return;
        }
        self.set(slot::CAPTURED, handed);
        self.set(slot::CAPTURE_DROPPED, dropped);
    }

    /// What TCP tells of the peers, after the last payload was delivered and before the end.
    pub fn peers(&self, peers: Peers) {
        if self.is_shared() {
            return;
        }
        let bytes = self.traffic().map(|traffic| traffic.bytes);
        let of = |peer: Option<Peer>, written: u64, flag: u64| match peer {
            Some(peer) => {
                let unacked = written.saturating_sub(peer.acknowledged);
                let unacked = u32::try_from(unacked).unwrap_or(u32::MAX);
                (flag, pair(peer.rtt_us, peer.retransmits), unacked)
            }
            None => (0, 0, 0),
        };
        let (has_client, client, down) = of(peers.client, bytes.down, HAS_CLIENT_PEER);
        let (has_target, target, up) = of(peers.target, bytes.up, HAS_TARGET_PEER);
        self.set(slot::CLIENT_PEER, client);
        self.set(slot::TARGET_PEER, target);
        self.set(slot::UNACKED, pair(up, down));
        self.set(
            slot::KIND_TARGET_NAME,
            self.get(slot::KIND_TARGET_NAME) | has_client | has_target,
        );
    }

    /// The session's own totals so far.
    pub fn traffic(&self) -> PerDirection<Traffic> {
        let total = |word: usize| match &self.own {
            Some(own) => own[word - slot::RECEIVED_UP].get(),
            None => self.get(word),
        };
        let traffic = |received, bytes, datagrams| Traffic {
            received: total(received),
            bytes: total(bytes),
            datagrams: total(datagrams),
        };
        PerDirection {
            up: traffic(slot::RECEIVED_UP, slot::BYTES_UP, slot::DATAGRAMS_UP),
            down: traffic(slot::RECEIVED_DOWN, slot::BYTES_DOWN, slot::DATAGRAMS_DOWN),
        }
    }

    /// The session is over; the slot is the journal thread's from here on.
    pub fn end(mut self, ending: Ending) {
        self.close(ending);
        // Not dropped: the slot may be another session's before `drop` could look at it. What it
        // kept besides is.
        drop(self.own.take());
        std::mem::forget(self);
    }

    fn close(&self, ending: Ending) {
        if cfg!(feature = "no-account") {
            return;
        }
        if self.is_shared() {
            // Release: whoever finds that none runs finds everything counted.
            self.words[slot::RUNNING].fetch_sub(1, Ordering::Release);
            return;
        }
        let closed = (ending.client_close, ending.target_close);
        let Ending { reason, phase, first_fin, errno, .. } = ending;
        self.set(slot::END, end_word(reason, phase, first_fin, closed, errno));
        self.set(slot::TS_END, ending.ts_end.0.cast_unsigned());
        self.set(slot::DURATION_US, ending.duration_us);
        self.state.store(state::CLOSED, Ordering::Release);
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        // There is no clock here: the journal thread takes the time at which it finds the slot.
        self.close(Ending {
            reason: EndReason::Internal,
            phase: EndPhase::Data,
            first_fin: FirstFin::None,
            client_close: CloseKind::Rst,
            target_close: CloseKind::Rst,
            errno: 0,
            ts_end: Timestamp(0),
            duration_us: 0,
        });
    }
}

/// How a session ended, as its slot holds it. Of an error number the low three bytes are kept.
pub(super) fn end_word(
    reason: EndReason,
    phase: EndPhase,
    first_fin: FirstFin,
    (client_close, target_close): (CloseKind, CloseKind),
    errno: i32,
) -> u64 {
    u64::from(reason.code())
        | u64::from(phase.code()) << 8
        | u64::from(first_fin.code()) << 16
        | u64::from(client_close.code()) << 24
        | u64::from(target_close.code()) << 32
        | (u64::from(errno.cast_unsigned()) & 0xff_ffff) << 40
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}
