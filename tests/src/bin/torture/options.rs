//! What was typed.

use std::time::Duration;

use clap::Parser;

/// Kills forwarder and recorder at random moments under traffic, cuts the link between them, fills
/// their disks (as root: on a tmpfs of its own), puts their clock on so that hours and days are over
/// and are merged (with a C compiler), then holds the account against what every client and server
/// counted.
///
/// The seed, printed first, decides which actions come in which order and after which pauses; with
/// the same seed they come again. Exit 0: the account is exact; 1: it is not, and the directory is
/// kept.
#[derive(Debug, Parser)]
#[command(name = "torture")]
pub(crate) struct Options {
    /// For how long.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// What decides the actions; drawn anew for each run unless given.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Ends early once so many processes were killed.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    pub(crate) kills: u64,
    /// How many clients at a time.
    #[arg(long, default_value_t = 24)]
    pub(crate) clients: u16,
    /// It was started by itself in namespaces of its own.
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

impl Options {
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
