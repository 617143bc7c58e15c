//! What was typed before, in a file that only its user can read.

use std::env;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustyline::error::ReadlineError;

use super::{Lines, tell};

/// Statements that are remembered.
pub(super) const MAX_ENTRIES: usize = 1000;
/// Longest statement that is remembered, in bytes; with the number it bounds the file.
const MAX_ENTRY: usize = 16 * 1024;

/// Reads the history; gives the file that it is kept in, if there is a place for one.
pub(super) fn load(editor: &mut Lines) -> Option<PathBuf> {
    let path = file()?;
    let made = path
        .parent()
        .map_or(Ok(()), |dir| DirBuilder::new().recursive(true).mode(0o700).create(dir));
    let loaded = match made {
        Err(error) => Err(ReadlineError::Io(error)),
        Ok(()) => editor.load_history(&path),
    };
    match loaded {
        Ok(()) => Some(path),
        Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Some(path),
        Err(error) => {
            tell(&format!("analyze: note: no history is kept in {}: {error}", path.display()));
            None
        }
    }
}

/// Remembers a statement at once: a session may end by any signal.
pub(super) fn keep(editor: &mut Lines, path: &Path, typed: &str) {
    if typed.trim().is_empty() || typed.len() > MAX_ENTRY {
        return;
    }
    let kept = editor.add_history_entry(typed).and_then(|_| editor.append_history(path));
    if let Err(error) = kept {
        tell(&format!("analyze: note: cannot keep the history in {}: {error}", path.display()));
    }
}

/// `$XDG_STATE_HOME/weir/sql_history`, by default below `~/.local/state`.
fn file() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("weir/sql_history"))
}
