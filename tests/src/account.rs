//! A made-up account: rows as a busy forwarder makes them, for whoever measures what becomes of
//! them. It is drawn from a seed, so that it is the same one every time, and `analyze verify` finds
//! nothing wrong with it.

use prost::Message;
use schemas::table::{Session, Slot, Usage};
use schemas::wire::{BootEnd, EncodedRows, Frame, FrameKind};

/// Sessions of a full frame, as the forwarder makes them.
pub const SESSIONS_PER_FRAME: usize = 512;
/// Length of a slot.
const SLOT_S: i32 = 300;
const SLOT_US: i64 = 300_000_000;
/// The instant at which every made-up boot begins: 2026-11-02T00:00:00Z.
const BEGIN_US: i64 = 1_793_577_600_000_000;
/// Clients that there are; the first few come most often.
const CLIENTS: u64 = 20_000;

/// A boot in the making.
#[derive(Debug, Clone)]
pub struct MadeUp {
    node: String,
    boot: String,
    random: u64,
    now: i64,
    /// Between two sessions, in microseconds.
    distance: u64,
    seq: i64,
    sessions: i64,
    slot: Slot,
}

impl MadeUp {
    /// A boot with so many sessions a second.
    pub fn new(node: &str, boot: &str, per_second: u64) -> Self {
        let slot = Slot { slot_start: BEGIN_US, ..Slot::default() };
        let (node, boot) = (node.to_owned(), boot.to_owned());
        let distance = 1_000_000 / per_second.max(1);
        Self { node, boot, random: 0x5eed, now: BEGIN_US, distance, seq: 0, sessions: 0, slot }
    }

    /// Sessions so far.
    pub const fn sessions(&self) -> i64 {
        self.sessions
    }

    /// Rows of all tables so far.
    pub const fn rows(&self) -> i64 {
        self.seq
    }

    /// The next frame's payload: so many sessions that ended, each with the only row of its usage,
    /// and the row of the slot that is over, if one is.
    pub fn ended(&mut self, sessions: usize) -> EncodedRows {
        let mut rows = EncodedRows::of(&self.node, &self.boot);
        if self.now >= self.slot.slot_start + SLOT_US {
            rows.slot(&self.end_slot());
        }
        for _ in 0..sessions {
            self.now += i64::try_from(self.draw(2 * self.distance)).unwrap_or_default();
            let (usage, session) = self.session();
            rows.usage(&usage);
            rows.session(&session);
        }
        rows
    }

    /// The next frame's payload: rows of usage of so many sessions that go on.
    pub fn interim(&mut self, rows: usize) -> EncodedRows {
        let mut encoded = EncodedRows::of(&self.node, &self.boot);
        for _ in 0..rows {
            let (usage, _) = self.session();
            encoded.usage(&Usage { is_final: false, active_us: SLOT_US, ..usage });
        }
        encoded
    }

    /// The last two payloads: the last slot's row, and the end of the boot.
    pub fn end(mut self) -> (EncodedRows, BootEnd) {
        let mut rows = EncodedRows::of(&self.node, &self.boot);
        rows.slot(&self.end_slot());
        let end = BootEnd {
            node: self.node,
            boot: self.boot,
            last_seq: self.seq,
            last_session_no: self.sessions,
            unopened: 0,
            exact: true,
            ended_at: self.now,
        };
        (rows, end)
    }

    fn end_slot(&mut self) -> Slot {
        self.seq += 1;
        let next = self.now - self.now.rem_euclid(SLOT_US);
        let next = Slot { slot_start: next.max(self.slot.slot_start + SLOT_US), ..Slot::default() };
        Slot {
            seq: Some(self.seq),
            slot_len_s: SLOT_S,
            status: "OK".to_owned(),
            clock_offset_us: Some(0),
            datagrams_dropped: Some(0),
            ..std::mem::replace(&mut self.slot, next)
        }
    }

    fn session(&mut self) -> (Usage, Session) {
        self.sessions += 1;
        let number = self.draw(CLIENTS);
        let client = self.draw(number + 1);
        let (service, target) = [("web", 5), ("web", 6), ("mail", 7), ("db", 8)][self.choose(4)];
        let duration = 1_i64 << self.draw(24);
        let duration = duration + i64::try_from(self.draw(1000)).unwrap_or_default();
        // Most sessions are small, a few are large.
        let (up, down) = (self.bytes(14), self.bytes(22));
        let usage = Usage {
            session_no: self.sessions,
            seq: Some(self.seq + 1),
            slot_start: self.slot.slot_start,
            slot_len_s: SLOT_S,
            service: service.to_owned(),
            rule: ["office", "everyone"][self.choose(2)].to_owned(),
            config_rev: "0123456789abcdef".to_owned(),
            customer: (!client.is_multiple_of(4)).then(|| format!("customer-{}", client % 40)),
            transport: "tcp".to_owned(),
            client_ip: format!("203.{}.{}.{}", client % 3, client / 250, client % 250),
            target_ip: Some(format!("10.0.0.{target}")),
            bytes_up: up,
            bytes_down: down,
            total_up: up,
            total_down: down,
            is_first: true,
            is_final: true,
            active_us: duration,
            ..Usage::default()
        };
        self.slot.usage_rows += 1;
        self.slot.bytes_up += up;
        self.slot.bytes_down += down;
        self.slot.first_seq = self.slot.first_seq.or(usage.seq);
        self.slot.last_seq = usage.seq;
        let session = self.ended_session(&usage, duration);
        (usage, session)
    }

    fn ended_session(&mut self, usage: &Usage, duration: i64) -> Session {
        self.seq += 2;
        let connect = 80 + i64::try_from(self.draw(300)).unwrap_or_default();
        let start = self.now - duration;
        let rtt = |draw: u64| Some(i64::try_from(200 + draw).unwrap_or_default());
        Session {
            session_no: usage.session_no,
            seq: Some(self.seq),
            service: usage.service.clone(),
            rule: usage.rule.clone(),
            config_rev: usage.config_rev.clone(),
            customer: usage.customer.clone(),
            transport: usage.transport.clone(),
            client_ip: usage.client_ip.clone(),
            client_port: self.port(),
            listen_ip: "192.0.2.1".to_owned(),
            listen_port: 443,
            egress_ip: Some("10.0.0.1".to_owned()),
            egress_port: Some(self.port()),
            target_ip: usage.target_ip.clone(),
            target_port: Some(8443),
            ts_start: start,
            ts_connected: Some(start + connect),
            ts_first_up: Some(start + connect + 150),
            ts_first_down: Some(start + connect + 900),
            ts_end: self.now,
            duration_us: duration,
            connect_us: Some(connect),
            bytes_up: usage.bytes_up,
            bytes_down: usage.bytes_down,
            received_up: usage.bytes_up,
            received_down: usage.bytes_down,
            rtt_client_us: rtt(self.draw(90_000)),
            rtt_target_us: rtt(self.draw(900)),
            retrans_client: Some(i64::from(self.draw(50) == 0)),
            retrans_target: Some(0),
            end_reason: "done".to_owned(),
            end_phase: "half_closed".to_owned(),
            first_fin: ["client", "target"][self.choose(2)].to_owned(),
            client_close: "fin".to_owned(),
            target_close: "fin".to_owned(),
            intervals: 1,
            ..Session::default()
        }
    }

    fn bytes(&mut self, magnitude: u64) -> i64 {
        let most = 64 << self.draw(magnitude);
        i64::try_from(self.draw(most)).unwrap_or_default()
    }

    fn port(&mut self) -> i32 {
        i32::try_from(20_000 + self.draw(40_000)).unwrap_or_default()
    }

    fn choose(&mut self, of: usize) -> usize {
        usize::try_from(self.draw(of as u64)).unwrap_or_default()
    }

    /// Evenly from zero to below `below`, which is not zero (xorshift64*).
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % below.max(1)
    }
}

/// A frame of rows.
pub fn rows_frame(number: u64, rows: EncodedRows) -> Frame {
    let empty = Frame::empty(FrameKind::Rows);
    Frame { number, payload: rows.into_bytes().into(), ..empty }
}

/// A frame of a boot's end.
pub fn end_frame(number: u64, end: &BootEnd) -> Frame {
    let empty = Frame::empty(FrameKind::BootEnd);
    Frame { number, payload: end.encode_to_vec().into(), ..empty }
}

#[cfg(test)]
mod tests {
    use schemas::wire::Rows;

    use super::*;

    #[test]
    fn numbers_are_dense_and_slots_say_what_their_usage_adds_up_to() {
        let mut made = MadeUp::new("edge-1", "k3f9x2ab", 100);
        let mut all = Rows::default();
        for _ in 0..200 {
            let rows = Rows::decode(made.ended(400).bytes()).unwrap();
            all.sessions.extend(rows.sessions);
            all.usage.extend(rows.usage);
            all.slots.extend(rows.slots);
        }
        let (last, end) = made.end();
        all.slots.extend(Rows::decode(last.bytes()).unwrap().slots);
        let mut seqs: Vec<i64> = all.seqs().collect();
        seqs.sort_unstable();
        assert!(seqs.iter().zip(1..).all(|(seq, expected)| *seq == expected));
        assert_eq!((end.last_seq, end.last_session_no), (seqs[seqs.len() - 1], 80_000));
        assert!(all.slots.len() > 2, "{}", all.slots.len());
        for slot in &all.slots {
            let of = all.usage.iter().filter(|row| row.slot_start == slot.slot_start);
            assert_eq!(of.map(|row| row.bytes_down).sum::<i64>(), slot.bytes_down);
        }
    }
}
