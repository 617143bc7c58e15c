//! What a journal must hold, whatever happened to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use journal::fs::{After, FileSystem, SimulatedDisk};
use journal::{Entry, Journal, JournalError, Reader, Recovery, Settings, scan_on};
use schemas::vocab::SpoolId;
use schemas::wire::FrameKind;

pub(crate) const DIR: &str = "/var/spool";
pub(crate) const SEGMENT_BYTES: u64 = 400;

pub(crate) fn open(disk: &SimulatedDisk) -> Result<(Journal, Recovery), JournalError> {
    let settings =
        Settings { segment_bytes: SEGMENT_BYTES, group_bytes: 300, ..Settings::new(SpoolId(7)) };
    Journal::open_on(shared(disk), Path::new(DIR), settings)
}

pub(crate) fn shared(disk: &SimulatedDisk) -> Arc<dyn FileSystem> {
    Arc::new(disk.clone())
}

/// Every frame in the journal, by number.
pub(crate) fn frames(disk: &SimulatedDisk) -> Result<BTreeMap<u64, Bytes>, JournalError> {
    let mut frames = BTreeMap::new();
    for entry in scan_on(shared(disk), Path::new(DIR))? {
        if let Entry::Frame(frame, _) = entry? {
            let twice = frames.insert(frame.number, frame.payload);
            assert!(twice.is_none(), "frame {} stands there twice", frame.number);
        }
    }
    Ok(frames)
}

/// What was asked of a journal and what it promised.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    /// Payloads by the numbers they were ever appended under.
    appended: BTreeMap<u64, BTreeSet<Bytes>>,
    /// What was promised to be there.
    durable: BTreeMap<u64, Bytes>,
    /// Frames up to this one may be gone.
    removed: u64,
}

impl Model {
    /// Judges what is left, and takes it for what there is now.
    pub(crate) fn check(&mut self, found: &BTreeMap<u64, Bytes>, journal: &Journal) {
        let numbers: Vec<_> = found.keys().copied().collect();
        let expected: Vec<_> = (journal.first_frame()..=journal.last_frame()).collect();
        assert_eq!(numbers, expected, "numbers have no gap");
        assert!(journal.first_frame() <= self.removed + 1, "only what was removed is gone");
        let promised = self.durable.keys().last().copied().unwrap_or(self.removed);
        assert!(journal.last_frame() >= promised, "{} < {promised}", journal.last_frame());
        for (number, payload) in found {
            match self.durable.get(number) {
                Some(durable) => assert_eq!(payload, durable, "frame {number}"),
                None => assert!(self.appended[number].contains(payload), "frame {number}"),
            }
        }
        let payloads: BTreeSet<_> = found.values().collect();
        assert_eq!(payloads.len(), found.len(), "nothing stands there twice");
        self.durable.clone_from(found);
    }
}

/// Whoever uses a journal as the forwarder does: what cannot be written is kept and written later.
#[derive(Debug)]
pub(crate) struct Author {
    pub(crate) disk: SimulatedDisk,
    /// `None`: it could not be opened.
    journal: Option<Journal>,
    reader: Option<(Reader, u64)>,
    pub(crate) model: Model,
    waiting: VecDeque<Bytes>,
    /// Appended, not durable.
    under_way: BTreeMap<u64, Bytes>,
    written: u64,
}

impl Author {
    pub(crate) fn new(disk: SimulatedDisk) -> Self {
        let model = Model::default();
        let (waiting, under_way) = (VecDeque::new(), BTreeMap::new());
        let journal = None;
        Self { disk, journal, reader: None, model, waiting, under_way, written: 0 }
    }

    pub(crate) fn open(&mut self) -> Result<(), JournalError> {
        if self.journal.is_none() {
            self.journal = Some(open(&self.disk)?.0);
        }
        Ok(())
    }

    /// Writes something that was never written before.
    pub(crate) fn write(&mut self, len: usize) -> Result<(), JournalError> {
        self.written += 1;
        let mut payload = format!("{:06} ", self.written).into_bytes();
        payload.resize(payload.len() + len, b'x');
        self.waiting.push_back(payload.into());
        self.flush()
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        self.open()?;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if journal.is_poisoned() {
            for frame in journal.retreat()?.into_iter().rev() {
                self.under_way.remove(&frame.number);
                self.waiting.push_front(frame.payload);
            }
        }
        while let Some(payload) = self.waiting.front() {
            // Should the append sync before it fails, this is durable without our knowing.
            let number = journal.append(FrameKind::Rows, payload.clone())?;
            let appended = self.model.appended.entry(number).or_default();
            appended.insert(payload.clone());
            self.under_way.insert(number, payload.clone());
            self.waiting.pop_front();
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        self.flush()?;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let durable = journal.sync()?;
        assert_eq!(durable, journal.last_frame());
        self.model.durable.append(&mut self.under_way);
        Ok(())
    }

    pub(crate) fn seal(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        self.journal.as_mut().map_or(Ok(()), Journal::seal)
    }

    /// Removes the older half.
    pub(crate) fn remove(&mut self) -> Result<(), JournalError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let through = (journal.first_frame() + journal.durable_frame()) / 2;
        self.model.removed = self.model.removed.max(through);
        journal.remove_through(through)
    }

    /// Reads on, as the link does.
    pub(crate) fn follow(&mut self) -> Result<(), JournalError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let durable = journal.durable_frame();
        let (reader, last) = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let reader = Reader::open_on(shared(&self.disk), Path::new(DIR), 1)?;
                let first = journal.first_frame();
                none.insert((reader, first.max(1) - 1))
            }
        };
        loop {
            match reader.next(durable) {
                Ok(Some((frame, _))) => {
                    assert!(frame.number > *last, "the reader goes forward");
                    *last = frame.number;
                    let known = self.model.durable.get(&frame.number);
                    let known = known.or_else(|| self.under_way.get(&frame.number));
                    assert_eq!(Some(&frame.payload), known, "frame {}", frame.number);
                }
                Ok(None) => {
                    assert!(*last >= durable, "{last} < {durable}");
                    return Ok(());
                }
                Err(error) => {
                    self.reader = None;
                    return Err(error);
                }
            }
        }
    }

    /// Dies, and finds what is left.
    pub(crate) fn die(&mut self, after: After) -> Result<(), JournalError> {
        self.disk = self.disk.survivors(after);
        self.journal = None;
        self.reader = None;
        self.waiting.clear();
        self.under_way.clear();
        self.recover()
    }

    fn recover(&mut self) -> Result<(), JournalError> {
        self.open()?;
        let Some(journal) = &self.journal else { return Ok(()) };
        self.model.check(&frames(&self.disk)?, journal);
        // All that was found is durable.
        let lost_all = self.disk.survivors(After::PowerLoss { seed: 0 });
        let (again, _) = open(&lost_all)?;
        self.model.check(&frames(&lost_all)?, &again);
        Ok(())
    }

    /// That everything is there once the disk has no more trouble to give.
    pub(crate) fn settle(&mut self) {
        self.write(3).unwrap();
        self.sync().unwrap();
        assert!(self.waiting.is_empty());
        let journal = self.journal.as_ref().unwrap();
        self.model.check(&frames(&self.disk).unwrap(), journal);
        self.die(After::PowerLoss { seed: 0 }).unwrap();
        self.write(5).unwrap();
        self.sync().unwrap();
    }
}
