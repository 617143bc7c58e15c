//! An account that is whole: two boots, six sessions, one of them running, one cut off by a crash.

use jiff::Timestamp;
use schemas::manifest::{BootEndMark, BootMark};
use schemas::table::{Capture, Denied, Event, Session, Slot, Usage};

/// A boot that was killed and recovered.
pub(crate) const ENDED: &str = "k3f9x2ab";
/// A boot that runs.
pub(crate) const RUNNING: &str = "p7q8r9s0";

const SLOT_US: i64 = 300_000_000;

/// Rows of all tables, and how far the boots are.
#[derive(Clone, Default)]
pub(crate) struct Account {
    pub(crate) sessions: Vec<Session>,
    pub(crate) usage: Vec<Usage>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) denied: Vec<Denied>,
    pub(crate) captures: Vec<Capture>,
    pub(crate) events: Vec<Event>,
    pub(crate) boots: Vec<BootMark>,
}

/// Microseconds of 2026-10-26T12:00:00Z and so many seconds.
pub(crate) fn at(seconds: i64) -> i64 {
    let noon: Timestamp = "2026-10-26T12:00:00Z".parse().unwrap();
    noon.as_microsecond() + seconds * 1_000_000
}

/// What one session is; its bytes are per slot, from noon on.
struct Story {
    boot: &'static str,
    number: i64,
    service: &'static str,
    customer: Option<&'static str>,
    client: &'static str,
    target: &'static str,
    first_slot: i64,
    /// Bytes up and down in each slot.
    slots: &'static [(i64, i64)],
    end: Option<&'static str>,
}

const STORIES: &[Story] = &[
    Story {
        boot: ENDED,
        number: 1,
        service: "web",
        customer: Some("acme"),
        client: "10.1.0.7",
        target: "10.0.0.5",
        first_slot: 0,
        slots: &[(1_000, 600_000_000), (2_000, 610_000_000)],
        end: Some("done"),
    },
    Story {
        boot: ENDED,
        number: 2,
        service: "dns",
        customer: Some("globex"),
        client: "10.2.0.9",
        target: "10.0.0.53",
        first_slot: 0,
        slots: &[(512, 2_048)],
        end: Some("udp_expired"),
    },
    Story {
        boot: ENDED,
        number: 3,
        service: "web",
        customer: Some("acme"),
        client: "10.1.4.8",
        target: "10.0.0.5",
        first_slot: 1,
        slots: &[(300, 40_000)],
        end: Some("lost"),
    },
    Story {
        boot: ENDED,
        number: 4,
        service: "web",
        customer: None,
        client: "2001:db8::7",
        target: "10.0.0.5",
        first_slot: 1,
        slots: &[(0, 0)],
        end: Some("target_refused"),
    },
    Story {
        boot: RUNNING,
        number: 1,
        service: "web",
        customer: Some("acme"),
        client: "10.1.0.7",
        target: "10.0.0.5",
        first_slot: 2,
        slots: &[(5_000, 70_000), (1_000, 9_000)],
        end: None,
    },
    Story {
        boot: RUNNING,
        number: 2,
        service: "dns",
        customer: Some("globex"),
        client: "10.2.0.10",
        target: "10.0.0.53",
        first_slot: 2,
        slots: &[(64, 128)],
        end: Some("udp_expired"),
    },
];

impl Account {
    /// The whole account.
    pub(crate) fn whole() -> Self {
        let mut account = Self::default();
        for boot in [ENDED, RUNNING] {
            account.add_boot(boot);
        }
        account.captures.push(capture());
        account
    }

    /// Rows of a boot in the order a forwarder makes them: slot by slot.
    fn add_boot(&mut self, boot: &str) {
        let mut seq = 1;
        self.events.push(event(boot, seq));
        let stories = || STORIES.iter().filter(|story| story.boot == boot);
        for slot in 0..4 {
            let mut tally = Slot { first_seq: None, ..new_slot(boot, slot) };
            for story in stories() {
                let Some(i) = usize::try_from(slot - story.first_slot).ok() else { continue };
                if i >= story.slots.len() {
                    continue;
                }
                seq += 1;
                let usage = story.usage(i, seq);
                tally.usage_rows += 1;
                tally.bytes_up += usage.bytes_up;
                tally.bytes_down += usage.bytes_down;
                tally.first_seq.get_or_insert(seq);
                self.usage.push(usage);
                if i + 1 == story.slots.len() && story.end.is_some() {
                    seq += 1;
                    self.sessions.push(story.session(seq));
                }
            }
            // The running boot is in its second slot.
            if tally.usage_rows > 0 && !(boot == RUNNING && slot == 3) {
                tally.last_seq = Some(seq);
                seq += 1;
                tally.seq = Some(seq);
                self.slots.push(tally);
            }
        }
        if boot == ENDED {
            for (client, port, count) in [("192.0.2.66", 40_001, 1_234), ("192.0.2.67", 40_002, 5)]
            {
                seq += 1;
                self.denied.push(denied(seq, client, port, count));
            }
        }
        let end = BootEndMark {
            last_seq: seq,
            last_session_no: 5,
            unopened: 1,
            exact: true,
            ended_at: at(600),
        };
        self.boots.push(BootMark {
            node: "edge-1".to_owned(),
            boot: boot.to_owned(),
            last_seq: seq,
            end: (boot == ENDED).then_some(end),
            ..BootMark::default()
        });
    }
}

impl Story {
    fn transport(&self) -> &'static str {
        if self.service == "dns" { "udp" } else { "tcp" }
    }

    fn datagrams(&self, bytes: i64) -> i64 {
        if self.service == "dns" { bytes / 64 } else { 0 }
    }

    fn usage(&self, i: usize, seq: i64) -> Usage {
        let (up, down) = self.slots[i];
        let so_far = &self.slots[..=i];
        let last = i + 1 == self.slots.len();
        let index = i32::try_from(i).unwrap();
        Usage {
            node: "edge-1".to_owned(),
            boot: self.boot.to_owned(),
            session_no: self.number,
            seq: Some(seq),
            interval_seq: index,
            slot_start: at((self.first_slot + i64::from(index)) * 300),
            slot_len_s: 300,
            clock_pass: 0,
            service: self.service.to_owned(),
            rule: "office".to_owned(),
            config_rev: "00112233445566aa".to_owned(),
            customer: self.customer.map(str::to_owned),
            transport: self.transport().to_owned(),
            client_ip: self.client.to_owned(),
            target_ip: Some(self.target.to_owned()),
            bytes_up: up,
            bytes_down: down,
            datagrams_up: self.datagrams(up),
            datagrams_down: self.datagrams(down),
            total_up: so_far.iter().map(|slot| slot.0).sum(),
            total_down: so_far.iter().map(|slot| slot.1).sum(),
            is_first: i == 0,
            is_final: last && self.end.is_some(),
            active_us: SLOT_US / 2,
            quality: self.quality(),
        }
    }

    fn quality(&self) -> i32 {
        i32::from(self.end == Some("lost"))
    }

    fn session(&self, seq: i64) -> Session {
        let up: i64 = self.slots.iter().map(|slot| slot.0).sum();
        let down: i64 = self.slots.iter().map(|slot| slot.1).sum();
        let lost = self.end == Some("lost");
        let tcp = self.transport() == "tcp";
        let close = if tcp { "fin" } else { "none" };
        let start = at(self.first_slot * 300 + 150);
        let duration = i64::try_from(self.slots.len()).unwrap() * SLOT_US / 2;
        Session {
            node: "edge-1".to_owned(),
            boot: self.boot.to_owned(),
            session_no: self.number,
            seq: Some(seq),
            service: self.service.to_owned(),
            rule: "office".to_owned(),
            config_rev: "00112233445566aa".to_owned(),
            customer: self.customer.map(str::to_owned),
            transport: self.transport().to_owned(),
            client_ip: self.client.to_owned(),
            client_port: 40_000,
            listen_ip: "203.0.113.1".to_owned(),
            listen_port: if tcp { 8080 } else { 53 },
            egress_ip: Some("10.0.0.1".to_owned()),
            egress_port: Some(50_000),
            target_ip: Some(self.target.to_owned()),
            target_port: Some(if tcp { 80 } else { 53 }),
            ts_start: start,
            ts_connected: Some(start + 1_200),
            ts_first_up: Some(start + 1_500),
            ts_first_down: Some(start + 2_900),
            ts_end: start + duration,
            duration_us: duration,
            connect_us: Some(1_200),
            bytes_up: up,
            bytes_down: down,
            received_up: up + if lost { 700 } else { 0 },
            received_down: down,
            datagrams_up: self.datagrams(up),
            datagrams_down: self.datagrams(down),
            end_reason: self.end.unwrap_or_default().to_owned(),
            end_phase: "data".to_owned(),
            first_fin: if tcp { "client" } else { "none" }.to_owned(),
            client_close: close.to_owned(),
            target_close: close.to_owned(),
            intervals: i32::try_from(self.slots.len()).unwrap(),
            quality: self.quality(),
            ..Session::default()
        }
    }
}

fn new_slot(boot: &str, slot: i64) -> Slot {
    Slot {
        node: "edge-1".to_owned(),
        boot: boot.to_owned(),
        slot_start: at(slot * 300),
        slot_len_s: 300,
        status: "OK".to_owned(),
        open_sessions: 1,
        clock_offset_us: Some(12),
        ..Slot::default()
    }
}

fn denied(seq: i64, client: &str, port: i32, count: i64) -> Denied {
    Denied {
        node: "edge-1".to_owned(),
        boot: ENDED.to_owned(),
        seq: Some(seq),
        ts_first: at(10),
        ts_last: at(290),
        service: "web".to_owned(),
        rule: Some("no-guests".to_owned()),
        transport: "tcp".to_owned(),
        client_ip: Some(client.to_owned()),
        client_port: Some(port),
        listen_ip: "203.0.113.1".to_owned(),
        listen_port: 8080,
        phase: "policy".to_owned(),
        reason: "rule".to_owned(),
        action: "reset".to_owned(),
        count,
        ..Denied::default()
    }
}

fn event(boot: &str, seq: i64) -> Event {
    Event {
        node: "edge-1".to_owned(),
        boot: boot.to_owned(),
        seq: Some(seq),
        ts: at(0),
        severity: "info".to_owned(),
        kind: "boot".to_owned(),
        message: "the forwarder started".to_owned(),
        ..Event::default()
    }
}

fn capture() -> Capture {
    Capture {
        node: "edge-1".to_owned(),
        boot: ENDED.to_owned(),
        session_no: 1,
        file: Some("captures/web/2026-10-26.pcapng".to_owned()),
        offset_first: 128,
        offset_last: 4_096,
        packets: 21,
        captured_bytes: 3_000,
        original_bytes: 3_000,
        ts_first: at(150),
        ts_last: at(450),
        direction: "both".to_owned(),
        ..Capture::default()
    }
}
