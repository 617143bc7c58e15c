//! `analyze traffic`

use std::path::Path;

use jiff::Timestamp;

use super::{ALL, Question, Verdict, answer, filters, period, target_filter};
use crate::cell::Cell;
use crate::cli::{Common, Key};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;

/// The slot of a selection without any, in seconds.
const DEFAULT_SLOT_S: i128 = 300;

pub(super) fn run(args: &Common, data: &Path) -> Result<Verdict, Failure> {
    let period = period(args)?;
    let by = match args.by[..] {
        [] => None,
        [key @ (Key::Hour | Key::Day | Key::Month)] => Some(key),
        _ => {
            return Err(Failure::Usage(
                "traffic is a course over time: --by takes hour, day or month, and a row is a slot \
                 without it; filters choose whose traffic"
                    .to_owned(),
            ));
        }
    };
    let dataset = Dataset::open(data)?;
    // What was down since long before the period has its row there.
    let up_to = Period { since: None, ..period.clone() };
    let wanted =
        [Wanted::of("usage", &period), Wanted::of("denied", &period), Wanted::of("slots", &up_to)];
    let database = Database::open(&dataset, &wanted)?;
    let slots = slots(args, &period);
    let length_us = length_s(&database, &slots)? * 1_000_000;
    let statement = Course { args, period: &period, by, slots, length_us }.statement(&dataset)?;
    let name = by.map_or("slot_start", Key::column);
    let order = match args.top {
        Some(_) => format!("up_bps + down_bps DESC NULLS LAST, {name}"),
        None => name.to_owned(),
    };
    let question = Question { what: "follow the traffic", statement, shown: ALL, order };
    answer((&dataset, &database), &question, args, &period)?;
    Ok(Verdict::Fine)
}

/// The condition for rows of `slots` that tell of the period.
fn slots(args: &Common, period: &Period) -> String {
    let node = sql::any_of("node", &args.filter.node);
    let reach = coverage::reach(period);
    let since = reach.since.map(|us| {
        format!(
            "(slot_start >= {0} OR status = 'DOWN' AND slot_start + to_seconds(slot_len_s) > {0})",
            sql::time(us)
        )
    });
    let until = period.until.map(|us| format!("slot_start < {}", sql::time(us)));
    sql::all(&node.into_iter().chain(since).chain(until).collect::<Vec<_>>())
}

/// The longest slot of the selection: shorter ones lie in it.
fn length_s(database: &Database, slots: &str) -> Result<i128, Failure> {
    let statement = format!("SELECT max(slot_len_s) FROM slots WHERE status <> 'DOWN' AND {slots}");
    let answer = database.query("look for the longest slot", &statement)?;
    Ok(match answer.cells().next().as_deref() {
        Some([Cell::Int(seconds @ 1..)]) => *seconds,
        _ => DEFAULT_SLOT_S,
    })
}

struct Course<'a> {
    args: &'a Common,
    period: &'a Period,
    by: Option<Key>,
    slots: String,
    length_us: i128,
}

impl Course<'_> {
    fn statement(&self, dataset: &Dataset) -> Result<String, Failure> {
        let filter = &self.args.filter;
        let mut conditions = filters(self.args, "usage")?;
        conditions.extend(target_filter(self.args)?);
        conditions.extend(sql::in_period("slot_start", self.period));
        // A refused attempt has no target, and not the columns of usage.
        let knows_denied = filter.target.is_empty() && filter.r#where.is_empty();
        let refused = if knows_denied {
            let mut conditions = filters(self.args, "denied")?;
            conditions.extend(sql::in_period("ts_last", self.period));
            sql::all(&conditions)
        } else {
            "false".to_owned()
        };
        // Which of the open ones a filter means is not told.
        let knows_open = knows_denied
            && [&filter.service, &filter.customer, &filter.rule, &filter.client]
                .iter()
                .all(|values| values.is_empty());
        let edge = |us: Option<i64>| {
            us.map_or_else(|| "NULL::BIGINT".to_owned(), |us| format!("{us}::BIGINT"))
        };
        let end = coverage::end(self.period, Timestamp::now());
        let slot = format!("make_timestamp(slot * {})", self.length_us);
        let (name, key) = match self.by {
            None => ("slot_start", slot),
            Some(key) => {
                let (min, max) = dataset.time_range("slots").unwrap_or_default();
                let range = (
                    self.period.since.map_or(min, |since| since.min(min)),
                    end.map_or(max, |end| end.max(max)),
                );
                (key.column(), sql::key(key, &slot, self.period, range))
            }
        };
        let either = |known, column: &str| if known { column } else { "NULL" }.to_owned();
        Ok(include_str!("../query/traffic.sql")
            .replace("{length}", &self.length_us.to_string())
            .replace("{since}", &edge(self.period.since))
            .replace("{until}", &edge(end))
            .replace("{key}", &format!("{key} AS {name}"))
            .replace("{name}", name)
            .replace("{open_sessions}", &either(knows_open, "open_sessions"))
            .replace("{denied}", &either(knows_denied, "denied"))
            .replace("{slots}", &self.slots)
            .replace("{denied_where}", &refused)
            .replace("{where}", &sql::all(&conditions)))
    }
}
