//! The command line: what can be said, and who does it.

use std::io::Write;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::admin::{self, Request, client};
use crate::config::{Config, DEFAULT_FILE};
use crate::{load, recover, run};
use schemas::exit::{Exit, Failure};

const LONG_ABOUT: &str = "\
Receives the account and the captured payload from forwarders, and keeps them: Parquet tables for \
reports, pcapng files for Wireshark.

What a forwarder sends is written to a log and acknowledged when it is on disk; a few seconds later \
it is in the tables. While the recorder is away forwarders go on and keep their account.";

const EXAMPLES: &str = "\
EXAMPLES
  recorder check -c recorder.toml     is the file right, and what does it mean?
  recorder run -c recorder.toml       run until SIGTERM
  recorder status                     what the running recorder is doing
  recorder flush                      bring everything received into the tables
  recorder recover -c recorder.toml   make the manifest again, of a recorder that is stopped

EXIT CODES
  0   fine
  1   recover had to leave out parts that cannot be read
  64  the command line is wrong
  66  recover found no data directory
  69  a socket cannot be bound, or no recorder answers
  70  a bug of ours
  74  reading or writing failed
  75  another recorder has the data directory
  77  permission is missing
  78  the configuration is wrong, or data was written by a newer version of Weir

FILES
  /etc/weir/recorder.toml   the configuration
  /var/lib/weir             the data directory

docs/configuration.md explains every key, docs/recorder.md the data directory.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "recorder",
    version,
    about = "Keeps the account and the captures of forwarders",
    long_about = LONG_ABOUT,
    after_help = "Examples, exit codes and files: recorder --help",
    after_long_help = EXAMPLES,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive and keep until SIGTERM
    ///
    /// Makes and locks the data directory, finishes what an earlier run left, and listens for
    /// forwarders. SIGTERM refuses new frames, closes the capture files, publishes what was received
    /// and exits with 0; a second SIGTERM ends at once. Killed at any moment it loses nothing that
    /// it has acknowledged. Log lines go to stderr; RUST_LOG=debug shows more.
    Run {
        #[command(flatten)]
        file: File,
    },
    /// Say what a configuration file means, or what is wrong with it
    ///
    /// Shows the configuration as it would be in force. All faults are told in one run, each with
    /// file, line and column, and what to write instead; the exit code is then 78. Nothing is bound
    /// or written.
    Check {
        #[command(flatten)]
        file: File,
    },
    /// Show what the running recorder is doing
    ///
    /// The tables with their parts, rows and size; what waits in the log; who is connected; the
    /// captures; the last publication and what it failed with.
    Status {
        #[command(flatten)]
        ask: Ask,
        /// Answer with one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Have everything received so far in the tables
    ///
    /// Closes the open capture files, then publishes all that forwarders were acknowledged. Returns
    /// when it is on disk. Sessions that are being captured go on in new files.
    Flush {
        #[command(flatten)]
        ask: Ask,
    },
    /// Make the manifest again from the parts, when it is lost or damaged
    ///
    /// Reads every part of the tables from its first to its last byte, decides which of them count,
    /// so that every row is there once, and writes a manifest that names them. Deletes nothing: parts
    /// that do not count or cannot be read are moved to replaced/ and orphans/ in the data directory,
    /// the manifest before to manifest.before-<version>/. The recorder must be stopped. Says what it
    /// did; cut off, it is simply run again.
    Recover {
        #[command(flatten)]
        file: File,
    },
}

/// Which configuration.
#[derive(Debug, Args)]
struct File {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
}

/// Which recorder.
#[derive(Debug, Args)]
struct Ask {
    /// The configuration file of the running recorder; only admin.socket is read from it
    /// [default: /etc/weir/recorder.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin socket of the running recorder, instead of the one in the file
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Does what the command line says and tells people about it.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explained(&error),
    };
    match catch_unwind(|| act(cli.command)) {
        Ok(Ok(())) => Exit::Fine.into(),
        Ok(Err(failure)) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
        // The panic has spoken for itself.
        Err(_) => Exit::Bug.into(),
    }
}

/// What clap has to say; help and version were asked for and are no error.
fn explained(error: &clap::Error) -> ExitCode {
    // A closed pipe behind `--help | head` is nobody's concern.
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Fine.into(),
        _ => Exit::Usage.into(),
    }
}

fn act(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run { file } => run::run(&file.config),
        Command::Check { file } => {
            let config = load::config(&file.config)?;
            print(&config.to_string())
        }
        Command::Status { ask, json } => ask.send(Request::Status, json),
        Command::Flush { ask } => ask.send(Request::Flush, false),
        Command::Recover { file } => print(&recover::recover(&file.config)?),
    }
}

impl Ask {
    fn send(&self, request: Request, json: bool) -> Result<(), Failure> {
        let socket = match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(file)) => Config::admin_socket_of(&load::text(file)?),
            // Without the usual file the usual socket may still be there.
            (None, None) => {
                Config::admin_socket_of(&load::text(Path::new(DEFAULT_FILE)).unwrap_or_default())
            }
        };
        print(&admin::show(&client::ask(&socket, request)?, json))
    }
}

fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read has heard enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| {
            Failure::new(Exit::Io, format!("cannot write to standard output: {error}"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_page_reads_as_it_should() {
        let mut command = Cli::command().term_width(80);
        command.build();
        let mut pages = command.render_long_help().to_string();
        for command in command.get_subcommands_mut().filter(|c| c.get_name() != "help") {
            pages += &format!("\n=== {} ===\n", command.get_name());
            pages += &command.render_long_help().to_string();
        }
        insta::assert_snapshot!(pages);
    }
}
