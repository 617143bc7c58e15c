//! The files that the index of captures leads to.

use std::fs;
use std::io;

use super::Check;
use crate::cell::Cell;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;

/// Adds to `check` what is wrong with the files. A row whose file retention has deleted names none.
pub(super) fn check(
    dataset: &Dataset,
    database: &Database,
    mut check: Check,
) -> Result<Check, Failure> {
    let answer = database.query(
        "list the capture files",
        "SELECT file, max(offset_last) FROM captures WHERE file IS NOT NULL GROUP BY file ORDER BY file",
    )?;
    for row in answer.cells() {
        let [Cell::Text(name), Cell::Int(indexed)] = &row[..] else { continue };
        let Some(path) = dataset.file(name) else {
            let message = "the index names a file outside of the data directory".to_owned();
            check.add(true, format!("capture {name:?}"), message);
            continue;
        };
        match fs::metadata(&path) {
            Ok(file) if i128::from(file.len()) < *indexed => {
                let message =
                    format!("it has {} bytes, the index goes up to {indexed}", file.len());
                check.add(true, name.to_string(), message);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check.add(true, name.to_string(), "it is missing".to_owned());
            }
            Err(error) => {
                check.add(false, name.to_string(), format!("not looked at: {error}"));
            }
        }
    }
    Ok(check)
}
