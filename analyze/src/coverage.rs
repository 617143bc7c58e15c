//! How much of a period the account covers: the line under every report.
//!
//! A slot with status OK or NODATA was measured; in one that is DOWN nothing ran, so nothing moved.
//! No row for a slot means that nobody knows. A slot that a forwarder saw twice, because its clock
//! was set back, counts in sums; as a rate it is not known.

use jiff::Timestamp;
use schemas::manifest::BootMark;

use crate::cell::Cell;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;

/// How far before the period rows are read that may reach into it, in microseconds: slots are
/// shorter, and for the time in which nothing ran see [`describe`].
const REACH_US: i64 = 86_400_000_000;
/// The slot that runs has no row. It is due when the longest slot there is has ended, with time for
/// the row to be written, sent and published, in microseconds.
const LONGEST_SLOT_US: i64 = 300_000_000;
const ON_ITS_WAY_US: i64 = 60_000_000;

/// The period whose parts of `slots` tell of `period`.
pub fn reach(period: &Period) -> Period {
    Period { since: period.since.map(|us| us - REACH_US), ..period.clone() }
}

/// The coverage in words, as in `coverage 98.6 % of the period's slots, 1.4 % down`. `nodes` are
/// the forwarders asked for, none means all. An end that is open or still to come is now.
///
/// # Errors
/// As [`Database::query`].
pub fn describe(
    data: (&Dataset, &Database),
    period: &Period,
    nodes: &[String],
    now: Timestamp,
) -> Result<String, Failure> {
    Ok(measure(data, period, nodes, now)?.words())
}

/// The coverage in figures.
///
/// # Errors
/// As [`Database::query`].
pub fn measure(
    (dataset, database): (&Dataset, &Database),
    period: &Period,
    nodes: &[String],
    now: Timestamp,
) -> Result<Shares, Failure> {
    let question = Question::new(dataset, period, nodes, now);
    let mut shares = question.ask(database, "slots")?;
    let earlier = |since| dataset.time_range("slots").is_some_and(|(min, _)| min < since);
    if (shares.unknown() > 0 || shares.expected == 0) && reach(period).since.is_some_and(earlier) {
        // Nothing may have run since long before the period: the row that says so lies there.
        let all = Period { since: None, ..period.clone() };
        let database = Database::open(dataset, &[Wanted::of("slots", &all)])?;
        shares = question.ask(&database, "slots")?;
    }
    Ok(shares)
}

/// Up to when a row is expected for each slot of the period, in microseconds since 1970 UTC; `None`:
/// up to the newest slot, since the period is everything there is.
pub fn end(period: &Period, now: Timestamp) -> Option<i64> {
    let due = now.as_microsecond() - ON_ITS_WAY_US;
    let due = due - due.rem_euclid(LONGEST_SLOT_US);
    let past = period.until.filter(|us| *us <= now.as_microsecond());
    past.or_else(|| period.since.map(|_| due))
}

/// What is asked of the table.
struct Question {
    statement: String,
}

impl Question {
    fn new(dataset: &Dataset, period: &Period, nodes: &[String], now: Timestamp) -> Self {
        let past = period.until.filter(|us| *us <= now.as_microsecond());
        let until = end(period, now);
        let mut expected = nodes.to_vec();
        if nodes.is_empty() && past.is_none() {
            // A forwarder that runs, and of which the period has nothing at all.
            let running = |mark: &&BootMark| mark.end.is_none();
            expected.extend(dataset.boots().filter(running).map(|mark| mark.node.clone()));
        }
        let condition = sql::all(&Vec::from_iter(sql::any_of("node", nodes)));
        Self::of((period.since, until), &condition, &expected)
    }

    fn of((since, until): (Option<i64>, Option<i64>), condition: &str, nodes: &[String]) -> Self {
        let edge = |us: Option<i64>| us.map_or_else(|| "NULL::TIMESTAMP".to_owned(), sql::time);
        let names = nodes.iter().map(|node| format!("({})", sql::text(node)));
        let names: Vec<String> =
            std::iter::once("(NULL::VARCHAR)".to_owned()).chain(names).collect();
        let nodes = format!(
            "SELECT node FROM (VALUES {}) AS n(node) WHERE node IS NOT NULL",
            names.join(", ")
        );
        let statement = include_str!("query/coverage.sql")
            .replace("{where}", condition)
            .replace("{nodes}", &nodes)
            .replace("{since}", &edge(since))
            .replace("{until}", &edge(until));
        Self { statement }
    }

    fn ask(&self, database: &Database, slots: &str) -> Result<Shares, Failure> {
        let statement = self.statement.replace("{slots}", slots);
        let answer = database.query("compute the coverage", &statement)?;
        let cells = answer.cells().next().unwrap_or_default();
        let [expected, measured, shed, twice, down] =
            std::array::from_fn(
                |column| {
                    if let Some(Cell::Int(us)) = cells.get(column) { *us } else { 0 }
                },
            );
        Ok(Shares { expected, measured, shed, twice, down })
    }
}

/// Time of the period by what is known of it, over all nodes, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    expected: i128,
    measured: i128,
    shed: i128,
    twice: i128,
    down: i128,
}

impl Shares {
    fn unknown(&self) -> i128 {
        self.expected - self.measured - self.shed - self.twice - self.down
    }

    /// Whether more than one per cent of the time is not known, so that sums over it are estimates.
    /// What was shed or seen twice is in sums.
    pub fn is_estimated(&self) -> bool {
        self.expected <= 0 || self.unknown() * 100 > self.expected
    }

    /// The coverage in words.
    pub fn words(&self) -> String {
        if self.expected <= 0 {
            return "coverage unknown: no slots in the period".to_owned();
        }
        let share = |us| percent(us, self.expected);
        let mut text = format!("coverage {} % of the period's slots", share(self.measured));
        for (us, word) in [
            (self.shed, "partly shed"),
            (self.twice, "seen twice"),
            (self.down, "down"),
            (self.unknown(), "unknown"),
        ] {
            if us > 0 {
                text.push_str(&format!(", {} % {word}", share(us)));
            }
        }
        text
    }
}

/// Per cent with one decimal, cut, so that only all is `100`.
fn percent(part: i128, whole: i128) -> String {
    let tenths = part * 1000 / whole;
    if tenths >= 1000 { "100".to_owned() } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTES: i64 = 60;

    #[derive(Debug, Clone)]
    struct Row {
        node: u8,
        boot: u8,
        start: i64,
        minutes: i64,
        pass: i64,
        status: &'static str,
    }

    fn row() -> impl Strategy<Value = Row> {
        let status = prop_oneof![
            4 => Just("OK"), 2 => Just("NODATA"), 1 => Just("SKIPDATA"), 1 => Just("DOWN")
        ];
        let length = prop_oneof![Just(1_i64), Just(5)];
        (0..3_u8, 0..2_u8, 0..MINUTES / 5, length, 0..2_i64, 1..30_i64, status).prop_map(
            |(node, boot, slot, minutes, pass, down, status)| Row {
                node,
                boot,
                start: slot * 5,
                minutes: if status == "DOWN" { down } else { minutes },
                pass,
                status,
            },
        )
    }

    /// What is known of each minute, looked at minute by minute.
    fn model(rows: &[Row], since: i64, until: i64, nodes: &[u8]) -> Shares {
        let mut shares = Shares { expected: 0, measured: 0, shed: 0, twice: 0, down: 0 };
        let begun = rows.iter().filter(|row| row.start < until).map(|row| row.node);
        let mut expected: Vec<u8> = begun.chain(nodes.to_vec()).collect();
        expected.sort_unstable();
        expected.dedup();
        for node in expected {
            for minute in since..until {
                shares.expected += 1;
                let here: Vec<&Row> = rows
                    .iter()
                    .filter(|row| {
                        row.node == node && (row.start..row.start + row.minutes).contains(&minute)
                    })
                    .collect();
                let seen_twice = |row: &Row| {
                    row.status != "DOWN"
                        && rows.iter().any(|other| {
                            (other.node, other.boot, other.start) == (row.node, row.boot, row.start)
                                && other.status != "DOWN"
                                && other.pass != row.pass
                        })
                };
                if here.iter().any(|row| seen_twice(row)) {
                    shares.twice += 1;
                } else if here.iter().any(|row| row.status == "SKIPDATA") {
                    shares.shed += 1;
                } else if here.iter().any(|row| matches!(row.status, "OK" | "NODATA")) {
                    shares.measured += 1;
                } else if !here.is_empty() {
                    shares.down += 1;
                }
            }
        }
        shares
    }

    fn relation(rows: &[Row]) -> String {
        let row = |row: &Row| {
            format!(
                "('n{}', 'b{}', make_timestamp({}), {}, {}, '{}')",
                row.node,
                row.boot,
                row.start * 60_000_000,
                row.minutes * 60,
                row.pass,
                row.status
            )
        };
        let rows = rows.iter().map(row).collect::<Vec<_>>().join(", ");
        format!(
            "(SELECT * FROM (VALUES {rows}) AS s(node, boot, slot_start, slot_len_s, clock_pass, status))"
        )
    }

    #[test]
    fn every_minute_of_every_node_counts_once_as_a_plain_count_does() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("weir.json"), r#"{"format":1,"schema":"1.0"}"#).unwrap();
        let database = Database::open(&Dataset::open(root.path()).unwrap(), &[]).unwrap();
        let rows = prop::collection::vec(row(), 1..40);
        let mut runner = proptest::test_runner::TestRunner::default();
        let edges = (0..MINUTES - 1).prop_flat_map(|since| (Just(since), since + 1..=MINUTES));
        let strategy = (rows, edges, prop::collection::vec(0..4_u8, 0..2));
        runner
            .run(&strategy, |(rows, (since, until), nodes)| {
                let us = |minute: i64| Some(minute * 60_000_000);
                let names: Vec<String> = nodes.iter().map(|node| format!("n{node}")).collect();
                let question = Question::of((us(since), us(until)), "true", &names);
                let found = question.ask(&database, &relation(&rows)).unwrap();
                let minutes = |us: i128| us / 60_000_000;
                let found = Shares {
                    expected: minutes(found.expected),
                    measured: minutes(found.measured),
                    shed: minutes(found.shed),
                    twice: minutes(found.twice),
                    down: minutes(found.down),
                };
                prop_assert_eq!(found, model(&rows, since, until, &nodes));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        let shares = Shares { expected: 1000, measured: 900, shed: 50, twice: 20, down: 20 };
        assert_eq!(
            shares.words(),
            "coverage 90.0 % of the period's slots, 5.0 % partly shed, 2.0 % seen twice, 2.0 % down, 1.0 % unknown"
        );
        let shares = Shares { expected: 1000, measured: 1000, shed: 0, twice: 0, down: 0 };
        assert_eq!(shares.words(), "coverage 100 % of the period's slots");
    }
}
