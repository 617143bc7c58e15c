//! The manifest as a reader has it who takes no lock: the newest checkpoint that is whole, then
//! every delta above it.
//!
//! Meanwhile a recorder may commit, write a checkpoint and delete what that replaces. A listing that
//! runs beside it may skip a file that was there all along, and a listed file may be gone when it is
//! opened: then everything is listed again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemas::manifest::{
    BootMark, Checkpoint, Delta, Part, Retired, SpoolMark, Unreadable, checkpoint_version,
    delta_version,
};

use crate::failure::Failure;

/// How often the directory is listed again when it changed under the reader. A recorder deletes
/// versions once in a hundred commits, so a second meeting is rare.
const LISTINGS: usize = 5;

/// The tables after one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The version; 0: nothing was ever committed.
    pub version: u64,
    /// The parts by path.
    pub parts: BTreeMap<String, Part>,
    /// How far each spool is.
    pub spools: BTreeMap<String, SpoolMark>,
    /// How far each boot is, by node and boot.
    pub boots: BTreeMap<(String, String), BootMark>,
    /// Per table, the time before which rows may have been deleted by retention, in microseconds
    /// since 1970 UTC.
    pub retired: BTreeMap<String, i64>,
    /// How far the recorder's log is in the tables.
    pub log_through: u64,
}

impl State {
    /// The next state. Gives what the delta says that cannot be: parts that it removes and that
    /// were not there, or adds a second time.
    pub fn apply(&mut self, delta: Delta) -> Vec<String> {
        let mut strange = Vec::new();
        for path in delta.remove {
            if self.parts.remove(&path).is_none() {
                strange.push(format!("it removes {path}, which was not part of the tables"));
            }
        }
        for part in delta.add {
            let path = part.path.clone();
            if self.parts.insert(path.clone(), part).is_some() {
                strange.push(format!("it adds {path}, which was part of the tables already"));
            }
        }
        self.mark(delta.spools, delta.boots, delta.retired);
        self.log_through = delta.log_through;
        self.version = delta.version;
        strange
    }

    fn mark(&mut self, spools: Vec<SpoolMark>, boots: Vec<BootMark>, retired: Vec<Retired>) {
        self.spools.extend(spools.into_iter().map(|mark| (mark.spool_id.clone(), mark)));
        let key = |mark: &BootMark| (mark.node.clone(), mark.boot.clone());
        self.boots.extend(boots.into_iter().map(|mark| (key(&mark), mark)));
        self.retired.extend(retired.into_iter().map(|retired| (retired.table, retired.before_us)));
    }
}

impl From<Checkpoint> for State {
    fn from(checkpoint: Checkpoint) -> Self {
        let mut state = Self {
            version: checkpoint.version,
            parts: checkpoint.parts.into_iter().map(|part| (part.path.clone(), part)).collect(),
            log_through: checkpoint.log_through,
            ..Self::default()
        };
        state.mark(checkpoint.spools, checkpoint.boots, checkpoint.retired);
        state
    }
}

/// The files of the manifest by version.
#[derive(Debug, Default)]
pub struct Listing {
    /// Commits.
    pub deltas: BTreeMap<u64, PathBuf>,
    /// States.
    pub checkpoints: BTreeMap<u64, PathBuf>,
}

impl Listing {
    /// Lists the directory. One that is not there has no files.
    ///
    /// # Errors
    /// 74 or 77 when it cannot be read.
    pub fn of(directory: &Path) -> Result<Self, Failure> {
        let mut listing = Self::default();
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
            entries => entries.map_err(|error| Failure::file("list", directory, &error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| Failure::file("list", directory, &error))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Other names are files being written.
            if let Some(version) = delta_version(&name) {
                listing.deltas.insert(version, entry.path());
            } else if let Some(version) = checkpoint_version(&name) {
                listing.checkpoints.insert(version, entry.path());
            }
        }
        Ok(listing)
    }
}

/// Why a file of the manifest could not be had.
#[derive(Debug)]
pub enum FileFault {
    /// It is not there, or no longer.
    Gone,
    /// It is not what was written.
    Damaged(String),
    /// It cannot be read at all, or not by this version.
    Refused(Failure),
}

/// Reads a delta.
///
/// # Errors
/// What is wrong with it.
pub fn read_delta(path: &Path, version: u64) -> Result<Delta, FileFault> {
    Delta::decode(&content(path)?, version).map_err(|error| unreadable(path, error))
}

/// Reads a checkpoint.
///
/// # Errors
/// What is wrong with it.
pub fn read_checkpoint(path: &Path, version: u64) -> Result<Checkpoint, FileFault> {
    Checkpoint::decode(&content(path)?, version).map_err(|error| unreadable(path, error))
}

fn content(path: &Path) -> Result<Vec<u8>, FileFault> {
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FileFault::Gone,
        _ => FileFault::Refused(Failure::file("read", path, &error)),
    })
}

fn unreadable(path: &Path, error: Unreadable) -> FileFault {
    match error {
        Unreadable::Damaged(reason) => FileFault::Damaged(reason),
        Unreadable::Newer(_) => FileFault::Refused(Failure::Format(format!(
            "cannot read {}: {error}; use the analyze of the recorder that wrote it",
            path.display()
        ))),
    }
}

/// Reads the newest state from the manifest's directory.
///
/// # Errors
/// 74 when a version is missing or damaged, 77 when one may not be read, 78 when one is of a newer
/// format.
pub fn read(directory: &Path) -> Result<State, Failure> {
    let mut missing = 0;
    for _ in 0..LISTINGS {
        match newest(&Listing::of(directory)?)? {
            Newest::State(state) => return Ok(state),
            Newest::Changed { missing: version } => missing = version,
        }
    }
    Err(Failure::Io(format!(
        "version {missing} of the manifest in {} is missing; restore {missing:020}.json from a backup",
        directory.display(),
    )))
}

enum Newest {
    State(State),
    /// A version was not there: the directory changed, or it is not whole.
    Changed {
        missing: u64,
    },
}

fn newest(listing: &Listing) -> Result<Newest, Failure> {
    let (mut state, spoiled) = match newest_checkpoint(listing)? {
        Found::Whole(state, spoiled) => (state, spoiled),
        Found::Gone(missing) => return Ok(Newest::Changed { missing }),
    };
    for (version, path) in listing.deltas.range(state.version + 1..) {
        if *version != state.version + 1 {
            // The deltas that a damaged checkpoint replaced are not expected to be there.
            return match spoiled {
                Some(failure) => Err(failure),
                None => Ok(Newest::Changed { missing: state.version + 1 }),
            };
        }
        match read_delta(path, *version) {
            Ok(delta) => drop(state.apply(delta)),
            Err(FileFault::Gone) => return Ok(Newest::Changed { missing: *version }),
            Err(FileFault::Damaged(reason)) => return Err(damaged(path, &reason)),
            Err(FileFault::Refused(failure)) => return Err(failure),
        }
    }
    let newest_checkpoint = listing.checkpoints.keys().next_back().copied().unwrap_or_default();
    match spoiled {
        Some(failure) if state.version < newest_checkpoint => Err(failure),
        _ => Ok(Newest::State(state)),
    }
}

enum Found {
    /// A state, or none at all, and what is wrong with a newer one.
    Whole(State, Option<Failure>),
    Gone(u64),
}

/// The newest checkpoint that is whole. The deltas above an older one are kept as long as it is.
fn newest_checkpoint(listing: &Listing) -> Result<Found, Failure> {
    let mut spoiled = None;
    for (version, path) in listing.checkpoints.iter().rev() {
        match read_checkpoint(path, *version) {
            Ok(checkpoint) => return Ok(Found::Whole(checkpoint.into(), spoiled)),
            Err(FileFault::Gone) => return Ok(Found::Gone(*version)),
            Err(FileFault::Damaged(reason)) => {
                spoiled.get_or_insert_with(|| damaged(path, &reason));
            }
            Err(FileFault::Refused(failure)) => return Err(failure),
        }
    }
    Ok(Found::Whole(State::default(), spoiled))
}

fn damaged(path: &Path, reason: &str) -> Failure {
    Failure::Io(format!(
        "cannot understand {}: {reason}; the manifest is damaged, restore the file from a backup",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::manifest::{checkpoint_file, delta_file};

    fn part(path: &str) -> Part {
        Part {
            table: "usage".into(),
            path: path.into(),
            rows: 1,
            bytes: 1,
            min_time_us: 0,
            max_time_us: 0,
            sha256: String::new(),
        }
    }

    /// A manifest of so many versions, each of which adds a part; the state after each.
    fn written(versions: u64, checkpoints: &[u64]) -> (tempfile::TempDir, Vec<State>) {
        let dir = tempfile::tempdir().unwrap();
        let mut states = vec![State::default()];
        for version in 1..=versions {
            let add = vec![part(&format!("p{version}"))];
            let delta = Delta { version, add, log_through: version, ..Delta::default() };
            fs::write(dir.path().join(delta_file(version)), delta.encode()).unwrap();
            let mut state = states.last().unwrap().clone();
            assert_eq!(state.apply(delta), Vec::<String>::new());
            if checkpoints.contains(&version) {
                let checkpoint = Checkpoint {
                    version,
                    parts: state.parts.values().cloned().collect(),
                    log_through: version,
                    ..Checkpoint::default()
                };
                fs::write(dir.path().join(checkpoint_file(version)), checkpoint.encode()).unwrap();
            }
            states.push(state);
        }
        (dir, states)
    }

    fn newest_of(states: &[State]) -> &State {
        states.last().unwrap()
    }

    #[test]
    fn every_way_to_the_newest_version_gives_the_same_state() {
        let (dir, states) = written(9, &[3, 6]);
        assert_eq!(&read(dir.path()).unwrap(), newest_of(&states));
        // As the recorder deletes what the last checkpoint but one replaced.
        for version in 1..=3 {
            fs::remove_file(dir.path().join(delta_file(version))).unwrap();
            assert_eq!(&read(dir.path()).unwrap(), newest_of(&states));
        }
        // A damaged checkpoint is passed over for the one before it.
        fs::write(dir.path().join(checkpoint_file(6)), "{").unwrap();
        assert_eq!(&read(dir.path()).unwrap(), newest_of(&states));
    }

    #[test]
    fn a_damaged_checkpoint_without_another_way_is_named() {
        let (dir, _) = written(6, &[6]);
        fs::remove_file(dir.path().join(delta_file(1))).unwrap();
        fs::write(dir.path().join(checkpoint_file(6)), "{").unwrap();
        let failure = read(dir.path()).unwrap_err();
        assert!(failure.to_string().contains("00000000000000000006.checkpoint.json"), "{failure}");
        // Nor is an older state taken for the newest.
        let (dir, _) = written(6, &[6]);
        for version in 1..=6 {
            fs::remove_file(dir.path().join(delta_file(version))).unwrap();
        }
        assert_eq!(read(dir.path()).unwrap().version, 6);
        fs::write(dir.path().join(checkpoint_file(6)), "{").unwrap();
        let failure = read(dir.path()).unwrap_err();
        assert!(failure.to_string().contains("checkpoint.json"), "{failure}");
    }

    #[test]
    fn a_missing_version_above_the_checkpoint_is_named() {
        let (dir, _) = written(9, &[3]);
        fs::remove_file(dir.path().join(delta_file(5))).unwrap();
        let failure = read(dir.path()).unwrap_err();
        assert!(failure.to_string().contains("version 5 of the manifest"), "{failure}");
    }

    #[test]
    fn a_version_that_goes_between_listing_and_reading_has_the_reader_list_again() {
        let (dir, states) = written(9, &[3, 6]);
        let listing = Listing::of(dir.path()).unwrap();
        fs::remove_file(dir.path().join(checkpoint_file(6))).unwrap();
        assert!(matches!(newest(&listing), Ok(Newest::Changed { missing: 6 })));
        assert_eq!(&read(dir.path()).unwrap(), newest_of(&states));
    }

    #[test]
    fn readers_beside_a_recorder_that_commits_and_deletes_see_whole_states() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let writer = std::thread::spawn(move || {
            let mut state = State::default();
            let commit = |name: String, text: Vec<u8>| {
                fs::write(path.join("tmp"), text).unwrap();
                fs::rename(path.join("tmp"), path.join(name)).unwrap();
            };
            for version in 1..=2_000_u64 {
                let add = vec![part(&format!("p{version}"))];
                let remove = (version > 5).then(|| format!("p{}", version - 5));
                let remove = remove.into_iter().collect();
                let delta =
                    Delta { version, add, remove, log_through: version, ..Delta::default() };
                commit(delta_file(version), delta.encode());
                assert!(state.apply(delta).is_empty());
                if version % 10 == 0 {
                    let checkpoint = Checkpoint {
                        version,
                        parts: state.parts.values().cloned().collect(),
                        log_through: version,
                        ..Checkpoint::default()
                    };
                    commit(checkpoint_file(version), checkpoint.encode());
                    for old in version.saturating_sub(19)..=version.saturating_sub(10) {
                        drop(fs::remove_file(path.join(delta_file(old))));
                        drop(fs::remove_file(path.join(checkpoint_file(old.saturating_sub(1)))));
                    }
                }
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            // A reader that lost every race asks again, as the commands do.
            let Ok(state) = read(dir.path()) else { continue };
            assert!(state.version >= last && state.version == state.log_through);
            let parts = usize::try_from(state.version.min(5)).unwrap();
            assert_eq!(state.parts.len(), parts, "version {}", state.version);
            last = state.version;
        }
        writer.join().unwrap();
        assert_eq!(read(dir.path()).unwrap().version, 2_000);
    }
}
