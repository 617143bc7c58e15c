//! A data directory: its format, and the parts that its manifest names.
//!
//! The manifest is read without a lock while a recorder may be committing. Parts are found under
//! their final name or, while a commit renames them, with `.new` behind it. Nothing here looks into
//! a part.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use schemas::manifest::{BootMark, DATA_FORMAT, Delta, Format, Part};

use crate::failure::Failure;

/// How often the manifest is listed again when a version seems to be missing: a listing that runs
/// beside a commit may skip a file that was there all along.
const LISTINGS: usize = 3;

/// One state of the tables: the parts of all versions up to the newest.
#[derive(Debug)]
pub struct Dataset {
    root: PathBuf,
    parts: Vec<Part>,
    boots: BTreeMap<(String, String), BootMark>,
}

impl Dataset {
    /// Reads `weir.json` and the manifest of the data directory `root`.
    ///
    /// # Errors
    /// 66 when there is no Weir directory, 77 when it may not be read, 78 when its format is newer
    /// than this binary, 74 when the manifest is damaged.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        check_format(root)?;
        let mut dataset = Self { root: root.to_owned(), parts: Vec::new(), boots: BTreeMap::new() };
        for path in versions(&root.join("manifest"))? {
            let delta = read_delta(&path)?;
            dataset.apply(delta, &path)?;
        }
        Ok(dataset)
    }

    fn apply(&mut self, delta: Delta, manifest: &Path) -> Result<(), Failure> {
        self.parts.retain(|part| !delta.remove.contains(&part.path));
        for part in delta.add {
            if !is_below(&part.path) {
                return Err(Failure::Io(format!(
                    "{} names the part {:?}, which is not below the data directory; the manifest is damaged",
                    manifest.display(),
                    part.path
                )));
            }
            self.parts.push(part);
        }
        for mark in delta.boots {
            self.boots.insert((mark.node.clone(), mark.boot.clone()), mark);
        }
        Ok(())
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every part of every table.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How far each boot is in the tables.
    pub fn boots(&self) -> impl Iterator<Item = &BootMark> {
        self.boots.values()
    }

    /// The same tables without the parts that `damaged` names.
    #[must_use]
    pub fn without(mut self, damaged: &[String]) -> Self {
        self.parts.retain(|part| !damaged.contains(&part.path));
        self
    }

    /// Where a part lies now, if it is there at all.
    pub fn locate(&self, part: &Part) -> Option<PathBuf> {
        let path = self.root.join(&part.path);
        let fresh = self.root.join(format!("{}.new", part.path));
        // The final name is asked again last: the rename may fall between the first two questions.
        [&path, &fresh, &path].into_iter().find(|path| path.is_file()).cloned()
    }

    /// The path of a file named by a table, such as a capture; `None` when the name leads out of
    /// the data directory.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        is_below(name).then(|| self.root.join(name))
    }

    /// Smallest and largest partition time in the parts of a table, in microseconds since 1970.
    pub fn time_range(&self, table: &str) -> Option<(i64, i64)> {
        let of_table = || self.parts.iter().filter(|part| part.table == table && part.rows > 0);
        let min = of_table().map(|part| part.min_time_us).min()?;
        let max = of_table().map(|part| part.max_time_us).max()?;
        Some((min, max))
    }
}

/// Whether the path is relative and made of ordinary names only.
fn is_below(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

fn check_format(root: &Path) -> Result<(), Failure> {
    let path = root.join("weir.json");
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::NoData(format!(
            "{} is not a Weir data directory: it has no weir.json; name the recorder's `data` with --data or $WEIR_DATA",
            root.display()
        )),
        _ => Failure::file("read", &path, &error),
    })?;
    let format: Format = serde_json::from_str(&text).map_err(|error| {
        Failure::Io(format!("cannot understand {}: {error}; the file is damaged", path.display()))
    })?;
    if format.format > DATA_FORMAT {
        return Err(Failure::Format(format!(
            "{} is of data format {}, this analyze reads up to {DATA_FORMAT}; use the analyze of the recorder that wrote it",
            root.display(),
            format.format
        )));
    }
    Ok(())
}

/// The manifest's files in the order of their versions, which are 1, 2, 3… without gap.
fn versions(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut gap = (0, 0);
    for _ in 0..LISTINGS {
        let found = list(dir)?;
        let mut numbered = (1..).zip(found.keys().copied());
        match numbered.find(|(expected, version)| expected != version) {
            None => return Ok(found.into_values().collect()),
            Some(missing_and_next) => gap = missing_and_next,
        }
    }
    let (missing, next) = gap;
    Err(Failure::Io(format!(
        "the manifest in {} goes from version {} to {next}: {missing:020}.json is missing; restore it from a backup",
        dir.display(),
        missing - 1
    )))
}

fn list(dir: &Path) -> Result<BTreeMap<u64, PathBuf>, Failure> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.map_err(|error| Failure::file("list", dir, &error))?,
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|error| Failure::file("list", dir, &error))?.path();
        let version = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".json"))
            .filter(|stem| stem.len() == 20)
            .and_then(|stem| stem.parse().ok());
        // Other names are commits being written.
        if let Some(version) = version {
            found.insert(version, path);
        }
    }
    Ok(found)
}

fn read_delta(path: &Path) -> Result<Delta, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::Io(format!(
            "cannot understand {}: {error}; the manifest is damaged, restore the file from a backup",
            path.display()
        ))
    })
}
