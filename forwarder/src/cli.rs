//! The command line: what can be said, and who does it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::admin::{self, Request};
use crate::{check, load};
use schemas::exit::{Exit, Failure};

/// Sessions that `forwarder sessions` asks for when nobody says otherwise.
const DEFAULT_LIMIT: u32 = 1000;

const LONG_ABOUT: &str = "\
Forwards TCP and UDP services to internal servers, decides who may pass, and keeps an exact account \
of every session.

The configuration file names services (where clients come in, and the servers they go to) and rules \
(who may pass, and who is billed). The account goes to a recorder; while that is away it waits on \
disk, and forwarding goes on.";

const EXAMPLES: &str = "\
EXAMPLES
  forwarder check -c forwarder.toml   is the file right, what does it mean?
  forwarder run -c forwarder.toml     run until SIGTERM; SIGHUP reloads
  forwarder status                    what the running forwarder is doing
  forwarder sessions --json           the sessions that run now
  forwarder reload                    put the changed file in force

EXIT CODES
  0   fine
  64  the command line is wrong
  66  what is asked for does not exist
  69  an address cannot be bound, or no forwarder answers
  70  a bug of ours
  74  reading or writing failed
  75  another forwarder has the spool
  77  permission is missing
  78  the configuration is wrong

FILES
  /etc/weir/forwarder.toml    the configuration (docs/configuration.md)
  /run/weir/forwarder.sock    the admin socket, unless the file names another
  /var/lib/weir/spool         the account, while the recorder is away";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "forwarder",
    version,
    about = "Forwards TCP and UDP, and keeps an exact account of every session",
    long_about = LONG_ABOUT,
    after_help = "Examples, exit codes and files: forwarder --help",
    after_long_help = EXAMPLES,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forward until SIGTERM
    ///
    /// Binds every listener or none, then relays until SIGTERM. SIGTERM stops listening, lets
    /// sessions end for timeouts.drain, writes every end, waits up to 5 s for the recorder to
    /// acknowledge, and exits with 0; what the recorder has not got by then waits in the spool. A
    /// second SIGTERM ends at once. SIGHUP reads the file again; when it has a fault, the
    /// configuration in force stays. Log lines go to stderr; RUST_LOG=debug shows more.
    Run {
        #[command(flatten)]
        file: File,
    },
    /// Say what a configuration file means, or what is wrong with it
    ///
    /// Shows listeners, targets and rules as they would be in force. All faults are told in one
    /// run, each with file, line and column, and what to write instead; the exit code is then 78.
    /// Nothing is bound or written.
    Check {
        #[command(flatten)]
        file: File,
        /// Answer with one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Put the changed configuration file in force
    ///
    /// Rules, targets, timeouts and [tcp] hold for new sessions; running ones go on as they began.
    /// Listeners that the file adds are bound, those that it drops are closed, the others stay
    /// open. A file with a fault, or a change of node, of threads or of a key in [recorder],
    /// [accounting] or [admin], is refused as a whole (exit code 78).
    Reload(Ask),
    /// Show what the running forwarder is doing
    ///
    /// Sessions now and since the start, by service; the state of the recorder, the spool and the
    /// counter table.
    Status(Ask),
    /// List the sessions that run now
    ///
    /// Oldest first, with the bytes delivered so far. The session's name finds it in every table,
    /// log line and capture.
    Sessions {
        #[command(flatten)]
        ask: Ask,
        /// Show at most this many
        #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT)]
        limit: u32,
    },
}

/// Which configuration.
#[derive(Debug, Args)]
struct File {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = load::DEFAULT_FILE)]
    config: PathBuf,
}

/// Which forwarder, and how to answer.
#[derive(Debug, Args)]
struct Ask {
    /// The configuration file of the running forwarder; only admin.socket is read from it
    /// [default: /etc/weir/forwarder.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin socket of the running forwarder, instead of the one in the file
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Answer with one JSON object
    #[arg(long)]
    json: bool,
}

/// Does what the command line says and tells people about it.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explained(&error),
    };
    match act(cli.command) {
        Ok(()) => Exit::Fine.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
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
        Command::Run { file } => crate::run::run(&file.config),
        Command::Check { file, json } => check::check(&file.config, json),
        Command::Reload(ask) => ask.send(&Request::Reload),
        Command::Status(ask) => ask.send(&Request::Status),
        Command::Sessions { ask, limit } => ask.send(&Request::Sessions { limit }),
    }
}

impl Ask {
    fn send(&self, request: &Request) -> Result<(), Failure> {
        let socket = match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(file)) => forwarder_core::config::admin_socket_of(&load::source(file)?),
            // Without the usual file the usual socket may still be there.
            (None, None) => {
                let source = load::source(Path::new(load::DEFAULT_FILE)).unwrap_or_default();
                forwarder_core::config::admin_socket_of(&source)
            }
        };
        let answer = admin::client::ask(&socket, request)?;
        admin::show::print(&answer, self.json)
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
