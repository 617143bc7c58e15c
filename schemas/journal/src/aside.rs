//! What is not to be believed any more, kept for whoever looks into it.

use std::io;
use std::path::{Path, PathBuf};

use crate::fs::{Entry, FileSystem};
use crate::{JournalError, directory};

/// Files of this kind that are kept; older ones give way.
const KEPT: usize = 4;
const SUSPECT: &str = "suspect";

/// Gives a segment that is about to be replaced the further name `<segment>.<offset>.suspect`: from
/// `offset` on it is not believed.
pub(crate) fn set_aside(
    fs: &dyn FileSystem,
    dir: &Path,
    segment: &Path,
    offset: u64,
) -> Result<PathBuf, JournalError> {
    let mut aside = segment.as_os_str().to_owned();
    aside.push(format!(".{offset:010}.{SUSPECT}"));
    let aside = PathBuf::from(aside);
    match fs.hard_link(segment, &aside) {
        // An attempt that was cut off before the replacement.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked.map_err(JournalError::io("set aside", &aside))?,
    }
    remove_oldest(fs, dir)?;
    Ok(aside)
}

fn remove_oldest(fs: &dyn FileSystem, dir: &Path) -> Result<(), JournalError> {
    let entries = directory::entries(fs, dir)?.into_iter();
    let mut kept: Vec<_> = entries.map(|Entry { path, .. }| path).filter(|p| is_ours(p)).collect();
    // Named for their first frames.
    kept.sort_unstable();
    let too_many = kept.len().saturating_sub(KEPT);
    for path in &kept[..too_many] {
        fs.remove(path).map_err(JournalError::io("remove", path))?;
    }
    Ok(())
}

/// Whether a name is one that [`set_aside`] gave. The recorder keeps log segments that it cannot
/// read as `<segment>.suspect`, which are not ours to remove.
fn is_ours(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let mut parts = name.rsplitn(3, '.');
    parts.next() == Some(SUSPECT)
        && parts.next().is_some_and(|offset| offset.bytes().all(|b| b.is_ascii_digit()))
        && parts.next().is_some_and(|segment| segment.ends_with(".seg"))
}
