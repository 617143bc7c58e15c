//! One session from its first slot to its last.

use e2e_tests::dice::Dice;
use schemas::table::{Session, Usage};

use crate::calendar::{self, SLOT_S, SLOT_US};
use crate::world::{Service, World};

/// What a configuration is called by.
const CONFIG_REV: &str = "0123456789abcdef";
/// How long a datagram association waits for more before it ends.
const UDP_IDLE_US: i64 = 30_000_000;
/// Longer than there is anything to tell of.
const FOR_EVER_US: i64 = 40 * 86_400_000_000;
/// Of a hundred slots of a long session, those in which nothing moves.
const IDLE: u64 = 15;
/// Bytes of a full datagram.
const DATAGRAM: i64 = 1200;
/// The quality of what was moved to another slot.
const SPREAD: i32 = 2;
/// ECONNREFUSED
const REFUSED: i32 = 111;

/// A session that has begun.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) customer: Option<usize>,
    number: i64,
    service: &'static Service,
    rule: String,
    named: Option<String>,
    client: String,
    target: String,
    ports: [i32; 2],
    start: i64,
    end: i64,
    reason: &'static str,
    long: bool,
    /// Bytes up and down up to its latest row.
    total: [i64; 2],
    datagrams: [i64; 2],
    /// What moved since.
    moved: [i64; 2],
    /// A slot was skipped since.
    skipped: bool,
    intervals: i32,
    quality: i32,
}

impl Life {
    /// A session that begins at `start`.
    pub(crate) fn begin(world: &World, number: i64, start: i64, dice: &mut Dice) -> Self {
        let customer = world.customer(dice);
        let service = Service::any(dice);
        let (named, rule) = world.rule(customer);
        // Of each run the first one stays for ever.
        let long = number == 1 || dice.of(1..=1000) <= service.long;
        let reason = reason(service, dice);
        let lasts = match reason {
            _ if number == 1 => FOR_EVER_US,
            "target_refused" => signed(dice.of(200..=900)),
            _ if long => signed(dice.of(1..=48)) * SLOT_US,
            _ => (1 << dice.of(4..=24)) + signed(dice.of(0..=999)),
        };
        let waits = if reason == "udp_expired" { UDP_IDLE_US } else { 0 };
        let port = |dice: &mut Dice| i32::try_from(dice.of(20_000..=59_999)).unwrap_or_default();
        Self {
            customer,
            number,
            service,
            rule: rule.to_owned(),
            named: named.map(str::to_owned),
            client: world.client(customer, dice).to_string(),
            target: service.target(dice),
            ports: [port(dice), port(dice)],
            start,
            end: start + lasts + waits,
            reason,
            long,
            total: [0; 2],
            datagrams: [0; 2],
            moved: [0; 2],
            skipped: false,
            intervals: 0,
            quality: 0,
        }
    }

    /// Whether it ends before `time`.
    pub(crate) const fn ends_before(&self, time: i64) -> bool {
        self.end < time
    }

    /// Ends it now, because the forwarder stops.
    pub(crate) const fn drain(&mut self, now: i64) {
        self.end = now;
        self.reason = "drained";
    }

    /// Lets it move what it moves in a slot.
    pub(crate) fn go_on(&mut self, dice: &mut Dice) {
        let first = self.intervals == 0 && !self.skipped;
        let idle = if self.long { dice.of(1..=100) <= IDLE } else { !first };
        if idle || (self.reason == "target_refused" && !self.long) {
            return;
        }
        let magnitude = self.service.magnitude;
        for (moved, magnitude) in self.moved.iter_mut().zip(magnitude) {
            *moved += signed(dice.throw() % (64 << dice.of(0..=magnitude - 1)));
        }
    }

    /// No row of it is written for this slot.
    pub(crate) const fn skip(&mut self) {
        self.skipped = true;
    }

    /// The row of a slot, if it has one; `last`: of its last slot.
    pub(crate) fn usage(&mut self, slot: usize, last: bool) -> Option<Usage> {
        if !last && self.intervals > 0 && self.moved == [0; 2] {
            return None;
        }
        let quality = if self.skipped { SPREAD } else { 0 };
        self.quality = self.quality.max(quality);
        self.skipped = false;
        let [up, down] = std::mem::take(&mut self.moved);
        let [datagrams_up, datagrams_down] = [up, down].map(|bytes| self.datagrams_of(bytes));
        self.total[0] += up;
        self.total[1] += down;
        self.datagrams[0] += datagrams_up;
        self.datagrams[1] += datagrams_down;
        self.intervals += 1;
        let begin = calendar::start(slot);
        let active_us = self.end.min(begin + SLOT_US) - self.start.max(begin);
        Some(Usage {
            session_no: self.number,
            interval_seq: self.intervals - 1,
            slot_start: begin,
            slot_len_s: SLOT_S,
            service: self.service.name.to_owned(),
            rule: self.rule.clone(),
            config_rev: CONFIG_REV.to_owned(),
            customer: self.named.clone(),
            transport: self.service.transport().to_owned(),
            client_ip: self.client.clone(),
            target_ip: Some(self.target.clone()),
            bytes_up: up,
            bytes_down: down,
            datagrams_up,
            datagrams_down,
            total_up: self.total[0],
            total_down: self.total[1],
            is_first: self.intervals == 1,
            is_final: last,
            active_us,
            quality,
            ..Usage::default()
        })
    }

    fn datagrams_of(&self, bytes: i64) -> i64 {
        if self.service.udp { (bytes + DATAGRAM - 1) / DATAGRAM } else { 0 }
    }

    /// The row of the whole, when it is over.
    pub(crate) fn ended(&self, dice: &mut Dice) -> Session {
        let connected = self.reason != "target_refused";
        let connect = signed(dice.of(80..=380));
        let after = |us: i64| connected.then(|| (self.start + us).min(self.end));
        let rtt = |us: u64| (connected && !self.service.udp).then(|| signed(us));
        let [up, down] = self.total;
        let reset = self.reason.ends_with("_reset");
        let undelivered = if reset { signed(dice.of(0..=9_999)) } else { 0 };
        let [client_close, target_close] = self.closed();
        let half_closed = self.reason == "done";
        Session {
            session_no: self.number,
            service: self.service.name.to_owned(),
            rule: self.rule.clone(),
            config_rev: CONFIG_REV.to_owned(),
            customer: self.named.clone(),
            transport: self.service.transport().to_owned(),
            client_ip: self.client.clone(),
            client_port: self.ports[0],
            listen_ip: if self.client.contains(':') { "2001:db8::1" } else { "192.0.2.1" }.into(),
            listen_port: self.service.listen_port,
            egress_ip: Some(if self.target.contains(':') { "fd00::1" } else { "10.0.0.1" }.into()),
            egress_port: Some(self.ports[1]),
            target_ip: Some(self.target.clone()),
            target_port: Some(self.service.target_port),
            ts_start: self.start,
            ts_connected: after(connect),
            ts_first_up: after(connect + 150).filter(|_| up > 0),
            ts_first_down: after(connect + 900).filter(|_| down > 0),
            ts_end: self.end,
            duration_us: self.end - self.start,
            connect_us: connected.then_some(connect),
            bytes_up: up,
            bytes_down: down,
            received_up: up + undelivered,
            received_down: down,
            datagrams_up: self.datagrams[0],
            datagrams_down: self.datagrams[1],
            rtt_client_us: rtt(dice.of(200..=90_000)),
            rtt_target_us: rtt(dice.of(100..=999)),
            retrans_client: rtt(u64::from(dice.of(1..=50) == 1)),
            retrans_target: rtt(0),
            end_reason: self.reason.to_owned(),
            end_phase: match self.reason {
                "target_refused" => "connect",
                "drained" => "drain",
                _ if half_closed => "half_closed",
                _ => "data",
            }
            .to_owned(),
            first_fin: if !half_closed {
                "none"
            } else if dice.percent(70) {
                "client"
            } else {
                "target"
            }
            .to_owned(),
            client_close: client_close.to_owned(),
            target_close: target_close.to_owned(),
            errno: (!connected).then_some(REFUSED),
            intervals: self.intervals,
            quality: self.quality,
            ..Session::default()
        }
    }

    fn closed(&self) -> [&'static str; 2] {
        match self.reason {
            _ if self.service.udp => ["none", "none"],
            "done" => ["fin", "fin"],
            "idle_timeout" => ["timeout", "timeout"],
            "target_refused" => ["rst", "none"],
            _ => ["rst", "rst"],
        }
    }
}

fn reason(service: &Service, dice: &mut Dice) -> &'static str {
    match dice.of(1..=100) {
        _ if service.udp => "udp_expired",
        1..=90 => "done",
        91..=95 => "client_reset",
        96..=97 => "target_reset",
        98 => "target_refused",
        _ => "idle_timeout",
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or_default()
}
