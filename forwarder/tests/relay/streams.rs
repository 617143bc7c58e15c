//! What holds of every stream, whatever way its payload takes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use schemas::vocab::PerDirection;

use crate::modes::{Mode, Stage, in_every_mode};
use crate::support::*;

in_every_mode! {
    streams_survive_random_stalls_and_reads_of_one_byte
    each_side_may_finish_first_and_receives_the_rest
    a_reset_in_mid_stream_reaches_the_other_side
    a_reset_is_seen_while_the_receiver_does_not_read
    a_blocked_receiver_that_vanishes_resets_the_sender
    the_account_is_exact_whenever_nothing_moves
    a_receiver_that_never_reads_holds_up_nobody_else
    a_receiver_of_single_bytes_gets_all_of_them_and_holds_up_nobody_else
    what_lies_behind_an_urgent_byte_arrives_though_the_sender_has_finished
    what_lies_behind_an_urgent_byte_arrives_though_the_sender_stays
}

fn streams_survive_random_stalls_and_reads_of_one_byte(mode: Mode) {
    const LEN: usize = 24 << 20;
    let target = tcp_target();
    let stage = mode.start(target.local_addr().unwrap());
    let client = tcp_client(stage.scene.address(0));
    let server = accept(&target);
    let ends: Vec<_> = [(client, 1), (server, 2)]
        .into_iter()
        .flat_map(|(stream, seed)| {
            let mut writer = stream.try_clone().unwrap();
            let mut reader = stream;
            let write = std::thread::spawn(move || {
                send_in_pieces(&mut writer, LEN, seed);
                writer.shutdown(Shutdown::Write).unwrap();
            });
            // Each end reads what the other one's seed made.
            let read = std::thread::spawn(move || expect_in_pieces(&mut reader, LEN, 3 - seed));
            [write, read]
        })
        .collect();
    for end in ends {
        end.join().unwrap();
    }
    let counters = stage.scene.counters();
    assert_eq!(counters.splice_denied.load(Relaxed), u64::from(mode == Mode::Denied));
    // Whether both directions want the one pipe at the same time is a matter of chance.
    assert!(mode == Mode::OnePipe || counters.pipes_refused.load(Relaxed) == 0);
    until("all pipes are back", || counters.pipes_in_use.load(Relaxed) == 0);
    let rows = stage.scene.finish();
    let session = &rows.sessions[0];
    assert_eq!(bytes_of(session), [LEN as i64; 4]);
    assert_eq!(session.end_reason, "done");
    let Some(recorder) = stage.recorder else { return };
    assert_eq!((session.captured_bytes, session.capture_dropped_bytes), (2 * LEN as i64, 0));
    let kept = recorder.finish().remove(&1).unwrap();
    for (seed, payload) in [(1, &kept.payload.up), (2, &kept.payload.down)] {
        let mut expected = vec![0; LEN];
        piece(seed, 0, &mut expected);
        assert!(*payload == expected, "the capture has every byte of seed {seed}");
    }
    assert_eq!(kept.end.unwrap().dropped, 0);
}

fn each_side_may_finish_first_and_receives_the_rest(mode: Mode) {
    let target = tcp_target();
    let stage = mode.start(target.local_addr().unwrap());
    let rest = pattern(10 << 20);
    for client_first in [true, false] {
        let client = tcp_client(stage.scene.address(0));
        let server = accept(&target);
        let (mut first, mut second) =
            if client_first { (client, server) } else { (server, client) };
        first.write_all(b"question").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut second), Ok(b"question".to_vec()));
        let sender = {
            let rest = rest.clone();
            std::thread::spawn(move || second.write_all(&rest).unwrap())
        };
        assert!(read_to_end(&mut first).unwrap() == rest, "the rest arrives whole");
        sender.join().unwrap();
    }
    let rows = stage.scene.finish();
    let [client_first, target_first] = &rows.sessions[..] else { panic!("{rows:?}") };
    assert_eq!(end_of(client_first), ["done", "half_closed", "client", "fin", "fin"]);
    assert_eq!(bytes_of(client_first), [8, 8, 10 << 20, 10 << 20]);
    assert_eq!(end_of(target_first), ["done", "half_closed", "target", "fin", "fin"]);
    assert_eq!(bytes_of(target_first), [10 << 20, 10 << 20, 8, 8]);
}

fn a_reset_in_mid_stream_reaches_the_other_side(mode: Mode) {
    let target = tcp_target();
    let stage = mode.start(target.local_addr().unwrap());
    for clients in [true, false] {
        let client = tcp_client(stage.scene.address(0));
        let server = accept(&target);
        let (mut breaks, mut other) = if clients { (client, server) } else { (server, client) };
        let mut talking = other.try_clone().unwrap();
        let talk = std::thread::spawn(move || {
            loop {
                if let Err(error) = talking.write_all(&[7; 64 << 10]) {
                    return error.kind();
                }
            }
        });
        breaks.write_all(&pattern(3 << 20)[..]).ok();
        let mut some = vec![0; 1 << 20];
        breaks.read_exact(&mut some).unwrap();
        reset(breaks);
        // The kernel tells whoever asks first, and only once.
        let told = [drain(&mut other), Some(talk.join().unwrap())];
        assert!(told.contains(&Some(ErrorKind::ConnectionReset)), "{told:?}");
    }
    let rows = stage.scene.finish();
    let reasons: Vec<_> = rows.sessions.iter().map(|row| row.end_reason.as_str()).collect();
    assert_eq!(reasons, ["client_reset", "target_reset"]);
    for session in &rows.sessions {
        let [received_up, up, received_down, down] = bytes_of(session);
        assert!(up <= received_up && down <= received_down, "{session:?}");
        // A splice(2) that moved something before the reset takes the ECONNRESET with it, and EPIPE
        // is what the next one hears.
        let splices = !matches!(mode, Mode::Copy | Mode::Denied | Mode::DeniedTee);
        assert!(session.errno == Some(104) || splices && session.errno == Some(32), "{session:?}");
    }
}

fn a_reset_is_seen_while_the_receiver_does_not_read(mode: Mode) {
    let target = tcp_target();
    let stage = mode.start(target.local_addr().unwrap());
    let mut client = tcp_client(stage.scene.address(0));
    let mut server = accept(&target);
    let sent = fill(&mut client);
    reset(client);
    assert_eq!(drain(&mut server), Some(ErrorKind::ConnectionReset));
    let rows = stage.scene.finish();
    let session = &rows.sessions[0];
    assert_eq!(end_of(session), ["client_reset", "data", "none", "rst", "rst"]);
    let [received, delivered, ..] = bytes_of(session);
    assert!(delivered <= received && received <= sent, "{delivered} {received} {sent}");
}

fn a_blocked_receiver_that_vanishes_resets_the_sender(mode: Mode) {
    let target = tcp_target();
    let stage = mode.start(target.local_addr().unwrap());
    let mut client = tcp_client(stage.scene.address(0));
    let server = accept(&target);
    fill(&mut client);
    reset(server);
    until("the client is reset", || {
        client.write(b"x").is_err_and(|error| {
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        })
    });
    let rows = stage.scene.finish();
    assert_eq!(end_of(&rows.sessions[0]), ["target_reset", "data", "none", "rst", "rst"]);
}

fn the_account_is_exact_whenever_nothing_moves(mode: Mode) {
    let target = tcp_target();
    let stage = mode.start(target.local_addr().unwrap());
    let mut client = tcp_client(stage.scene.address(0));
    let mut server = accept(&target);
    let mut moved = PerDirection { up: 0, down: 0 };
    for len in [1, 4095, 4096, 4097, 65_535, 65_536, 200_000, 1, 1, 500_000, 3, 2 << 20, 10] {
        let payload = pattern(len);
        cross(&mut client, &mut server, &payload);
        moved.up += len as u64;
        exactly(&stage, moved);
        cross(&mut server, &mut client, &payload);
        moved.down += len as u64;
        exactly(&stage, moved);
    }
    drop((client, server));
    let rows = stage.scene.finish();
    let [up, down] = [moved.up, moved.down].map(|bytes| bytes as i64);
    assert_eq!(bytes_of(&rows.sessions[0]), [up, up, down, down]);
}

fn a_receiver_that_never_reads_holds_up_nobody_else(mode: Mode) {
    let target = tcp_target();
    let stage = mode.start(target.local_addr().unwrap());
    let mut stuck = tcp_client(stage.scene.address(0));
    let _deaf = accept(&target);
    let sent = fill(&mut stuck);
    let (received, delivered) = {
        let live = stage.scene.account.live().next().unwrap().traffic.up;
        (live.received, live.bytes)
    };
    assert!(received - delivered <= MOST_HELD, "{received} {delivered}, {sent} sent");
    for _ in 0..8 {
        let mut client = tcp_client(stage.scene.address(0));
        let mut server = accept(&target);
        cross(&mut client, &mut server, &pattern(1 << 20));
        cross(&mut server, &mut client, &pattern(1 << 20));
    }
    let rows = stage.scene.finish_within(Duration::from_millis(50));
    assert_eq!(rows.sessions.len(), 9);
    let [received, delivered, ..] = bytes_of(&rows.sessions[0]);
    assert!(delivered < received && received <= sent, "{delivered} {received} {sent}");
}

fn a_receiver_of_single_bytes_gets_all_of_them_and_holds_up_nobody_else(mode: Mode) {
    const BYTES: usize = 16;
    let target = tcp_target();
    let stage = mode.start(target.local_addr().unwrap());
    let mut sender = tcp_client(stage.scene.address(0));
    let mut slow = accept(&target);
    let mut sent = fill(&mut sender);
    let (mut client, mut server) = (tcp_client(stage.scene.address(0)), accept(&target));
    for _ in 0..BYTES {
        slow.read_exact(&mut [0]).unwrap();
        // Its pause is as long as it takes another session to move something.
        cross(&mut client, &mut server, &pattern(100_000));
        cross(&mut server, &mut client, &pattern(100_000));
        let first = stage.scene.account.live().min_by_key(|session| session.number).unwrap();
        let up = first.traffic.up;
        assert!(up.received - up.bytes <= MOST_HELD, "{} {}, {sent} sent", up.received, up.bytes);
    }
    // There may be room for a little more by now.
    sent += fill(&mut sender);
    sender.shutdown(Shutdown::Write).unwrap();
    let rest = read_to_end(&mut slow).unwrap();
    assert_eq!((rest.len() + BYTES) as i64, sent);
    drop((sender, slow, client, server));
    let rows = stage.scene.finish();
    assert_eq!(bytes_of(&rows.sessions[0]), [sent, sent, 0, 0]);
    assert_eq!(bytes_of(&rows.sessions[1]), [1_600_000; 4]);
}

#[test]
fn a_gibibyte_arrives_whole_by_copy() {
    a_gibibyte_arrives_whole(Mode::Copy);
}

#[test]
fn a_gibibyte_arrives_whole_as_users_have_it() {
    a_gibibyte_arrives_whole(Mode::Adaptive);
}

fn a_gibibyte_arrives_whole(mode: Mode) {
    const LEN: usize = 1 << 30;
    let target = tcp_target();
    let stage = mode.start(target.local_addr().unwrap());
    let mut client = tcp_client(stage.scene.address(0));
    let mut server = accept(&target);
    // Two periods, so that there is a whole piece to compare with wherever one begins.
    let pattern = pattern(2 * 251 * 1024);
    let piece = pattern.len() / 2;
    let send = {
        let pattern = pattern.clone();
        std::thread::spawn(move || {
            let mut at = 0;
            while at < LEN {
                let part = piece.min(LEN - at);
                client.write_all(&pattern[..part]).unwrap();
                at += part;
            }
        })
    };
    let (mut got, mut at) = (vec![0; piece], 0);
    loop {
        let len = server.read(&mut got).unwrap();
        if len == 0 {
            break;
        }
        assert!(got[..len] == pattern[at % piece..][..len], "byte for byte, near {at}");
        at += len;
    }
    assert_eq!(at, LEN);
    send.join().unwrap();
    drop(server);
    let rows = stage.scene.finish();
    assert_eq!(bytes_of(&rows.sessions[0])[..2], [LEN as i64; 2]);
}

/// Payload that a direction may hold, in bytes: a pipe's, each of whose slots has a fragment.
const MOST_HELD: u64 = 2 << 20;

/// Sends one way while the other end reads.
fn cross(from: &mut TcpStream, to: &mut TcpStream, payload: &[u8]) {
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(payload).unwrap());
        let mut got = vec![0; payload.len()];
        to.read_exact(&mut got).unwrap();
        assert!(got == payload);
    });
}

/// The live account says so, as soon as what was read is also counted.
fn exactly(stage: &Stage, moved: PerDirection<u64>) {
    let account = &stage.scene.account;
    until("the account has what has moved", || {
        let live = account.live().next().unwrap().traffic;
        assert!(live.up.bytes <= live.up.received && live.down.bytes <= live.down.received);
        assert!(live.up.received <= moved.up && live.down.received <= moved.down);
        (live.up.bytes, live.down.bytes) == (moved.up, moved.down)
    });
}

/// Reads until the connection ends, and says how; `None`: as if in order.
fn drain(stream: &mut TcpStream) -> Option<ErrorKind> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(error.kind()),
        }
    }
}

fn what_lies_behind_an_urgent_byte_arrives_though_the_sender_has_finished(mode: Mode) {
    behind_an_urgent_byte(mode, true);
}

fn what_lies_behind_an_urgent_byte_arrives_though_the_sender_stays(mode: Mode) {
    behind_an_urgent_byte(mode, false);
}

fn behind_an_urgent_byte(mode: Mode, finishes: bool) {
    use rustix::net::{SendFlags, send};
    const BEFORE: usize = 1 << 20;
    const BEHIND: usize = 600 << 10;
    let target = tcp_target();
    let stage = mode.start(target.local_addr().unwrap());
    let mut client = tcp_client(stage.scene.address(0));
    let mut server = accept(&target);
    let payload = pattern(BEFORE + BEHIND);
    // A flow that is sustained by now, in the modes that splice.
    pass(&mut client, &mut server, &payload[..BEFORE]);
    let rest = payload[BEFORE..].to_vec();
    let sending = std::thread::spawn(move || {
        // The urgent byte itself is no part of the stream (tcp(7)).
        send(&client, b"!", SendFlags::OOB).unwrap();
        client.write_all(&rest).unwrap();
        if finishes {
            client.shutdown(Shutdown::Write).unwrap();
        }
        client
    });
    let mut received = vec![0; BEHIND];
    server.read_exact(&mut received).unwrap();
    assert!(received == payload[BEFORE..]);
    drop((sending.join().unwrap(), server));
    let rows = stage.scene.finish();
    assert_eq!(bytes_of(&rows.sessions[0])[..2], [(BEFORE + BEHIND) as i64; 2]);
}
