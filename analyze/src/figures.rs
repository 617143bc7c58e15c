//! Figures of someone else: CSV files with two columns, a key and a value.
//!
//! Cells may stand in double quotes, which a doubled quote puts into one. Faults name file and line.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::failure::Failure;

/// Largest file, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The rows of a file with the header `key,bytes`, each key once. Bytes are whole and not negative.
///
/// # Errors
/// 64 with the line that is wrong, 74 or 77 when the file cannot be read.
pub fn bytes_per_key(path: &Path) -> Result<Vec<(String, i64)>, Failure> {
    let mut found: Vec<(String, i64)> = Vec::new();
    for (line, key, value) in rows(path, "bytes")? {
        let bytes = value.parse().ok().filter(|bytes| *bytes >= 0).ok_or_else(|| {
            fault(
                path,
                line,
                &format!("{value:?} is no number of bytes: write whole bytes, as in 1500000000"),
            )
        })?;
        found.push((key, bytes));
    }
    Ok(found)
}

/// The rows of a file with the header `key,<value>`: line, key and value as they are written.
///
/// # Errors
/// As [`bytes_per_key`].
pub fn rows(path: &Path, value: &str) -> Result<Vec<(usize, String, String)>, Failure> {
    let mut text = String::new();
    let opened =
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    opened.map_err(|error| Failure::file("read", path, &error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(fault(path, 1, "the file is larger than 16 MiB; add its rows up"));
    }
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    let header = lines.next().map(|(_, line)| line.trim_start_matches('\u{feff}').trim());
    if header != Some(&format!("key,{value}")) {
        return Err(fault(path, 1, &format!("the file begins with the header key,{value}")));
    }
    let mut found: Vec<(usize, String, String)> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let cells = cells(line).ok_or_else(|| fault(path, number, "a quote is never closed"))?;
        let Ok([key, value]) = <[String; 2]>::try_from(cells) else {
            return Err(fault(path, number, "a line has two cells, the key and its value"));
        };
        if !known.insert(key.clone()) {
            return Err(fault(path, number, &format!("{key:?} is there twice")));
        }
        found.push((number, key, value));
    }
    Ok(found)
}

pub(crate) fn fault(path: &Path, line: usize, what: &str) -> Failure {
    Failure::Usage(format!("{}:{line}: {what}", path.display()))
}

/// The cells of a line; `None`: a quote is never closed.
fn cells(line: &str) -> Option<Vec<String>> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.trim().chars().peekable();
    while let Some(char) = chars.next() {
        let cell = cells.last_mut()?;
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            _ => cell.push(char),
        }
    }
    (!quoted).then_some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_may_be_quoted() {
        let of = |line| cells(line).map(|cells| cells.join("|"));
        assert_eq!(of("acme,15"), Some("acme|15".to_owned()));
        assert_eq!(of("\"a,\"\"b\"\"\",15"), Some("a,\"b\"|15".to_owned()));
        assert_eq!(of(",7"), Some("|7".to_owned()));
        assert_eq!(of("\"acme,15"), None);
    }
}
