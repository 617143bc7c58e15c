//! What was measured, for all contracts at once.
//!
//! One scan adds up bytes, sessions and datagrams: the time of all contracts together is cut where
//! any of their spans begins or ends, and each need is the sum of the stretches that its spans are
//! made of. Nothing is divided here and nothing rounded.

use std::collections::{BTreeSet, HashMap, HashSet};

use schemas::vocab::PerDirection;

use crate::cell::Cell;
use crate::database::{Answer, Database};
use crate::failure::Failure;
use crate::period::Period;
use crate::rating::{Measure, Measured, Need};
use crate::sql;
use crate::tariff::{Filter, Span, Subject};

/// Up to so many subjects the scan leaves out the traffic of all others; looking up more names in
/// every row costs more than it saves.
const MAX_NAMED: usize = 64;

/// What all needs together ask of the table.
#[derive(Debug)]
pub struct Demand<'n, 't> {
    needs: Vec<&'n Need<'t>>,
    /// Where spans begin and end, ascending.
    edges: Vec<i64>,
    /// Whether traffic of those is asked about that nobody named.
    strangers: bool,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Sums {
    rows: Vec<Row>,
    by_customer: HashMap<String, Vec<usize>>,
    by_rule: HashMap<String, Vec<usize>>,
    by_service: HashMap<String, Vec<usize>>,
}

/// The sums of a stretch of time.
#[derive(Debug)]
struct Row {
    rule: Option<String>,
    service: Option<String>,
    /// Where the stretch begins.
    since_us: i64,
    bytes: PerDirection<i128>,
    sessions: i128,
    datagrams: i128,
}

impl<'n, 't> Demand<'n, 't> {
    /// What `needs` ask for, but for percentiles; with `strangers` also who else has traffic.
    pub fn new(needs: impl IntoIterator<Item = &'n Need<'t>>, strangers: bool) -> Self {
        let is_sum = |need: &&Need<'_>| !matches!(need.measure, Measure::Percentile(_));
        let needs: Vec<_> = needs.into_iter().filter(is_sum).collect();
        let spans = needs.iter().flat_map(|need| &need.spans);
        let edges: BTreeSet<i64> = spans.flat_map(|s| [s.since_us, s.until_us]).collect();
        Self { needs, edges: edges.into_iter().collect(), strangers }
    }

    /// Asks the table.
    ///
    /// # Errors
    /// As [`Database::query`].
    pub fn measure(&self, database: &Database) -> Result<Sums, Failure> {
        let (Some(first), Some(last)) = (self.edges.first(), self.edges.last()) else {
            return Ok(Sums::default());
        };
        let period = Period {
            since: Some(*first),
            until: Some(*last),
            zone: jiff::tz::TimeZone::UTC,
            zone_name: String::new(),
        };
        let mut conditions = sql::in_period("slot_start", &period);
        conditions.extend(self.subjects());
        let statement = include_str!("../query/bill.sql")
            .replace("{keys}", &self.keys())
            .replace("{stretch}", &stretch(&self.edges[1..self.edges.len() - 1], 0))
            .replace("{sums}", &self.sums())
            .replace("{where}", &sql::all(&conditions));
        Ok(self.read(&database.query("add up what is billed", &statement)?))
    }

    /// The columns that tell traffic apart; the others are not read.
    fn keys(&self) -> String {
        let any = |wanted: &dyn Fn(&Need<'_>) -> bool| self.needs.iter().any(|need| wanted(need));
        let customer = self.strangers || any(&|n| matches!(n.subject, Subject::Customer(_)));
        let rule = any(&|n| matches!(n.subject, Subject::Rule(_)) || !n.filter.rules.is_empty());
        let service =
            any(&|n| matches!(n.subject, Subject::Service(_)) || !n.filter.services.is_empty());
        let column = |(wanted, name): (bool, &str)| {
            if wanted { name.to_owned() } else { format!("NULL::VARCHAR AS {name}") }
        };
        [(customer, "customer"), (rule, "rule"), (service, "service")].map(column).join(", ")
    }

    fn sums(&self) -> String {
        let any = |measure| self.needs.iter().any(|need| need.measure == measure);
        let column = |(wanted, sum, name): (bool, &str, &str)| {
            format!("{}::BIGINT AS {name}", if wanted { sum } else { "0" })
        };
        let bytes = self.strangers || any(Measure::Bytes);
        [
            (bytes, "sum(bytes_up)", "bytes_up"),
            (bytes, "sum(bytes_down)", "bytes_down"),
            (any(Measure::Sessions), "count(*) FILTER (is_first)", "sessions"),
            (any(Measure::Datagrams), "sum(datagrams_up + datagrams_down)", "datagrams"),
        ]
        .map(column)
        .join(", ")
    }

    /// The condition that a row is of one of the subjects.
    fn subjects(&self) -> Option<String> {
        let subjects: HashSet<&Subject> = self.needs.iter().map(|need| need.subject).collect();
        if self.strangers || subjects.len() > MAX_NAMED {
            return None;
        }
        let mut names = [Vec::new(), Vec::new(), Vec::new()];
        for subject in subjects {
            match subject {
                Subject::Customer(name) => names[0].push(name.to_string()),
                Subject::Rule(name) => names[1].push(name.to_string()),
                Subject::Service(name) => names[2].push(name.to_string()),
            }
        }
        let any: Vec<String> = ["customer", "rule", "service"]
            .into_iter()
            .zip(names)
            .filter_map(|(column, names)| sql::any_of(column, &names))
            .collect();
        Some(format!("({})", any.join(" OR ")))
    }

    fn read(&self, answer: &Answer) -> Sums {
        let mut sums = Sums::default();
        for cells in answer.cells() {
            let text = |at: usize| match &cells[at] {
                Cell::Text(text) => Some(text.clone().into_owned()),
                _ => None,
            };
            let number = |at: usize| if let Cell::Int(number) = cells[at] { number } else { 0 };
            let (customer, rule, service) = (text(0), text(1), text(2));
            let at = sums.rows.len();
            let index = [
                (&mut sums.by_customer, &customer),
                (&mut sums.by_rule, &rule),
                (&mut sums.by_service, &service),
            ];
            for (index, name) in index {
                if let Some(name) = name {
                    index.entry(name.clone()).or_default().push(at);
                }
            }
            let stretch = usize::try_from(number(3)).unwrap_or_default();
            sums.rows.push(Row {
                rule,
                service,
                since_us: self.edges.get(stretch).copied().unwrap_or_default(),
                bytes: PerDirection { up: number(4), down: number(5) },
                sessions: number(6),
                datagrams: number(7),
            });
        }
        sums
    }
}

/// The number of the stretch that `slot_start` lies in, behind `skipped` ones: a question for each
/// half, so that a row is compared with few of many edges.
fn stretch(inner: &[i64], skipped: usize) -> String {
    if inner.is_empty() {
        return skipped.to_string();
    }
    let middle = inner.len() / 2;
    format!(
        "CASE WHEN slot_start < {} THEN {} ELSE {} END",
        sql::time(inner[middle]),
        stretch(&inner[..middle], skipped),
        stretch(&inner[middle + 1..], skipped + middle + 1)
    )
}

impl Sums {
    /// The answer to a need; `None` for a percentile, which no sum answers.
    pub fn answer(&self, need: &Need<'_>) -> Option<Measured> {
        let rows = self.of(need.subject).filter(|row| {
            passes(need.filter, &row.rule, &row.service) && lies_in(&need.spans, row.since_us)
        });
        Some(match need.measure {
            Measure::Bytes => {
                let zero = PerDirection { up: 0, down: 0 };
                Measured::Bytes(rows.fold(zero, |sum, row| PerDirection {
                    up: sum.up + row.bytes.up,
                    down: sum.down + row.bytes.down,
                }))
            }
            Measure::Sessions => Measured::Count(rows.map(|row| row.sessions).sum()),
            Measure::Datagrams => Measured::Count(rows.map(|row| row.datagrams).sum()),
            Measure::Percentile(_) => return None,
        })
    }

    /// The customers that moved something from `since_us` on, in the order of their names.
    pub fn customers(&self, since_us: i64) -> BTreeSet<&str> {
        let moved = |at: &usize| {
            let row = &self.rows[*at];
            row.since_us >= since_us && row.bytes.up + row.bytes.down > 0
        };
        let customers = self.by_customer.iter().filter(|(_, rows)| rows.iter().any(moved));
        customers.map(|(name, _)| name.as_str()).collect()
    }

    fn of(&self, subject: &Subject) -> impl Iterator<Item = &Row> {
        let rows = match subject {
            Subject::Customer(name) => self.by_customer.get(name.as_str()),
            Subject::Rule(name) => self.by_rule.get(name.as_str()),
            Subject::Service(name) => self.by_service.get(name.as_str()),
        };
        rows.into_iter().flatten().map(|at| &self.rows[*at])
    }
}

/// Whether an item is about traffic of this rule and service.
pub(super) fn passes(filter: &Filter, rule: &Option<String>, service: &Option<String>) -> bool {
    let is = |name: &str, of_row: &Option<String>| of_row.as_deref() == Some(name);
    let (services, rules) = (&filter.services, &filter.rules);
    (services.is_empty() || services.iter().any(|name| is(name.as_str(), service)))
        && (rules.is_empty() || rules.iter().any(|name| is(name.as_str(), rule)))
}

/// Whether an instant lies in one of the spans, which ascend.
pub(super) fn lies_in(spans: &[Span], at_us: i64) -> bool {
    let before = spans.partition_point(|span| span.until_us <= at_us);
    spans.get(before).is_some_and(|span| span.since_us <= at_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stretch_has_a_number_whatever_the_number_of_edges() {
        assert_eq!(stretch(&[], 0), "0");
        let one = "CASE WHEN slot_start < make_timestamp(5) THEN 0 ELSE 1 END";
        assert_eq!(stretch(&[5], 0), one);
        let many: Vec<i64> = (0..100).collect();
        let text = stretch(&many, 0);
        for number in 0..=100 {
            let ends = [format!("THEN {number} "), format!("ELSE {number} ")];
            assert_eq!(ends.iter().map(|end| text.matches(end).count()).sum::<usize>(), 1);
        }
    }

    #[test]
    fn an_instant_lies_in_the_span_that_begins_with_it_and_not_in_the_one_that_ends() {
        let span = |since_us, until_us| Span { since_us, until_us };
        let spans = [span(0, 5), span(10, 15)];
        for (at, lies) in [(-1, false), (0, true), (4, true), (5, false), (10, true), (15, false)] {
            assert_eq!(lies_in(&spans, at), lies, "{at}");
        }
    }
}
