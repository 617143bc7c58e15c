//! What may be typed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;

use super::cell::Extent;
use super::plan::{Profile, Relay, Test};

/// Compares Weir with HAProxy, nginx and realm on loopback, in one run on this machine.
///
/// Needs root: every relay gets a network namespace of its own in every round. Prints a table of
/// medians with their spread and writes it as bench.md and bench.json. Whatever the times, it
/// ends with 0; only what breaks (a relay that dies, bytes that do not arrive, an account that is
/// not exact) is an error.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", version, after_help = EXAMPLES)]
pub(super) struct Options {
    /// How often everything is measured; the order of the relays rotates.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) rounds: u32,
    /// How long each test runs.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    pub(super) seconds: f64,
    /// These tests alone.
    #[arg(long, value_name = "TEST", value_delimiter = ',')]
    pub(super) only: Vec<Test>,
    /// These relays alone; `direct` is none.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(super) relay: Vec<Relay>,
    /// One congestion control alone: `reno` for what the relays can do, `bbr` for paced traffic.
    #[arg(long, value_delimiter = ',')]
    pub(super) profile: Vec<Profile>,
    /// Sessions of the idle test.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=7000))]
    pub(super) idle: u32,
    /// Where bench.md and bench.json go [default: bench/ in the build directory].
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Installs nothing: compares with what is there.
    #[arg(long)]
    pub(super) no_install: bool,
    /// Runs one cell in the namespaces it was started in.
    #[arg(long, hide = true)]
    pub(super) cell: bool,
}

const EXAMPLES: &str = "\
Examples:
  bench --rounds 1 --only conn --relay weir,haproxy,nginx
  bench --rounds 3 --only bulk8-up,bulk8-down --profile bbr
  bench --only udp --relay weir,nginx,realm --seconds 2
  bench --only bulk8-up --relay weir-capture,haproxy";

impl Options {
    /// How long and how many.
    pub(super) fn extent(&self) -> Result<Extent> {
        ensure!(
            (0.01..=60.0).contains(&self.seconds),
            "--seconds {}: a test runs for 0.01 to 60 s",
            self.seconds
        );
        Ok(Extent { during: Duration::from_secs_f64(self.seconds), idle: self.idle })
    }

    /// The command line of one cell.
    pub(super) fn of_cell(&self, relay: Relay, profile: Profile, tests: &[Test]) -> Vec<String> {
        let tests: Vec<String> = tests.iter().map(Test::to_string).collect();
        [
            ("--relay", relay.to_string()),
            ("--profile", profile.to_string()),
            ("--only", tests.join(",")),
            ("--seconds", self.seconds.to_string()),
            ("--idle", self.idle.to_string()),
        ]
        .into_iter()
        .flat_map(|(key, value)| [key.to_owned(), value])
        .chain(["--cell".to_owned()])
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_reads_the_command_line_it_is_given() {
        let options = Options::parse_from(["bench", "--seconds", "0.5", "--idle", "7"]);
        let tests = [Test::Conn, Test::Bulk8Up];
        let line = options.of_cell(Relay::WeirCapture, Profile::Bbr, &tests);
        let cell = Options::parse_from(["bench".to_owned()].into_iter().chain(line));
        assert!(cell.cell);
        assert_eq!(cell.relay, [Relay::WeirCapture]);
        assert_eq!(cell.profile, [Profile::Bbr]);
        assert_eq!(cell.only, tests);
        assert_eq!(cell.extent().unwrap(), options.extent().unwrap());
    }

    #[test]
    fn a_test_without_end_is_refused() {
        let options = Options::parse_from(["bench", "--seconds", "inf"]);
        assert!(options.extent().is_err());
    }
}
