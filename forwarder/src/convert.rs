//! `forwarder convert`: Barefoot's configuration as ours.

use std::path::Path;

use forwarder_core::convert::barefoot;
use schemas::exit::{Exit, Failure};

use crate::admin::show::write_out;
use crate::load;

/// Reads a `barefootd.conf` and writes what it would be here to stdout, and how much could not be
/// carried over to stderr.
///
/// # Errors
/// The file cannot be read or understood, or what became of it has faults.
pub(crate) fn convert(file: &Path) -> Result<(), Failure> {
    let source = load::foreign_source(file)?;
    let name = file.display().to_string();
    let made = barefoot(&source, &name)
        .map_err(|faults| Failure::new(Exit::Config, faults.to_string().trim_end()))?;
    write_out(&made.toml)?;
    if made.notes > 0 {
        let statements = if made.notes == 1 { "statement" } else { "statements" };
        eprintln!(
            "{name}: {} {statements} could not be carried over, or not quite: see the comments",
            made.notes
        );
    }
    if made.faults.has_faults() {
        let message = format!(
            "what became of {name} has faults; their lines are those of the new file:\n{}",
            made.faults
        );
        return Err(Failure::new(Exit::Config, message.trim_end()));
    }
    Ok(())
}
