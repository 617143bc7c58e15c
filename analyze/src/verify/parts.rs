//! The parts themselves: there, whole, and with the rows that the manifest promises.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use schemas::manifest::Part;
use schemas::table::TABLES;
use sha2::{Digest as _, Sha256};

use super::{Check, Place};
use crate::cell::Cell;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::report::unit::{Unit, counted};
use crate::sql;

/// Read at once while a checksum is computed.
const CHUNK: usize = 256 * 1024;

/// What is wrong with the file of a part; `None` when it is the one the manifest describes.
pub fn damage(dataset: &Dataset, part: &Part) -> Option<String> {
    // A commit may rename the file between the look and the opening.
    for _ in 0..2 {
        let Some(path) = dataset.locate(part) else { break };
        match checksum(&path) {
            Ok((_, bytes)) if bytes != part.bytes => {
                return Some(format!("it has {bytes} bytes, the manifest says {}", part.bytes));
            }
            Ok((sha256, _)) if !sha256.eq_ignore_ascii_case(&part.sha256) => {
                return Some("its checksum is not that of the manifest".to_owned());
            }
            Ok(_) => return None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Some(format!("it cannot be read: {error}")),
        }
    }
    Some("it is missing".to_owned())
}

/// SHA-256 in hexadecimal, and the size in bytes.
pub(super) fn checksum(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((sha256, bytes))
}

/// Compares every part with its checksum. Also gives the paths of those that fail.
pub(super) fn checksums(dataset: &Dataset) -> (Check, Vec<String>) {
    let parts = dataset.parts();
    let rows: u64 = parts.iter().map(|part| part.rows).sum();
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    let mut check = Check::new(
        "parts",
        format!(
            "{}, {}, {}: each is there with its checksum, rows and times",
            counted(i128::try_from(parts.len()).unwrap_or_default(), "part"),
            counted(rows.into(), "row"),
            Unit::Bytes.show(bytes.into())
        ),
    );
    let mut damaged = Vec::new();
    for part in parts {
        if let Some(fault) = damage(dataset, part) {
            check.fault(Place::file(&part.path), fault);
            damaged.push(part.path.clone());
        }
    }
    (check, damaged)
}

/// Compares the rows in each part, and their times, with those the manifest promises.
pub(super) fn rows(
    dataset: &Dataset,
    database: &Database,
    check: &mut Check,
) -> Result<(), Failure> {
    for table in TABLES {
        let Some(source) = dataset.source(table.name) else { continue };
        let parts = dataset.parts().iter().filter(|part| part.table == table.name);
        let promised: BTreeMap<&str, &Part> =
            parts.map(|part| (part.path.as_str(), part)).collect();
        let time = sql::name(table.partition_time);
        let answer = database.query(
            "count the rows of each part",
            &format!(
                "SELECT filename, count(*), epoch_us(min({time})), epoch_us(max({time})) \
                 FROM {source} GROUP BY filename ORDER BY filename"
            ),
        )?;
        let mut seen = BTreeSet::new();
        for row in answer.cells() {
            let [Cell::Text(path), Cell::Int(rows), Cell::Int(min), Cell::Int(max)] = &row[..]
            else {
                continue;
            };
            let path = dataset.below(path);
            let Some(part) = promised.get(path.as_str()) else { continue };
            seen.insert(part.path.as_str());
            compare(part, *rows, (*min, *max), check);
        }
        for part in promised.values().filter(|part| part.rows > 0) {
            if !seen.contains(part.path.as_str()) {
                if dataset.locate(part).is_none() {
                    let path = dataset.root().join(&part.path);
                    let path = path.display();
                    return Err(Failure::Moved(format!("{path} went away while it was checked")));
                }
                let message = format!("it has no rows, the manifest says {}", part.rows);
                check.fault(Place::file(&part.path), message);
            }
        }
    }
    Ok(())
}

fn compare(part: &Part, rows: i128, times: (i128, i128), check: &mut Check) {
    if rows != i128::from(part.rows) {
        let message = format!("it has {rows} rows, the manifest says {}", part.rows);
        check.fault(Place::file(&part.path), message);
    }
    let promised = (i128::from(part.min_time_us), i128::from(part.max_time_us));
    if times != promised {
        let message = format!(
            "its times go from {} to {} us, the manifest says from {} to {}",
            times.0, times.1, promised.0, promised.1
        );
        check.fault(Place::file(&part.path), message);
    }
}

/// Notes files among the parts that the manifest does not name: whoever reads the tables by a glob
/// would count them.
pub(super) fn strangers(dataset: &Dataset, check: &mut Check) -> Result<(), Failure> {
    let mut found = unnamed(dataset)?;
    if !found.is_empty() {
        // A commit in between names new ones.
        let now = Dataset::open(dataset.root())?;
        found.retain(|path| !now.parts().iter().any(|part| part.path == *path));
    }
    for path in found {
        check.note(
            Place::file(path),
            "the manifest does not name it, a glob over the tables finds it",
        );
    }
    Ok(())
}

fn unnamed(dataset: &Dataset) -> Result<Vec<String>, Failure> {
    let named: BTreeSet<PathBuf> =
        dataset.parts().iter().map(|part| dataset.root().join(&part.path)).collect();
    let mut found = Vec::new();
    for table in TABLES {
        let directory = dataset.root().join("accounting").join(table.name);
        for date in list(&directory)?.into_iter().filter(|path| path.is_dir()) {
            let parts = list(&date)?
                .into_iter()
                .filter(|path| path.extension() == Some("parquet".as_ref()));
            found.extend(parts.filter(|path| !named.contains(path)));
        }
    }
    Ok(found.iter().map(|path| dataset.below(&path.to_string_lossy())).collect())
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| Failure::file("list", directory, &error))?,
    };
    entries
        .map(|entry| Ok(entry.map_err(|error| Failure::file("list", directory, &error))?.path()))
        .collect()
}
