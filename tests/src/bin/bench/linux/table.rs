//! The results for people: Markdown that reads as well in a terminal.

use e2e_tests::markdown::{aligned, number};

use super::goals;
use super::machine::Machine;
use super::plan::{Figure, Profile, Relay, Test};
use super::results::{Line, MEAN, PEERS, Results};

const OURS: [Relay; 2] = [Relay::Weir, Relay::WeirCapture];
/// The forwarder's threads that would be there without an account, whatever the program is called.
const RELAYING: [&str; 2] = ["/data", "/lookup"];

/// Everything, as bench.md holds it.
pub(super) fn report(results: &Results, machine: &Machine, rounds: u32, seconds: f64) -> String {
    let mut text = format!(
        "# Weir and others\n\n{}\n\nMedians of {rounds} rounds of {seconds} s with their spread (lowest..highest). \
         CPU is the relay's, by the scheduler's clock; that of `weir` is the forwarder's with accounting on \
         and a recorder running, that of `weir-capture` forwarder and recorder together with every byte kept (the digest made when a capture file is closed is not included). \
         Accounting cannot be switched off, but a forwarder can be built without it, to measure what it costs.\n",
        machine.sentence()
    );
    for profile in [Profile::Reno, Profile::Bbr] {
        let lines: Vec<Line> = results.lines().filter(|line| line.0 == profile).collect();
        if lines.is_empty() {
            continue;
        }
        text += &format!("\n## {}\n\n", title(profile));
        text += &figures(results, &lines);
        let ratios = ratios(results, &lines);
        if ratios.len() > 1 {
            text += "\nRatios of the medians, with what is to be reached:\n\n";
            text += &aligned(&ratios);
        }
        let threads = threads(results, profile);
        if threads.len() > 1 {
            text += "\nWhere the CPU goes, by kind of thread, from half a percent on:\n\n";
            text += &aligned(&threads);
        }
        let added = with_account(results, profile);
        if added.len() > 1 {
            text += "\nThe same forwarder without an account, and what the account adds:\n\n";
            text += &aligned(&added);
        }
        let account = account(results, profile);
        if account.len() > 1 {
            text += "\nThe account's share, on threads that do not relay:\n\n";
            text += &aligned(&account);
        }
    }
    text
}

fn title(profile: Profile) -> &'static str {
    match profile {
        Profile::Reno => "Unpaced (reno)",
        Profile::Bbr => "Paced (BBR)",
    }
}

fn figures(results: &Results, lines: &[Line]) -> String {
    let all = [Relay::Direct].into_iter().chain(OURS).chain(PEERS);
    let there = |relay: &Relay| lines.iter().any(|line| results.spread(*line, *relay).is_some());
    let relays: Vec<Relay> = all.filter(there).collect();
    let head = ["test".to_owned(), "unit".to_owned()];
    let mut rows = vec![head.into_iter().chain(relays.iter().map(Relay::to_string)).collect()];
    for &line in lines {
        let cell = |relay: &Relay| {
            results.spread(line, *relay).map_or_else(
                || "–".to_owned(),
                |spread| match spread.count {
                    1 => number(spread.median),
                    _ => format!(
                        "{} ({}..{})",
                        number(spread.median),
                        number(spread.min),
                        number(spread.max)
                    ),
                },
            )
        };
        let head = [line.1.to_string(), line.2.unit().to_owned()];
        rows.push(head.into_iter().chain(relays.iter().map(cell)).collect());
        rows.extend(added(results, line, &relays));
    }
    aligned(&rows)
}

/// How much later things are than without a relay.
fn added(results: &Results, line: Line, relays: &[Relay]) -> Option<Vec<String>> {
    let unit = match line.2 {
        Figure::P50Us => "p50 µs added",
        Figure::P99Us => "p99 µs added",
        _ => return None,
    };
    let direct = results.spread(line, Relay::Direct)?.median;
    let cell = |relay: &Relay| match results.spread(line, *relay) {
        Some(spread) if *relay != Relay::Direct => number(spread.median - direct),
        _ => "–".to_owned(),
    };
    let head = [line.1.to_string(), unit.to_owned()];
    Some(head.into_iter().chain(relays.iter().map(cell)).collect())
}

fn ratios(results: &Results, lines: &[Line]) -> Vec<Vec<String>> {
    let head = ["", "test", "unit"].map(str::to_owned).into_iter();
    let mut rows: Vec<Vec<String>> =
        vec![head.chain(PEERS.iter().map(|peer| format!("to {peer}"))).collect()];
    for &line in lines {
        let (profile, test, figure) = line;
        for ours in OURS {
            rows.extend(ratio_row(ours, &test.to_string(), figure, |peer| {
                let ratio = results.ratio(line, ours, peer)?;
                Some(judged(ratio, goals::ratio(profile, test, figure, ours, peer)))
            }));
        }
        if test == Test::Bulk8Down {
            let ours = Relay::WeirCapture;
            rows.extend(ratio_row(ours, MEAN, figure, |peer| {
                let ratio = results.mean_ratio(profile, figure, ours, peer)?;
                Some(judged(ratio, goals::mean_ratio(profile, figure, ours, peer)))
            }));
        }
        let goal = goals::absolute(test, figure).filter(|_| profile == Profile::Reno);
        if let (Some(goal), Some(spread)) = (goal, results.spread(line, Relay::Weir)) {
            let unit = format!("{} itself", figure.unit());
            let mut row = vec![Relay::Weir.to_string(), test.to_string(), unit];
            row.push(judged(spread.median, Some(goal)));
            row.extend(["–".to_owned(), "–".to_owned()]);
            rows.push(row);
        }
    }
    rows
}

/// None when there is no peer to compare with.
fn ratio_row(
    ours: Relay,
    test: &str,
    figure: Figure,
    to: impl Fn(Relay) -> Option<String>,
) -> Option<Vec<String>> {
    let ratios = PEERS.map(to);
    if ratios.iter().all(Option::is_none) {
        return None;
    }
    let head = [ours.to_string(), test.to_owned(), figure.unit().to_owned()];
    let ratios = ratios.into_iter().map(|ratio| ratio.unwrap_or_else(|| "–".to_owned()));
    Some(head.into_iter().chain(ratios).collect())
}

fn judged(value: f64, goal: Option<goals::Goal>) -> String {
    match goal {
        None => format!("{value:.2}"),
        Some(goal) if goal.reached(value) => format!("{value:.2} ({})", goal.text()),
        Some(goal) => format!("{value:.2} ({}: missed)", goal.text()),
    }
}

fn threads(results: &Results, profile: Profile) -> Vec<Vec<String>> {
    let head = ["", "test", "unit", "by thread"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    for (test, figure) in cpu_lines(results, profile) {
        for ours in OURS {
            let mut by_thread = results.threads(profile, test, ours);
            by_thread.sort_by(|one, other| other.1.total_cmp(&one.1));
            let all: f64 = by_thread.iter().map(|(_, value)| value).sum();
            let parts: Vec<String> = by_thread
                .iter()
                .filter(|(_, value)| *value > all / 200.0)
                .map(|(name, value)| format!("{name} {}", number(*value)))
                .collect();
            if !parts.is_empty() {
                let head = [ours.to_string(), test.to_string(), figure.unit().to_owned()];
                rows.push(head.into_iter().chain([parts.join(", ")]).collect());
            }
        }
    }
    rows
}

fn with_account(results: &Results, profile: Profile) -> Vec<Vec<String>> {
    let head = ["test", "unit", "without", "ratio", "on relaying threads", "on others"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (test, figure) in cpu_lines(results, profile) {
        let line = (profile, test, figure);
        let without = results.spread(line, Relay::WeirNoAccount);
        let ratio = results.rounds_ratio(line, Relay::Weir, Relay::WeirNoAccount);
        let (Some(without), Some(ratio)) = (without, ratio) else { continue };
        let goal = goals::with_account(test);
        let ratio = match goal {
            None => format!("{ratio:.3}"),
            Some(goal) if goal.reached(ratio) => format!("{ratio:.3} ({})", goal.text()),
            Some(goal) => format!("{ratio:.3} ({}: missed)", goal.text()),
        };
        let [with, bare] = [Relay::Weir, Relay::WeirNoAccount]
            .map(|relay| relaying_and_others(&results.threads(profile, test, relay)));
        let added = [with[0] - bare[0], with[1] - bare[1]].map(|added| format!("{added:+.2}"));
        let row = [test.to_string(), figure.unit().to_owned(), number(without.median), ratio];
        rows.push(row.into_iter().chain(added).collect());
    }
    rows
}

fn relaying_and_others(by_thread: &[(&str, f64)]) -> [f64; 2] {
    let all: f64 = by_thread.iter().map(|(_, value)| value).sum();
    let relays = |name: &str| RELAYING.iter().any(|end| name.ends_with(end));
    let relaying = by_thread.iter().filter(|(name, _)| relays(name));
    let relaying: f64 = relaying.map(|(_, value)| value).sum();
    [relaying, all - relaying]
}

fn account(results: &Results, profile: Profile) -> Vec<Vec<String>> {
    let mut rows = vec![["test", "unit", "account", "of all"].map(str::to_owned).to_vec()];
    for (test, figure) in cpu_lines(results, profile) {
        let by_thread = results.threads(profile, test, Relay::Weir);
        let [relaying, account] = relaying_and_others(&by_thread);
        let all = relaying + account;
        if all == 0.0 {
            continue;
        }
        let (goal, share) = (goals::account(test), account / all);
        let [account, share] = match test {
            Test::Conn => [judged(account, goal), format!("{:.1} %", share * 100.0)],
            _ => [number(account), judged_share(share, goal)],
        };
        rows.push(vec![test.to_string(), figure.unit().to_owned(), account, share]);
    }
    rows
}

fn cpu_lines(results: &Results, profile: Profile) -> Vec<(Test, Figure)> {
    let cpu = |figure| matches!(figure, Figure::CpuPerGb | Figure::CpuUs);
    let lines = results.lines().filter(|(of, _, figure)| *of == profile && cpu(*figure));
    lines.map(|(_, test, figure)| (test, figure)).collect()
}

fn judged_share(share: f64, goal: Option<goals::Goal>) -> String {
    let Some(goal @ goals::Goal::AtMost(bound)) = goal else {
        return format!("{:.1} %", share * 100.0);
    };
    let missed = if goal.reached(share) { "" } else { ": missed" };
    format!("{:.1} % (≤ {:.0} %{missed})", share * 100.0, bound * 100.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::cell::Measured;
    use super::super::plan::Cell;
    use super::*;

    fn measured(results: &mut Results, relay: Relay, test: Test, figures: &[(Figure, f64)]) {
        let profile = Profile::Reno;
        let cell = Cell { round: 0, relay, profile, tests: vec![test] };
        let threads = match relay {
            Relay::Weir => BTreeMap::from([
                ("forwarder/data".to_owned(), 0.08),
                ("forwarder/journal".to_owned(), 0.001),
            ]),
            _ => BTreeMap::new(),
        };
        results.add(&cell, Measured { test, figures: figures.iter().copied().collect(), threads });
    }

    #[test]
    fn a_report_reads_as_a_table() {
        let mut results = Results::default();
        for drift in [0.0, 0.01, 0.02] {
            let cpu = Figure::CpuPerGb;
            measured(&mut results, Relay::Weir, Test::Bulk8Up, &[(cpu, 0.08 + drift)]);
            measured(&mut results, Relay::Haproxy, Test::Bulk8Up, &[(cpu, 0.35 - drift)]);
            measured(&mut results, Relay::Realm, Test::Bulk8Up, &[(cpu, 0.07)]);
        }
        measured(&mut results, Relay::Direct, Test::Rr1, &[(Figure::P50Us, 12.5)]);
        measured(&mut results, Relay::Weir, Test::Rr1, &[(Figure::P50Us, 31.25)]);
        measured(&mut results, Relay::Weir, Test::Udp, &[(Figure::LossPercent, 0.25)]);
        let gbit = Figure::GbitPerS;
        measured(&mut results, Relay::WeirCapture, Test::Bulk8Up, &[(gbit, 10.0)]);
        measured(&mut results, Relay::WeirCapture, Test::Bulk8Down, &[(gbit, 10.0)]);
        measured(&mut results, Relay::Haproxy, Test::Bulk8Up, &[(gbit, 18.0)]);
        measured(&mut results, Relay::Haproxy, Test::Bulk8Down, &[(gbit, 12.0)]);
        let machine = Machine {
            date: "2026-11-23".to_owned(),
            cpu: "A CPU".to_owned(),
            cores: 2,
            memory_gib: 16,
            kernel: "6.18".to_owned(),
            relays: vec![("haproxy".to_owned(), "2.6.12".to_owned())],
        };
        insta::assert_snapshot!(report(&results, &machine, 3, 1.0));
    }
}
