//! What a sealed segment adds to the tables: its rows without duplicates, and the new marks. The
//! rows stay where they lie in the segment's frames: millions of them pass here, and a string for
//! every text would cost more than all the rest.

use std::collections::{BTreeMap, BTreeSet};

use journal::{JournalError, SegmentReader};
use prost::Message;
use schemas::manifest::{BootEndMark, BootMark, SeqRange, SpoolMark};
use schemas::table::CaptureView;
use schemas::vocab::SpoolId;
use schemas::wire::{
    BootEnd, Frame, FrameKind, FrameView, MAX_ACCOUNTING_PAYLOAD, Received, RowViews,
};

use crate::log::SealedSegment;
use crate::manifest::Marks;

/// A sealed segment in memory.
#[derive(Debug)]
pub(super) struct Frames(Vec<Logged>);

/// A frame of the log.
#[derive(Debug)]
enum Logged {
    Received(u64, Result<Received, String>),
    Own(Frame),
}

impl Frames {
    /// Reads a whole segment.
    pub(super) fn read(segment: &SealedSegment) -> Result<Self, JournalError> {
        let mut frames = Vec::new();
        let mut reader = SegmentReader::open(&segment.path)?;
        while let Some((frame, _)) = reader.next_frame()? {
            frames.push(match frame.kind {
                // The frame in it goes on sharing the memory that this one was read into.
                FrameKind::Received => {
                    let received = Received::decode(frame.payload);
                    Logged::Received(frame.number, received.map_err(|error| error.to_string()))
                }
                _ => Logged::Own(frame),
            });
        }
        Ok(Self(frames))
    }
}

/// The rows and marks of a segment. Its size is bounded by the segment's.
#[derive(Debug, Default)]
pub(super) struct Collected<'f> {
    /// Rows of all tables, in the order of the frames.
    pub(super) rows: RowViews<'f>,
    /// Spools of which the segment holds frames.
    pub(super) spools: Vec<SpoolMark>,
    /// Boots of which the segment holds rows or the end.
    pub(super) boots: Vec<BootMark>,
    /// Rows left out because the tables have them.
    pub(super) duplicates: u64,
    /// Frames left out because they cannot be read.
    pub(super) undecodable: u64,
    /// The first of them, and why it cannot be read.
    pub(super) first_undecodable: Option<(u64, String)>,
}

impl<'f> Collected<'f> {
    /// Goes over a whole sealed segment on top of what `marks` say the tables have.
    pub(super) fn of(frames: &'f Frames, marks: &Marks) -> Self {
        let mut collector = Collector {
            marks,
            spools: BTreeMap::new(),
            boots: BTreeMap::new(),
            frame: RowViews::default(),
            collected: Self::default(),
        };
        for logged in &frames.0 {
            let (number, taken) = match logged {
                Logged::Received(number, Ok(received)) => {
                    (*number, collector.take_received(received))
                }
                Logged::Received(number, Err(reason)) => (*number, Err(reason.clone())),
                Logged::Own(frame) => (frame.number, collector.take_own(frame)),
            };
            if let Err(reason) = taken {
                collector.collected.undecodable += 1;
                collector.collected.first_undecodable.get_or_insert((number, reason));
            }
        }
        let mut collected = collector.collected;
        collected.drop_repeated_captures();
        collected.spools = collector.spools.into_values().collect();
        collected.boots = collector.boots.into_values().collect();
        collected
    }

    /// A crash between the index of a capture file and the file's name makes the next start index
    /// the file again.
    fn drop_repeated_captures(&mut self) {
        let before = self.rows.captures.len();
        let mut seen = BTreeSet::new();
        self.rows.captures.retain(|row| {
            let CaptureView { node, boot, session_no, extent, file, .. } = row;
            seen.insert((*node, *boot, *session_no, *extent, *file))
        });
        self.duplicates += as_u64(before - self.rows.captures.len());
    }
}

struct Collector<'m, 'f> {
    marks: &'m Marks,
    spools: BTreeMap<u64, SpoolMark>,
    boots: BTreeMap<(String, String), BootMark>,
    /// The rows of one frame.
    frame: RowViews<'f>,
    collected: Collected<'f>,
}

impl<'f> Collector<'_, 'f> {
    fn take_own(&mut self, frame: &'f Frame) -> Result<(), String> {
        if frame.kind != FrameKind::Rows {
            return Err(format!("{:?} is no frame of a log", frame.kind));
        }
        self.frame.read(frame.message_bytes()).map_err(|error| error.to_string())?;
        // Our own rows name node and boot one by one, unless they all have the same.
        if !self.frame.boot.is_empty() {
            self.frame.fill_in();
        }
        self.collected.rows.append(&mut self.frame);
        Ok(())
    }

    fn take_received(&mut self, received: &'f Received) -> Result<(), String> {
        let frame = FrameView::at_front(&received.frame, MAX_ACCOUNTING_PAYLOAD)
            .map_err(|error| error.to_string())?
            .ok_or("the frame in it is cut off")?;
        let seen_before = !self.advance_spool(received, frame.number, frame.crc());
        let begins = received.begins && !seen_before;
        match frame.kind {
            FrameKind::Rows => {
                self.frame.read(frame.message).map_err(|error| error.to_string())?;
                if seen_before {
                    self.collected.duplicates += as_u64(self.frame.len());
                    return Ok(());
                }
                if begins && let Some(first) = self.frame.oldest_seq() {
                    self.pass_over(self.frame.node, self.frame.boot, first - 1);
                }
                self.drop_duplicates();
                self.frame.fill_in();
                self.collected.rows.append(&mut self.frame);
            }
            FrameKind::BootEnd => {
                let end = BootEnd::decode(frame.message).map_err(|error| error.to_string())?;
                if begins {
                    self.pass_over(&end.node, &end.boot, end.last_seq);
                }
                if !received.mistaken {
                    self.end_boot(&end);
                }
            }
            // A kind of a newer forwarder that we may skip: a critical one did not decode.
            FrameKind::Unknown(_) => {}
            other => return Err(format!("a frame of kind {other:?} has no place in a spool")),
        }
        Ok(())
    }

    /// Notes that the spool came this far; false when it had been this far already.
    fn advance_spool(&mut self, received: &Received, frame: u64, crc: u32) -> bool {
        let spool_id = SpoolId(received.spool_id).to_string();
        let known = self.spools.get(&received.spool_id).or_else(|| self.marks.spool(&spool_id));
        if known.is_some_and(|mark| frame <= mark.last_frame) {
            return false;
        }
        let mark =
            SpoolMark { spool_id, node: received.node.clone(), last_frame: frame, last_crc: crc };
        self.spools.insert(received.spool_id, mark);
        true
    }

    /// Leaves out the rows that the tables have, whatever spool they came by.
    fn drop_duplicates(&mut self) {
        let Some(newest) = self.frame.newest_seq() else { return };
        let before = self.frame.len();
        let mark = self.boot(self.frame.node, self.frame.boot);
        let held = mark.last_seq;
        mark.last_seq = held.max(newest);
        if let Some(end) = mark.end.as_mut().filter(|end| !end.exact) {
            // It was taken for dead, and has more to say.
            end.last_seq = end.last_seq.max(newest);
        }
        self.frame.drop_through(held);
        self.collected.duplicates += as_u64(before - self.frame.len());
    }

    /// The stream begins behind the row `through` of a boot: another recorder has those that are
    /// not here.
    fn pass_over(&mut self, node: &str, boot: &str, through: i64) {
        let mark = self.boot(node, boot);
        let known = mark.elsewhere.last().map_or(0, |range| range.last).max(mark.last_seq);
        if through > known {
            mark.elsewhere.push(SeqRange { first: known + 1, last: through });
        }
    }

    fn end_boot(&mut self, end: &BootEnd) {
        let mark = self.boot(&end.node, &end.boot);
        // Who knows little of a boot may know less of it than the tables do.
        let last_seq = if end.exact { end.last_seq } else { end.last_seq.max(mark.last_seq) };
        // Found twice it counts once, but who knows everything is believed before who guesses.
        if mark.end.as_ref().is_some_and(|known| known.exact || !end.exact) {
            return;
        }
        mark.end = Some(BootEndMark {
            last_seq,
            last_session_no: end.last_session_no,
            unopened: end.unopened,
            exact: end.exact,
            ended_at: end.ended_at,
        });
    }

    fn boot(&mut self, node: &str, boot: &str) -> &mut BootMark {
        let key = (node.to_owned(), boot.to_owned());
        let new =
            || BootMark { node: node.to_owned(), boot: boot.to_owned(), ..BootMark::default() };
        let known = self.marks.boot(node, boot);
        self.boots.entry(key).or_insert_with(|| known.cloned().unwrap_or_else(new))
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
