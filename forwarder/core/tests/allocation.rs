//! What a data thread does for the account of a session costs it no memory.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use forwarder_core::accounting::{CounterTable, Ending, Geometry, Header, Opening};
use forwarder_core::config::Balance;
use forwarder_core::preamble::{Answer, server_name};
use forwarder_core::target::{Pool, TargetHealth};
use schemas::vocab::{
    BootId, ClientAddr, CloseKind, Direction, EgressAddr, EndPhase, EndReason, FirstFin,
    ListenAddr, SpoolId, TargetAddr, Timestamp, Transport,
};

fn table() -> &'static CounterTable {
    let geometry = Geometry { slots: 64 };
    let words = (0..geometry.words()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
    let header = Header {
        node: "edge".to_owned(),
        boot: BootId::from_random(1),
        started: Timestamp(1),
        slot_len_s: 300,
        spool_id: SpoolId(1),
        spool_path: "/spool".to_owned(),
        kernel_boot: 1,
    };
    Box::leak(Box::new(
        CounterTable::create(words, geometry, &header).expect("the words hold the table"),
    ))
}

#[test]
fn a_session_is_accounted_without_an_allocation() {
    let table = table();
    let at = |text: &str| text.parse().unwrap();
    let opening = Opening {
        service: 1,
        rule: 1,
        customer: 0,
        config_rev: 1,
        transport: Transport::Tcp,
        client: ClientAddr::new(at("127.0.0.2:4000")),
        proxied_client: None,
        listen: ListenAddr::new(at("127.0.0.1:80")),
        ts_start: Timestamp(5),
    };
    let (target, egress) =
        (TargetAddr::new(at("127.0.0.1:81")), EgressAddr::new(at("127.0.0.1:5000")));
    let counted = allocation_counter::measure(|| {
        let session = table.open(&opening).unwrap();
        session.dialling(target, 0);
        session.connected(egress, Timestamp(6), 1);
        for direction in Direction::BOTH {
            session.received(direction, 1000, Timestamp(7));
            session.delivered(direction, 1000);
            session.delivered_datagrams(direction, 1, 10);
        }
        session.captured(1, 2);
        session.end(Ending {
            reason: EndReason::Done,
            phase: EndPhase::Data,
            first_fin: FirstFin::Client,
            client_close: CloseKind::Fin,
            target_close: CloseKind::Fin,
            errno: 0,
            ts_end: Timestamp(8),
            duration_us: 3,
        });
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

#[test]
fn a_target_is_chosen_without_an_allocation() {
    let now = Instant::now();
    for balance in
        [Balance::RoundRobin, Balance::LeastSessions, Balance::SourceHash, Balance::FirstAvailable]
    {
        let targets = (0..8).map(|number| {
            (format!("10.0.0.{number}"), 80, Arc::new(TargetHealth::new(now)), number)
        });
        let pool = Pool::new(balance, targets);
        let counted = allocation_counter::measure(|| {
            let mut walk = pool.walk(Transport::Tcp, Ipv4Addr::LOCALHOST.into());
            while let Some(next) = pool.next(&mut walk, now) {
                next.place.failed(now);
            }
        });
        assert_eq!(counted.count_total, 0, "{balance}");
    }
}

#[test]
fn a_client_hello_that_comes_in_single_bytes_costs_no_memory_until_it_is_whole() {
    let body = 16_000_u16;
    let [high, low] = (body + 4).to_be_bytes();
    let [len_high, len_low] = body.to_be_bytes();
    let mut hello = vec![0x16, 3, 1, high, low, 1, 0, len_high, len_low];
    hello.resize(hello.len() + usize::from(body) - 1, 0);
    let measured = allocation_counter::measure(|| {
        for len in 0..=hello.len() {
            assert_eq!(server_name(&hello[..len]), Answer::Incomplete);
        }
    });
    assert_eq!(measured.count_total, 0);
}
