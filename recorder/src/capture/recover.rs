//! What a start of the recorder does about captures that an earlier run left.
//!
//! A file that is still called `….part` was open when the recorder or the machine stopped. It is cut
//! behind its last whole block, indexed from its comments, made durable and given its name; one
//! without a packet is deleted. A file that had been closed completely and only lacked its name goes
//! the same way, and its rows are then in the log a second time: readers of `captures` take one row
//! per (node, boot, session, extent).
//!
//! `<data>/captures/open.json` tells which sessions were not over, so that their extents are counted
//! on and what passed meanwhile is known to be missing.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use schemas::vocab::PerDirection;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::DIRECTORY;
use super::closing::{Sealed, hexadecimal, index_and_publish, sync_directory};
use super::file::PART_SUFFIX;
use super::scan::{Scan, scan};
use super::session::SessionKey;
use super::store::Left;
use super::writer::CloseError;
use crate::log::LogHandle;

const OPEN_SESSIONS: &str = "open.json";
/// Most sessions that are remembered; a recorder keeps no more open.
const MAX_REMEMBERED: usize = 1 << 18;

/// What a start found, to be given to [`super::CaptureWriter::start`].
#[derive(Debug, Default)]
pub struct Recovered {
    pub(super) left_open: HashMap<SessionKey, Left>,
    /// Files that were mended, indexed and named.
    pub mended: u64,
    /// Files that held no packet and were deleted.
    pub deleted: u64,
}

/// Why the captures of an earlier run could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A file or directory cannot be read or mended.
    #[error("cannot take over {}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A mended file cannot be indexed or named.
    #[error(transparent)]
    Close(#[from] CloseError),
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    node: String,
    session: String,
    extent: i32,
    #[serde(default)]
    up: Option<u64>,
    #[serde(default)]
    down: Option<u64>,
    #[serde(default)]
    fin_up: bool,
    #[serde(default)]
    fin_down: bool,
}

/// Takes over what an earlier run left below `data`, and indexes it through `log`.
///
/// # Errors
/// A file cannot be read, mended, indexed or named; what was done until then stays done.
pub async fn recover(data: &Path, log: &LogHandle) -> Result<Recovered, RecoverError> {
    let mut recovered = Recovered { left_open: recall_open_sessions(data), ..Recovered::default() };
    let mut parts = Vec::new();
    let root = data.join(DIRECTORY);
    find_parts(&root, &mut parts).map_err(|error| RecoverError::Io { path: root, error })?;
    parts.sort();
    for part in parts {
        let mended = mend(data, &part);
        let mended = mended.map_err(|error| RecoverError::Io { path: part.clone(), error })?;
        let Some((sealed, scan)) = mended else {
            recovered.deleted += 1;
            continue;
        };
        for (key, left) in scan.left() {
            match left {
                Some(mut left) => {
                    // A FIN in an earlier file stays written.
                    let known = recovered.left_open.get(&key).map(|known| known.fin);
                    let known = known.unwrap_or_default();
                    left.fin.up |= known.up;
                    left.fin.down |= known.down;
                    recovered.left_open.insert(key, left);
                }
                None => drop(recovered.left_open.remove(&key)),
            }
        }
        // Once the file has its name, the next start does not look into it.
        let left_open: Vec<_> =
            recovered.left_open.iter().map(|(key, left)| (key.clone(), *left)).collect();
        let noted = remember_open_sessions(data, &left_open);
        noted.map_err(|error| RecoverError::Io { path: data.join(DIRECTORY), error })?;
        index_and_publish(log, &sealed).await?;
        recovered.mended += 1;
    }
    Ok(recovered)
}

fn find_parts(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find_parts(&path, found)?;
        } else if path.to_string_lossy().ends_with(PART_SUFFIX) {
            found.push(path);
        }
    }
    Ok(())
}

/// Cuts a file behind its last whole block and makes it durable; `None`: it was empty and is gone.
fn mend(data: &Path, part: &Path) -> io::Result<Option<(Sealed, Scan)>> {
    let scan = scan(File::open(part)?)?;
    if scan.is_empty() {
        fs::remove_file(part)?;
        sync_directory(part)?;
        return Ok(None);
    }
    let file = OpenOptions::new().write(true).open(part)?;
    if file.metadata()?.len() > scan.good_len() {
        tracing::warn!("{} was cut behind its last whole packet", part.display());
        file.set_len(scan.good_len())?;
    }
    file.sync_all()?;
    let relative = part.strip_prefix(data).unwrap_or(part).to_string_lossy();
    let relative = relative.strip_suffix(PART_SUFFIX).unwrap_or(&relative);
    let rows = scan.rows(relative, &digest(part)?);
    Ok(Some((Sealed { path: Some(part.to_owned()), rows }, scan)))
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hexadecimal(&hasher.finalize()))
}

/// Notes the sessions that are open, durably and at once.
pub(super) fn remember_open_sessions(
    data: &Path,
    sessions: &[(SessionKey, Left)],
) -> io::Result<()> {
    let mut remembered: Vec<_> = sessions
        .iter()
        .take(MAX_REMEMBERED)
        .map(|(key, left)| Remembered {
            node: key.node.as_str().to_owned(),
            session: key.id.to_string(),
            extent: left.extent,
            up: left.position.map(|position| position.up),
            down: left.position.map(|position| position.down),
            fin_up: left.fin.up,
            fin_down: left.fin.down,
        })
        .collect();
    remembered.sort_by(|a, b| (&a.node, &a.session).cmp(&(&b.node, &b.session)));
    let directory = data.join(DIRECTORY);
    fs::create_dir_all(&directory)?;
    let path = directory.join(OPEN_SESSIONS);
    let temporary = directory.join(format!("{OPEN_SESSIONS}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(&remembered)?)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    sync_directory(&path)
}

/// The sessions that were noted. A note that cannot be read only costs their numbering.
fn recall_open_sessions(data: &Path) -> HashMap<SessionKey, Left> {
    let path = data.join(DIRECTORY).join(OPEN_SESSIONS);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return HashMap::new(),
        Err(error) => {
            tracing::warn!("{} cannot be read: {error}", path.display());
            return HashMap::new();
        }
    };
    let remembered: Vec<Remembered> = serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!("{} is damaged: {error}", path.display());
        Vec::new()
    });
    let session = |known: Remembered| {
        let key = SessionKey { node: known.node.parse().ok()?, id: known.session.parse().ok()? };
        let position = known.up.zip(known.down).map(|(up, down)| PerDirection { up, down });
        let fin = PerDirection { up: known.fin_up, down: known.fin_down };
        Some((key, Left { extent: known.extent, position, fin }))
    };
    remembered.into_iter().filter_map(session).collect()
}
