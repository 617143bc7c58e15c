//! `analyze percentile`

use std::path::Path;

use jiff::Timestamp;

use super::grouping::{Grouping, refuse_times};
use super::newest;
use super::{ALL, Question, Verdict, answer, filters, target_filter};
use crate::cli::{Key, PercentileArgs};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::percentile::grid::{Grid, Selection};
use crate::percentile::ranking;
use crate::period::Period;
use crate::sql;
use crate::tariff::{Missing, Mode, Span};

pub(super) fn run(args: &PercentileArgs, data: &Path) -> Result<Verdict, Failure> {
    let common = &args.common;
    let period = super::period(common)?;
    refuse_times("percentile", &common.by)?;
    let mut conditions = filters(common, "usage")?;
    conditions.extend(target_filter(common)?);
    let dataset = Dataset::open(data)?;
    let span = span(&period, &dataset)?;
    let period = Period { since: Some(span.since_us), until: Some(span.until_us), ..period };
    conditions.extend(sql::in_period("slot_start", &period));
    let grouping = Grouping::new(
        &common.by,
        &[Key::Customer],
        &[Key::Reason, Key::Limit],
        ("usage", "slot_start"),
        &dataset,
        &period,
    )?;
    let database = Database::open(
        &dataset,
        &[Wanted::of("usage", &period), Wanted::of("slots", &coverage::reach(&period))],
    )?;
    let usage = sql::all(&conditions);
    let selection = Selection { usage: &usage, nodes: &common.filter.node, slot_s: args.slot };
    let grid = Grid::new((&dataset, &database), span, selection, |slot_s, longest| {
        Failure::Usage(format!(
            "--slot {slot_s}s is no multiple of the slots recorded, which are {longest} s long"
        ))
    })?;
    let statement = Ranking::new(args, &grid, Timestamp::now()).statement(&grouping, &usage);
    let order = match common.top {
        Some(_) => format!("percentile_bps DESC NULLS LAST, {}", grouping.names),
        None => grouping.names.clone(),
    };
    let question = Question { what: "rank slots", statement, shown: ALL, order };
    answer((&dataset, &database), &question, common, &period)?;
    Ok(Verdict::Fine)
}

/// The stretch whose slots are expected: the period, and where it is open, as far as slots go.
fn span(period: &Period, dataset: &Dataset) -> Result<Span, Failure> {
    let first = dataset.time_range("slots").map(|(min, _)| min);
    let until_us = match period.until {
        Some(until) => until,
        None => newest::slot_end(dataset)?.or(period.since).unwrap_or(0),
    };
    let since_us = period.since.or(first).unwrap_or(until_us).min(until_us);
    Ok(Span { since_us, until_us })
}

/// What is ranked, in numbers.
struct Ranking<'a> {
    args: &'a PercentileArgs,
    grid: &'a Grid,
    gaps: Vec<(usize, usize)>,
    /// Slots that are ranked.
    ranked: u64,
    /// Slots that may be above the commit, those to come included.
    allowed: i128,
}

impl<'a> Ranking<'a> {
    fn new(args: &'a PercentileArgs, grid: &'a Grid, now: Timestamp) -> Self {
        let gaps = grid.gaps();
        let (expected, measured) = (grid.known.len(), grid.measured());
        let ranked = match (args.missing, gaps.first()) {
            (Missing::Exclude, _) => measured,
            // Nothing came before the first of them that could be held.
            (Missing::Hold, Some((0, behind))) => expected - behind,
            (Missing::Zero | Missing::Hold, _) => expected,
        } as u64;
        let to_come = match args.missing {
            Missing::Exclude => (0..expected)
                .rev()
                .take_while(|at| !grid.known[*at] && grid.start(*at) >= now.as_microsecond())
                .count() as u64,
            Missing::Zero | Missing::Hold => 0,
        };
        let allowed = match ranked + to_come {
            0 => 0,
            slots => i128::from(slots) - i128::from(ranking::rank(args.rank, args.percent, slots)),
        };
        Self { args, grid, gaps, ranked, allowed }
    }

    /// Which of the slots is the figure, counted from the largest.
    fn place(&self) -> u64 {
        match self.ranked {
            0 => 1,
            ranked => ranked - ranking::rank(self.args.rank, self.args.percent, ranked) + 1,
        }
    }

    fn statement(&self, grouping: &Grouping, usage: &str) -> String {
        let commit = self.args.commit.map_or_else(|| "NULL".to_owned(), |bits| bits.to_string());
        let (expected, measured) = (self.grid.known.len(), self.grid.measured());
        // Hundredths, cut: only all is 100.
        let coverage = format!("round({} / 100.0, 2)", measured * 10_000 / expected.max(1));
        let same = |name: &String| format!("decided.{name} IS NOT DISTINCT FROM counted.{name}");
        let same_key: Vec<String> = grouping.columns.iter().map(same).collect();
        let of_key = |name: &String| format!("decided.{name}");
        let key_names: Vec<String> = grouping.columns.iter().map(of_key).collect();
        let rated = |figure: &str| match self.ranked {
            0 => "NULL::BIGINT".to_owned(),
            _ => format!("({figure}::HUGEINT * 8 // {})::BIGINT", self.grid.slot_s),
        };
        let filled = include_str!("../query/percentile.sql")
            .replace("{rated_figure}", &rated("figure"))
            .replace("{rated_up}", &rated("figure_up"))
            .replace("{rated_down}", &rated("figure_down"))
            .replace("{rated_largest}", &rated("largest"))
            .replace("{commit}", &commit)
            .replace("{coverage}", &coverage)
            .replace("{estimated}", &(measured * 100 < expected * 99 || expected == 0).to_string())
            .replace("{expected}", &expected.to_string())
            .replace("{measured}", &measured.to_string())
            .replace("{allowed}", &self.allowed.to_string())
            .replace("{ranked}", &self.ranked.to_string())
            .replace("{place}", &self.place().to_string())
            .replace("{mode}", self.args.mode.as_str())
            .replace("{rank}", self.args.rank.as_str())
            .replace("{same_key}", &same_key.join(" AND "))
            .replace("{key_names}", &key_names.join(", "))
            .replace("{keys}", &grouping.keys)
            .replace("{names}", &grouping.names)
            .replace("{slot_us}", &self.grid.slot_us().to_string())
            .replace("{slot_s}", &self.grid.slot_s.to_string())
            .replace("{since}", &self.grid.span.since_us.to_string());
        self.with_gaps(&self.with_mode(&filled)).replace("{where}", usage)
    }

    /// What of both directions counts.
    fn with_mode(&self, statement: &str) -> String {
        let above = |value: &str| match self.args.commit {
            // More bytes than this in a slot are a higher rate.
            Some(bits) => {
                let most = u128::from(bits) * u128::from(self.grid.slot_s) / 8;
                format!("count(*) FILTER ({value} > {most})")
            }
            None => "0".to_owned(),
        };
        let [both, figure, value, hit] = match self.args.mode {
            Mode::In => ["up", "figure_up", "up", "up = figure"],
            Mode::Out => ["down", "figure_down", "down", "down = figure"],
            Mode::P95OfSum => ["up + down", "figure_both", "up + down", "up + down = figure"],
            Mode::P95OfMax => [
                "greatest(up, down)",
                "figure_both",
                "greatest(up, down)",
                "greatest(up, down) = figure",
            ],
            Mode::MaxOfP95 => [
                "up",
                "greatest(figure_up, figure_down)",
                "CASE WHEN figure_up >= figure_down THEN up ELSE down END",
                "figure_up = figure AND up = figure OR figure_down = figure AND down = figure",
            ],
        };
        let above = match self.args.mode {
            Mode::MaxOfP95 => format!("greatest({}, {})", above("up"), above("down")),
            _ => above(&format!("({value})")),
        };
        statement
            .replace("{above}", &above)
            .replace("{both}", both)
            .replace("{figure}", figure)
            .replace("{value}", value)
            .replace("{hit}", hit)
    }

    /// What slots count that were not measured.
    fn with_gaps(&self, statement: &str) -> String {
        let mut values: Vec<String> =
            self.gaps.iter().map(|(first, behind)| format!("({first}, {behind})")).collect();
        values.push("(NULL, NULL)".to_owned());
        let measured = |bytes: &str| match (self.gaps.is_empty(), self.args.missing) {
            (true, _) => bytes.to_owned(),
            (false, Missing::Exclude | Missing::Hold) => {
                format!("CASE WHEN gaps.slot IS NULL THEN {bytes} END")
            }
            (false, Missing::Zero) => {
                format!("CASE WHEN gaps.slot IS NULL THEN {bytes} ELSE 0 END")
            }
        };
        let statement = statement
            .replace("{gaps}", &values.join(", "))
            .replace("{up}", &measured("bytes_up"))
            .replace("{down}", &measured("bytes_down"));
        if self.gaps.is_empty() {
            return statement.replace("{gap_join}", "");
        }
        let statement = statement.replace("{gap_join}", "LEFT JOIN gaps USING (slot)");
        if self.args.missing != Missing::Hold {
            return statement;
        }
        // The slot before a gap counts once more for each slot of it.
        let held = self.gaps.iter().filter(|(first, _)| *first > 0);
        let held: Vec<String> = held
            .map(|(first, behind)| format!("({}, {})", first - 1, behind - first))
            .chain(["(NULL, 0)".to_owned()])
            .collect();
        statement.replace(
            "LEFT JOIN gaps USING (slot)",
            &format!(
                "LEFT JOIN gaps USING (slot) LEFT JOIN (VALUES {}) AS held(slot, times) USING (slot),
                 LATERAL (SELECT unnest(range(1 + coalesce(times, 0)))) AS again(time)",
                held.join(", ")
            ),
        )
    }
}
