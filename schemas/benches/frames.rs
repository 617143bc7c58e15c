//! Frames and rows: what the journal and the link pay for each, and what publishing pays.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set its scene should fail")]

use bytes::BytesMut;
use divan::{Bencher, black_box};
use prost::Message;
use schemas::table::{Session, Usage};
use schemas::wire::{Frame, FrameKind, MAX_ACCOUNTING_PAYLOAD, Rows};

/// Sessions of a full frame.
const SESSIONS: i64 = 400;

fn main() {
    divan::main();
}

fn session(number: i64) -> Session {
    Session {
        session_no: number,
        seq: Some(2 * number),
        service: "web".to_owned(),
        rule: "office".to_owned(),
        config_rev: "0123456789abcdef".to_owned(),
        customer: Some("acme".to_owned()),
        transport: "tcp".to_owned(),
        client_ip: format!("203.0.113.{}", number % 250),
        client_port: 40_000,
        listen_ip: "192.0.2.1".to_owned(),
        listen_port: 8080,
        egress_ip: Some("10.0.0.1".to_owned()),
        egress_port: Some(50_001),
        target_ip: Some("10.0.0.5".to_owned()),
        target_port: Some(80),
        ts_start: 1_800_000_000_000_000 + number,
        ts_connected: Some(1_800_000_000_000_100 + number),
        ts_first_up: Some(1_800_000_000_000_200 + number),
        ts_first_down: Some(1_800_000_000_000_300 + number),
        ts_end: 1_800_000_000_001_000 + number,
        duration_us: 1000,
        connect_us: Some(100),
        bytes_up: 1,
        bytes_down: 1,
        received_up: 1,
        received_down: 1,
        end_reason: "done".to_owned(),
        end_phase: "half_closed".to_owned(),
        first_fin: "client".to_owned(),
        client_close: "fin".to_owned(),
        target_close: "fin".to_owned(),
        intervals: 1,
        ..Session::default()
    }
}

fn usage(number: i64) -> Usage {
    Usage {
        session_no: number,
        seq: Some(2 * number - 1),
        slot_start: 1_800_000_000_000_000,
        slot_len_s: 300,
        service: "web".to_owned(),
        rule: "office".to_owned(),
        config_rev: "0123456789abcdef".to_owned(),
        customer: Some("acme".to_owned()),
        transport: "tcp".to_owned(),
        client_ip: format!("203.0.113.{}", number % 250),
        target_ip: Some("10.0.0.5".to_owned()),
        bytes_up: 1,
        bytes_down: 1,
        total_up: 1,
        total_down: 1,
        is_first: true,
        is_final: true,
        active_us: 1000,
        ..Usage::default()
    }
}

fn rows() -> Rows {
    Rows {
        node: "edge-1".to_owned(),
        boot: "k3f9x2ab".to_owned(),
        sessions: (1..=SESSIONS).map(session).collect(),
        usage: (1..=SESSIONS).map(usage).collect(),
        ..Rows::default()
    }
}

fn encoded() -> BytesMut {
    let mut bytes = BytesMut::new();
    Frame::message(FrameKind::Rows, 7, &rows()).encode(&mut bytes);
    bytes
}

/// 400 sessions with a usage row each: message, checksum, frame.
#[divan::bench]
fn encode_a_frame_of_400_sessions(bencher: Bencher<'_, '_>) {
    let rows = rows();
    bencher.counter(SESSIONS.unsigned_abs()).bench(|| {
        let mut bytes = BytesMut::with_capacity(256 << 10);
        Frame::message(FrameKind::Rows, 7, black_box(&rows)).encode(&mut bytes);
        bytes
    });
}

/// The same back: checksum, frame, message.
#[divan::bench]
fn decode_a_frame_of_400_sessions(bencher: Bencher<'_, '_>) {
    bencher.counter(SESSIONS.unsigned_abs()).with_inputs(encoded).bench_values(|mut bytes| {
        let (frame, _crc) = Frame::decode(&mut bytes, MAX_ACCOUNTING_PAYLOAD).unwrap().unwrap();
        Rows::decode(frame.payload).unwrap()
    });
}

/// What the link does with a frame of the spool: its checksum, and no look into its rows.
#[divan::bench]
fn pass_on_a_frame_of_400_sessions(bencher: Bencher<'_, '_>) {
    bencher.counter(SESSIONS.unsigned_abs()).with_inputs(encoded).bench_values(|mut bytes| {
        let (frame, _crc) = Frame::decode(&mut bytes, MAX_ACCOUNTING_PAYLOAD).unwrap().unwrap();
        let mut out = BytesMut::with_capacity(frame.encoded_len());
        frame.encode(&mut out);
        out
    });
}

#[divan::bench]
fn sessions_400_to_arrow(bencher: Bencher<'_, '_>) {
    let rows = rows().sessions;
    let count = rows.len();
    bencher.counter(count).bench(|| Session::to_batch(black_box(&rows)).unwrap());
}

#[divan::bench]
fn usage_400_to_arrow(bencher: Bencher<'_, '_>) {
    let rows = rows().usage;
    let count = rows.len();
    bencher.counter(count).bench(|| Usage::to_batch(black_box(&rows)).unwrap());
}
