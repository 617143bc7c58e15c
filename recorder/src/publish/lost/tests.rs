//! Boots that are lost, and what their sessions come to.

use std::fs;

use schemas::table::{Session, Usage};
use schemas::wire::{BootEnd, FrameKind, Rows};

use crate::publish::Publisher;
use crate::publish::tests::{Bench, SPOOL, read};

const SLOT: i64 = 300_000_000;
const BOOT: &str = "k3f9x2ab";

fn usage(session_no: i64, seq: i64, interval_seq: i32, total_up: i64) -> Usage {
    Usage {
        session_no,
        seq: Some(seq),
        interval_seq,
        slot_start: SLOT * i64::from(interval_seq + 1),
        slot_len_s: 300,
        service: "web".into(),
        rule: "everyone".into(),
        customer: Some("acme".into()),
        transport: "tcp".into(),
        client_ip: "192.0.2.7".into(),
        bytes_up: 10,
        datagrams_up: 1,
        total_up,
        is_first: interval_seq == 0,
        active_us: SLOT / 2,
        ..Usage::default()
    }
}

fn last(usage: Usage) -> Usage {
    Usage { is_final: true, ..usage }
}

fn ended(session_no: i64, seq: i64, bytes_up: i64) -> Session {
    Session { session_no, seq: Some(seq), bytes_up, ts_end: SLOT, ..Session::default() }
}

fn rows(usage: Vec<Usage>, sessions: Vec<Session>) -> Rows {
    Rows { node: "edge-1".into(), boot: BOOT.into(), usage, sessions, ..Rows::default() }
}

fn end(last_seq: i64, exact: bool) -> BootEnd {
    BootEnd {
        node: "edge-1".into(),
        boot: BOOT.into(),
        last_seq,
        last_session_no: 4,
        exact,
        ended_at: 2 * SLOT,
        ..BootEnd::default()
    }
}

/// Sessions 1 and 2 go on over two segments, 3 ends in the second, 4 is a short one. Then the boot
/// is lost.
fn lost_boot() -> Bench {
    let mut bench = Bench::new();
    let first = vec![usage(1, 1, 0, 10), usage(2, 2, 0, 10), usage(3, 3, 0, 10)];
    bench.receive(SPOOL, 1, FrameKind::Rows, &rows(first, Vec::new()));
    bench.seal();
    let more = vec![usage(1, 4, 1, 20), last(usage(3, 5, 1, 20)), last(usage(4, 6, 0, 10))];
    bench.receive(SPOOL, 2, FrameKind::Rows, &rows(more, vec![ended(3, 7, 20), ended(4, 8, 10)]));
    bench.receive(SPOOL, 3, FrameKind::BootEnd, &end(8, false));
    bench
}

fn publish_all(bench: &mut Bench) -> Publisher {
    let mut publisher = bench.publisher();
    for segment in bench.seal() {
        publisher.publish(&segment).unwrap();
    }
    publisher
}

/// Names of the parts, and what those of a table hold.
fn of_table(bench: &Bench, table: &str) -> Vec<(String, String)> {
    let is_it = |path: &String| path.contains(&format!("/{table}/"));
    bench.tables().into_iter().filter(|(path, _)| is_it(path)).collect()
}

#[test]
fn sessions_that_a_lost_boot_left_open_are_closed_with_their_last_totals() {
    let mut bench = lost_boot();
    let publisher = publish_all(&mut bench);
    let mut closed = of_table(&bench, "sessions");
    closed.retain(|(path, _)| path.contains("/lost-"));
    assert_eq!(closed.len(), 1);
    let text = &closed[0].1;
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let header = cells(text.lines().nth(1).unwrap());
    let of = |line: &str, name: &str| {
        cells(line)[header.iter().position(|column| column == name).unwrap()].clone()
    };
    let lines: Vec<_> = text.lines().filter(|line| line.contains("edge-1")).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            ["session_no", "seq", "bytes_up", "received_up", "datagrams_up", "intervals", "quality"]
                .map(|name| of(line, name))
                .join(" ")
        })
        .collect();
    assert_eq!(told, ["2  10 10 1 1 3", "1  20 20 2 2 3"]);
    assert!(lines.iter().all(|line| of(line, "end_reason") == "lost"), "{text}");
    assert!(of(lines[1], "ts_end").starts_with("1970-01-01T00:15"), "{text}");
    assert_eq!(of(lines[1], "duration_us"), SLOT.to_string());
    assert_eq!(of(lines[1], "customer"), "acme");

    let events = of_table(&bench, "events");
    assert!(events[0].1.contains("boot_lost") && events[0].1.contains("2 of its sessions"));
    let mark = publisher.manifest().marks().boot("edge-1", BOOT).unwrap();
    assert_eq!(mark.closed, [closed[0].0.clone()]);
}

#[test]
fn a_lost_boot_is_closed_once_and_to_the_same_bytes() {
    let mut bench = lost_boot();
    drop(publish_all(&mut bench));
    let once = bench.tables();
    bench.receive(SPOOL, 4, FrameKind::BootEnd, &end(8, false));
    drop(publish_all(&mut bench));
    assert_eq!(bench.tables(), once, "its end told again closes nothing");
    let mut again = lost_boot();
    drop(publish_all(&mut again));
    assert_eq!(again.tables(), once);
}

#[test]
fn rows_of_a_boot_that_was_not_dead_take_the_place_of_what_was_made_for_it() {
    let mut bench = lost_boot();
    drop(publish_all(&mut bench));
    let own = rows(vec![last(usage(1, 9, 2, 30))], vec![ended(1, 10, 30)]);
    bench.receive(SPOOL, 4, FrameKind::Rows, &own);
    let publisher = publish_all(&mut bench);
    let sessions = of_table(&bench, "sessions");
    assert!(sessions.iter().all(|(path, _)| !path.contains("/lost-")), "{sessions:?}");
    assert!(publisher.manifest().marks().boot("edge-1", BOOT).unwrap().closed.is_empty());
}

#[test]
fn figures_beyond_all_measure_do_not_keep_a_lost_boot_from_being_closed() {
    let mut bench = Bench::new();
    let absurd = |seq, interval_seq| Usage {
        datagrams_up: i64::MAX,
        active_us: i64::MAX,
        ..usage(1, seq, interval_seq, 10)
    };
    let frame = rows(vec![absurd(1, 0), absurd(2, 1)], Vec::new());
    bench.receive(SPOOL, 1, FrameKind::Rows, &frame);
    bench.receive(SPOOL, 2, FrameKind::BootEnd, &end(2, false));
    drop(publish_all(&mut bench));
    assert!(of_table(&bench, "sessions")[0].0.contains("/lost-"));
}

#[test]
fn nothing_is_closed_when_a_part_cannot_be_read() {
    let mut bench = lost_boot();
    let segments = bench.seal();
    let mut publisher = bench.publisher();
    publisher.publish(&segments[0]).unwrap();
    let usage = publisher.manifest().parts().find(|part| part.table == "usage").unwrap();
    fs::write(bench.data.path().join(&usage.path), b"PAR1").unwrap();
    publisher.publish(&segments[1]).unwrap();
    let paths: Vec<_> = publisher.manifest().parts().map(|part| part.path.clone()).collect();
    assert!(paths.iter().all(|path| !path.contains("/sessions/") || !path.contains("/lost-")));
    let event = paths.iter().find(|path| path.contains("/events/")).unwrap();
    let said = read(&bench.data.path().join(event));
    assert!(said.contains("cannot be told"), "{said}");
}
