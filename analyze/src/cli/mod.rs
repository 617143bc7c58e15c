//! The command line: what was typed. What it means is decided by the modules of the commands.

mod bill;
mod common;
mod insight;
mod key;
mod percentile;
mod reports;

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use schemas::config as quantity;

pub use bill::BillArgs;
pub use common::{Common, FilterArgs, OutputArgs, PeriodArgs, ReportFormat};
pub use insight::{CompareArgs, Direction, ForecastArgs, MarginArgs, ReconcileArgs};
pub use key::Key;
pub use percentile::PercentileArgs;
pub use reports::{Extras, Of, Order, SessionsArgs, SizesArgs, TopArgs, UsageArgs};

/// `data` of a packaged recorder.
const DEFAULT_DATA: &str = "/var/lib/weir";

/// Everything that was typed.
#[derive(Debug, Parser)]
#[command(
    name = "analyze",
    version,
    about = "Usage reports, lookups and captures from the account that Weir keeps",
    long_about = "Usage reports, lookups and captures from the account that Weir keeps.\n\n\
        Reads the data directory of a recorder and never writes to it; the recorder may be running. \
        Without a period a command covers everything, without --top it gives every row.\n\n\
        Bytes are payload the kernel accepted for the other side: up is client to target, down is \
        target to client. Tables are for people (decimal units, times in --tz); csv, json and ndjson \
        carry raw integers, times in UTC, and the column names as a contract.",
    after_long_help = "Exit codes: 0 fine; 1 verify found a fault; 64 usage; 66 no such data; 70 our bug; \
        74 a file could not be read or written, or is damaged; 77 permission; 78 the file of tariffs has faults, or the data directory is of a newer format."
)]
pub struct Arguments {
    /// The recorder's data directory [default: $WEIR_DATA, then /var/lib/weir].
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// The data directory: as typed, else `$WEIR_DATA`, else where packages put it.
    pub fn data(&self) -> PathBuf {
        let from_environment = || env::var_os("WEIR_DATA").map(PathBuf::from);
        self.data.clone().or_else(from_environment).unwrap_or_else(|| PathBuf::from(DEFAULT_DATA))
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bytes, datagrams and sessions per customer, service, client, day…
    ///
    /// Adds up the `usage` table, which has one row per session and slot; a slot belongs to the
    /// period in which it starts. Running sessions are included up to their last slot. Rows are in
    /// the order of their keys; with --top the largest come first. active_us is the time that sessions
    /// lived; peak_bps is the highest mean rate of one slot, both directions together.
    #[command(after_long_help = "Examples:\n  \
        analyze usage --period 2026-10\n  \
        analyze usage --by customer,day --since -7d --tz Europe/Berlin\n  \
        analyze usage --by customer --period 2026-10 --compare\n  \
        analyze usage --by service,client/24 --customer acme --format csv -o acme.csv")]
    Usage(UsageArgs),
    /// Who moves most: clients, services, targets… with share and peak.
    ///
    /// The largest first. share_percent is the part of the total of all rows, also of those that
    /// --top leaves out, and cumulative_percent that of the rows so far; peak_bps is the highest mean
    /// rate of one slot, mean_bps that from the first slot to the last, both directions together.
    #[command(after_long_help = "Examples:\n  \
        analyze top -n 10\n  \
        analyze top --by service,target --order down --since -1d\n  \
        analyze top client/24 --order down -n 20\n  \
        analyze top customer --period 2026-10 --compare")]
    Top(TopArgs),
    /// Every ended session, with all columns of its table.
    ///
    /// Lists sessions that ended in the period; --open adds those still running, as far as their
    /// latest usage row tells (columns not known yet are empty). csv, json and ndjson print
    /// `session` and then all columns; a table shows those that fit. With --top those that moved
    /// most. --long is a report of its own: the sessions that lived at least so long, the longest
    /// first, and of those that still run the rate in the newest slot (last_bps) and for how long
    /// nothing has moved (idle_us).
    #[command(after_long_help = "Examples:\n  \
        analyze sessions --client 10.1.0.0/16 --since 2026-10-26T12:00:00Z\n  \
        analyze sessions --open --format json\n  \
        analyze sessions --long 1d --service web\n  \
        analyze sessions --customer acme -n 20")]
    Sessions(SessionsArgs),
    /// One session in detail.
    ///
    /// Identity, addresses, times, bytes, end, its intervals and where its capture lies. A running
    /// session is shown from its usage rows. The id is the text that logs, captures and tables
    /// carry.
    #[command(after_long_help = "Example:\n  analyze session k3f9x2ab-1042")]
    Session(SessionArgs),
    /// What moved over time: rates, open and new sessions, refused attempts.
    ///
    /// A row per slot, or with --by per hour, day or month. Time that nobody measured is a row of
    /// status UNKNOWN without figures. open_sessions is known of all sessions together only, refused
    /// attempts as far as a filter does not ask for what they have not.
    #[command(after_long_help = "Examples:\n  \
        analyze traffic --since -2h\n  \
        analyze traffic --by hour --period 2026-10-26 --tz Europe/Berlin\n  \
        analyze traffic --by day --service web --format csv")]
    Traffic(Common),
    /// How large sessions are and how long they last.
    ///
    /// Counts the sessions that ended in the period by powers of ten of their bytes, or with --of
    /// duration by their duration; the row without bounds is all of them. --open adds running ones as
    /// they are now. Half of the sessions are not above p50, 99 of 100 not above p99.
    #[command(after_long_help = "Examples:\n  \
        analyze sizes --since -1d\n  \
        analyze sizes --of duration --by service\n  \
        analyze sizes --service web --format csv")]
    Sizes(SizesArgs),
    /// Why sessions ended.
    ///
    /// Counts the sessions that ended in the period by who ended them, cause and phase; the most
    /// frequent first. ended_by is client, target, or forwarder when a time ran out or we ended it.
    #[command(after_long_help = "Examples:\n  \
        analyze ends --since -1d\n  \
        analyze ends --by target --having \"end_reason like target_*\"\n  \
        analyze ends --by service,day --format csv")]
    Ends(Common),
    /// How targets do: connect times, failures, round trips, share.
    ///
    /// Counts the sessions that ended in the period; --open adds running ones. failed are those
    /// whose target was never reached; retrans_percent is the share of sessions in which something
    /// had to be sent to the target again, of those where that was measured.
    #[command(after_long_help = "Examples:\n  \
        analyze targets --since -1d\n  \
        analyze targets --by service,target --having \"failed > 0\"\n  \
        analyze targets --by target,hour --period 2026-10-26")]
    Targets(Common),
    /// Refused attempts, grouped.
    ///
    /// Attempts that were refused before anything was dialled: by a rule, a limit, or for want of
    /// resources. The most frequent first. Keys besides the common ones: reason, limit. clients are
    /// different addresses; allowed_later are those that had a session of the same service later on.
    #[command(after_long_help = "Examples:\n  \
        analyze denied --since -1d\n  \
        analyze denied --by reason,day\n  \
        analyze denied --by client/24 -n 20")]
    Denied(Common),
    /// The 95th percentile of rates, and how far it is from the commit.
    ///
    /// What passed is summed slot by slot, over all sessions, rules and forwarders of a key, and the
    /// slots are ranked; a slot in which nothing passed is a zero. The expected slots are those of the
    /// period in --tz: an open period goes as far as slots do. slots_left is how many slots more may
    /// exceed --commit before the percentile does, those to come included. A row is estimated when
    /// less than 99 % of its slots were measured.
    #[command(after_long_help = "Examples:\n  \
        analyze percentile --period 2026-10 --tz Europe/Berlin --commit '100 Mbit/s'\n  \
        analyze percentile --by service --mode p95_of_sum --period 2026-10\n  \
        analyze percentile --customer acme --period 2026-10 --rank rrd --missing zero")]
    Percentile(PercentileArgs),
    /// How much of an allowance is used, and when it runs out.
    ///
    /// Looks at the calendar month in --tz in which the newest slot lies, at --period, or with
    /// --tariffs at the billing period of each contract. The moment of the forecast is the end of the
    /// newest slot, or --until, so the same data gives the same answer. projected_bytes goes on as
    /// since the beginning of the period; weekday_bytes takes each day to come for the mean of its
    /// weekday in the 28 days before.
    #[command(after_long_help = "Examples:\n  \
        analyze forecast --allowance '500 GB'\n  \
        analyze forecast --tariffs tariffs.toml --tz Europe/Berlin --having 'projected_percent > 100'\n  \
        analyze forecast --by service --direction down --until 2026-10-20")]
    Forecast(ForecastArgs),
    /// What each customer pays, costs, and leaves.
    ///
    /// The transit cost is that of the 95th percentile of all traffic, in the direction in which it
    /// is higher; it is shared by the keys' own 95th percentiles in that direction. Amounts are exact
    /// until they are rounded, once, to the digits that the revenue has. The least profitable comes
    /// last.
    #[command(after_long_help = "Examples:\n  \
        analyze margin --period 2026-10 --revenue revenue.csv --cost-per-mbps 1.50\n  \
        analyze margin --period 2026-10 --by rule --revenue rules.csv --cost-per-mbps 1.50 --having 'margin < 0'")]
    Margin(MarginArgs),
    /// This period beside the one before it: who grew, who is new, who vanished.
    ///
    /// The period before a month, day or year is the one before it in the calendar of --tz, of any
    /// other as long a time. z_score tells how unusual the figure is: how many standard deviations
    /// it lies from the mean of the earlier periods that were wholly recorded. The largest change
    /// comes first.
    #[command(after_long_help = "Examples:\n  \
        analyze compare --period 2026-10\n  \
        analyze compare --by service,client/24 --since -1d --direction down -n 20\n  \
        analyze compare --since -1h --earlier 24 --having 'z_score > 3 or state = new'")]
    Compare(CompareArgs),
    /// Do the sums agree: usage, sessions, slots, and somebody else's figures?
    ///
    /// Without --against the difference is that of sessions and usage, which running sessions and
    /// sessions over the edge of the period explain; with it, that of the file and usage. cause is
    /// what most likely explains it. slots_bytes is there with --by node, because slots know nodes
    /// and nothing else.
    #[command(after_long_help = "Examples:\n  \
        analyze reconcile --period 2026-10\n  \
        analyze reconcile --by node\n  \
        analyze reconcile --period 2026-10 --direction down --against provider.csv")]
    Reconcile(ReconcileArgs),
    /// How good the account is: per forwarder, what was measured and what went wrong.
    ///
    /// Slots by status, slots of which nobody knows, row numbers that no row has, runs whose account
    /// was lost, sessions recovered after a crash, rows that are not exact, steps of the clock, how
    /// full the spool was, what captures and receive queues dropped. `verify` proves; this counts.
    #[command(after_long_help = "Examples:\n  \
        analyze quality --period 2026-10\n  \
        analyze quality --since -7d --having 'slots_missing > 0 or seq_missing > 0'")]
    Quality(Common),
    /// Which capture file holds which session, and where.
    ///
    /// One row per session and file, for captures that began in the period. Files that are still
    /// open are not in the index yet; a row without file is of one that retention has deleted. When
    /// retention will delete a file is decided by the recorder's configuration and not told here.
    #[command(after_long_help = "Examples:\n  \
        analyze captures --customer acme --since -1d\n  \
        analyze captures --having 'dropped_bytes > 0' --format csv\n  \
        analyze captures --where 'truncated = false' -n 10")]
    Captures(Common),
    /// Write one session's captured packets as a pcapng file.
    #[command(
        long_about = "Write one session's captured packets as a pcapng file, or its payload as raw bytes.\n\n\
            Copies by the index in `captures`, so the size of the capture files does not matter. The file \
            appears complete or not at all.",
        after_long_help = "Examples:\n  \
            analyze pcap k3f9x2ab-1042 -o session.pcapng\n  \
            analyze pcap k3f9x2ab-1042 --format pcap | tcpdump -r -\n  \
            analyze pcap k3f9x2ab-1042 --payload down -o answer.bin\n  \
            analyze pcap k3f9x2ab-1042 --payload up | less"
    )]
    Pcap(PcapArgs),
    /// Open one session's captured packets in Wireshark.
    ///
    /// Copies the packets into a private temporary file, starts the program on it and removes it
    /// when the program ends.
    #[command(
        after_long_help = "Examples:\n  analyze wireshark k3f9x2ab-1042\n  analyze wireshark k3f9x2ab-1042 --with tshark"
    )]
    Wireshark(WiresharkArgs),
    /// Ask your own question in SQL (DuckDB's dialect).
    ///
    /// One SELECT over the views sessions, usage, slots, denied, captures and events; where a row
    /// belongs to a session, the view has its id in the column `session`. Times are UTC without
    /// zone. The statement runs in a process of its own that can read the tables and nothing else;
    /// statements that write, and files other than the tables, are refused. One that takes more
    /// time or memory than it may is ended with exit code 64.
    ///
    /// Without a statement, at a terminal, there is a prompt with history and completion: end a
    /// statement with ; and type \? for help.
    #[command(after_long_help = "Examples:\n  \
        analyze sql \"select end_reason, count(*) from sessions group by all\"\n  \
        analyze sql \"from usage where bytes_up > 1e9\" --timeout 10s --format csv -o large.csv\n  \
        echo 'from slots limit 3' | analyze sql --format json\n  \
        analyze sql \"describe usage\"")]
    Sql(SqlArgs),
    /// Invoices of a month, by a file of tariffs.
    ///
    /// Measures what the contracts ask for, prices it step by step in exact arithmetic, and shows a
    /// document per contract: lines, tax, credits, what is due, and what the figures rest on. The
    /// same tables, tariffs and zones give the same bytes. With --close invoices are kept as JSON
    /// below --frozen; a later bill adds what earlier periods have come to since. Below 99 % coverage
    /// an invoice says that it is estimated.
    #[command(after_long_help = "Examples:\n  \
        analyze bill --tariffs tariffs.toml --period 2026-10\n  \
        analyze bill --tariffs tariffs.toml --period 2026-10 --customer acme --format html -o acme.html\n  \
        analyze bill --tariffs tariffs.toml --period 2026-10 --frozen invoices --close --format csv -o lines.csv")]
    Bill(BillArgs),
    /// Prove that the account is whole.
    ///
    /// Checks that the manifest is whole and every part it names is there with its checksum and
    /// rows; that row numbers (seq), session numbers and intervals have no gap; that each session's
    /// usage adds up to its totals and each slot's usage to the slot; that captures lie where the
    /// index says. What is known to be missing (lost with the power, kept by another recorder,
    /// deleted by retention) is a note and no fault. For
    /// sessions cut off by a crash it prints the honest bound: the truth lies between bytes and
    /// received. Exit 1 when there is a fault.
    #[command(
        after_long_help = "Examples:\n  analyze verify\n  analyze verify --json | jq '.faults[] | {place, message, parts}'"
    )]
    Verify(VerifyArgs),
}

/// `analyze session`
#[derive(Debug, Args)]
pub struct SessionArgs {
    /// The session: boot-number, as in k3f9x2ab-1042.
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// Show times in this zone (IANA name).
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    pub tz: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub output: OutputArgs,
}

/// What kind of file `pcap` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CaptureFormat {
    /// With comments, names and directions.
    Pcapng,
    /// For tools that know no better.
    Pcap,
}

/// Whose payload `pcap --payload` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// What the client sent.
    Up,
    /// What the target sent.
    Down,
    /// Both, in the order of their times.
    Both,
}

/// `analyze pcap`
#[derive(Debug, Args)]
pub struct PcapArgs {
    /// The session: boot-number, as in k3f9x2ab-1042.
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// Kind of file.
    #[arg(long, value_enum, default_value = "pcapng", value_name = "FORMAT")]
    pub format: CaptureFormat,
    /// Write raw payload instead of packets.
    #[arg(long, value_enum, value_name = "DIRECTION", conflicts_with = "format")]
    pub payload: Option<Payload>,
    /// Write to this file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `analyze wireshark`
#[derive(Debug, Args)]
pub struct WiresharkArgs {
    /// The session: boot-number, as in k3f9x2ab-1042.
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// The program to open it with; it is given `-r FILE`.
    #[arg(long, value_name = "PROGRAM", default_value = "wireshark")]
    pub with: PathBuf,
}

/// `analyze sql`
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// The statement; without it there is a prompt, or it is read from standard input if that is
    /// no terminal.
    #[arg(value_name = "STATEMENT")]
    pub statement: Option<String>,
    /// End the statement after so long; 0s: never.
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration)]
    pub timeout: Duration,
    /// Memory that DuckDB may use [default: 4 GiB, or 3/4 of what the machine has].
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// Show times of a table in this zone (IANA name).
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    pub tz: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub output: OutputArgs,
}

fn duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text).map_err(|refusal| format!("{}; {}", refusal.message, refusal.help))
}

fn size(text: &str) -> Result<u64, String> {
    quantity::size(text).map_err(|refusal| format!("{}; {}", refusal.message, refusal.help))
}

/// `analyze verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Write one JSON object: whole, checks, faults, notes, bound.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would print the text as help")]
    pub output: OutputArgs,
}
