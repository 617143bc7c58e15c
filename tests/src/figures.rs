//! What was measured, against what is to be reached.

use std::path::{Path, PathBuf};
use std::{env, fs, thread};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::markdown::{aligned, number};
use crate::statistics::Spread;

/// A bound, and on which side of it is right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// This or less.
    AtMost(f64),
    /// This or more.
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

#[derive(Debug)]
struct Line {
    test: &'static str,
    figure: &'static str,
    values: Vec<f64>,
    goal: Option<Goal>,
}

/// Figures in the order in which they were first measured.
#[derive(Debug, Default)]
pub struct Results(Vec<Line>);

impl Results {
    /// Takes in a figure; the same one of another round joins it.
    pub fn add(
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

    /// For people: medians of the rounds with their spread, a row for each figure.
    pub fn table(&self) -> String {
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
        aligned(&rows)
    }

    /// Prints the table under what is said of it, and writes it beside one for programs, as
    /// `name.md` and `name.json`, to `out`; without one to `bench/` in the directory that holds the
    /// one of this program.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn publish(&self, name: &str, said: &str, out: Option<&Path>) -> Result<()> {
        let cores = thread::available_parallelism().map_or(1, Into::into);
        let text = format!("{said}\n\n{cores} cores.\n\n{}", self.table());
        let out = out.map_or_else(beside_the_build, |out| Ok(out.to_owned()))?;
        fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
        let json = serde_json::to_string_pretty(&self.json(cores))?;
        for (ending, contents) in [("md", &text), ("json", &json)] {
            let path = out.join(format!("{name}.{ending}"));
            fs::write(&path, contents)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        println!("{text}");
        eprintln!("{name}: written to {}", out.display());
        Ok(())
    }

    /// For programs.
    pub fn json(&self, cores: usize) -> Value {
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

/// `bench/` in the directory that holds the one of this program: for results, and for what is made
/// once and measured often.
///
/// # Errors
/// The program's file cannot be found.
pub fn beside_the_build() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program's own file")?;
    let target = own.ancestors().nth(2).context("this program lies in no directory")?;
    Ok(target.join("bench"))
}
