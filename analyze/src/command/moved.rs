//! What moved per key, which `usage` and `top` show: sums, rates, the period before, the course.

use std::io::{self, IsTerminal as _};

use jiff::{Timestamp, ToSpan as _};

use super::grouping::Grouping;
use super::{Question, answer_beside, filters, target_filter};
use crate::cli::{Common, Extras, Key, OutputArgs, ReportFormat};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;

/// Most steps of a course: as wide as a column of times.
const BUCKETS: i64 = 24;
/// A step is a multiple of the longest slot, in microseconds.
const SLOT_US: i64 = 300_000_000;
const DAY_US: i64 = 86_400_000_000;

/// A report on what moved.
pub(super) struct Moved<'a> {
    pub(super) common: &'a Common,
    pub(super) extras: &'a Extras,
    pub(super) keys: &'a [Key],
    pub(super) grouping: &'a Grouping,
    pub(super) dataset: &'a Dataset,
    pub(super) period: &'a Period,
    /// What is done, in words.
    pub(super) what: &'static str,
    /// The last SELECT, over `per_key`.
    pub(super) select: &'static str,
    /// The column that says which rows are the largest.
    pub(super) measure: &'static str,
    pub(super) order: String,
}

/// Where the figures of the period before come from.
struct Before {
    period: Period,
    /// The keys of its rows: those of the row of this period that they stand beside.
    keys: String,
}

impl Moved<'_> {
    /// Asks and writes.
    ///
    /// # Errors
    /// 64 when there is nothing to compare with or nowhere to draw, else as [`answer`].
    pub(super) fn write(&self) -> Result<(), Failure> {
        let now = Timestamp::now();
        let before = match self.extras.compare {
            true => Some(self.before(now)?),
            false => None,
        };
        let statement = self.statement(before.as_ref())?;
        let before = before.map(|before| before.period);
        let since = before.as_ref().map_or(self.period.since, |before| before.since);
        let reach = Period { since, ..self.period.clone() };
        let database = Database::open(
            self.dataset,
            &[Wanted::of("usage", &reach), Wanted::of("slots", &coverage::reach(&reach))],
        )?;
        let order = self.order.clone();
        let question = Question { what: self.what, statement, shown: super::ALL, order };
        answer_beside(
            (self.dataset, &database),
            &question,
            self.common,
            self.period,
            before.as_ref(),
        )
    }

    fn statement(&self, before: Option<&Before>) -> Result<String, Failure> {
        let mut conditions = filters(self.common, "usage")?;
        conditions.extend(target_filter(self.common)?);
        let range = self.range();
        let (mut plain_keys, mut plain_names, mut time_keys) = Default::default();
        let mut labels = Vec::new();
        for (key, name) in self.keys.iter().zip(&self.grouping.columns) {
            match sql::time_key(*key, "slot_start", self.period, range) {
                Some((raw, label)) => {
                    append(&mut time_keys, &format!("{raw} AS {name}"));
                    labels.push(format!("{label} AS {name}"));
                }
                None => {
                    let key = sql::key(*key, "slot_start", self.period, range);
                    append(&mut plain_keys, &format!("{key} AS {name}"));
                    append(&mut plain_names, name);
                    labels.push(name.clone());
                }
            }
        }
        let previous = before.map_or_else(String::new, |before| {
            format!(
                "UNION ALL BY NAME SELECT {}, sum(bytes_up + bytes_down)::BIGINT AS previous_bytes_total \
                 FROM usage WHERE {{where}} AND {} GROUP BY ALL",
                before.keys,
                sql::all(&sql::in_period("slot_start", &before.period)),
            )
        });
        let edges = if self.draws()? { self.edges() } else { Vec::new() };
        let compared = if before.is_some() {
            ", previous_bytes_total, round(100.0 * (bytes_total - previous_bytes_total) \
             / nullif(previous_bytes_total, 0), 2) AS change_percent"
        } else {
            ""
        };
        let (ranked, only, whole) = self.largest(&plain_names);
        Ok([include_str!("../query/moved.sql"), self.select]
            .concat()
            .replace("{ranked}", &ranked)
            .replace("{only}", &only)
            .replace("{whole}", &whole)
            .replace("{measure}", self.measure)
            .replace("{previous}", &previous)
            .replace("{plain_keys}", &plain_keys)
            .replace("{plain_names}", &plain_names)
            .replace("{time_keys}", &time_keys)
            .replace("{labels}", &labels.join(", "))
            .replace("{names}", &self.grouping.names)
            .replace("{further}", &format!("{compared}{}", drawn(&edges)))
            .replace("{buckets}", &buckets(&edges))
            .replace("{now}", &sql::all(&sql::in_period("slot_start", self.period)))
            .replace("{where}", &sql::all(&conditions)))
    }

    /// How the rows that are shown are found before their slots are looked at: a list of the
    /// largest, the join that leaves no others, and what all rows together are. What is asked of
    /// the report's own columns may ask any of them.
    fn largest(&self, plain_names: &str) -> (String, String, String) {
        let rows = match self.common.top {
            Some(rows) if self.common.having.is_none() && !plain_names.is_empty() => rows,
            _ => return (String::new(), String::new(), format!("sum({}) OVER ()", self.measure)),
        };
        let (summed, grouped, sum) = match self.measure {
            "sessions" => (
                "CASE WHEN NOT (is_first AND is_final) THEN boot END AS told_apart, \
                 CASE WHEN NOT (is_first AND is_final) THEN session_no END AS number, count(*) AS single",
                "GROUP BY ALL",
                "sum(CASE WHEN number IS NULL THEN single ELSE 1 END)::BIGINT",
            ),
            "bytes_total" => ("bytes_up + bytes_down AS moved", "", "sum(moved)::BIGINT"),
            "bytes_up" => ("bytes_up AS moved", "", "sum(moved)::BIGINT"),
            _ => ("bytes_down AS moved", "", "sum(moved)::BIGINT"),
        };
        let ranked = include_str!("../query/ranked.sql")
            .replace("{summed}", summed)
            .replace("{grouped}", grouped)
            .replace("{sum}", sum)
            .replace("{rows}", &rows.to_string());
        // NULL is a key like any other, as for traffic without a customer.
        let same = plain_names.trim_end_matches(", ").split(", ");
        let same = same.map(|name| format!("moved.{name} IS NOT DISTINCT FROM ranked.{name}"));
        let only = format!("SEMI JOIN ranked ON {}", same.collect::<Vec<_>>().join(" AND "));
        (ranked, only, "(SELECT max(whole) FROM ranked)".to_owned())
    }

    /// The times of the table, and a day around them.
    fn range(&self) -> (i64, i64) {
        let (min, max) = self.dataset.time_range("usage").unwrap_or_default();
        (min - DAY_US, max + DAY_US)
    }

    fn before(&self, now: Timestamp) -> Result<Before, Failure> {
        let times: Vec<Key> =
            self.keys.iter().copied().filter(|key| is_time(*key).is_some()).collect();
        let (period, step) = match times[..] {
            [] => (self.period.previous(now), None),
            [key] => {
                let (span, step) = is_time(key).unwrap_or((1.day(), "1 DAY"));
                (Some(self.period.earlier(span, now)), Some(step))
            }
            _ => {
                return Err(Failure::Usage(
                    "--compare takes one of hour, day and month among the keys".to_owned(),
                ));
            }
        };
        let period = period.ok_or_else(|| {
            Failure::Usage(
                "--compare needs a period that has a beginning in the past: give --period or --since"
                    .to_owned(),
            )
        })?;
        let keys = self.keys.iter().zip(&self.grouping.columns).map(|(key, name)| {
            let expression = match (key, step) {
                // An hour is the same on every clock, a day and a month are steps of the calendar.
                (Key::Hour, Some(step)) => {
                    let later = format!("(slot_start + INTERVAL {step})");
                    sql::key(*key, &later, self.period, self.range())
                }
                _ => match (sql::time_key(*key, "slot_start", self.period, self.range()), step) {
                    (Some((raw, _)), Some(step)) => format!("{raw} + INTERVAL {step}"),
                    _ => sql::key(*key, "slot_start", self.period, self.range()),
                },
            };
            format!("{expression} AS {name}")
        });
        Ok(Before { period, keys: keys.collect::<Vec<_>>().join(", ") })
    }

    /// Whether the course of each row is drawn: for people, where they look.
    fn draws(&self) -> Result<bool, Failure> {
        let OutputArgs { format, output } = &self.common.output;
        let for_people = matches!(format, ReportFormat::Table | ReportFormat::Markdown);
        if self.extras.sparkline && !for_people {
            return Err(Failure::Usage(
                "--sparkline draws in table and markdown only; --by day gives the figures"
                    .to_owned(),
            ));
        }
        let on_a_terminal =
            *format == ReportFormat::Table && output.is_none() && io::stdout().is_terminal();
        Ok(self.extras.sparkline || (on_a_terminal && !self.extras.no_sparkline))
    }

    /// Where the steps of a course begin, and where the last one ends: the part of the period of
    /// which there is usage, in equal steps.
    fn edges(&self) -> Vec<i64> {
        let Some((min, max)) = self.dataset.time_range("usage") else { return Vec::new() };
        let start = self.period.since.map_or(min, |since| since.max(min));
        let start = start - start.rem_euclid(SLOT_US);
        let end = self.period.until.map_or(max + 1, |until| until.min(max + 1));
        let slots = (end - start).max(1).unsigned_abs().div_ceil(SLOT_US.unsigned_abs());
        let slots = i64::try_from(slots).unwrap_or(1);
        let step = (slots + BUCKETS - 1) / BUCKETS;
        (0..=(slots + step - 1) / step).map(|i| start + i * step * SLOT_US).collect()
    }
}

/// How far the key is from the one before it, as a span and in SQL; `None`: it is no time.
fn is_time(key: Key) -> Option<(jiff::Span, &'static str)> {
    match key {
        Key::Hour => Some((1.hour(), "1 HOUR")),
        Key::Day => Some((1.day(), "1 DAY")),
        Key::Month => Some((1.month(), "1 MONTH")),
        Key::Service
        | Key::Rule
        | Key::Customer
        | Key::Client
        | Key::ClientNetwork { .. }
        | Key::Target
        | Key::Node
        | Key::Transport
        | Key::Reason
        | Key::Limit => None,
    }
}

fn append(list: &mut String, item: &str) {
    list.push_str(item);
    list.push_str(", ");
}

/// The bytes of each step, as a list.
fn buckets(edges: &[i64]) -> String {
    if edges.len() < 2 {
        return String::new();
    }
    let sums = edges.windows(2).map(|edge| {
        format!(
            "coalesce(sum(bytes_up + bytes_down) FILTER (slot_start >= {} AND slot_start < {}), 0)::BIGINT",
            sql::time(edge[0]),
            sql::time(edge[1])
        )
    });
    format!(",\n        list_value({}) AS course", sums.collect::<Vec<_>>().join(", "))
}

/// The list as a line of bars, the highest one full; what moved at all stands above nothing.
fn drawn(edges: &[i64]) -> &'static str {
    if edges.len() < 2 {
        return "";
    }
    ", array_to_string(list_transform(course, lambda step: substr('▁▂▃▄▅▆▇█', \
     CASE WHEN step = 0 THEN 1 ELSE 2 + 6 * step::HUGEINT // list_max(course) END::BIGINT, 1)), '') \
     AS sparkline"
}
