//! Files with one fault each: the checks must find it, or they prove nothing.

use std::path::PathBuf;

use schemas::vocab::Direction::{Down, Up};

use crate::speaker::{Recorder, noise, only_file, tcp};
use crate::{blocks, tshark};

/// A good capture of one session with some payload both ways.
async fn good() -> (tempfile::TempDir, PathBuf) {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(data.path()).await;
    let mut forwarder = recorder.connect();
    forwarder.open(tcp(1, "192.0.2.1:50001")).await;
    for seed in 0..4 {
        forwarder.data(1, Up, &noise(seed, 3_000)).await;
        forwarder.data(1, Down, &noise(seed, 5_000)).await;
    }
    forwarder.finish(1).await;
    forwarder.hang_up().await;
    recorder.stop().await;
    let file = only_file(data.path(), "web");
    tshark::clean(&file).unwrap();
    tshark::checksums(&file).unwrap();
    (data, file)
}

#[tokio::test]
async fn a_wrong_checksum_is_found() {
    let (_data, file) = good().await;
    let mut broken = blocks::read(&file);
    let with_payload = blocks::packets(&mut broken, 1_000);
    *blocks::frame(&mut broken[with_payload[1]]).unwrap().last_mut().unwrap() ^= 1;
    let file = blocks::write(&file, "checksum.pcapng", &broken);
    assert!(tshark::clean(&file).is_err());
    assert!(tshark::checksums(&file).is_err());
    assert!(tshark::libpcap_agrees(&file, blocks::packets(&mut broken, 0).len()).is_err());
}

#[tokio::test]
async fn a_repeated_acknowledgement_is_found() {
    let (_data, file) = good().await;
    let mut broken = blocks::read(&file);
    let all = blocks::packets(&mut broken, 0);
    let is_bare = |block: &mut Vec<u8>| blocks::frame(block).is_some_and(|f| f.len() == 54);
    // Behind the handshake, whose ACK is bare as well.
    let bare = all.into_iter().skip(3).find(|number| is_bare(&mut broken[*number])).unwrap();
    broken.insert(bare, broken[bare].clone());
    let file = blocks::write(&file, "repeated.pcapng", &broken);
    assert!(tshark::clean(&file).is_err());
}

#[tokio::test]
async fn the_same_sequence_numbers_for_another_session_are_found() {
    let (_data, file) = good().await;
    let mut broken = blocks::read(&file);
    let all = blocks::packets(&mut broken, 0);
    let again: Vec<_> = all.iter().map(|number| broken[*number].clone()).collect();
    let behind = all.last().unwrap() + 1;
    broken.splice(behind..behind, again);
    let file = blocks::write(&file, "again.pcapng", &broken);
    assert!(tshark::clean(&file).is_err());
}

#[tokio::test]
async fn a_missing_packet_is_found() {
    let (_data, file) = good().await;
    let mut broken = blocks::read(&file);
    let with_payload = blocks::packets(&mut broken, 1_000);
    broken.remove(with_payload[3]);
    let file = blocks::write(&file, "missing.pcapng", &broken);
    assert!(tshark::clean(&file).is_err());
}

#[tokio::test]
async fn a_cut_file_and_a_mistyped_option_are_found() {
    let (_data, file) = good().await;
    let bytes = std::fs::read(&file).unwrap();
    let cut = file.with_file_name("cut.pcapng");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    assert!(tshark::readable(&cut).is_err());
    assert!(tshark::tshark(&file, &["-o", "tcp.no_such_preference:TRUE"]).is_err());
}
