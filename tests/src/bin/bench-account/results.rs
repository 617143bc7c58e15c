//! What was measured, against what is to be reached.

use e2e_tests::markdown::{aligned, number};
use e2e_tests::statistics::Spread;
use serde_json::{Value, json};

/// A bound, and on which side of it is right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn reached(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("≤ {bound}"),
            Self::AtLeast(bound) => format!("≥ {bound}"),
        }
    }
}

struct Line {
    test: &'static str,
    figure: &'static str,
    values: Vec<f64>,
    goal: Option<Goal>,
}

/// Figures in the order in which they were first measured.
#[derive(Default)]
pub(crate) struct Results(Vec<Line>);

impl Results {
    /// Takes in a figure; the same one of another round joins it.
    pub(crate) fn add(
        &mut self,
        test: &'static str,
        figure: &'static str,
        value: f64,
        goal: Option<Goal>,
    ) {
        let known = self.0.iter_mut().find(|line| (line.test, line.figure) == (test, figure));
        match known {
            Some(line) => line.values.push(value),
            None => self.0.push(Line { test, figure, values: vec![value], goal }),
        }
    }

    /// For people.
    pub(crate) fn table(&self, cores: usize) -> String {
        let mut rows = vec![["test", "figure", "median", "goal"].map(str::to_owned).to_vec()];
        for line in &self.0 {
            let Some(spread) = Spread::of(&line.values) else { continue };
            let median = match spread.count {
                1 => number(spread.median),
                _ => {
                    let [median, min, max] = [spread.median, spread.min, spread.max].map(number);
                    format!("{median} ({min}..{max})")
                }
            };
            let goal = line.goal.map_or_else(String::new, |goal| {
                let missed = if goal.reached(spread.median) { "" } else { ": missed" };
                format!("{}{missed}", goal.text())
            });
            rows.push(vec![line.test.to_owned(), line.figure.to_owned(), median, goal]);
        }
        format!(
            "# What the account costs\n\n{cores} cores, which senders, clients and servers share. Medians of the rounds with \
             their spread (lowest..highest). A core is a second of the recorder's processor time, whatever it is spent on: socket, log with \
             fsync, Parquet. Others do less for a record: nfcapd (IPFIX of nine fields over UDP, LZ4) acknowledges and \
             syncs nothing; DuckDB (one thread, ZSTD 3) writes the very same rows as Parquet and nothing else, while \
             the recorder writes a row of usage with each session besides.\n\n{}",
            aligned(&rows)
        )
    }

    /// For programs.
    pub(crate) fn json(&self, cores: usize) -> Value {
        let lines = self.0.iter().filter_map(|line| {
            let spread = Spread::of(&line.values)?;
            let goal = line
                .goal
                .map(|goal| json!({"bound": goal.text(), "reached": goal.reached(spread.median)}));
            Some(json!({
                "test": line.test, "figure": line.figure, "median": spread.median,
                "min": spread.min, "max": spread.max, "values": line.values, "goal": goal,
            }))
        });
        json!({"cores": cores, "results": lines.collect::<Vec<_>>()})
    }
}
