//! The command line: what can be said, and who does it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::admin::watch::View;
use crate::admin::{self, DEFAULT_SESSIONS, Filter, Place, Request, Sort};
use crate::{check, convert, load};
use schemas::exit::{Exit, Failure};

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
  forwarder sessions --watch          the sessions that run now, like top
  forwarder kill --client 192.0.2.7   end what a client has running
  forwarder pause web                 let nobody in for a moment
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
    /// configuration in force stays. Log lines go to stderr, or where [log] says; RUST_LOG=debug
    /// shows more.
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
    /// Say what a barefootd.conf would be here
    ///
    /// Prints a forwarder.toml that does the same. Every statement that could not be carried over,
    /// or not quite, stands in a comment with its line; a rule that would let more clients in than
    /// before stands in comments as a whole. A file that cannot be understood is refused (exit code
    /// 78), each fault with file, line and column. The new file is checked too: what is wrong with
    /// it, such as a target that is a listener, is told, and the exit code is then 78 as well. A
    /// file that is not there is exit code 66.
    #[command(after_long_help = "EXAMPLES
  forwarder convert /etc/barefootd.conf > forwarder.toml
  forwarder check -c forwarder.toml")]
    Convert {
        /// Barefoot's configuration file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put the changed configuration file in force
    ///
    /// Rules, targets, timeouts and [tcp] hold for new sessions; running ones go on as they began.
    /// Listeners that the file adds are bound, those that it drops are closed, the others stay
    /// open. A file with a fault, an address that cannot be bound, or a change of node, of threads
    /// or of a key in [recorder], [accounting] or [admin], is refused as a whole: nothing changes,
    /// and the exit code tells (78, 69).
    Reload {
        #[command(flatten)]
        ask: Ask,
        /// Ask the new rules about the sessions that run, too
        ///
        /// Those that no rule passes any more are reset and end as `denied`; the others go on as
        /// they began, with their old target, limits and timeouts. Where the rules ask what was not
        /// found out when a session began (a name, a server's name), it goes on, and is counted.
        #[arg(long)]
        apply_to_running: bool,
    },
    /// Show what the running forwarder is doing
    ///
    /// Sessions and bytes now and since the start, by service and by rule; the targets' health; the
    /// state of the recorder, the spool and the counter table.
    #[command(after_long_help = "EXAMPLES
  forwarder status
  forwarder status --watch 5          anew every 5 s, until q
  forwarder status --json | jq .sessions.current")]
    Status {
        #[command(flatten)]
        ask: Ask,
        #[command(flatten)]
        watch: Watch,
    },
    /// List the sessions that run now
    ///
    /// With the bytes delivered so far, for how long they have been silent, and how fast they are.
    /// The session's name finds it in every table, log line and capture. A speed is known from the
    /// second look on: --watch and --sort rate take one.
    #[command(after_long_help = "EXAMPLES
  forwarder sessions --sort rate --top 10
  forwarder sessions --client 192.0.2.0/24 --service web
  forwarder sessions --sort idle --watch")]
    Sessions {
        #[command(flatten)]
        ask: Ask,
        #[command(flatten)]
        filter: Which,
        /// Which come first
        #[arg(long, value_enum, default_value_t)]
        sort: Sort,
        /// Show at most this many
        #[arg(short = 'n', long, visible_alias = "limit", value_name = "N", default_value_t = DEFAULT_SESSIONS)]
        top: u32,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show everything about one running session
    ///
    /// Addresses, times, bytes received, delivered and held on the way, what the capture has, and
    /// what TCP knows of both sides. One that has ended is for `analyze session`.
    Session {
        #[command(flatten)]
        ask: Ask,
        /// The session, as k3f9x2ab-1042 or only 1042
        #[arg(value_name = "SESSION")]
        session: String,
        #[command(flatten)]
        watch: Watch,
    },
    /// End running sessions
    ///
    /// TCP connections are reset on both sides, the sessions end as `killed`. A UDP client that goes
    /// on sending begins a new session: pause its listener or block it by a rule. Says how many
    /// sessions were ended; none is exit code 66.
    #[command(after_long_help = "EXAMPLES
  forwarder kill k3f9x2ab-1042
  forwarder kill --client 192.0.2.7
  forwarder kill --rule office --service web     those that meet both")]
    Kill {
        #[command(flatten)]
        ask: Ask,
        /// Sessions, as k3f9x2ab-1042 or only 1042
        #[arg(value_name = "SESSION")]
        sessions: Vec<String>,
        #[command(flatten)]
        filter: Which,
    },
    /// Show how far the limits are used
    ///
    /// The fullest first: sessions at the moment, new ones in the window that ends now, bits in the
    /// last second, bytes of the quota's day or month; and whom each has refused or holds back.
    #[command(after_long_help = "EXAMPLES
  forwarder limits --top 20
  forwarder limits --rule office --watch")]
    Limits {
        #[command(flatten)]
        ask: Ask,
        /// Of this rule
        #[arg(long, value_name = "NAME")]
        rule: Option<String>,
        /// Show at most this many
        #[arg(short = 'n', long, value_name = "N", default_value_t = DEFAULT_SESSIONS)]
        top: u32,
        #[command(flatten)]
        watch: Watch,
    },
    /// Let nobody in at some listeners, for a while
    ///
    /// New TCP clients wait, as far as the kernel's queue holds them (4096 for each data thread, or
    /// net.core.somaxconn), and are served on resume. Datagrams of new UDP clients are dropped and
    /// counted. What runs goes on. A reload does not end it, but a restart does.
    #[command(after_long_help = "EXAMPLES
  forwarder pause web                       every listener of a service
  forwarder pause tcp://0.0.0.0:8080        one of them")]
    Pause {
        #[command(flatten)]
        ask: Ask,
        /// Services, or listeners as `forwarder status` shows them
        #[arg(value_name = "SERVICE|LISTENER", required = true)]
        which: Vec<String>,
    },
    /// Let clients in again where they were made to wait
    Resume {
        #[command(flatten)]
        ask: Ask,
        /// Services, or listeners as `forwarder status` shows them
        #[arg(value_name = "SERVICE|LISTENER", required = true)]
        which: Vec<String>,
    },
    /// Let nobody in anywhere while what runs comes to its end
    ///
    /// The kernel refuses new TCP clients at once, so that a balancer in front sends them elsewhere;
    /// datagrams of new UDP clients are dropped and counted. The forwarder runs on: `forwarder
    /// status` shows how many sessions are left, SIGTERM ends it. Listeners keep their addresses, so
    /// that --cancel can never fail.
    Drain {
        #[command(flatten)]
        ask: Ask,
        /// Let clients in again; listeners that were paused stay so
        #[arg(long)]
        cancel: bool,
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

/// Which sessions: those that meet every condition.
#[derive(Debug, Args)]
#[group(id = "filter", multiple = true)]
struct Which {
    /// Of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Of this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Of this customer
    #[arg(long, value_name = "NAME")]
    customer: Option<String>,
    /// Of these clients: an address, with or without a port, or a network
    #[arg(long, value_name = "ADDRESS")]
    client: Option<Place>,
    /// To these targets: an address, with or without a port, or a network
    #[arg(long, value_name = "ADDRESS")]
    target: Option<Place>,
}

/// Whether to look once.
#[derive(Debug, Args)]
struct Watch {
    /// Look again every so many seconds, until q
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    watch: Option<u64>,
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
        Command::Convert { file } => convert::convert(&file),
        Command::Check { file, json } => check::check(&file.config, json),
        Command::Reload { ask, apply_to_running } => {
            ask.send(&Request::Reload { apply_to_running })
        }
        Command::Status { ask, watch } => ask.look(&Request::Status, &watch),
        Command::Sessions { ask, filter, sort, top, watch } => {
            ask.look(&Request::Sessions { filter: filter.into(), sort, limit: top }, &watch)
        }
        Command::Session { ask, session, watch } => ask.look(&Request::Session { session }, &watch),
        Command::Kill { ask, sessions, filter } => {
            let filter = Filter::from(filter);
            if sessions.is_empty() && filter.is_empty() {
                return Err(Failure::new(Exit::Usage, admin::NOBODY_TO_KILL));
            }
            ask.send(&Request::Kill { sessions, filter })
        }
        Command::Limits { ask, rule, top, watch } => {
            ask.look(&Request::Limits { rule, limit: top }, &watch)
        }
        Command::Pause { ask, which } => ask.send(&Request::Pause { which }),
        Command::Resume { ask, which } => ask.send(&Request::Resume { which }),
        Command::Drain { ask, cancel } => ask.send(&Request::Drain { cancel }),
    }
}

impl From<Which> for Filter {
    fn from(which: Which) -> Self {
        let Which { service, rule, customer, client, target } = which;
        Self { service, rule, customer, client, target }
    }
}

impl Ask {
    fn socket(&self) -> Result<PathBuf, Failure> {
        Ok(match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(file)) => forwarder_core::config::admin_socket_of(&load::source(file)?),
            // Without the usual file the usual socket may still be there.
            (None, None) => {
                let source = load::source(Path::new(load::DEFAULT_FILE)).unwrap_or_default();
                forwarder_core::config::admin_socket_of(&source)
            }
        })
    }

    fn send(&self, request: &Request) -> Result<(), Failure> {
        let answer = admin::client::ask(&self.socket()?, request)?;
        admin::show::print(&answer, self.json)
    }

    fn look(&self, request: &Request, watch: &Watch) -> Result<(), Failure> {
        let Some(seconds) = watch.watch else { return self.send(request) };
        let view = View { every: Duration::from_secs(seconds), json: self.json };
        admin::watch::watch(&self.socket()?, request, view)
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
