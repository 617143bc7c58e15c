//! The way of the recorder: frames into its log, the log's segments into published Parquet. One
//! thread makes rows, the other publishes them.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use anyhow::{Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use journal::{Journal, Settings};
use prost::Message;
use recorder::data_dir::{DataDir, Group};
use recorder::log::{DIRECTORY, SealedSegment};
use recorder::publish::Publisher;
use schemas::vocab::SpoolId;
use schemas::wire::{BootEnd, EncodedRows, Frame, FrameKind, Received};

/// Rows of a segment, of which a part of each table is made: what publishing takes of memory, about
/// 1 kB a row, grows with them.
const ROWS_PER_SEGMENT: usize = 1_000_000;
const SEGMENT_BYTES: u64 = 1 << 30;
/// Bytes between two fsyncs.
const GROUP_BYTES: usize = 64 << 20;
/// Segments that wait to be published.
const WAITING: usize = 1;

/// A data directory in the making.
pub(crate) struct Store {
    /// Its lock.
    _data: DataDir,
    journal: Journal,
    /// Names and last frames of the forwarders' spools.
    spools: Vec<(&'static str, u64)>,
    seed: u64,
    /// Rows in the segment that is written.
    rows: usize,
    /// The last frame of the segments that were handed over.
    handed_over: u64,
    sealed: SyncSender<SealedSegment>,
    published: Receiver<u64>,
    publishing: JoinHandle<Result<u64>>,
}

impl Store {
    /// Begins with an empty directory.
    pub(crate) fn create(out: &Path, nodes: [&'static str; 2], seed: u64) -> Result<Self> {
        if out.join("weir.json").exists() {
            bail!("{} holds an account already: name a directory that is not there", out.display());
        }
        let data = DataDir::claim(out).map_err(|failure| anyhow!("{failure}"))?;
        let mut settings = Settings::new(SpoolId(seed));
        settings.segment_bytes = SEGMENT_BYTES;
        settings.group_bytes = GROUP_BYTES;
        settings.max_payload = journal::MAX_PAYLOAD;
        let (journal, _) = Journal::open(&out.join(DIRECTORY), settings)?;
        let publisher = Publisher::open(out, Group::nobody())?;
        let (sealed, inbox) = mpsc::sync_channel(WAITING);
        // Never full: there are no more than the segments that are not removed yet.
        let (done, published) = mpsc::channel();
        let publishing = thread::spawn(move || {
            let mut publisher = publisher;
            let mut rows = 0;
            for segment in inbox {
                rows += publish(&mut publisher, &segment)?;
                if done.send(segment.last_frame).is_err() {
                    // Who makes the rows has failed.
                    break;
                }
            }
            Ok(rows)
        });
        let spools = nodes.map(|node| (node, 0)).to_vec();
        Ok(Self {
            _data: data,
            journal,
            spools,
            seed,
            rows: 0,
            handed_over: 0,
            sealed,
            published,
            publishing,
        })
    }

    /// Takes a frame of rows from the spool of this number.
    pub(crate) fn rows(&mut self, spool: usize, rows: EncodedRows, count: usize) -> Result<()> {
        self.rows += count;
        self.frame(spool, FrameKind::Rows, rows.into_bytes().into())
    }

    /// Takes the end of a boot.
    pub(crate) fn end(&mut self, spool: usize, end: &BootEnd) -> Result<()> {
        self.frame(spool, FrameKind::BootEnd, end.encode_to_vec().into())
    }

    fn frame(&mut self, spool: usize, kind: FrameKind, payload: Bytes) -> Result<()> {
        let (node, last) = &mut self.spools[spool];
        *last += 1;
        let mut frame = BytesMut::new();
        Frame { number: *last, payload, ..Frame::empty(kind) }.encode(&mut frame);
        let received = Received {
            node: (*node).to_owned(),
            spool_id: self.seed.wrapping_add(spool as u64 + 1),
            frame: frame.freeze(),
            ..Received::default()
        };
        self.journal.append(FrameKind::Received, received.encode_to_vec().into())?;
        Ok(())
    }

    /// Hands over what there is: all of it, or when it is enough for parts.
    pub(crate) fn publish(&mut self, all: bool) -> Result<()> {
        if self.rows == 0 || !(all || self.rows >= ROWS_PER_SEGMENT) {
            return Ok(());
        }
        self.rows = 0;
        self.journal.seal()?;
        while let Ok(frame) = self.published.try_recv() {
            self.journal.remove_through(frame)?;
        }
        let mut segments: Vec<_> = self.journal.segments().collect();
        // The newest is the one that was begun by sealing.
        segments.pop();
        for segment in segments {
            let journal::Segment { path, first_frame, last_frame, bytes: _ } = segment;
            if first_frame > self.handed_over {
                self.handed_over = last_frame;
                // An end of the other thread is told by `finish`.
                drop(self.sealed.send(SealedSegment { path, first_frame, last_frame }));
            }
        }
        Ok(())
    }

    /// Waits until everything is published, and says how many rows that is.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.publish(true)?;
        drop(self.sealed);
        let rows = self.publishing.join().map_err(|_panic| anyhow!("publishing panicked"))??;
        for frame in self.published {
            self.journal.remove_through(frame)?;
        }
        Ok(rows)
    }
}

fn publish(publisher: &mut Publisher, segment: &SealedSegment) -> Result<u64> {
    let published = publisher.publish(segment)?;
    if published.duplicates + published.undecodable > 0 {
        bail!("the recorder does not take every row: {published:?}");
    }
    Ok(published.rows)
}
