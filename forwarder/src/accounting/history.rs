//! What the spool tells of earlier boots. Where it is damaged it is mended first: the rest goes on,
//! and the loss is told by an event that stands in the place of the frames that are lost.

use std::ops::RangeInclusive;

use bytes::Bytes;
use forwarder_core::accounting::SpoolHistory;
use journal::{Entry, Journal, JournalError};
use prost::Message;
use schemas::table::Event;
use schemas::vocab::{BootId, Severity, Timestamp};
use schemas::wire::{BootEnd, FrameKind, Rows};

use super::start::StartError;

/// Who reads, and tells of what is lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Historian<'c> {
    pub(super) node: &'c str,
    pub(super) boot: BootId,
    pub(super) now: Timestamp,
}

impl Historian<'_> {
    /// Everything the spool still tells of earlier boots.
    pub(super) fn read(&self, journal: &mut Journal) -> Result<SpoolHistory, StartError> {
        // Each attempt but the last mends another segment.
        let segments = journal.segments().len();
        for _ in 0..segments {
            match self.read_whole(journal) {
                Err(StartError::Spool(error)) => self.mend(journal, error)?,
                read => return read,
            }
        }
        self.read_whole(journal)
    }

    fn read_whole(&self, journal: &Journal) -> Result<SpoolHistory, StartError> {
        let mut history = SpoolHistory::default();
        for entry in journal.scan()? {
            match entry? {
                Entry::Segment(head) => history.segment(&head),
                Entry::Frame(frame, _) if frame.kind == FrameKind::Rows => {
                    let rows = decode::<Rows>(&frame.payload)?;
                    // This boot has not begun: what it told of losses is all there is of it.
                    if rows.boot != self.boot.as_str() {
                        history.rows(&rows);
                    }
                }
                Entry::Frame(frame, _) if frame.kind == FrameKind::BootEnd => {
                    history.boot_end(&decode::<BootEnd>(&frame.payload)?);
                }
                Entry::Frame(..) => {}
            }
        }
        Ok(history)
    }

    fn mend(&self, journal: &mut Journal, error: JournalError) -> Result<(), StartError> {
        let Some(segment) = error.damaged_segment().map(ToOwned::to_owned) else {
            return Err(error.into());
        };
        let spool = journal.id();
        let mended = journal.mend(&segment, |lost, frame| {
            let mut rows = Rows {
                node: self.node.to_owned(),
                boot: self.boot.as_str().to_owned(),
                ..Rows::default()
            };
            if frame == *lost.start() {
                rows.events.push(self.gap(
                    lost,
                    &format!(
                        "frames {} to {} of spool {spool} were damaged on disk and are lost",
                        lost.start(),
                        lost.end()
                    ),
                ));
            }
            Bytes::from(rows.encode_to_vec())
        })?;
        for lost in &mended.lost {
            tracing::error!(
                from = lost.start(),
                to = lost.end(),
                kept_as = %mended.aside.display(),
                "{error}; these frames are lost, the rest of the spool goes on"
            );
        }
        Ok(())
    }

    fn gap(&self, lost: &RangeInclusive<u64>, message: &str) -> Event {
        let (from, to) = (lost.start(), lost.end());
        Event {
            ts: self.now.0,
            severity: Severity::Error.as_str().to_owned(),
            kind: "spool_gap".to_owned(),
            message: message.to_owned(),
            attributes: Some(format!("{{\"from\":{from},\"to\":{to}}}")),
            ..Event::default()
        }
    }
}

fn decode<M: Message + Default>(payload: &[u8]) -> Result<M, StartError> {
    M::decode(payload).map_err(|error| {
        StartError::Recovery(format!("the spool holds a frame that is not rows: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use journal::Settings;
    use schemas::vocab::SpoolId;

    use super::*;

    #[test]
    fn a_damaged_segment_is_set_aside_and_an_event_stands_where_its_frames_were() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Journal::open(dir.path(), Settings::new(SpoolId(1))).unwrap().0;
        let mut journal = open();
        for boot in ["aaaaaaaa", "bbbbbbbb", "cccccccc"] {
            let rows = Rows { node: "edge".into(), boot: boot.into(), ..Rows::default() };
            journal.append(FrameKind::Rows, rows.encode_to_vec().into()).unwrap();
        }
        journal.seal().unwrap();
        let segment = journal.segments().next().unwrap();
        drop(journal);
        let mut bytes = std::fs::read(&segment.path).unwrap();
        let of_b = bytes.windows(8).position(|window| window == b"bbbbbbbb").unwrap();
        bytes[of_b] ^= 1;
        std::fs::write(&segment.path, &bytes).unwrap();

        let mut journal = open();
        let boot = BootId::from_random(7);
        let historian = Historian { node: "edge", boot, now: Timestamp(5) };
        let mut history = historian.read(&mut journal).unwrap();
        let frames: Vec<Rows> = journal::scan(dir.path())
            .unwrap()
            .filter_map(|entry| match entry.unwrap() {
                Entry::Frame(frame, _) => Some(Rows::decode(&frame.payload[..]).unwrap()),
                Entry::Segment(_) => None,
            })
            .collect();
        let boots: Vec<_> = frames.iter().map(|rows| rows.boot.as_str()).collect();
        assert_eq!(boots, ["aaaaaaaa", boot.as_str(), "cccccccc"]);
        let event = &frames[1].events[0];
        assert_eq!((event.kind.as_str(), event.seq), ("spool_gap", None));
        assert_eq!(event.attributes.as_deref(), Some(r#"{"from":2,"to":2}"#));
        let kept = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let kept: Vec<_> = kept.filter(|p| p.extension().is_some_and(|e| e == "suspect")).collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(std::fs::read(&kept[0]).unwrap(), bytes);
        // The boot that tells of the loss is not taken for one that ended before.
        let mut spool = crate::accounting::spool::BoundedSpool::new(journal, u64::MAX);
        let ended = history.end_lost_boots("edge", &mut spool).unwrap();
        let ended: Vec<_> = ended.iter().map(|end| end.boot.as_str()).collect();
        assert_eq!(ended, ["aaaaaaaa", "cccccccc"]);
    }
}
