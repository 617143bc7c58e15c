//! The manifest as its one writer has it: read at start, one [`Delta`] more with each commit.
//!
//! The layout is told in [`schemas::manifest`]. A commit writes `<version:020>.json.tmp`, fsyncs it,
//! links it to its name (a link never overwrites), removes the temporary name and fsyncs the
//! directory. What carries a temporary name at start was never committed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use schemas::manifest::{BootMark, Delta, Part, SpoolMark};
use serde::{Deserialize, Serialize};

use crate::data_dir::Group;

/// The directory below the data directory.
pub const DIRECTORY: &str = "manifest";
const TEMPORARY: &str = ".tmp";

/// Why the manifest could not be read or added to.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A version does not say what it should.
    #[error("{path} is damaged: {reason}; restore it from a copy of the data directory")]
    Damaged {
        /// The version's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The version to be written is there already.
    #[error("{path} exists: somebody else writes this manifest")]
    Taken {
        /// The version's file.
        path: PathBuf,
    },
}

impl ManifestError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }
}

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

    /// Takes over what a commit says.
    pub fn apply(&mut self, delta: &Delta) {
        for mark in &delta.spools {
            self.spools.insert(mark.spool_id.clone(), mark.clone());
        }
        for mark in &delta.boots {
            self.boots.insert((mark.node.clone(), mark.boot.clone()), mark.clone());
        }
        self.log_through = delta.log_through;
    }
}

/// What a table consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Parts.
    pub parts: u64,
    /// Rows in them.
    pub rows: u64,
    /// Their size.
    pub bytes: u64,
}

/// The manifest.
#[derive(Debug)]
pub struct Manifest {
    directory: PathBuf,
    /// May read it.
    group: Group,
    version: u64,
    marks: Marks,
    parts: BTreeMap<String, Part>,
    /// Sums of `parts` by table.
    totals: BTreeMap<String, Totals>,
}

impl Manifest {
    /// Reads the manifest below `data`, and removes what an earlier process did not get to commit.
    ///
    /// # Errors
    /// A version is missing, damaged or cannot be read.
    pub fn open(data: &Path, group: Group) -> Result<Self, ManifestError> {
        let directory = data.join(DIRECTORY);
        let mut manifest = Self {
            directory,
            group,
            version: 0,
            marks: Marks::default(),
            parts: BTreeMap::new(),
            totals: BTreeMap::new(),
        };
        for (version, path) in manifest.versions()? {
            if version != manifest.version + 1 {
                let reason = format!("version {} before it is missing", manifest.version + 1);
                return Err(ManifestError::damaged(&path, reason));
            }
            manifest.apply(&read(&path, version)?);
        }
        Ok(manifest)
    }

    /// The newest version; 0: nothing was ever committed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How far spools, boots and the log are in the tables.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The part of this path, if it belongs to the tables.
    pub fn part(&self, path: &str) -> Option<&Part> {
        self.parts.get(path)
    }

    /// The parts of the tables.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.values()
    }

    /// What each table consists of.
    pub fn totals(&self) -> &BTreeMap<String, Totals> {
        &self.totals
    }

    /// Makes `delta` the next version, durably. Its `version` is filled in here.
    ///
    /// # Errors
    /// It could not be written, and the tables are as before; or, when [`Self::version`] has grown,
    /// only the fsync of the directory failed, which [`Self::sync`] tries again.
    pub fn commit(&mut self, mut delta: Delta) -> Result<(), ManifestError> {
        delta.version = self.version + 1;
        let name = file_name(delta.version);
        let path = self.directory.join(&name);
        let temporary = self.directory.join(name + TEMPORARY);
        remove_if_there(&temporary)?;
        write(&temporary, &delta, self.group)?;
        fs::hard_link(&temporary, &path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ManifestError::Taken { path: path.clone() },
            _ => ManifestError::io("create", &path)(error),
        })?;
        // From here on it is committed, whatever becomes of the temporary name: the next start
        // removes it, if this does not.
        self.apply(&delta);
        drop(fs::remove_file(&temporary));
        self.sync()
    }

    /// Makes the newest version's name durable.
    ///
    /// # Errors
    /// The directory could not be fsynced.
    pub fn sync(&self) -> Result<(), ManifestError> {
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(ManifestError::io("fsync", &self.directory))
    }

    fn apply(&mut self, delta: &Delta) {
        for path in &delta.remove {
            if let Some(part) = self.parts.remove(path)
                && let Some(totals) = self.totals.get_mut(&part.table)
            {
                totals.parts -= 1;
                totals.rows -= part.rows;
                totals.bytes -= part.bytes;
            }
        }
        for part in &delta.add {
            let totals = self.totals.entry(part.table.clone()).or_default();
            totals.parts += 1;
            totals.rows += part.rows;
            totals.bytes += part.bytes;
            self.parts.insert(part.path.clone(), part.clone());
        }
        self.marks.apply(delta);
        self.version = delta.version;
    }

    /// The committed versions in their order; temporary files are removed.
    fn versions(&self) -> Result<Vec<(u64, PathBuf)>, ManifestError> {
        let mut versions = Vec::new();
        let list = ManifestError::io("list", &self.directory);
        let entries: io::Result<Vec<_>> =
            fs::read_dir(&self.directory).and_then(|entries| entries.collect());
        for entry in entries.map_err(list)? {
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(TEMPORARY) {
                fs::remove_file(&path).map_err(ManifestError::io("remove", &path))?;
            } else if let Some(version) = version_of(&name) {
                versions.push((version, path));
            }
        }
        versions.sort_unstable();
        Ok(versions)
    }
}

fn file_name(version: u64) -> String {
    format!("{version:020}.json")
}

fn version_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    digits.parse().ok().filter(|version| file_name(*version) == name)
}

fn read(path: &Path, version: u64) -> Result<Delta, ManifestError> {
    let text = fs::read(path).map_err(ManifestError::io("read", path))?;
    let delta: Delta = serde_json::from_slice(&text)
        .map_err(|error| ManifestError::damaged(path, error.to_string()))?;
    if delta.version != version {
        let reason = format!("it says that it is version {}", delta.version);
        return Err(ManifestError::damaged(path, reason));
    }
    Ok(delta)
}

/// Removes what an earlier attempt left. It may be another name of a committed version, which must
/// not be written to.
fn remove_if_there(path: &Path) -> Result<(), ManifestError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ManifestError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, delta: &Delta, group: Group) -> Result<(), ManifestError> {
    let mut text = serde_json::to_vec(delta).expect("a delta is numbers, texts and lists");
    text.push(b'\n');
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(
        |mut file| {
            file.write_all(&text)?;
            group.admit_file(path)?;
            file.sync_all()
        },
    );
    written.map_err(ManifestError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> (tempfile::TempDir, Manifest) {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join(DIRECTORY)).unwrap();
        let manifest = Manifest::open(data.path(), Group::nobody()).unwrap();
        (data, manifest)
    }

    fn part(path: &str) -> Part {
        Part {
            table: "usage".into(),
            path: path.into(),
            rows: 3,
            bytes: 99,
            min_time_us: 1,
            max_time_us: 2,
            sha256: "00".into(),
        }
    }

    fn boot(boot: &str, last_seq: i64) -> BootMark {
        BootMark { node: "edge-1".into(), boot: boot.into(), last_seq, end: None }
    }

    #[test]
    fn what_was_committed_is_found_by_the_next_start() {
        let (data, mut manifest) = empty();
        let spool = SpoolMark {
            spool_id: "00000000000000ff".into(),
            node: "edge-1".into(),
            last_frame: 7,
            last_crc: 9,
        };
        let first = Delta {
            add: vec![part("a"), part("b")],
            spools: vec![spool.clone()],
            boots: vec![boot("aaaaaaaa", 5), boot("bbbbbbbb", 1)],
            log_through: 10,
            ..Delta::default()
        };
        manifest.commit(first).unwrap();
        let second = Delta {
            remove: vec!["a".into()],
            boots: vec![boot("aaaaaaaa", 8)],
            log_through: 12,
            ..Delta::default()
        };
        manifest.commit(second).unwrap();

        let found = Manifest::open(data.path(), Group::nobody()).unwrap();
        assert_eq!(found.version(), 2);
        assert_eq!(found.parts().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(found.totals()["usage"], Totals { parts: 1, rows: 3, bytes: 99 });
        assert_eq!(found.marks().spool("00000000000000ff"), Some(&spool));
        assert_eq!(found.marks().boot("edge-1", "aaaaaaaa").unwrap().last_seq, 8);
        assert_eq!(found.marks().boot("edge-1", "bbbbbbbb").unwrap().last_seq, 1);
        assert_eq!(found.marks().log_through(), 12);
        assert_eq!(found.marks(), manifest.marks());
    }

    #[test]
    fn a_temporary_file_was_never_committed() {
        let (data, _) = empty();
        let temporary = data.path().join(DIRECTORY).join(file_name(1) + TEMPORARY);
        fs::write(&temporary, "{\"ver").unwrap();
        assert_eq!(Manifest::open(data.path(), Group::nobody()).unwrap().version(), 0);
        assert!(!temporary.exists());
    }

    #[test]
    fn a_version_cut_off_before_its_temporary_name_went_is_committed() {
        let (data, mut manifest) = empty();
        manifest.commit(Delta { log_through: 4, ..Delta::default() }).unwrap();
        let path = data.path().join(DIRECTORY).join(file_name(1));
        let temporary = data.path().join(DIRECTORY).join(file_name(1) + TEMPORARY);
        fs::hard_link(&path, &temporary).unwrap();
        assert_eq!(Manifest::open(data.path(), Group::nobody()).unwrap().marks().log_through(), 4);
        assert!(!temporary.exists() && path.exists());
    }

    #[test]
    fn a_version_is_never_overwritten() {
        let (data, mut manifest) = empty();
        let path = data.path().join(DIRECTORY).join(file_name(1));
        fs::write(&path, "{}").unwrap();
        // As an attempt leaves it that could not remove the temporary name.
        fs::hard_link(&path, data.path().join(DIRECTORY).join(file_name(1) + TEMPORARY)).unwrap();
        let refused = manifest.commit(Delta::default()).unwrap_err();
        assert!(matches!(refused, ManifestError::Taken { .. }), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
        assert_eq!(manifest.version(), 0);
    }

    #[test]
    fn a_damaged_a_renamed_and_a_missing_version_are_told() {
        let (data, mut manifest) = empty();
        for _ in 0..3 {
            manifest.commit(Delta::default()).unwrap();
        }
        let path = |version| data.path().join(DIRECTORY).join(file_name(version));
        let whole = fs::read(path(3)).unwrap();
        fs::write(path(3), &whole[..whole.len() / 2]).unwrap();
        assert!(
            Manifest::open(data.path(), Group::nobody())
                .unwrap_err()
                .to_string()
                .contains("is damaged")
        );
        fs::write(path(3), fs::read(path(2)).unwrap()).unwrap();
        assert!(
            Manifest::open(data.path(), Group::nobody())
                .unwrap_err()
                .to_string()
                .contains("it says")
        );
        fs::remove_file(path(2)).unwrap();
        assert!(
            Manifest::open(data.path(), Group::nobody())
                .unwrap_err()
                .to_string()
                .contains("version 2 before")
        );
    }
}
