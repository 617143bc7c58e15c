//! The files that the index of captures leads to.

use std::fs;
use std::io;
use std::path::Path;

use super::parts::checksum;
use super::{Check, Place};
use crate::cell::Cell;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::progress::Progress;

/// Adds to `check` what is wrong with the files. A row whose file retention has deleted names none.
pub(super) fn files(
    dataset: &Dataset,
    database: &Database,
    check: &mut Check,
) -> Result<(), Failure> {
    let _progress = Progress::start("comparing checksums of captures");
    let answer = database.query(
        "list the capture files",
        "SELECT file, max(offset_last), min(sha256), count(DISTINCT sha256), epoch_us(max(ts_last))
         FROM captures WHERE file IS NOT NULL GROUP BY file ORDER BY file",
    )?;
    let deleted_before = dataset.retired("captures").map_or(i128::MIN, i128::from);
    for row in answer.cells() {
        let [Cell::Text(name), Cell::Int(indexed), digest, Cell::Int(digests), Cell::Int(last)] =
            &row[..]
        else {
            continue;
        };
        let Some(path) = dataset.file(name) else {
            let place =
                Place { text: format!("capture {name:?}"), ..Place::file(name.to_string()) };
            check.fault(place, "the index names a file outside of the data directory");
            continue;
        };
        let place = Place::file(name.to_string());
        if *digests > 1 {
            check.fault(place.clone(), format!("the index has {digests} checksums of it"));
        }
        let digest = if let Cell::Text(digest) = digest { Some(digest.as_ref()) } else { None };
        match fault(&path, *indexed, digest) {
            Ok(None) => {}
            Ok(Some(message)) => check.fault(place, message),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if *last < deleted_before {
                    check.note(place, "retention has deleted it");
                } else {
                    check.fault(place, "it is missing");
                }
            }
            Err(error) => check.note(place, format!("not looked at: {error}")),
        }
    }
    Ok(())
}

/// What is wrong with one file.
fn fault(path: &Path, indexed: i128, digest: Option<&str>) -> io::Result<Option<String>> {
    let bytes = fs::metadata(path)?.len();
    if i128::from(bytes) < indexed {
        return Ok(Some(format!("it has {bytes} bytes, the index goes up to {indexed}")));
    }
    let Some(digest) = digest else { return Ok(None) };
    let (sha256, _) = checksum(path)?;
    let same = sha256.eq_ignore_ascii_case(digest);
    Ok((!same).then(|| "its checksum is not that of the index".to_owned()))
}
