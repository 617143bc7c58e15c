//! The file in which quotas outlive the machine.
//!
//! ```text
//! "WEIRQTA1"                  magic and version
//! u64                         number of cells
//! 8 x u64 for each cell       as in memory, little-endian
//! 32 bytes                    SHA-256 of everything before
//! ```

use std::sync::atomic::AtomicU64;

use sha2::{Digest, Sha256};

use super::quota::CELL_WORDS;

/// Most cells that are kept.
pub const MAX_CELLS: usize = 65_536;

const MAGIC: &[u8; 8] = b"WEIRQTA1";
const WORD: usize = size_of::<u64>();
const DIGEST: usize = 32;

/// Why a file is no file of quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SavedError {
    /// It is something else, or of a later version.
    #[error("it is not a file of quotas that this version can read")]
    Unknown,
    /// It was cut, or changed.
    #[error("it is damaged: its checksum does not fit")]
    Damaged,
}

/// The file with these cells.
pub fn write_cells(cells: &[[u64; CELL_WORDS]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 * WORD + cells.len() * CELL_WORDS * WORD + DIGEST);
    bytes.extend(MAGIC);
    bytes.extend((cells.len() as u64).to_le_bytes());
    bytes.extend(cells.as_flattened().iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend(Sha256::digest(&bytes));
    bytes
}

/// The cells of a file.
///
/// # Errors
/// It is no such file, or not the whole of it.
pub fn read_cells(bytes: &[u8]) -> Result<Vec<[AtomicU64; CELL_WORDS]>, SavedError> {
    if !bytes.starts_with(MAGIC) {
        return Err(SavedError::Unknown);
    }
    let body = bytes.len().checked_sub(DIGEST).ok_or(SavedError::Damaged)?;
    let (body, digest) = bytes.split_at(body);
    if Sha256::digest(body).as_slice() != digest {
        return Err(SavedError::Damaged);
    }
    let (words, []) = body.as_chunks::<WORD>() else { return Err(SavedError::Damaged) };
    let [_, count, words @ ..] = words else { return Err(SavedError::Damaged) };
    let (cells, []) = words.as_chunks::<CELL_WORDS>() else { return Err(SavedError::Damaged) };
    if u64::from_le_bytes(*count) != cells.len() as u64 || cells.len() > MAX_CELLS {
        return Err(SavedError::Damaged);
    }
    Ok(cells.iter().map(|cell| cell.map(|word| AtomicU64::new(u64::from_le_bytes(word)))).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let cells = [[1, 2, 3, 4, 5, 6, 7, 8], [u64::MAX; CELL_WORDS]];
        let read = read_cells(&write_cells(&cells)).unwrap();
        let read: Vec<_> =
            read.iter().map(|cell| cell.each_ref().map(|w| w.load(Ordering::Relaxed))).collect();
        assert_eq!(read, cells);
        assert!(read_cells(&write_cells(&[])).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_not_believed() {
        let file = write_cells(&[[7; CELL_WORDS]]);
        for length in 0..file.len() {
            assert!(read_cells(&file[..length]).is_err(), "{length} bytes");
        }
        for index in 0..file.len() {
            let mut changed = file.clone();
            changed[index] ^= 1;
            assert!(read_cells(&changed).is_err(), "byte {index}");
        }
        assert_eq!(read_cells(b"WEIRQTA2").unwrap_err(), SavedError::Unknown);
        let mut long = file;
        long.push(0);
        assert_eq!(read_cells(&long).unwrap_err(), SavedError::Damaged);
    }
}
