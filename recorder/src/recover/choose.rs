//! Which of the parts that lie about make up the tables, each row once.
//!
//! A part gets its name after the commit that names it, and leaves the tables after the commit that
//! replaces it. So a part under its name was committed, and what it replaces is no longer needed,
//! nor what that replaced. A part under its uncommitted name was committed if another of the same
//! commit has its name, or if what it was made from is gone.

use std::collections::{BTreeMap, BTreeSet};

/// A whole part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its path below the data directory, without `.new`.
    pub(super) path: String,
    /// It has its name.
    pub(super) named: bool,
    /// The frames of the log that it was made from, of one that came from a segment.
    pub(super) segment: Option<(u64, u64)>,
    /// File names of the parts that it took the place of.
    pub(super) replaces: Vec<String>,
}

/// What becomes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is part of the tables.
    Taken,
    /// Another part holds its rows.
    Replaced,
    /// It was never committed: its rows are in the log or in other parts.
    Uncommitted,
}

/// The fate of each part. `log_first`: the first frame that the log still holds.
pub(super) fn choose(candidates: &[Candidate], log_first: u64) -> Vec<Fate> {
    let directory =
        |path: &str| path.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
    let named_segments: BTreeSet<u64> = candidates
        .iter()
        .filter(|c| c.named && c.replaces.is_empty())
        .filter_map(|c| c.segment.map(|(first, _)| first))
        .collect();
    let named_merges: BTreeSet<(String, &[String])> = candidates
        .iter()
        .filter(|c| c.named && !c.replaces.is_empty())
        .map(|c| (directory(&c.path), &c.replaces[..]))
        .collect();
    let merged = |c: &Candidate| named_merges.contains(&(directory(&c.path), &c.replaces[..]));
    let published = |c: &Candidate| {
        c.segment.is_some_and(|(first, last)| last < log_first || named_segments.contains(&first))
    };
    let committed =
        |c: &Candidate| c.named || if c.replaces.is_empty() { published(c) } else { merged(c) };
    // From the newest to what they replaced, over parts that are gone themselves too.
    let mut replaces: BTreeMap<String, &[String]> = BTreeMap::new();
    for candidate in candidates.iter().filter(|c| committed(c)) {
        replaces.insert(candidate.path.clone(), &candidate.replaces);
    }
    let mut gone = BTreeSet::new();
    for (path, names) in &replaces {
        gone.extend(names.iter().map(|name| format!("{}/{name}", directory(path))));
    }
    let fate = |c: &Candidate| match committed(c) {
        false => Fate::Uncommitted,
        true if gone.contains(&c.path) => Fate::Replaced,
        true => Fate::Taken,
    };
    candidates.iter().map(fate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: &str = "accounting/usage/date=2026-10-31";

    fn segment(first: u64, named: bool) -> Candidate {
        let path = format!("{DAY}/log-{first}.parquet");
        Candidate { path, named, segment: Some((first, first + 1)), replaces: Vec::new() }
    }

    fn merge(name: &str, named: bool, replaces: &[&str]) -> Candidate {
        let replaces = replaces.iter().map(|name| format!("{name}.parquet")).collect();
        let path = format!("{DAY}/{name}.parquet");
        Candidate { path, named, segment: Some((1, 4)), replaces }
    }

    fn taken(candidates: &[Candidate], log_first: u64) -> Vec<&str> {
        let fates = choose(candidates, log_first);
        let taken = candidates.iter().zip(fates).filter(|(_, fate)| *fate == Fate::Taken);
        taken
            .map(|(c, _)| c.path.rsplit('/').next().unwrap().trim_end_matches(".parquet"))
            .collect()
    }

    #[test]
    fn a_segment_counts_whole_or_not_at_all() {
        let slots = Candidate {
            path: "accounting/slots/date=2026-10-31/log-1.parquet".into(),
            ..segment(1, true)
        };
        // One of its parts has its name: it was committed.
        assert_eq!(taken(&[segment(1, false), slots], 1), ["log-1", "log-1"]);
        // None has, and the log still holds it: it will be published again.
        assert_eq!(taken(&[segment(1, false)], 1), [""; 0]);
        // None has, and the log no longer holds it: it was committed.
        assert_eq!(taken(&[segment(1, false)], 3), ["log-1"]);
    }

    #[test]
    fn merged_parts_and_what_they_were_made_from_count_once() {
        let inputs = [segment(1, true), segment(3, true)];
        let with = |merged: Candidate| [inputs.as_slice(), &[merged]].concat();
        assert_eq!(
            taken(&with(merge("hour-1", false, &["log-1", "log-3"])), 9),
            ["log-1", "log-3"]
        );
        assert_eq!(taken(&with(merge("hour-1", true, &["log-1", "log-3"])), 9), ["hour-1"]);
        // One of two has its name, so both were committed.
        let mut both = with(merge("hour-1a", true, &["log-1", "log-3"]));
        both.push(merge("hour-1b", false, &["log-1", "log-3"]));
        assert_eq!(taken(&both, 9), ["hour-1a", "hour-1b"]);
    }

    #[test]
    fn what_was_replaced_long_ago_does_not_come_back() {
        let lying_about = [
            segment(1, true),
            merge("hour-1", true, &["log-1", "log-3"]),
            merge("day-1", true, &["hour-1", "hour-2"]),
        ];
        assert_eq!(taken(&lying_about, 9), ["day-1"]);
    }
}
