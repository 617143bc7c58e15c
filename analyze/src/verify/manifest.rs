//! The manifest itself: every file whole, every version there, every checkpoint what the versions
//! before it lead to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemas::table::TABLES;

use super::{Check, Place};
use crate::dataset::{Dataset, is_below};
use crate::failure::Failure;
use crate::manifest::{FileFault, Listing, State, read_checkpoint, read_delta};
use crate::report::unit::counted;

/// How often the manifest is looked at again when the recorder deletes old versions meanwhile.
const LOOKS: usize = 5;

/// Checks every file of the manifest.
///
/// # Errors
/// 74 or 77 when a file cannot be read, 78 when one is of a newer format.
pub(super) fn check(root: &Path) -> Result<Check, Failure> {
    let directory = Dataset::manifest(root);
    let mut last = None;
    for _ in 0..LOOKS {
        let listing = Listing::of(&directory)?;
        let mut examination = Examination::new(root);
        examination.run(&listing)?;
        let gone = std::mem::take(&mut examination.gone);
        last = Some(examination.check);
        if gone.is_empty() {
            break;
        }
    }
    Ok(last.expect("the manifest was looked at once at least"))
}

struct Examination<'a> {
    root: &'a Path,
    check: Check,
    /// Files that were listed and not there when they were to be read.
    gone: Vec<PathBuf>,
}

impl<'a> Examination<'a> {
    fn new(root: &'a Path) -> Self {
        Self { root, check: Check::new("manifest", String::new()), gone: Vec::new() }
    }

    /// Follows the versions upwards. A state is known from version 0 on, or from a checkpoint on.
    fn run(&mut self, listing: &Listing) -> Result<(), Failure> {
        let (mut versions, mut checkpoints) = (0, 0);
        let mut state = Some(State::default());
        let first = listing.deltas.keys().next().copied().unwrap_or_default();
        let base = listing.checkpoints.keys().next().copied();
        if first > 1 && base.is_some() || listing.deltas.is_empty() {
            // What the oldest checkpoint replaced is deleted.
            state = None;
        }
        for version in all_versions(listing) {
            if let Some(path) = listing.deltas.get(&version) {
                versions += 1;
                state = self.follow(state, path, version)?;
            } else if base.is_none_or(|base| version > base) {
                let missing = schemas::manifest::delta_file(version);
                let place = self.root.join("manifest").join(missing);
                self.check.fault(self.place(&place), "it is missing");
                state = None;
            } else {
                state = None;
            }
            if let Some(path) = listing.checkpoints.get(&version) {
                checkpoints += 1;
                state = self.compare(state, path, version)?;
            }
        }
        let newest = listing.deltas.keys().chain(listing.checkpoints.keys()).max().unwrap_or(&0);
        self.check.examined = format!(
            "version {newest}: {} and {}, each whole and leading to the next",
            counted(versions, "version"),
            counted(checkpoints, "checkpoint")
        );
        Ok(())
    }

    /// Reads a delta and applies it, if the state before it is known.
    fn follow(
        &mut self,
        state: Option<State>,
        path: &Path,
        version: u64,
    ) -> Result<Option<State>, Failure> {
        let delta = match read_delta(path, version) {
            Ok(delta) => delta,
            Err(fault) => return self.unreadable(path, fault),
        };
        for part in &delta.add {
            if !is_below(&part.path) {
                let message = format!("it names {:?}, outside of the data directory", part.path);
                self.check.fault(self.place(path), message);
            }
            if !TABLES.iter().any(|table| table.name == part.table) {
                let message =
                    format!("it names a table {:?} that this version does not know", part.table);
                self.check.note(self.place(path), message);
            }
        }
        let Some(mut state) = state else { return Ok(None) };
        for strange in state.apply(delta) {
            self.check.fault(self.place(path), strange);
        }
        Ok(Some(state))
    }

    /// Reads a checkpoint and compares it with the state, if that is known.
    fn compare(
        &mut self,
        state: Option<State>,
        path: &Path,
        version: u64,
    ) -> Result<Option<State>, Failure> {
        let checkpoint: State = match read_checkpoint(path, version) {
            Ok(checkpoint) => checkpoint.into(),
            Err(fault) => {
                self.unreadable(path, fault)?;
                return Ok(state);
            }
        };
        if let Some(state) = state {
            for difference in differences(&state, &checkpoint) {
                self.check.fault(self.place(path), difference);
            }
        }
        Ok(Some(checkpoint))
    }

    fn unreadable(&mut self, path: &Path, fault: FileFault) -> Result<Option<State>, Failure> {
        match fault {
            FileFault::Gone => self.gone.push(path.to_owned()),
            FileFault::Damaged(reason) => self.check.fault(self.place(path), reason),
            FileFault::Refused(failure) => return Err(failure),
        }
        Ok(None)
    }

    fn place(&self, path: &Path) -> Place {
        Place::file(path.strip_prefix(self.root).unwrap_or(path).to_string_lossy())
    }
}

/// Every version from the oldest file to the newest.
fn all_versions(listing: &Listing) -> std::ops::RangeInclusive<u64> {
    let files = || listing.deltas.keys().chain(listing.checkpoints.keys());
    let oldest = match listing.checkpoints.is_empty() {
        true => 1,
        false => files().min().copied().unwrap_or(1),
    };
    oldest..=files().max().copied().unwrap_or_default()
}

/// What a checkpoint says otherwise than the versions before it.
fn differences(state: &State, checkpoint: &State) -> Vec<String> {
    let mut found = compared("the part", &state.parts, &checkpoint.parts);
    found.extend(compared("the spool", &state.spools, &checkpoint.spools));
    let boots = |state: &State| -> BTreeMap<String, _> {
        let name = |(node, boot): &(String, String)| format!("{boot} of {node}");
        state.boots.iter().map(|(key, mark)| (name(key), mark.clone())).collect()
    };
    found.extend(compared("the boot", &boots(state), &boots(checkpoint)));
    found.extend(compared("the retired table", &state.retired, &checkpoint.retired));
    if state.log_through != checkpoint.log_through {
        found.push(format!(
            "it says log_through {}, the versions before it lead to {}",
            checkpoint.log_through, state.log_through
        ));
    }
    found
}

fn compared<V: PartialEq>(
    what: &str,
    led_to: &BTreeMap<String, V>,
    says: &BTreeMap<String, V>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in led_to {
        match says.get(name) {
            None => found.push(format!("it lacks {what} {name}")),
            Some(other) if other != value => {
                found.push(format!("it says of {what} {name} what the versions before it do not"));
            }
            Some(_) => {}
        }
    }
    let unknown = says.keys().filter(|name| !led_to.contains_key(*name));
    found.extend(
        unknown.map(|name| format!("it names {what} {name}, the versions before it do not")),
    );
    found
}
