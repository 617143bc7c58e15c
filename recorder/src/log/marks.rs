//! How far each spool has come: the manifest's marks, and what the log holds beyond them.

use std::collections::HashMap;
use std::path::Path;

use bytes::BytesMut;
use journal::{Entry, JournalError};
use prost::Message;
use schemas::manifest::SpoolMark;
use schemas::vocab::SpoolId;
use schemas::wire::{Frame, FrameKind, MAX_ACCOUNTING_PAYLOAD, Received};

use super::StartError;

/// A frame of a spool: its number there, and its CRC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The number, from 1.
    pub frame: u64,
    /// The CRC.
    pub crc: u32,
}

pub(super) type Marks = HashMap<SpoolId, Mark>;

/// Reads the log over the manifest's marks.
pub(super) fn read(dir: &Path, manifest: &[SpoolMark]) -> Result<Marks, StartError> {
    let mut marks = Marks::new();
    for mark in manifest {
        let known = Mark { frame: mark.last_frame, crc: mark.last_crc };
        marks.insert(mark.spool_id.parse()?, known);
    }
    for entry in journal::scan(dir)? {
        let Entry::Frame(frame, _) = entry? else { continue };
        if frame.kind != FrameKind::Received {
            continue;
        }
        let (spool, mark) = received(&frame).ok_or_else(|| JournalError::Damaged {
            path: dir.to_owned(),
            offset: 0,
            reason: format!("frame {} of the log holds no frame of a spool", frame.number),
        })?;
        let known = marks.entry(spool).or_insert(mark);
        if mark.frame > known.frame {
            *known = mark;
        }
    }
    Ok(marks)
}

/// The spool's frame within a frame of the log.
fn received(frame: &Frame) -> Option<(SpoolId, Mark)> {
    let received = Received::decode(&frame.payload[..]).ok()?;
    let mut bytes = BytesMut::from(received.frame);
    let (inner, crc) = Frame::decode(&mut bytes, MAX_ACCOUNTING_PAYLOAD).ok()??;
    Some((SpoolId(received.spool_id), Mark { frame: inner.number, crc }))
}
