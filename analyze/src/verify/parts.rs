//! The parts themselves: there, whole, and with the rows that the manifest promises.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use schemas::manifest::Part;
use sha2::{Digest as _, Sha256};

use super::Check;
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

fn checksum(path: &Path) -> io::Result<(String, u64)> {
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
            "{}, {}, {}: each is there with its checksum and rows",
            counted(i128::try_from(parts.len()).unwrap_or_default(), "part"),
            counted(rows.into(), "row"),
            Unit::Bytes.show(bytes.into())
        ),
    );
    let mut damaged = Vec::new();
    for part in parts {
        if let Some(fault) = damage(dataset, part) {
            check.add(true, part.path.clone(), fault);
            damaged.push(part.path.clone());
        }
    }
    (check, damaged)
}

/// Compares the rows in each part with those the manifest promises.
pub(super) fn rows(
    dataset: &Dataset,
    database: &Database,
    check: &mut Check,
) -> Result<(), Failure> {
    let mut promised = BTreeMap::new();
    for part in dataset.parts() {
        if let Some(path) = dataset.locate(part) {
            promised.insert(path.to_string_lossy().into_owned(), part);
        }
    }
    if promised.is_empty() {
        return Ok(());
    }
    let list = promised.keys().map(|path| sql::text(path)).collect::<Vec<_>>().join(", ");
    let answer = database.query(
        "count the rows of each part",
        &format!("SELECT file_name, num_rows::BIGINT FROM parquet_file_metadata([{list}])"),
    )?;
    for row in answer.cells() {
        if let [Cell::Text(path), Cell::Int(rows)] = &row[..]
            && let Some(part) = promised.get(path.as_ref())
            && *rows != i128::from(part.rows)
        {
            let message = format!("it has {rows} rows, the manifest says {}", part.rows);
            check.add(true, part.path.clone(), message);
        }
    }
    Ok(())
}
