//! The account that is asked: made once, kept for the next time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e_tests::binary;

/// Nothing else is drawn.
const SEED: &str = "1";

/// A data directory, and what is kept beside it.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) data: PathBuf,
    /// The same as flow records.
    pub(crate) flows: PathBuf,
}

impl Account {
    /// The account of so many sessions and customers that is kept in `keep`.
    pub(crate) fn of(keep: &Path, sessions: u64, customers: u16) -> Result<Self> {
        let name = format!("account-{sessions}-{customers}");
        let (data, flows) = (keep.join(&name), keep.join(format!("{name}.flows")));
        // It is written last: without it the account is not whole.
        if !data.join("truth.json").exists() {
            eprintln!("bench-analyze: making {sessions} sessions, for {}", data.display());
            remove(&data)?;
            remove(&flows)?;
            let mut command = Command::new(binary::path("generate"));
            command.args(["--days", "31", "--seed", SEED, "--out"]).arg(&data);
            command.args(["--sessions", &sessions.to_string()]);
            command.args(["--customers", &customers.to_string()]);
            let status = command.status().context("cannot start generate")?;
            ensure!(status.success(), "generate ended with {status}");
        }
        Ok(Self { data, flows })
    }

    /// What DuckDB reads a table from.
    pub(crate) fn table(&self, name: &str) -> String {
        let parts = self.data.join("accounting").join(name).join("**/*.parquet");
        let parts = parts.to_string_lossy().replace('\'', "''");
        format!("read_parquet('{parts}', hive_partitioning = false)")
    }
}

/// Removes a directory, if there is one.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}
