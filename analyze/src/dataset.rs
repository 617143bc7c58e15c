//! A data directory: its format, and the parts that its manifest names.
//!
//! The manifest is read without a lock while a recorder may be committing. A part is found under its
//! name; with `.new` behind it, while a commit renames it; or below `replaced/`, where it stays for
//! an hour after a later version has put another in its place. Nothing here looks into a part.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use schemas::manifest::{BootMark, DATA_FORMAT, Format, Part};

use crate::failure::Failure;
use crate::manifest::{self, State};
use crate::sql;

/// Where the recorder keeps what a later version has replaced.
const REPLACED: &str = "replaced";

/// One state of the tables: the parts of all versions up to the newest.
#[derive(Debug)]
pub struct Dataset {
    root: PathBuf,
    parts: Vec<Part>,
    state: State,
}

impl Dataset {
    /// Reads `weir.json` and the manifest of the data directory `root`.
    ///
    /// # Errors
    /// 66 when there is no Weir directory, 77 when it may not be read, 78 when its format is newer
    /// than this binary, 74 when the manifest is damaged.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        Self::check_format(root)?;
        let mut state = manifest::read(&Self::manifest(root))?;
        let parts: Vec<Part> = std::mem::take(&mut state.parts).into_values().collect();
        if let Some(part) = parts.iter().find(|part| !is_below(&part.path)) {
            return Err(Failure::Io(format!(
                "the manifest in {} names the part {:?}, which is not below the data directory; it is damaged",
                root.display(),
                part.path
            )));
        }
        Ok(Self { root: root.to_owned(), parts, state })
    }

    /// Looks whether `root` is a data directory that this version reads.
    ///
    /// # Errors
    /// 66 when it is none, 77 when it may not be read, 78 when its format is newer, 74 when that is
    /// damaged.
    pub fn check_format(root: &Path) -> Result<(), Failure> {
        let path = root.join("weir.json");
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::NoData(format!(
                "{} is not a Weir data directory: it has no weir.json; name the recorder's `data` with --data or $WEIR_DATA",
                root.display()
            )),
            _ => Failure::file("read", &path, &error),
        })?;
        let format: Format = serde_json::from_str(&text).map_err(|error| {
            Failure::Io(format!(
                "cannot understand {}: {error}; the file is damaged",
                path.display()
            ))
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

    /// Where the manifest of the data directory `root` lies.
    pub fn manifest(root: &Path) -> PathBuf {
        root.join("manifest")
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Below these lie the parts, whatever the recorder does with them.
    pub fn directories(&self) -> [PathBuf; 2] {
        ["accounting", REPLACED].map(|name| self.root.join(name))
    }

    /// Every part of every table.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How far each boot is in the tables.
    pub fn boots(&self) -> impl Iterator<Item = &BootMark> {
        self.state.boots.values()
    }

    /// The version of the manifest; 0: nothing was ever committed.
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// The time before which retention may have deleted rows of a table, in microseconds since 1970
    /// UTC; `None`: it never did.
    pub fn retired(&self, table: &str) -> Option<i64> {
        self.state.retired.get(table).copied()
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
        let replaced = self.root.join(REPLACED).join(&part.path);
        // The final name is asked again: the rename may fall between the first two questions.
        [&path, &fresh, &path, &replaced].into_iter().find(|path| path.is_file()).cloned()
    }

    /// The parts of a table as DuckDB reads them, each row with its file in the column `filename`;
    /// `None`: it has none.
    pub fn source(&self, table: &str) -> Option<String> {
        let parts = self.parts.iter().filter(|part| part.table == table);
        let paths: Vec<String> = parts
            .filter_map(|part| self.locate(part))
            .map(|path| sql::text(&path.to_string_lossy()))
            .collect();
        (!paths.is_empty()).then(|| format!("{}, filename = true)", sql::read_parquet(&paths)))
    }

    /// The path below the data directory under which the manifest knows the part whose file was
    /// found at `path`.
    pub fn below(&self, path: &str) -> String {
        let path = Path::new(path).strip_prefix(&self.root).unwrap_or(Path::new(path));
        let path = path.strip_prefix(REPLACED).unwrap_or(path).to_string_lossy();
        path.strip_suffix(".new").unwrap_or(&path).to_owned()
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
pub(crate) fn is_below(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}
