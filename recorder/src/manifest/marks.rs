//! How far spools, boots and the log are in the tables.

use std::collections::BTreeMap;

use schemas::manifest::{BootMark, SpoolMark};

/// How far spools, boots and the log are in the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    spools: BTreeMap<String, SpoolMark>,
    boots: BTreeMap<(String, String), BootMark>,
    log_through: u64,
}

impl Marks {
    /// How far the spool of this id is.
    pub fn spool(&self, spool_id: &str) -> Option<&SpoolMark> {
        self.spools.get(spool_id)
    }

    /// Every spool's mark.
    pub fn spools(&self) -> impl Iterator<Item = &SpoolMark> {
        self.spools.values()
    }

    /// How far this boot is.
    pub fn boot(&self, node: &str, boot: &str) -> Option<&BootMark> {
        // A map of pairs can only be asked with a pair.
        self.boots.get(&(node.to_owned(), boot.to_owned()))
    }

    /// Every boot's mark.
    pub fn boots(&self) -> impl Iterator<Item = &BootMark> {
        self.boots.values()
    }

    /// Every frame of the log up to this one is in the tables.
    pub fn log_through(&self) -> u64 {
        self.log_through
    }

    /// Takes over newer marks.
    pub fn advance(&mut self, spools: Vec<SpoolMark>, boots: Vec<BootMark>, log_through: u64) {
        self.spools.extend(spools.into_iter().map(|mark| (mark.spool_id.clone(), mark)));
        let key = |mark: &BootMark| (mark.node.clone(), mark.boot.clone());
        self.boots.extend(boots.into_iter().map(|mark| (key(&mark), mark)));
        self.log_through = log_through;
    }
}
