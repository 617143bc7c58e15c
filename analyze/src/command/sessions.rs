//! `analyze sessions`

use std::path::Path;
use std::time::Duration;

use super::{ALL, Question, Verdict, answer, filters, period, target_filter};
use crate::cli::{Common, ReportFormat, SessionsArgs};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;

/// What a table shows: all 52 columns fit on no terminal.
const IN_A_TABLE: &str = "session, ts_start, duration_us, service, customer, client_ip, target_ip, \
    bytes_up, bytes_down, end_reason";

/// What `--long` shows in a table.
const LONG_IN_A_TABLE: &str = "session, ts_start, duration_us, service, customer, client_ip, target_ip, \
    bytes_total, last_bps, idle_us, end_reason";
/// What `--long` shows elsewhere.
const LONG: &str = "session, node, service, rule, customer, transport, client_ip, target_ip, ts_start, \
    duration_us, bytes_up, bytes_down, bytes_total, last_bps, idle_us, end_reason";

pub(super) fn run(args: &SessionsArgs, data: &Path) -> Result<Verdict, Failure> {
    let common = &args.common;
    if !common.by.is_empty() {
        return Err(Failure::Usage(
            "sessions gives one row per session and takes no --by; `usage` and `top` group"
                .to_owned(),
        ));
    }
    let period = period(common)?;
    let dataset = Dataset::open(data)?;
    let listed = Listed::new(common, &dataset, &period)?;
    let for_people = matches!(common.output.format, ReportFormat::Table | ReportFormat::Markdown);
    let (statement, shown, order) = match args.long {
        Some(least) => (
            listed.long(least),
            if for_people { LONG_IN_A_TABLE } else { LONG },
            "duration_us DESC, boot, session_no",
        ),
        None => (
            listed.statement(common.open),
            if for_people { IN_A_TABLE } else { ALL },
            match common.top {
                Some(_) => "bytes_up + bytes_down DESC, boot, session_no",
                None => "ts_end NULLS LAST, boot, session_no",
            },
        ),
    };
    let reach = coverage::reach(&period);
    let wanted = wanted(common.open || args.long.is_some(), &period, &reach);
    let database = Database::open(&dataset, &wanted)?;
    let question = Question { what: "list sessions", statement, shown, order: order.to_owned() };
    answer((&dataset, &database), &question, common, &period)?;
    Ok(Verdict::Fine)
}

/// Which sessions a report is about.
pub(super) struct Listed {
    conditions: String,
    ended: String,
    alive: String,
    latest: String,
    until: String,
}

impl Listed {
    /// # Errors
    /// 64 when a filter makes no sense.
    pub(super) fn new(
        common: &Common,
        dataset: &Dataset,
        period: &Period,
    ) -> Result<Self, Failure> {
        let mut conditions = filters(common, "sessions")?;
        conditions.extend(target_filter(common)?);
        let until = Period { since: None, ..period.clone() };
        Ok(Self {
            conditions: sql::all(&conditions),
            ended: sql::all(&sql::in_period("ts_end", period)),
            alive: alive(dataset),
            latest: latest(period),
            until: sql::all(&sql::in_period("slot_start", &until)),
        })
    }

    /// Those that ended in the period, with `open` also those that run, as far as their usage tells;
    /// the columns of `sessions`.
    pub(super) fn statement(&self, open: bool) -> String {
        let ended = format!("SELECT * FROM sessions WHERE {}", self.ended);
        if !open {
            return format!("SELECT * FROM ({ended}) WHERE {}", self.conditions);
        }
        let running = running(&self.alive, &self.latest);
        // Conditions come after grouping, where the columns have the names of `sessions`.
        format!("SELECT * FROM ({ended} UNION ALL BY NAME {running}) WHERE {}", self.conditions)
    }

    /// Those of [`Self::statement`] that lived at least so long, with their last rate and how long
    /// they have been idle.
    fn long(&self, least: Duration) -> String {
        let running = include_str!("../query/long.sql")
            .replace("{alive}", &self.alive)
            .replace("{until}", &self.until);
        format!(
            "SELECT *, bytes_up + bytes_down AS bytes_total FROM (
                 SELECT *, NULL::BIGINT AS last_bps, NULL::BIGINT AS idle_us
                 FROM sessions WHERE {} UNION ALL BY NAME ({running})
             ) WHERE {} AND duration_us >= {}",
            self.ended,
            self.conditions,
            least.as_micros()
        )
    }
}

/// The tables that [`Listed`] reads. A session that ended after the period is not running: with
/// `open` all ends are read.
pub(super) fn wanted<'a>(open: bool, period: &'a Period, reach: &'a Period) -> Vec<Wanted<'a>> {
    let mut wanted = vec![Wanted::of("slots", reach)];
    if open {
        wanted.extend([Wanted::all("sessions"), Wanted::all("usage")]);
    } else {
        wanted.push(Wanted::of("sessions", period));
    }
    wanted
}

/// The statement for sessions without an end, those for which `condition` holds.
pub(super) fn running(condition: &str, latest: &str) -> String {
    include_str!("../query/running.sql").replace("{where}", condition).replace("{latest}", latest)
}

/// The condition that a boot has not ended: an ended one has no running sessions.
fn alive(dataset: &Dataset) -> String {
    let ended = dataset.boots().filter(|mark| mark.end.is_some());
    let ended: Vec<String> = ended.map(|mark| mark.boot.clone()).collect();
    sql::any_of("u.boot", &ended).map_or_else(|| "true".to_owned(), |any| format!("NOT {any}"))
}

/// A running session belongs to the period when its usage reaches into it.
fn latest(period: &Period) -> String {
    let since = period.since.map(|us| format!("max(u.slot_start) >= {}", sql::time(us)));
    let until = period.until.map(|us| format!("min(u.slot_start) < {}", sql::time(us)));
    sql::all(&since.into_iter().chain(until).collect::<Vec<_>>())
}
