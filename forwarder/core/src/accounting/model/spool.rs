//! A spool in memory that knows what is durable.

use std::collections::BTreeSet;

use prost::Message;
use schemas::wire::{BootEnd, EncodedRows, Rows};

use super::crash_point;
use crate::accounting::{Spool, SpoolHistory, SpoolLevel};

/// What was appended.
#[derive(Debug)]
pub(super) enum Kept {
    Rows(Rows),
    End(BootEnd),
}

/// A spool that keeps what it is given, and can be told to fail.
#[derive(Debug)]
pub(super) struct MemorySpool {
    pub(super) frames: Vec<Kept>,
    /// How many of the frames are durable.
    synced: usize,
    pub(super) level: SpoolLevel,
    pub(super) appends_left: Option<u32>,
}

impl MemorySpool {
    pub(super) fn new() -> Self {
        Self { frames: Vec::new(), synced: 0, level: SpoolLevel::Normal, appends_left: None }
    }

    pub(super) fn sync(&mut self) {
        self.synced = self.frames.len();
    }

    /// What is not durable is lost, from some frame on.
    pub(super) fn lose_tail(&mut self, from: proptest::sample::Index) {
        let unsynced = self.frames.len() - self.synced;
        self.frames.truncate(self.synced + from.index(unsynced + 1));
        self.sync();
    }

    pub(super) fn history(&self) -> SpoolHistory {
        let mut history = SpoolHistory::default();
        for frame in &self.frames {
            match frame {
                Kept::Rows(rows) => history.rows(rows),
                Kept::End(end) => history.boot_end(end),
            }
        }
        history
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Rows> {
        self.frames.iter().filter_map(|frame| match frame {
            Kept::Rows(rows) => Some(rows),
            Kept::End(_) => None,
        })
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = &BootEnd> {
        self.frames.iter().filter_map(|frame| match frame {
            Kept::End(end) => Some(end),
            Kept::Rows(_) => None,
        })
    }

    fn take_room(&mut self) -> Result<(), &'static str> {
        if self.level == SpoolLevel::Full {
            return Err("the bound is reached");
        }
        if let Some(left) = &mut self.appends_left {
            *left = left.checked_sub(1).ok_or("no space left")?;
        }
        Ok(())
    }
}

impl Spool for MemorySpool {
    type Error = &'static str;

    fn append(&mut self, encoded: EncodedRows, next_seq: i64) -> Result<(), &'static str> {
        self.take_room()?;
        let rows = Rows::decode(encoded.bytes()).unwrap();
        assert_eq!(rows.seqs().max(), Some(next_seq - 1));
        assert_eq!(rows.seqs().min(), encoded.first_seq());
        let sessions: BTreeSet<_> = rows.usage.iter().map(|r| r.session_no).collect();
        assert_eq!(sessions.len(), rows.usage.len(), "two usage rows of a session in one frame");
        self.frames.push(Kept::Rows(rows));
        crash_point();
        Ok(())
    }

    fn append_boot_end(&mut self, end: &BootEnd) -> Result<(), &'static str> {
        self.take_room()?;
        self.frames.push(Kept::End(end.clone()));
        crash_point();
        Ok(())
    }

    fn level(&self) -> SpoolLevel {
        self.level
    }
}
