//! What a sealed segment adds to the tables: its rows without duplicates, and the new marks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use journal::{JournalError, SegmentReader};
use prost::Message;
use schemas::manifest::{BootEndMark, BootMark, SpoolMark};
use schemas::table::Capture;
use schemas::vocab::SpoolId;
use schemas::wire::{BootEnd, Frame, FrameKind, MAX_ACCOUNTING_PAYLOAD, Received, Rows};

use crate::log::SealedSegment;
use crate::manifest::Marks;

/// The rows and marks of a segment. Its size is bounded by the segment's.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// Rows of all tables, in the order of the frames.
    pub(super) rows: Rows,
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

impl Collected {
    /// Reads a whole sealed segment on top of what `marks` say the tables have.
    pub(super) fn read(segment: &SealedSegment, marks: &Marks) -> Result<Self, JournalError> {
        let mut collector = Collector {
            marks,
            spools: BTreeMap::new(),
            boots: BTreeMap::new(),
            collected: Self::default(),
        };
        let mut reader = SegmentReader::open(&segment.path)?;
        while let Some((frame, _)) = reader.next_frame()? {
            if let Err(reason) = collector.take(&frame) {
                collector.collected.undecodable += 1;
                collector.collected.first_undecodable.get_or_insert((frame.number, reason));
            }
        }
        let mut collected = collector.collected;
        collected.drop_repeated_captures();
        collected.spools = collector.spools.into_values().collect();
        collected.boots = collector.boots.into_values().collect();
        Ok(collected)
    }

    /// A crash between the index of a capture file and the file's name makes the next start index
    /// the file again.
    fn drop_repeated_captures(&mut self) {
        let before = self.rows.captures.len();
        let mut seen = BTreeSet::new();
        self.rows.captures.retain(|row| {
            let Capture { node, boot, session_no, extent, file, .. } = row;
            seen.insert((node.clone(), boot.clone(), *session_no, *extent, file.clone()))
        });
        self.duplicates += as_u64(before - self.rows.captures.len());
    }
}

struct Collector<'m> {
    marks: &'m Marks,
    spools: BTreeMap<u64, SpoolMark>,
    boots: BTreeMap<(String, String), BootMark>,
    collected: Collected,
}

impl Collector<'_> {
    fn take(&mut self, frame: &Frame) -> Result<(), String> {
        match frame.kind {
            FrameKind::Received => self.take_received(&decode(frame)?),
            FrameKind::Rows => {
                let mut rows: Rows = decode(frame)?;
                // Our own rows name node and boot one by one, unless they all have the same.
                if !rows.boot.is_empty() {
                    rows.fill_in();
                }
                self.append(rows);
                Ok(())
            }
            other => Err(format!("{other:?} is no frame of a log")),
        }
    }

    fn take_received(&mut self, received: &Received) -> Result<(), String> {
        let mut bytes = BytesMut::from(&received.frame[..]);
        let (frame, crc) = Frame::decode(&mut bytes, MAX_ACCOUNTING_PAYLOAD)
            .map_err(|error| error.to_string())?
            .ok_or("the frame in it is cut off")?;
        let seen_before = !self.advance_spool(received, frame.number, crc);
        match frame.kind {
            FrameKind::Rows => {
                let mut rows: Rows = decode(&frame)?;
                if seen_before {
                    self.collected.duplicates += as_u64(rows.len());
                    return Ok(());
                }
                self.drop_duplicates(&mut rows);
                rows.fill_in();
                self.append(rows);
            }
            FrameKind::BootEnd => self.end_boot(&decode(&frame)?),
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
    fn drop_duplicates(&mut self, rows: &mut Rows) {
        let Some(newest) = rows.seqs().max() else { return };
        let before = rows.len();
        let mark = self.boot(&rows.node, &rows.boot);
        let held = mark.last_seq;
        mark.last_seq = held.max(newest);
        let is_new = |seq: Option<i64>| seq.is_none_or(|seq| seq > held);
        rows.sessions.retain(|row| is_new(row.seq));
        rows.usage.retain(|row| is_new(row.seq));
        rows.slots.retain(|row| is_new(row.seq));
        rows.denied.retain(|row| is_new(row.seq));
        rows.events.retain(|row| is_new(row.seq));
        self.collected.duplicates += as_u64(before - rows.len());
    }

    fn end_boot(&mut self, end: &BootEnd) {
        let mark = self.boot(&end.node, &end.boot);
        // Found twice it counts once.
        mark.end.get_or_insert(BootEndMark {
            last_seq: end.last_seq,
            last_session_no: end.last_session_no,
            unopened: end.unopened,
            exact: end.exact,
            ended_at: end.ended_at,
        });
    }

    fn boot(&mut self, node: &str, boot: &str) -> &mut BootMark {
        let key = (node.to_owned(), boot.to_owned());
        let new =
            || BootMark { node: node.to_owned(), boot: boot.to_owned(), last_seq: 0, end: None };
        let known = self.marks.boot(node, boot);
        self.boots.entry(key).or_insert_with(|| known.cloned().unwrap_or_else(new))
    }

    fn append(&mut self, rows: Rows) {
        let all = &mut self.collected.rows;
        all.sessions.extend(rows.sessions);
        all.usage.extend(rows.usage);
        all.slots.extend(rows.slots);
        all.denied.extend(rows.denied);
        all.events.extend(rows.events);
        all.captures.extend(rows.captures);
    }
}

fn decode<M: Message + Default>(frame: &Frame) -> Result<M, String> {
    M::decode(frame.message_bytes()).map_err(|error| error.to_string())
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
