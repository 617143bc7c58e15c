//! A sealed segment of the log on its way into Parquet parts: read, checked, sorted, turned into
//! columns, compressed, hashed, fsynced and committed. The goals are a million rows of usage, and
//! with what receiving costs (`bench-account` measures both) 200,000 sessions, per second and core.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set its scene should fail")]

use std::path::Path;

use arrow::datatypes::SchemaRef;
use bytes::{Bytes, BytesMut};
use divan::Bencher;
use divan::counter::ItemsCount;
use e2e_tests::account::{self, MadeUp, SESSIONS_PER_FRAME};
use journal::{Journal, Settings};
use prost::Message;
use recorder::data_dir::DataDir;
use recorder::log::SealedSegment;
use recorder::publish::Publisher;
use schemas::table::{Session, Usage};
use schemas::vocab::SpoolId;
use schemas::wire::{EncodedRows, FrameKind, Received, RowViews};
use tempfile::TempDir;

const FRAMES: u64 = 160;
const ROWS: usize = SESSIONS_PER_FRAME * 160;

fn main() {
    divan::main();
}

/// A data directory whose log holds one sealed segment.
fn segment(mut payload: impl FnMut(&mut MadeUp) -> EncodedRows) -> (TempDir, SealedSegment) {
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    drop(DataDir::claim(data.path()).unwrap());
    let mut settings = Settings::new(SpoolId(1));
    settings.segment_bytes = 1 << 30;
    let (mut journal, _) = Journal::open(&data.path().join("log"), settings).unwrap();
    let mut made = MadeUp::new("edge-1", "k3f9x2ab", 1000);
    for number in 1..=FRAMES {
        let mut frame = BytesMut::new();
        account::rows_frame(number, payload(&mut made)).encode(&mut frame);
        let frame = frame.freeze();
        let received =
            Received { node: "edge-1".into(), spool_id: 7, frame, ..Received::default() };
        journal.append(FrameKind::Received, Bytes::from(received.encode_to_vec())).unwrap();
    }
    journal.seal().unwrap();
    let sealed = journal.segments().next().unwrap();
    let journal::Segment { path, first_frame, last_frame, .. } = sealed;
    (data, SealedSegment { path, first_frame, last_frame })
}

/// Publishes the segment into a data directory of its own.
fn publish(bencher: Bencher<'_, '_>, (_log, segment): &(TempDir, SealedSegment)) {
    let fresh = || {
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let publisher = publisher(data.path());
        (data, publisher)
    };
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(fresh)
        .bench_local_refs(|(_data, publisher)| publisher.publish(segment).unwrap());
}

fn publisher(data: &Path) -> Publisher {
    let claimed = DataDir::claim(data).unwrap();
    Publisher::open(data, *claimed.group()).unwrap()
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn publish_sessions_with_their_usage(bencher: Bencher<'_, '_>) {
    publish(bencher, &segment(|made| made.ended(SESSIONS_PER_FRAME)));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn publish_usage(bencher: Bencher<'_, '_>) {
    publish(bencher, &segment(|made| made.interim(SESSIONS_PER_FRAME)));
}

/// What receiving a frame and publishing it both begin with.
#[divan::bench]
fn look_at_512_sessions_with_their_usage(bencher: Bencher<'_, '_>) {
    let rows = MadeUp::new("edge-1", "k3f9x2ab", 1000).ended(SESSIONS_PER_FRAME);
    bencher.counter(SESSIONS_PER_FRAME).bench_local(|| {
        let mut views = RowViews::default();
        views.read(rows.bytes()).unwrap();
        views.len()
    });
}

#[divan::bench]
fn make_columns_of_512_sessions(bencher: Bencher<'_, '_>) {
    let rows = MadeUp::new("edge-1", "k3f9x2ab", 1000).ended(SESSIONS_PER_FRAME);
    let mut views = RowViews::default();
    views.read(rows.bytes()).unwrap();
    let sessions: Vec<_> = views.sessions.iter().collect();
    let schema = Session::schema();
    bencher.counter(SESSIONS_PER_FRAME).bench_local(|| {
        schemas::table::SessionView::to_batch(&sessions, SchemaRef::clone(&schema)).unwrap()
    });
}

#[divan::bench]
fn make_columns_of_512_rows_of_usage(bencher: Bencher<'_, '_>) {
    let rows = MadeUp::new("edge-1", "k3f9x2ab", 1000).interim(SESSIONS_PER_FRAME);
    let mut views = RowViews::default();
    views.read(rows.bytes()).unwrap();
    let usage: Vec<_> = views.usage.iter().collect();
    let schema = Usage::schema();
    bencher.counter(SESSIONS_PER_FRAME).bench_local(|| {
        schemas::table::UsageView::to_batch(&usage, SchemaRef::clone(&schema)).unwrap()
    });
}
