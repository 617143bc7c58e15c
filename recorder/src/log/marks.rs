//! How far each spool has come: the manifest's marks, and what the log holds beyond them.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::SystemTime;

use bytes::BytesMut;
use journal::{Entry, Journal, JournalError};
use prost::Message;
use schemas::manifest::SpoolMark;
use schemas::table::Event;
use schemas::vocab::{Severity, SpoolId, Timestamp};
use schemas::wire::{Frame, FrameKind, MAX_ACCOUNTING_PAYLOAD, Received, Rows};

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

/// Reads the log over the manifest's marks. Where the log is damaged it is mended first: what is
/// lost is told by an event in its place, and the rest goes on.
pub(super) fn read(journal: &mut Journal, manifest: &[SpoolMark]) -> Result<Marks, StartError> {
    let segments = journal.segments().len();
    for _ in 0..segments {
        match read_whole(journal, manifest) {
            Err(StartError::Journal(error)) => mend(journal, error)?,
            read => return read,
        }
    }
    read_whole(journal, manifest)
}

fn mend(journal: &mut Journal, error: JournalError) -> Result<(), StartError> {
    let Some(segment) = error.damaged_segment().map(ToOwned::to_owned) else {
        return Err(error.into());
    };
    let mended = journal.mend(&segment, |lost, frame| {
        let mut rows = Rows::default();
        if frame == *lost.start() {
            rows.events.push(gap_event(lost));
        }
        rows.encode_to_vec().into()
    })?;
    for lost in &mended.lost {
        tracing::error!(
            from = lost.start(),
            to = lost.end(),
            kept_as = %mended.aside.display(),
            "{error}; these frames of the log are lost, the rest goes on"
        );
    }
    Ok(())
}

fn gap_event(lost: &RangeInclusive<u64>) -> Event {
    let (from, to) = (lost.start(), lost.end());
    Event {
        node: "recorder".to_owned(),
        ts: Timestamp::from_system(SystemTime::now()).0,
        severity: Severity::Error.as_str().to_owned(),
        kind: "log_gap".to_owned(),
        message: format!(
            "frames {from} to {to} of the log were damaged on disk before they were published"
        ),
        attributes: Some(format!("{{\"from\":{from},\"to\":{to}}}")),
        ..Event::default()
    }
}

fn read_whole(journal: &Journal, manifest: &[SpoolMark]) -> Result<Marks, StartError> {
    let mut marks = Marks::new();
    for mark in manifest {
        let known = Mark { frame: mark.last_frame, crc: mark.last_crc };
        marks.insert(mark.spool_id.parse()?, known);
    }
    for entry in journal.scan()? {
        let Entry::Frame(frame, _) = entry? else { continue };
        if frame.kind != FrameKind::Received {
            continue;
        }
        let (spool, mark) = received(&frame).ok_or_else(|| JournalError::Damaged {
            path: journal.dir().to_owned(),
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use journal::Settings;

    use super::*;

    #[test]
    fn a_damaged_log_goes_on_and_tells_what_it_lost() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Journal::open(dir.path(), Settings::new(SpoolId(1))).unwrap().0;
        let mut log = open();
        for number in 1..=3 {
            let frame = Frame { number, ..Frame::message(FrameKind::Rows, 0, &Rows::default()) };
            let mut bytes = BytesMut::new();
            frame.encode(&mut bytes);
            let received = Received {
                node: "edge-1".to_owned(),
                spool_id: 7,
                frame: bytes.freeze(),
                ..Received::default()
            };
            log.append(FrameKind::Received, Bytes::from(received.encode_to_vec())).unwrap();
            log.sync().unwrap();
        }
        let segment = log.segments().next().unwrap().path;
        drop(log);
        let mut bytes = std::fs::read(&segment).unwrap();
        let second = bytes.windows(6).enumerate().filter(|(_, w)| *w == b"edge-1").nth(1).unwrap();
        let at = second.0;
        bytes[at] ^= 1;
        std::fs::write(&segment, bytes).unwrap();

        let mut log = open();
        let marks = read(&mut log, &[]).unwrap();
        assert_eq!(marks[&SpoolId(7)].frame, 3);
        let lost = log.scan().unwrap().find_map(|entry| match entry.unwrap() {
            Entry::Frame(frame, _) if frame.kind == FrameKind::Rows => Some(frame),
            _ => None,
        });
        let lost = lost.unwrap();
        let rows = Rows::decode(&lost.payload[..]).unwrap();
        assert_eq!((lost.number, rows.events[0].kind.as_str()), (2, "log_gap"));
        assert_eq!(rows.events[0].seq, None);
    }
}
