//! Where quotas are kept: cells on tmpfs, `/dev/shm/weir-<16 hex of SHA-256 of the spool's canonical
//! path>.quotas`, and the file `quotas` in the spool's directory, beside its segments.
//!
//! ```text
//! word 0          "WEIRQUO1"
//! word 1          length of the spool's path, in bytes
//! words 2 to 129  the spool's canonical path
//! from word 130   cells
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use forwarder_core::limit::{CELL_WORDS, MAX_CELLS, read_cells, write_cells};
use forwarder_sys::mapping::Mapping;
use rustix::fs::{FlockOperation, OFlags, flock};
use sha2::{Digest, Sha256};

const TMPFS: &str = "/dev/shm";
const MAGIC: u64 = u64::from_le_bytes(*b"WEIRQUO1");
const PATH_WORDS: usize = 128;
const HEAD_WORDS: usize = 2 + PATH_WORDS;
const WORDS: usize = HEAD_WORDS + MAX_CELLS * CELL_WORDS;
const SAVED: &str = "quotas";
const SAVING: &str = "quotas.new";

/// The cells in memory, for the life of the process.
#[derive(Debug)]
pub(super) struct Memory {
    cells: &'static [[AtomicU64; CELL_WORDS]],
    /// `None`: they die with the process.
    file: Option<(PathBuf, File)>,
}

impl Memory {
    /// The cells of the forwarder with this spool, as an earlier run left them. Without a tmpfs
    /// they are new.
    pub(super) fn open(spool: &Path) -> Self {
        remove_orphans();
        match map(spool) {
            Ok((words, path, file)) => Self { cells: cells(words), file: Some((path, file)) },
            Err(error) => {
                tracing::warn!(%error, "quotas are not kept in {TMPFS}: a kill loses what was used in the seconds before it");
                let words = Mapping::anonymous(WORDS).map(Mapping::leak).unwrap_or_else(|error| {
                    // Then everybody with a quota is refused, which is what the bound means.
                    tracing::error!(%error, "there is no memory for quotas");
                    &[]
                });
                Self { cells: cells(words), file: None }
            }
        }
    }

    pub(super) fn cells(&self) -> &'static [[AtomicU64; CELL_WORDS]] {
        self.cells
    }

    /// Deletes the file behind it.
    pub(super) fn remove(&self) {
        if let Some((path, _)) = &self.file
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(path = %path.display(), %error, "the quotas' memory is left behind");
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some((path, file)) = &self.file
            && let Err(error) = flock(file, FlockOperation::Unlock)
        {
            // The mapping holds the lock for as long as the process lives, then.
            tracing::debug!(path = %path.display(), %error, "the quotas' memory stays locked");
        }
    }
}

fn cells(words: &'static [AtomicU64]) -> &'static [[AtomicU64; CELL_WORDS]] {
    words.get(HEAD_WORDS..).unwrap_or_default().as_chunks().0
}

/// Maps the file of a spool, made if it is not there or is none.
fn map(spool: &Path) -> io::Result<(&'static [AtomicU64], PathBuf, File)> {
    let spool = spool.canonicalize()?;
    let spool = spool.as_os_str().as_encoded_bytes();
    if spool.len() > PATH_WORDS * size_of::<u64>() {
        return Err(io::Error::other("the spool's path is longer than 1024 bytes"));
    }
    let digest = Sha256::digest(spool);
    let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let path = Path::new(TMPFS).join(format!("weir-{name}.quotas"));
    let file = open(&path, true)?;
    if file.metadata()?.uid() != rustix::process::geteuid().as_raw() {
        let what = format!("{} is not ours", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let mapping = Mapping::create(&file, WORDS)?;
    let words = mapping.words();
    if spool_of(words).as_deref() != Some(spool) {
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        let chunks = spool.chunks(size_of::<u64>()).map(|chunk| {
            let mut bytes = [0; size_of::<u64>()];
            bytes[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(bytes)
        });
        chunks.zip(&words[2..]).for_each(|(chunk, word)| word.store(chunk, Ordering::Relaxed));
        words[1].store(spool.len() as u64, Ordering::Relaxed);
        words[0].store(MAGIC, Ordering::Release);
    }
    Ok((mapping.leak(), path, file))
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).mode(0o600);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

/// The path of the spool that a file in memory belongs to.
fn spool_of(words: &[AtomicU64]) -> Option<Vec<u8>> {
    let [magic, len, rest @ ..] = words else { return None };
    if magic.load(Ordering::Acquire) != MAGIC {
        return None;
    }
    let len = usize::try_from(len.load(Ordering::Relaxed)).ok()?;
    let path = rest.get(..PATH_WORDS)?;
    let bytes = path.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
    let mut bytes: Vec<u8> = bytes.collect();
    (len <= bytes.len()).then(|| bytes.truncate(len))?;
    Some(bytes)
}

/// Deletes what belongs to spools that are gone. Only what is ours and nobody holds.
fn remove_orphans() {
    let ours = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(TMPFS).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_quotas =
            name.strip_prefix("weir-").and_then(|name| name.strip_suffix(".quotas")).is_some();
        let is_ours = entry.metadata().is_ok_and(|found| found.is_file() && found.uid() == ours);
        if is_quotas && is_ours && is_orphan(&path).unwrap_or(false) {
            // What vanishes meanwhile is somebody else's work.
            drop(fs::remove_file(&path));
        }
    }
}

fn is_orphan(path: &Path) -> io::Result<bool> {
    let file = open(path, false)?;
    let mapping = Mapping::open(&file)?;
    let Some(spool) = spool_of(mapping.words()) else { return Ok(false) };
    let spool = PathBuf::from(String::from_utf8_lossy(&spool).into_owned());
    Ok(!spool.exists() && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

/// The cells that were saved; none, and a warning, when they cannot be believed.
pub(super) fn load(spool: &Path) -> Vec<[AtomicU64; CELL_WORDS]> {
    let path = spool.join(SAVED);
    let read = fs::read(&path).map_err(|error| (error.kind(), error.to_string()));
    let cells = read.and_then(|bytes| {
        read_cells(&bytes).map_err(|error| (io::ErrorKind::InvalidData, error.to_string()))
    });
    match cells {
        Ok(cells) => cells,
        Err((io::ErrorKind::NotFound, _)) => Vec::new(),
        Err((_, error)) => {
            tracing::error!(path = %path.display(), error, "the saved quotas are not read: what only they know is forgotten");
            Vec::new()
        }
    }
}

/// Saves cells: to another file, which then takes the place of the one before.
pub(super) fn save(spool: &Path, cells: &[[u64; CELL_WORDS]]) -> io::Result<()> {
    let (path, new) = (spool.join(SAVED), spool.join(SAVING));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&write_cells(cells))?;
    file.sync_data()?;
    fs::rename(&new, &path)?;
    File::open(spool)?.sync_all()
}
