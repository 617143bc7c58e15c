//! Everything that was measured, by what it was measured on.

use std::collections::BTreeMap;

use e2e_tests::statistics::Spread;
use serde_json::{Value, json};

use super::cell::Measured;
use super::goals::{self, Goal};
use super::machine::Machine;
use super::plan::{Cell, Figure, Profile, Relay, Test};

/// A line of the table.
pub(super) type Line = (Profile, Test, Figure);

/// Peers in the order of the columns.
pub(super) const PEERS: [Relay; 3] = [Relay::Haproxy, Relay::Nginx, Relay::Realm];

/// How the means of both directions with eight streams are called.
pub(super) const MEAN: &str = "bulk8, mean of up and down";

/// A value per round for each line and relay.
#[derive(Debug, Default)]
pub(super) struct Results {
    figures: BTreeMap<Line, BTreeMap<Relay, Vec<f64>>>,
    threads: BTreeMap<(Profile, Test, Relay), BTreeMap<String, Vec<f64>>>,
}

impl Results {
    /// Takes in a test of a cell.
    pub(super) fn add(&mut self, cell: &Cell, measured: Measured) {
        for (figure, value) in measured.figures {
            let line = self.figures.entry((cell.profile, measured.test, figure)).or_default();
            line.entry(cell.relay).or_default().push(value);
        }
        let threads = self.threads.entry((cell.profile, measured.test, cell.relay)).or_default();
        for (name, value) in measured.threads {
            threads.entry(name).or_default().push(value);
        }
    }

    /// The lines there are, in the table's order.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        self.figures.keys().copied()
    }

    /// One cell of the table.
    pub(super) fn spread(&self, line: Line, relay: Relay) -> Option<Spread> {
        Spread::of(self.figures.get(&line)?.get(&relay)?)
    }

    /// The ratio of the medians of ours and a peer's.
    pub(super) fn ratio(&self, line: Line, ours: Relay, peer: Relay) -> Option<f64> {
        let (ours, peer) = (self.spread(line, ours)?, self.spread(line, peer)?);
        (peer.median != 0.0).then(|| ours.median / peer.median)
    }

    /// The median of the ratios within each round: what drifts from round to round is in neither.
    pub(super) fn rounds_ratio(&self, line: Line, ours: Relay, peer: Relay) -> Option<f64> {
        let by_relay = self.figures.get(&line)?;
        let rounds = by_relay.get(&ours)?.iter().zip(by_relay.get(&peer)?);
        let ratios: Vec<f64> =
            rounds.filter(|(_, peer)| **peer != 0.0).map(|(ours, peer)| ours / peer).collect();
        Some(Spread::of(&ratios)?.median)
    }

    /// The same of the means of both directions with eight streams.
    pub(super) fn mean_ratio(
        &self,
        profile: Profile,
        figure: Figure,
        ours: Relay,
        peer: Relay,
    ) -> Option<f64> {
        let mean = |relay: Relay| {
            let [up, down] = [Test::Bulk8Up, Test::Bulk8Down]
                .map(|test| Some(self.spread((profile, test, figure), relay)?.median));
            Some(f64::midpoint(up?, down?))
        };
        let (ours, peer) = (mean(ours)?, mean(peer)?);
        (peer != 0.0).then(|| ours / peer)
    }

    /// The medians of a relay's CPU by kind of thread.
    pub(super) fn threads(&self, profile: Profile, test: Test, relay: Relay) -> Vec<(&str, f64)> {
        let by_name = self.threads.get(&(profile, test, relay));
        let median = |(name, values)| {
            let spread: Spread = Spread::of(values)?;
            Some((name, spread.median))
        };
        by_name
            .into_iter()
            .flatten()
            .map(|(name, values)| (name.as_str(), values.as_slice()))
            .filter_map(median)
            .collect()
    }

    /// As JSON for programs.
    pub(super) fn json(&self, machine: &Machine, rounds: u32, seconds: f64) -> Value {
        let mut lines = Vec::new();
        for (&(profile, test, figure), by_relay) in &self.figures {
            for (&relay, values) in by_relay {
                let Some(spread) = Spread::of(values) else { continue };
                let ratios = json_ratios(relay, |peer| {
                    let ratio = self.ratio((profile, test, figure), relay, peer)?;
                    Some((ratio, goals::ratio(profile, test, figure, relay, peer)))
                });
                lines.push(json!({
                    "profile": profile, "test": test, "figure": figure, "unit": figure.unit(),
                    "relay": relay, "median": spread.median, "min": spread.min, "max": spread.max,
                    "values": values, "ratios": ratios,
                }));
            }
        }
        let down = |(profile, test, figure)| (test == Test::Bulk8Down).then_some((profile, figure));
        let mut means = Vec::new();
        for (profile, figure) in self.lines().filter_map(down) {
            let ratios = json_ratios(Relay::WeirCapture, |peer| {
                let ratio = self.mean_ratio(profile, figure, Relay::WeirCapture, peer)?;
                Some((ratio, goals::mean_ratio(profile, figure, Relay::WeirCapture, peer)))
            });
            means.push(json!({
                "profile": profile, "test": MEAN, "figure": figure, "unit": figure.unit(),
                "relay": Relay::WeirCapture, "ratios": ratios,
            }));
        }
        let threads: Vec<Value> = self
            .threads
            .keys()
            .filter(|key| !self.threads[key].is_empty())
            .map(|&(profile, test, relay)| {
                let by_name: BTreeMap<&str, f64> =
                    self.threads(profile, test, relay).into_iter().collect();
                json!({"profile": profile, "test": test, "relay": relay, "cpu": by_name})
            })
            .collect();
        let account = self.lines().filter_map(|(profile, test, figure)| {
            let line = (profile, test, figure);
            let ratio = self.rounds_ratio(line, Relay::Weir, Relay::WeirNoAccount)?;
            let goal = goals::with_account(test)
                .filter(|_| matches!(figure, Figure::CpuPerGb | Figure::CpuUs))
                .map(|goal| json!({"bound": goal.text(), "reached": goal.reached(ratio)}));
            Some(json!({"profile": profile, "test": test, "figure": figure, "ratio": ratio, "goal": goal}))
        });
        let account: Vec<Value> = account.collect();
        json!({
            "machine": machine, "rounds": rounds, "seconds": seconds, "results": lines,
            "means": means, "threads": threads, "account": account,
        })
    }
}

/// The ratios of a relay to the others, each with its goal.
fn json_ratios(relay: Relay, to: impl Fn(Relay) -> Option<(f64, Option<Goal>)>) -> Value {
    let ratios = PEERS.into_iter().filter(|peer| *peer != relay).filter_map(|peer| {
        let (ratio, goal) = to(peer)?;
        let goal = goal.map(|goal| json!({"bound": goal.text(), "reached": goal.reached(ratio)}));
        Some((peer.to_string(), json!({"ratio": ratio, "goal": goal})))
    });
    Value::Object(ratios.collect())
}
