//! What a command answers, by way of a file: there may be much of it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use e2e_tests::{process, wait};

/// Runs a command to its end.
///
/// # Errors
/// It cannot be run, does not end in time, or not with 0.
pub(crate) fn of(mut command: Command, into: &Path, patience: Duration) -> Result<String> {
    let open = |path: &Path| {
        File::create(path).with_context(|| format!("cannot write {}", path.display()))
    };
    let errors = into.with_extension("errors");
    command.stdout(open(into)?).stderr(open(&errors)?);
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    let ended = wait::within(patience, || child.try_wait().ok().flatten());
    if ended.is_none() {
        process::kill(&mut child);
    }
    let said = fs::read_to_string(into).unwrap_or_default();
    match ended {
        Some(status) if status.success() => Ok(said),
        other => {
            let how = other.map_or_else(|| "does not end".to_owned(), |status| status.to_string());
            let errors = fs::read_to_string(errors).unwrap_or_default();
            bail!("{command:?}: {how}\n{said}{errors}")
        }
    }
}
