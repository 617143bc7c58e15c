//! Sessions without loss: nothing to complain about, and payload byte for byte.

use schemas::table::Capture;
use schemas::vocab::Direction::{Down, Up};
use schemas::vocab::{EndReason, PerDirection};
use schemas::wire::MarkKind;
use sha2::{Digest, Sha256};

use crate::speaker::{Forwarder, Recorder, TCP_PORT, noise, only_file, session, tcp, udp};
use crate::tshark;

const CLIENT_PORT: u16 = 50_001;
const CLIENT: &str = "192.0.2.1:50001";

/// What the index says of one session.
fn row(rows: &[Capture], number: i64) -> &Capture {
    let mut found = rows.iter().filter(|row| row.session_no == number);
    let row = found.next().expect("the session is indexed");
    assert!(found.next().is_none(), "the session is indexed twice");
    row
}

fn packets(rows: &[Capture]) -> usize {
    usize::try_from(rows.iter().map(|row| row.packets).sum::<i64>()).unwrap()
}

/// Tells a session, closes everything and gives the file and its index.
async fn captured(
    tell: impl AsyncFnOnce(&mut Forwarder),
) -> (tempfile::TempDir, std::path::PathBuf, Vec<Capture>) {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    tell(&mut forwarder).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    let file = only_file(data.path(), "web");
    (data, file, rows)
}

#[track_caller]
fn assert_payload(file: &std::path::Path, number: u64, up: &[u8], down: &[u8]) {
    let stream = tshark::stream_of(file, &session(number), "tcp").unwrap();
    let found = tshark::tcp_payload(file, &stream, CLIENT_PORT).unwrap();
    assert!(found == up, "up of {number}: {} bytes, not {}", found.len(), up.len());
    let found = tshark::tcp_payload(file, &stream, TCP_PORT).unwrap();
    assert!(found == down, "down of {number}: {} bytes, not {}", found.len(), down.len());
    let followed = tshark::follow(file, &stream).unwrap();
    assert!(followed == (up.to_vec(), down.to_vec()), "follow of {number} differs");
    let len = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap();
    assert_eq!(tshark::stream_bytes(file, &stream, CLIENT_PORT).unwrap(), len(up));
    assert_eq!(tshark::stream_bytes(file, &stream, TCP_PORT).unwrap(), len(down));
}

#[tokio::test]
async fn tcp_of_both_families_is_clean_and_byte_exact() {
    let (up, down) = (noise(1, 5_000), noise(2, 300_000));
    let (_data, file, rows) = captured(async |forwarder| {
        for (number, client) in [(1, CLIENT), (2, "[2001:db8::1]:50001")] {
            forwarder.open(tcp(number, client)).await;
            forwarder.data(number, Up, &up).await;
            forwarder.data(number, Down, &down).await;
            forwarder.finish(number).await;
        }
    })
    .await;
    tshark::all_is_well(&file, "web", packets(&rows)).unwrap();
    assert_eq!(tshark::first_time(&file).unwrap(), "1790000000.124456790");
    assert_eq!(tshark::community_ids(&file).unwrap(), 2);
    for number in [1, 2] {
        assert_payload(&file, number, &up, &down);
        let stream = tshark::stream_of(&file, &session(number), "tcp").unwrap();
        assert_eq!(tshark::completeness(&file, &stream).unwrap(), ["31"]);
        let row = row(&rows, i64::try_from(number).unwrap());
        assert_eq!((row.captured_bytes, row.original_bytes), (305_000, 305_000));
        assert_eq!((row.dropped_bytes, row.truncated), (0, false));
        assert_eq!((row.direction.as_str(), row.extent), ("both", 0));
    }
    let bytes = std::fs::read(&file).unwrap();
    let sha256: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(rows[0].sha256.as_ref(), Some(&sha256));
}

#[tokio::test]
async fn single_bytes_half_closes_resets_and_refusals_are_clean() {
    let (down, late) = (noise(3, 200_000), noise(4, 70_000));
    let single = noise(5, 200);
    let (_data, file, rows) = captured(async |forwarder| {
        forwarder.open(tcp(1, CLIENT)).await;
        for (index, byte) in single.iter().enumerate() {
            let direction = if index % 3 == 0 { Down } else { Up };
            forwarder.data(1, direction, &[*byte]).await;
        }
        forwarder.finish(1).await;
        // The same addresses again, half closed by the client.
        forwarder.open(tcp(2, CLIENT)).await;
        forwarder.data(2, Up, b"GET / HTTP/1.0\r\n\r\n").await;
        forwarder.mark(2, Up, MarkKind::Fin).await;
        forwarder.data(2, Down, &late).await;
        forwarder.mark(2, Down, MarkKind::Fin).await;
        forwarder.end(2, EndReason::Done).await;
        // And again, reset by the target in the middle.
        forwarder.open(tcp(3, CLIENT)).await;
        forwarder.data(3, Up, b"hello").await;
        forwarder.data(3, Down, &down).await;
        forwarder.mark(3, Down, MarkKind::Reset).await;
        forwarder.end(3, EndReason::TargetReset).await;
        forwarder.open(tcp(4, CLIENT)).await;
        forwarder.mark(4, Down, MarkKind::Refused).await;
        forwarder.end(4, EndReason::TargetRefused).await;
        // Nothing but a beginning and an end.
        forwarder.open(tcp(5, CLIENT)).await;
        forwarder.end(5, EndReason::IdleTimeout).await;
    })
    .await;
    tshark::all_is_well(&file, "web", packets(&rows)).unwrap();
    let of = |wanted| {
        let all = single.iter().enumerate();
        let some = all.filter(move |(index, _)| (index % 3 == 0) == (wanted == Down));
        some.map(|(_, byte)| *byte).collect::<Vec<_>>()
    };
    assert_payload(&file, 1, &of(Up), &of(Down));
    assert_payload(&file, 2, b"GET / HTTP/1.0\r\n\r\n", &late);
    assert_payload(&file, 3, b"hello", &down);
    for (number, complete) in [(1, "31"), (2, "31"), (3, "47"), (4, "37"), (5, "23")] {
        let stream = tshark::stream_of(&file, &session(number), "tcp").unwrap();
        assert_eq!(tshark::completeness(&file, &stream).unwrap(), [complete], "session {number}");
        let ends = format!("tcp.stream=={stream} && frame.comment contains \" end=\"");
        let comments = tshark::tally(&file, &ends, &["frame.comment"]).unwrap();
        assert_eq!(comments.len(), 1, "session {number}: {comments:?}");
    }
    assert_eq!(row(&rows, 4).direction, "none");
}

#[tokio::test]
async fn datagrams_keep_their_borders_and_empty_ones_count() {
    let sizes = [0, 1, 512, 65_507, 0];
    let (_data, file, rows) = captured(async |forwarder| {
        for (number, client) in [(1, CLIENT), (2, "[2001:db8::1]:50001")] {
            forwarder.open(udp(number, client)).await;
            for (seed, size) in (0..).zip(sizes) {
                forwarder.data(number, Up, &noise(seed, size)).await;
                forwarder.data(number, Down, &noise(seed + 9, size)).await;
            }
            forwarder.end(number, EndReason::UdpExpired).await;
        }
    })
    .await;
    tshark::all_is_well(&file, "web", packets(&rows)).unwrap();
    for number in [1, 2] {
        let stream = tshark::stream_of(&file, &session(number), "udp").unwrap();
        for (first_seed, port) in [(0, CLIENT_PORT), (9, crate::speaker::UDP_PORT)] {
            let found = tshark::datagrams(&file, &stream, port).unwrap();
            let sent: Vec<_> = (first_seed..).zip(sizes).map(|(s, size)| noise(s, size)).collect();
            assert!(found == sent, "session {number} from port {port}");
        }
        let row = row(&rows, i64::try_from(number).unwrap());
        assert_eq!((row.packets, row.captured_bytes), (10, 2 * 66_020));
    }
}

/// A session whose upward sequence numbers pass 2^32 within the first 2 MiB.
fn session_that_wraps() -> u64 {
    let isn = |number: &u64| {
        let digest = Sha256::digest(format!("{} up", session(*number)).as_bytes());
        u32::from_le_bytes(digest[..4].try_into().unwrap())
    };
    (1..).find(|number| isn(number) > u32::MAX - (1 << 20)).unwrap()
}

#[tokio::test]
async fn sequence_numbers_wrap_without_a_word() {
    let number = session_that_wraps();
    let up = noise(7, 2 << 20);
    let (_data, file, rows) = captured(async |forwarder| {
        forwarder.open(tcp(number, CLIENT)).await;
        forwarder.data(number, Up, &up).await;
        forwarder.finish(number).await;
    })
    .await;
    tshark::all_is_well(&file, "web", packets(&rows)).unwrap();
    assert_payload(&file, number, &up, b"");
    let low = "tcp.seq_raw < 2000000 && tcp.len > 0";
    assert!(!tshark::tally(&file, low, &["tcp.len"]).unwrap().is_empty(), "it did wrap");
}

#[tokio::test]
async fn beyond_a_prefix_only_headers_are_kept_and_lengths_stay_true() {
    let up = noise(8, 500_000);
    let datagram = noise(9, 1_200);
    let (_data, file, rows) = captured(async |forwarder| {
        forwarder.open(crate::speaker::Opening { mode: "prefix 100000", ..tcp(1, CLIENT) }).await;
        forwarder.data_cut(1, Up, &up, 100_000).await;
        forwarder.data_cut(1, Down, &up, 0).await;
        forwarder.finish(1).await;
        forwarder.open(crate::speaker::Opening { mode: "headers", ..udp(2, CLIENT) }).await;
        forwarder.data_cut(2, Up, &datagram, 0).await;
        forwarder.data_cut(2, Down, &datagram, 300).await;
        forwarder.end(2, EndReason::UdpExpired).await;
    })
    .await;
    tshark::readable(&file).unwrap();
    tshark::clean(&file).unwrap();
    tshark::in_order(&file).unwrap();
    tshark::libpcap_agrees(&file, packets(&rows)).unwrap();
    let stream = tshark::stream_of(&file, &session(1), "tcp").unwrap();
    assert_eq!(tshark::stream_bytes(&file, &stream, CLIENT_PORT).unwrap(), 500_000);
    assert_eq!(tshark::stream_bytes(&file, &stream, TCP_PORT).unwrap(), 500_000);
    let payload = tshark::tcp_payload(&file, &stream, CLIENT_PORT).unwrap();
    assert!(payload == up[..100_000]);
    let noted = tshark::tally(&file, "frame.comment contains \"cut: \"", &["frame.comment"]);
    assert_eq!(noted.unwrap().len(), 2);
    let tcp = row(&rows, 1);
    assert_eq!((tcp.captured_bytes, tcp.original_bytes), (100_000, 1_000_000));
    assert_eq!((tcp.dropped_bytes, tcp.truncated), (0, true));
    let udp = row(&rows, 2);
    assert_eq!((udp.captured_bytes, udp.original_bytes, udp.packets), (300, 2_400, 2));
}

#[tokio::test]
async fn a_session_that_goes_on_in_the_middle_has_no_made_up_beginning() {
    let (up, down) = (noise(10, 3_000), noise(11, 400_000));
    let (_data, file, rows) = captured(async |forwarder| {
        let resumed = Some(PerDirection { up: 5_000_000_000, down: 70_000 });
        forwarder.open(crate::speaker::Opening { resumed, ..tcp(1, CLIENT) }).await;
        forwarder.data(1, Down, &down).await;
        forwarder.data(1, Up, &up).await;
        forwarder.finish(1).await;
    })
    .await;
    tshark::all_is_well(&file, "web", packets(&rows)).unwrap();
    assert_payload(&file, 1, &up, &down);
    assert_eq!(tshark::completeness(&file, "0").unwrap(), ["28"]);
    let noted = "frame.comment contains \"mid-session up=5000000000 down=70000\"";
    assert_eq!(tshark::tally(&file, noted, &["frame.number"]).unwrap(), [("1".to_owned(), 1)]);
    assert_eq!(row(&rows, 1).dropped_bytes, 0);
}
