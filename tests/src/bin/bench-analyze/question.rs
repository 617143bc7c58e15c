//! What is asked, how `analyze` is asked and how the other one, and whether they answer the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use e2e_tests::{binary, process};

use crate::account::Account;
use crate::flows;
use crate::run::{self, Took};

/// Clients that are listed.
const TOP: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Test {
    /// Usage of each customer on each day, beside DuckDB.
    Usage,
    /// The 95th percentile of each customer's rates in a month, beside DuckDB.
    Percentile,
    /// The invoices of a month, beside DuckDB, which gives the quantities in them.
    Bill,
    /// The sessions of one address, beside DuckDB.
    Search,
    /// The clients that received most, beside nfdump.
    Top,
}

/// Two programs, to be asked in turn.
pub(crate) struct Question {
    test: Test,
    ours: Command,
    theirs: Command,
    /// Where `analyze` writes, and DuckDB.
    answers: [PathBuf; 2],
}

impl Test {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage --by customer,day",
            Self::Percentile => "percentile --period 2026-10",
            Self::Bill => "bill --period 2026-10",
            Self::Search => "sessions --client ADDRESS",
            Self::Top => "top --by client --order down -n 20",
        }
    }

    /// Nothing when the other program is not here.
    pub(crate) fn question(self, account: &Account, scratch: &Path) -> Result<Option<Question>> {
        let answers = ["ours.csv", "theirs.csv"].map(|name| scratch.join(name));
        let usage = account.table("usage");
        let mut arguments: Vec<String> = self.name().split(' ').map(str::to_owned).collect();
        let theirs = match self {
            Self::Usage => duckdb(
                &answers[1],
                &format!(
                    "WITH u AS (SELECT *, slot_start::DATE AS day FROM {usage}),
                     sums AS (
                         SELECT customer, day, count(*) AS sessions, sum(bytes_up) AS bytes_up,
                             sum(bytes_down) AS bytes_down, sum(datagrams_up) AS datagrams_up,
                             sum(datagrams_down) AS datagrams_down, max(quality) AS quality,
                             sum(bytes_up) + sum(bytes_down) AS bytes_total,
                             sum(active_us) AS active_us
                         FROM (SELECT customer, day, boot, session_no,
                                   sum(bytes_up) AS bytes_up, sum(bytes_down) AS bytes_down,
                                   sum(datagrams_up) AS datagrams_up,
                                   sum(datagrams_down) AS datagrams_down, max(quality) AS quality,
                                   sum(active_us) AS active_us
                               FROM u GROUP BY ALL)
                         GROUP BY ALL
                     ),
                     peaks AS (
                         SELECT customer, day, (max(bytes) * 8 // 300) AS peak_bps
                         FROM (SELECT customer, day, slot_start,
                                   sum((bytes_up + bytes_down) * (300 // slot_len_s)) AS bytes
                               FROM u GROUP BY ALL)
                         GROUP BY ALL
                     )
                     SELECT sums.*, peak_bps
                     FROM sums JOIN peaks ON sums.day = peaks.day
                         AND sums.customer IS NOT DISTINCT FROM peaks.customer
                     ORDER BY ALL"
                ),
            ),
            Self::Percentile => duckdb(&answers[1], &percentiles(&usage)),
            Self::Bill => {
                let tariffs = account.data.join("tariffs.toml");
                arguments.extend(["--tariffs".to_owned(), tariffs.display().to_string()]);
                duckdb(&answers[1], &quantities(&usage))
            }
            Self::Search => {
                let address = client_of(account)?;
                arguments.pop();
                arguments.push(address.clone());
                duckdb(
                    &answers[1],
                    &format!(
                        "FROM {} WHERE client_ip = '{address}' ORDER BY ts_end",
                        account.table("sessions")
                    ),
                )
            }
            Self::Top => {
                let Some(files) = flows::of(account)? else { return Ok(None) };
                let mut nfdump = Command::new("nfdump");
                nfdump.arg("-R").arg(files).args(["-s", "srcip/bytes", "-o", "csv", "-q"]);
                nfdump.args(["-n", &TOP.to_string()]);
                nfdump
            }
        };
        let mut ours = Command::new(binary::path("analyze"));
        ours.arg("--data").arg(&account.data).args(arguments);
        ours.args(["--format", "csv", "-o"]).arg(&answers[0]);
        Ok(Some(Question { test: self, ours, theirs, answers }))
    }
}

impl Question {
    /// Both in turn: what `analyze` took and what the other one took.
    pub(crate) fn ask(&mut self) -> Result<[Took; 2]> {
        let (theirs, said) = run::run(&mut self.theirs)?;
        let (ours, _) = run::run(&mut self.ours)?;
        let read = |path: &PathBuf| fs::read_to_string(path).context("an answer is missing");
        let answer = read(&self.answers[0])?;
        match self.test {
            Test::Usage => {
                ensure!(answer == read(&self.answers[1])?, "DuckDB adds up something else");
            }
            // Which slots are known is asked by analyze alone; the figures are held against the truth
            // by a test.
            Test::Percentile => {
                let rows = [answer.lines().count(), read(&self.answers[1])?.lines().count()];
                ensure!(rows[0] == rows[1] && rows[0] > 1, "other customers are ranked: {rows:?}");
            }
            // What is in the invoices is held against the truth by a test.
            Test::Bill => {
                let rows = read(&self.answers[1])?.lines().count();
                ensure!(rows > 1 && answer.lines().count() > rows, "invoices are missing");
            }
            // Times are written in other words.
            Test::Search => {
                let rows = [answer.lines().count(), read(&self.answers[1])?.lines().count()];
                ensure!(rows[0] == rows[1] && rows[0] > 1, "other sessions are found: {rows:?}");
            }
            Test::Top => {
                let [ours, theirs] = [addresses(&answer, 0), addresses(&said, 4)];
                ensure!(ours == theirs, "nfdump lists {theirs:?}, analyze {ours:?}");
            }
        }
        Ok([ours, theirs])
    }
}

/// A client that comes often.
fn client_of(account: &Account) -> Result<String> {
    let statement = "select client_ip from sessions group by all order by count(*) desc limit 1";
    let mut command = Command::new(binary::path("analyze"));
    command.arg("--data").arg(&account.data).args(["sql", statement, "--format", "csv"]);
    let output = process::try_output(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().nth(1).map(str::to_owned).context("the account has no sessions")
}

/// The percentile of the direction in which it is higher, as of 8928 slots of which 446 may be higher,
/// and the slot that sets it.
fn percentiles(usage: &str) -> String {
    format!(
        "WITH slots AS (
             SELECT customer, slot_start, sum(bytes_up) AS bytes_up, sum(bytes_down) AS bytes_down
             FROM {usage}
             WHERE slot_start >= TIMESTAMP '2026-10-01' AND slot_start < TIMESTAMP '2026-11-01'
             GROUP BY ALL
         ),
         figures AS (
             SELECT customer, coalesce(max(bytes_up, 447)[447], 0) AS p95_up,
                 coalesce(max(bytes_down, 447)[447], 0) AS p95_down
             FROM slots GROUP BY ALL
         )
         SELECT figures.customer, p95_up * 8 // 300 AS up_bps, p95_down * 8 // 300 AS down_bps,
             greatest(up_bps, down_bps) AS p95_bps,
             min(slot_start) FILTER (CASE WHEN p95_up > p95_down THEN bytes_up = p95_up ELSE bytes_down = p95_down END)
                 AS slot,
             max(CASE WHEN p95_up > p95_down THEN bytes_up ELSE bytes_down END) * 8 // 300 AS max_bps,
             sum(CASE WHEN p95_up > p95_down THEN bytes_up ELSE bytes_down END) * 8 // 300 // 8928 AS mean_bps
         FROM figures JOIN slots ON figures.customer IS NOT DISTINCT FROM slots.customer
         GROUP BY ALL ORDER BY ALL"
    )
}

/// What the sample tariffs charge for: bytes, those down by day, sessions, and both percentiles. Of
/// 8928 slots 446 may be higher; what is not there is zero.
fn quantities(usage: &str) -> String {
    format!(
        "SELECT customer, sum(bytes_up + bytes_down) AS bytes, sum(bytes_down) AS bytes_down,
             sum(bytes_down) FILTER (isodow(slot_start) <= 5 AND hour(slot_start) BETWEEN 8 AND 19) AS peak,
             sum(sessions) AS sessions,
             coalesce(max(bytes_up, 447)[447], 0) AS p95_up,
             coalesce(max(bytes_down, 447)[447], 0) AS p95_down
         FROM (SELECT customer, slot_start, sum(bytes_up) AS bytes_up, sum(bytes_down) AS bytes_down,
                   count(*) FILTER (is_first) AS sessions
               FROM {usage}
               WHERE slot_start >= TIMESTAMP '2026-10-01' AND slot_start < TIMESTAMP '2026-11-01'
               GROUP BY ALL)
         GROUP BY ALL ORDER BY ALL"
    )
}

/// A question of somebody who types.
fn duckdb(answer: &Path, statement: &str) -> Command {
    let answer = answer.to_string_lossy().replace('\'', "''");
    let mut command = Command::new(binary::path("duckdb-ask"));
    command.arg(format!("COPY ({statement}) TO '{answer}' (FORMAT csv, HEADER)"));
    command
}

/// The addresses in a column of lines with commas. Those with the same bytes may come in any order.
fn addresses(lines: &str, column: usize) -> BTreeSet<&str> {
    let cells = lines.lines().filter_map(|line| line.split(',').nth(column));
    cells.filter(|cell| cell.contains(['.', ':'])).collect()
}
