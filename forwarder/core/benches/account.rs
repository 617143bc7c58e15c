//! What the account costs: a data thread per session, and the journal thread per session.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set its scene should fail")]

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::atomic::AtomicU64;

use divan::{Bencher, black_box};
use forwarder_core::accounting::{
    CounterTable, Ending, Geometry, Header, Ledger, Moment, Opening, Spool,
};
use schemas::vocab::{
    BootId, ClientAddr, CloseKind, Direction, EgressAddr, EndPhase, EndReason, FirstFin,
    ListenAddr, SpoolId, TargetAddr, Timestamp, Transport,
};
use schemas::wire::{BootEnd, EncodedRows};

/// Sessions between two polls of a forwarder that carries 20,000 a second.
const PER_POLL: usize = 400;

fn main() {
    divan::main();
}

fn table(slots: usize) -> &'static CounterTable {
    let geometry = Geometry { slots };
    let words = (0..geometry.words()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
    let header = Header {
        node: "edge-1".to_owned(),
        boot: BootId::from_random(1),
        started: Timestamp(1),
        slot_len_s: 300,
        spool_id: SpoolId(1),
        spool_path: "/var/lib/weir/spool".to_owned(),
        kernel_boot: 1,
    };
    Box::leak(Box::new(CounterTable::create(words, geometry, &header).unwrap()))
}

/// Encodes frames as a journal would, and forgets them.
#[derive(Default)]
struct Encoding {
    bytes: usize,
}

impl Spool for Encoding {
    type Error = Infallible;

    fn append(&mut self, rows: EncodedRows, _next_seq: i64) -> Result<(), Infallible> {
        self.bytes += black_box(rows.into_bytes()).len();
        Ok(())
    }

    fn append_boot_end(&mut self, _end: &BootEnd) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A table, who carries sessions in it, and who makes rows of them.
struct Scene {
    table: &'static CounterTable,
    ledger: Ledger<'static>,
    opening: Opening,
    target: TargetAddr,
    egress: EgressAddr,
    now_us: i64,
}

impl Scene {
    fn new(slots: usize) -> Self {
        let table = table(slots);
        let name = |text| table.name_id(text).unwrap();
        let opening = Opening {
            service: name("web"),
            rule: name("office"),
            customer: name("acme"),
            config_rev: name("0123456789abcdef"),
            transport: Transport::Tcp,
            client: ClientAddr::new("203.0.113.9:40001".parse().unwrap()),
            proxied_client: None,
            listen: ListenAddr::new("192.0.2.1:8080".parse().unwrap()),
            ts_start: Timestamp(5),
        };
        let moment = Moment { wall: Timestamp(1), monotonic_us: 1 };
        Self {
            table,
            ledger: Ledger::begin(table, moment).unwrap(),
            opening,
            target: TargetAddr::new("10.0.0.5:80".parse().unwrap()),
            egress: EgressAddr::new("10.0.0.1:50001".parse().unwrap()),
            now_us: 1,
        }
    }

    /// One byte each way, from the verdict to the end.
    fn session(&self) {
        let session = self.table.open(&self.opening).unwrap();
        session.dialling(self.target, 0);
        session.connected(self.egress, Timestamp(6), 1);
        for direction in Direction::BOTH {
            session.received(direction, 1, Timestamp(7));
            session.delivered(direction, 1);
        }
        session.end(Ending {
            reason: EndReason::Done,
            phase: EndPhase::HalfClosed,
            first_fin: FirstFin::Client,
            client_close: CloseKind::Fin,
            target_close: CloseKind::Fin,
            errno: 0,
            ts_end: Timestamp(8),
            duration_us: 3,
        });
    }

    fn poll(&mut self, spool: &mut Encoding) {
        self.now_us += 20;
        let moment = Moment { wall: Timestamp(self.now_us), monotonic_us: self.now_us };
        self.ledger.poll(moment, spool).unwrap();
    }
}

/// A poll's worth of sessions on a data thread. The goal is 0.3 µs each.
#[divan::bench(args = [4096, 65536])]
fn sessions_400_on_a_data_thread(bencher: Bencher<'_, '_>, slots: usize) {
    let scene = RefCell::new(Scene::new(slots));
    bencher
        .counter(PER_POLL)
        .with_inputs(|| scene.borrow_mut().poll(&mut Encoding::default()))
        .bench_local_values(|()| (0..PER_POLL).for_each(|_| scene.borrow().session()));
}

/// A poll that finds so many ended sessions, and encodes their rows.
#[divan::bench(args = [(0, 65536), (PER_POLL, 4096), (PER_POLL, 65536)])]
fn poll_of_ended_sessions(bencher: Bencher<'_, '_>, (ended, slots): (usize, usize)) {
    let scene = RefCell::new(Scene::new(slots));
    bencher
        .counter(ended)
        .with_inputs(|| (0..ended).for_each(|_| scene.borrow().session()))
        .bench_local_values(|()| scene.borrow_mut().poll(&mut Encoding::default()));
}

/// What every chunk of payload costs.
#[divan::bench]
fn chunk_received_and_delivered(bencher: Bencher<'_, '_>) {
    let scene = Scene::new(64);
    let session = scene.table.open(&scene.opening).unwrap();
    bencher.bench_local(|| {
        session.received(Direction::Up, black_box(1000), Timestamp(7));
        session.delivered(Direction::Up, black_box(1000));
    });
}
