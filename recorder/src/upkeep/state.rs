//! What upkeep knows over restarts. All of it may be lost: whatever is not known is waited for.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::files::Files;
use crate::retain::{Clock, Uptime};

/// File below the data directory.
const FILE: &str = "upkeep.json";

/// `<data>/upkeep.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// What time it is for retention.
    #[serde(default)]
    pub(super) clock: Clock,
    /// When retention last took parts out of a table.
    #[serde(default)]
    pub(super) removed: BTreeMap<String, Uptime>,
    /// When files were first seen below `replaced/`, by their paths there.
    #[serde(default)]
    pub(super) replaced: BTreeMap<String, Uptime>,
}

impl State {
    /// What an earlier process knew; nothing, if that cannot be read.
    pub(super) fn load(files: &Files) -> Self {
        let path = files.at(FILE);
        let text = match files.fs().read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::warn!("cannot read {}: {error}; it is written anew", path.display());
                return Self::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!("{} is damaged: {error}; it is written anew", path.display());
            Self::default()
        })
    }

    /// Writes it down for the next process.
    pub(super) fn save(&self, files: &Files) -> io::Result<()> {
        let mut text = serde_json::to_vec(self).expect("a state is numbers, texts and maps");
        text.push(b'\n');
        let (path, temporary) = (files.at(FILE), files.at(format!("{FILE}.tmp")));
        let mut file = files.create(&temporary)?;
        io::Write::write_all(&mut file, &text)?;
        file.into_inner().sync_all()?;
        files.fs().rename(&temporary, &path)?;
        files.fs().sync_directory(files.data())
    }
}
