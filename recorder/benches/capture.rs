//! Captured payload as pcapng packets: headers and checksums by themselves, and with the write.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set its scene should fail")]

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use recorder::capture::block::{Batch, Block};
use recorder::capture::packet::{Endpoints, Segment};
use schemas::vocab::Direction;

/// Payload of one message, in bytes.
const CHUNK: usize = 256 << 10;
/// Payload of a packet: a small exchange, a segment on a wire, the longest.
const SEGMENTS: [usize; 3] = [64, 1460, 65_495];

fn main() {
    divan::main();
}

fn ends() -> Endpoints {
    let ends = Endpoints::new("192.0.2.1:50001".parse().unwrap(), "192.0.2.7:80".parse().unwrap());
    ends.unwrap()
}

/// Adds `payload` to `batch` in segments of `len` bytes.
fn encode<'a>(ends: &Endpoints, payload: &'a [u8], len: usize, batch: &mut Batch<'a>) {
    for payload in payload.chunks(len) {
        let segment = Segment { seq: 1, ack: Some(1), payload, ..Segment::default() };
        let head = ends.tcp(Direction::Up, &segment);
        batch.push(&Block {
            interface: 0,
            time_ns: 1_790_000_000_123_456_789,
            head,
            payload,
            whole_len: u32::try_from(head.as_bytes().len() + payload.len()).unwrap(),
            flags: 1,
            lost_packets: 0,
            comments: &[],
        });
    }
}

#[divan::bench(args = SEGMENTS)]
fn packets(bencher: Bencher<'_, '_>, len: usize) {
    let (ends, payload) = (ends(), vec![0x5a; CHUNK]);
    let mut buffer = Vec::new();
    bencher.counter(BytesCount::new(CHUNK)).bench_local(|| {
        let mut batch = Batch::reusing(std::mem::take(&mut buffer));
        encode(&ends, black_box(&payload), len, &mut batch);
        buffer = batch.into_buffer();
        buffer.len()
    });
}

/// Over the same place again and again: what the file system pays for new pages is its own affair.
#[divan::bench(args = SEGMENTS)]
fn packets_into_a_file(bencher: Bencher<'_, '_>, len: usize) {
    let (ends, payload) = (ends(), vec![0x5a; CHUNK]);
    let file = tempfile::tempfile().unwrap();
    let mut buffer = Vec::new();
    bencher.counter(BytesCount::new(CHUNK)).bench_local(|| {
        let mut batch = Batch::reusing(std::mem::take(&mut buffer));
        encode(&ends, black_box(&payload), len, &mut batch);
        let written = batch.write_at(&file, 0).unwrap();
        buffer = batch.into_buffer();
        written
    });
}
