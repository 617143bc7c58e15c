//! Sessions taken out of captures that a real recorder wrote, and shown to tshark.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[expect(dead_code, reason = "shared with the recorder's tests")]
#[path = "../../recorder/tests/capture/speaker.rs"]
mod speaker;
#[expect(dead_code, reason = "shared with the recorder's tests")]
#[path = "../../recorder/tests/capture/tshark.rs"]
mod tshark;

use std::path::Path;

use analyze::pcap::{Captured, Exported, Extent, Output, PcapError, Side, export};
use schemas::table::Capture;
use schemas::vocab::Direction::{Down, Up};
use schemas::vocab::{EndReason, PerDirection, Transport};
use schemas::wire::MarkKind;
use speaker::{Opening, Recorder, TCP_PORT, UDP_PORT, noise, session, tcp, udp};

const CLIENT: &str = "192.0.2.1:50001";
const CLIENT_PORT: u16 = 50_001;

/// What the tables say of a session.
fn captured(rows: &[Capture], number: u64, opening: &Opening<'_>) -> Captured {
    let mut rows: Vec<&Capture> =
        rows.iter().filter(|row| u64::try_from(row.session_no) == Ok(number)).collect();
    rows.sort_by_key(|row| row.extent);
    let extent = |row: &&Capture| Extent {
        file: row.file.as_ref().unwrap().into(),
        offset_first: u64::try_from(row.offset_first).unwrap(),
        offset_last: u64::try_from(row.offset_last).unwrap(),
    };
    Captured {
        session: session(number).parse().unwrap(),
        transport: opening.transport.parse::<Transport>().unwrap(),
        client: opening.client.parse().unwrap(),
        listen: opening.listen.parse().unwrap(),
        extents: rows.iter().map(extent).collect(),
    }
}

fn payload(data: &Path, captured: &Captured, side: Side) -> Result<Vec<u8>, PcapError> {
    let mut out = Vec::new();
    let exported = export(data, captured, Output::Payload(side), &mut out)?;
    assert_eq!(exported.payload_bytes, u64::try_from(out.len()).unwrap());
    Ok(out)
}

fn exported(
    data: &Path,
    captured: &Captured,
    output: Output,
    name: &str,
) -> (std::path::PathBuf, Exported) {
    let path = data.join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    let exported = export(data, captured, output, &mut file).unwrap();
    (path, exported)
}

#[tokio::test]
async fn a_session_comes_out_alone_whatever_lies_between() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    let (up, down) = (noise(1, 40_000), noise(2, 300_000));
    // The same addresses before and behind, another session in between, and one file border.
    forwarder.open(tcp(1, CLIENT)).await;
    forwarder.data(1, Up, b"before").await;
    forwarder.finish(1).await;
    forwarder.open(tcp(2, CLIENT)).await;
    forwarder.open(tcp(3, "192.0.2.9:50001")).await;
    forwarder.data(2, Up, &up[..10_000]).await;
    forwarder.data(3, Up, b"in between").await;
    forwarder.data(2, Down, &down[..100_000]).await;
    forwarder.flush().await;
    recorder.captures().close_files().await.unwrap();
    forwarder.data(3, Down, b"in between").await;
    forwarder.data(2, Up, &up[10_000..]).await;
    forwarder.data(2, Down, &down[100_000..]).await;
    forwarder.finish(2).await;
    forwarder.finish(3).await;
    forwarder.open(tcp(4, CLIENT)).await;
    forwarder.data(4, Up, b"behind").await;
    forwarder.finish(4).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;

    let two = captured(&rows, 2, &tcp(2, CLIENT));
    assert_eq!(two.extents.len(), 2);
    assert!(payload(data.path(), &two, Side::Up).unwrap() == up);
    assert!(payload(data.path(), &two, Side::Down).unwrap() == down);
    assert_eq!(payload(data.path(), &two, Side::Both).unwrap().len(), up.len() + down.len());

    let (file, counts) = exported(data.path(), &two, Output::Pcapng, "two.pcapng");
    let packets = usize::try_from(counts.packets).unwrap();
    tshark::all_is_well(&file, "web", packets).unwrap();
    assert!(tshark::tcp_payload(&file, "0", CLIENT_PORT).unwrap() == up);
    assert!(tshark::tcp_payload(&file, "0", TCP_PORT).unwrap() == down);
    assert_eq!(tshark::tally(&file, "frame", &["tcp.stream"]).unwrap().len(), 1);

    let (file, counts) = exported(data.path(), &two, Output::Pcap, "two.pcap");
    assert_eq!(usize::try_from(counts.packets).unwrap(), packets);
    tshark::clean(&file).unwrap();
    tshark::libpcap_agrees(&file, packets).unwrap();
    assert!(tshark::tcp_payload(&file, "0", TCP_PORT).unwrap() == down);

    let four = captured(&rows, 4, &tcp(4, CLIENT));
    assert_eq!(payload(data.path(), &four, Side::Up).unwrap(), b"behind");
}

#[tokio::test]
async fn datagrams_of_the_same_addresses_are_told_apart_by_session() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    for number in [1, 2] {
        forwarder.open(udp(number, CLIENT)).await;
        forwarder.data(number, Up, &[u8::try_from(number).unwrap(); 100]).await;
        forwarder.data(number, Down, b"").await;
        forwarder.end(number, EndReason::UdpExpired).await;
    }
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    let two = captured(&rows, 2, &udp(2, CLIENT));
    assert_eq!(payload(data.path(), &two, Side::Both).unwrap(), [2; 100]);
    let (file, counts) = exported(data.path(), &two, Output::Pcapng, "two.pcapng");
    assert_eq!(counts.packets, 2);
    assert_eq!(tshark::datagrams(&file, "0", UDP_PORT).unwrap(), [b""]);
}

#[tokio::test]
async fn payload_that_is_not_all_there_is_refused_in_words() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    forwarder.open(tcp(1, CLIENT)).await;
    forwarder.data(1, Up, b"whole").await;
    forwarder.lose(1, Down, 70_000);
    forwarder.data(1, Down, b"behind the gap").await;
    forwarder.finish(1).await;
    forwarder.open(tcp(2, CLIENT)).await;
    forwarder.data(2, Up, b"then nothing").await;
    forwarder.lose(2, Up, 5);
    forwarder.mark(2, Up, MarkKind::Fin).await;
    forwarder.mark(2, Down, MarkKind::Fin).await;
    forwarder.end(2, EndReason::Done).await;
    let prefix = Opening { mode: "prefix 10", ..tcp(3, CLIENT) };
    forwarder.open(prefix).await;
    forwarder.data_cut(3, Up, &noise(3, 100), 10).await;
    forwarder.finish(3).await;
    let resumed = Some(PerDirection { up: 900, down: 0 });
    forwarder.open(Opening { resumed, ..tcp(4, CLIENT) }).await;
    forwarder.data(4, Up, b"late").await;
    forwarder.finish(4).await;
    forwarder.open(udp(5, CLIENT)).await;
    forwarder.lose(5, Up, 100);
    forwarder.data(5, Up, b"late").await;
    forwarder.end(5, EndReason::UdpExpired).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;

    let one = captured(&rows, 1, &tcp(1, CLIENT));
    assert_eq!(payload(data.path(), &one, Side::Up).unwrap(), b"whole");
    let mut words = Vec::new();
    for (number, opening, side) in [
        (1, tcp(1, CLIENT), Side::Down),
        (2, tcp(2, CLIENT), Side::Up),
        (3, tcp(3, CLIENT), Side::Up),
        (4, tcp(4, CLIENT), Side::Up),
        (5, udp(5, CLIENT), Side::Up),
    ] {
        let error = payload(data.path(), &captured(&rows, number, &opening), side).unwrap_err();
        words.push(error.to_string());
    }
    insta::assert_snapshot!(words.join("\n"));
}

#[tokio::test]
async fn a_session_without_capture_and_files_that_are_gone_or_broken_are_told_in_words() {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    forwarder.open(tcp(1, CLIENT)).await;
    forwarder.data(1, Up, b"payload").await;
    forwarder.finish(1).await;
    forwarder.hang_up().await;
    let rows = recorder.stop().await;
    let one = captured(&rows, 1, &tcp(1, CLIENT));
    let file = data.path().join(&one.extents[0].file);
    let mut words = Vec::new();
    let mut attempt = |captured: &Captured| {
        let error = export(data.path(), captured, Output::Pcapng, &mut std::io::sink());
        let text = error.unwrap_err().to_string();
        words.push(text.replace(&file.display().to_string(), "FILE"));
    };
    attempt(&Captured { extents: Vec::new(), ..one.clone() });
    let off = Extent { offset_first: 30, ..one.extents[0].clone() };
    attempt(&Captured { extents: vec![off], ..one.clone() });
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 300]).unwrap();
    attempt(&one);
    std::fs::write(&file, b"not a capture at all").unwrap();
    attempt(&one);
    std::fs::remove_file(&file).unwrap();
    attempt(&one);
    insta::assert_snapshot!(words.join("\n"));
}
