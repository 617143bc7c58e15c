//! Plans as decisions on lists of parts, and what holds for all of them.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// 2026-10-31T00:00:00Z.
const DAY: i64 = 1_793_404_800_000_000;
const MINUTE: i64 = 60_000_000;
const DATE: &str = "2026-10-31";

fn part(name: &str, min_time_us: i64, max_time_us: i64, rows: u64, bytes: u64) -> Part {
    Part {
        table: "usage".into(),
        path: format!("accounting/usage/date={DATE}/{name}.parquet"),
        rows,
        bytes,
        min_time_us,
        max_time_us,
        sha256: String::new(),
    }
}

/// A small part of a minute of the day.
fn minute(name: &str, minute: i64) -> Part {
    part(name, DAY + minute * MINUTE, DAY + minute * MINUTE + 5_000_000, 10, 5_000)
}

fn names(step: &Step) -> String {
    let name = |part: &Part| {
        let name = part.path.rsplit('/').next().unwrap_or_default();
        name.trim_end_matches(".parquet").to_owned()
    };
    step.inputs.iter().map(name).collect::<Vec<_>>().join(" ")
}

fn planned(parts: &[Part], rhythm: Rhythm, minute: i64) -> Vec<(Level, String)> {
    let steps = plan(parts.iter(), 42, rhythm, DAY + minute * MINUTE);
    steps.iter().map(|step| (step.level, names(step))).collect()
}

#[test]
fn an_hour_is_merged_when_it_is_over_for_two_slots() {
    let parts = [minute("log-3", 61), minute("log-1", 0), minute("log-2", 59)];
    assert!(planned(&parts, Rhythm::Hourly, 69).is_empty());
    assert_eq!(planned(&parts, Rhythm::Hourly, 70), [(Level::Hour, "log-1 log-2".to_owned())]);
    assert!(planned(&parts, Rhythm::Daily, 70).is_empty());
}

#[test]
fn a_day_is_merged_when_it_is_over_with_all_that_it_has() {
    let parts = [minute("hour-7-00-00", 5), minute("log-9", 1439), minute("hour-8-00-00", 60)];
    let whole = "hour-7-00-00 hour-8-00-00 log-9".to_owned();
    for rhythm in [Rhythm::Hourly, Rhythm::Daily] {
        assert!(planned(&parts, rhythm, 1449).is_empty());
        assert_eq!(planned(&parts, rhythm, 1450), [(Level::Day, whole.clone())]);
    }
}

#[test]
fn a_day_of_more_parts_than_a_step_takes_goes_by_its_hours() {
    let parts: Vec<_> = (0..1440).map(|m| minute(&format!("log-{m:04}"), m)).collect();
    let steps = planned(&parts, Rhythm::Daily, 1450);
    assert_eq!(steps.len(), 24);
    assert!(
        steps
            .iter()
            .all(|(level, inputs)| *level == Level::Hour && inputs.matches("log-").count() == 60)
    );
}

#[test]
fn late_rows_of_an_old_day_are_merged_too() {
    let parts = [minute("day-7-00-00", 0), minute("log-9", 30)];
    let merge = "day-7-00-00 log-9".to_owned();
    assert_eq!(planned(&parts, Rhythm::Hourly, 100_000), [(Level::Day, merge)]);
}

#[test]
fn a_few_late_rows_do_not_rewrite_a_whole_day() {
    let mut parts = vec![
        part("day-7-00-00", DAY, DAY + 1000 * MINUTE, 1_000_000, 100 << 20),
        minute("log-8", 30),
        minute("log-9", 31),
    ];
    let late = "log-8 log-9".to_owned();
    assert_eq!(planned(&parts, Rhythm::Hourly, 100_000), [(Level::Day, late)]);
    parts.truncate(2);
    assert!(planned(&parts, Rhythm::Hourly, 100_000).is_empty());
    parts.push(part("log-9", DAY, DAY, 300_000, 25 << 20));
    let both = "day-7-00-00 log-9".to_owned();
    assert_eq!(planned(&parts, Rhythm::Hourly, 100_000), [(Level::Day, both)]);
}

#[test]
fn a_big_part_is_left_alone_and_so_is_a_single_one() {
    let big = part("log-1", DAY, DAY + MINUTE, 1_000_000, BIG_BYTES);
    assert!(planned(&[big, minute("log-2", 5)], Rhythm::Hourly, 100_000).is_empty());
}

#[test]
fn inputs_that_need_more_memory_than_a_step_has_are_cut_into_steps() {
    // All of the same time, so that all of them are open at once.
    let wide = |n| part(&format!("log-{n:03}"), DAY, DAY, 1_000_000, 4 << 20);
    let parts: Vec<_> = (0..60).map(wide).collect();
    let steps = planned(&parts, Rhythm::Hourly, 100_000);
    let counts: Vec<_> = steps.iter().map(|(_, inputs)| inputs.matches("log-").count()).collect();
    assert_eq!(counts, [26, 26, 8]);
    // One after the other they take no more memory than two of them.
    let long = |n: i64| part(&format!("log-{n:03}"), DAY + n * 1000, DAY + n * 1000, 1_000_000, 1);
    let parts: Vec<_> = (0..60).map(long).collect();
    assert_eq!(planned(&parts, Rhythm::Hourly, 100_000).len(), 1);
}

#[test]
fn what_has_no_place_in_the_tables_is_left_alone() {
    let mut parts = [minute("log-1", 1), minute("log-2", 2)];
    for part in &mut parts {
        part.table = "flows".into();
    }
    assert!(planned(&parts, Rhythm::Hourly, 100_000).is_empty());
    for part in &mut parts {
        part.table = "usage".into();
        part.path = "log-1.parquet".into();
    }
    assert!(planned(&parts, Rhythm::Hourly, 100_000).is_empty());
}

#[test]
fn a_step_names_its_parts_by_version_and_place_in_the_plan() {
    let parts = [minute("log-1", 1), minute("log-2", 2), minute("log-3", 61), minute("log-4", 62)];
    let steps = plan(parts.iter(), 42, Rhythm::Hourly, DAY + 200 * MINUTE);
    assert_eq!(names(&steps[1]), "log-3 log-4");
    assert_eq!(
        steps[1].output(3),
        "accounting/usage/date=2026-10-31/hour-00000000000000000042-01-03.parquet"
    );
}

#[test]
fn times_beyond_all_calendars_are_planned_like_others() {
    let parts = [part("log-1", i64::MIN, i64::MAX, 1, 1), part("log-2", i64::MAX, i64::MAX, 1, 1)];
    assert_eq!(plan(parts.iter(), 1, Rhythm::Hourly, i64::MAX).len(), 1);
    assert!(plan(parts.iter(), 1, Rhythm::Hourly, i64::MIN).is_empty());
}

/// What the steps of a plan leave behind, as large as merged parts can be at worst.
fn executed(parts: &mut Vec<Part>, step: &Step) {
    let inputs: BTreeSet<_> = step.inputs.iter().map(|part| part.path.clone()).collect();
    parts.retain(|part| !inputs.contains(&part.path));
    let (mut bytes, mut rows) = (step.input_bytes(), step.inputs.iter().map(|p| p.rows).sum());
    let min_time_us = step.inputs.iter().map(|part| part.min_time_us).min().unwrap();
    let max_time_us = step.inputs.iter().map(|part| part.max_time_us).max().unwrap();
    for nth in 0.. {
        let cut = bytes.min(MAX_PART_BYTES - (32 << 20));
        bytes -= cut;
        let of_cut = if bytes == 0 { rows } else { rows / 2 };
        rows -= of_cut;
        let path = step.output(nth);
        let made = Part { path, bytes: cut, rows: of_cut, ..step.inputs[0].clone() };
        parts.push(Part { min_time_us, max_time_us, ..made });
        if bytes == 0 {
            return;
        }
    }
}

fn any_part() -> impl Strategy<Value = Part> {
    let bytes = prop_oneof![1_u64..10_000, 1_u64..(200 << 20)];
    let level = prop_oneof![Just("log"), Just("log"), Just("hour"), Just("day")];
    (0_i64..3, 0_i64..1440, 0_i64..180, 1_u64..2_000_000, bytes, level, any::<u32>(), 0..2_usize)
        .prop_map(|(day, from, len, rows, bytes, level, number, table)| {
            let to = (from + len).min(1439);
            let begin = DAY + day * 1440 * MINUTE;
            let table = ["usage", "sessions"][table];
            let date = 31 + day;
            let date = if date == 31 { DATE.to_owned() } else { format!("2026-11-{:02}", day) };
            Part {
                table: table.into(),
                path: format!("accounting/{table}/date={date}/{level}-{number:020}.parquet"),
                rows,
                bytes,
                min_time_us: begin + from * MINUTE,
                max_time_us: begin + to * MINUTE,
                sha256: String::new(),
            }
        })
}

proptest! {
    /// Whatever there is, plans come to an end, keep rows, tables and days apart, take no part
    /// twice, stay within their bounds and leave alone what is big or not over yet.
    #[test]
    fn plans_come_to_an_end_and_keep_to_their_bounds(
        parts in vec(any_part(), 0..400),
        hours in 0_i64..100,
        daily: bool,
    ) {
        let mut parts = parts;
        parts.sort_by(|a, b| a.path.cmp(&b.path));
        parts.dedup_by(|a, b| a.path == b.path);
        let now = DAY + hours * HOUR_US;
        let rhythm = if daily { Rhythm::Daily } else { Rhythm::Hourly };
        let rows: u64 = parts.iter().map(|part| part.rows).sum();
        let mut version = 1;
        loop {
            let steps = plan(parts.iter(), version, rhythm, now);
            prop_assert_eq!(&steps, &plan(parts.iter().rev(), version, rhythm, now));
            if steps.is_empty() {
                break;
            }
            let mut taken = BTreeSet::new();
            for step in &steps {
                prop_assert!((2..=MAX_INPUTS).contains(&step.inputs.len()));
                prop_assert!(step.input_bytes() <= MAX_INPUT_BYTES);
                for input in &step.inputs {
                    prop_assert!(taken.insert(input.path.clone()));
                    prop_assert_eq!(&input.table, step.table.name);
                    prop_assert!(input.path.starts_with(&step.directory));
                    prop_assert!(input.bytes < BIG_BYTES);
                    prop_assert!(input.max_time_us.div_euclid(HOUR_US) * HOUR_US + HOUR_US <= now);
                }
                executed(&mut parts, step);
            }
            prop_assert_eq!(parts.iter().map(|part| part.rows).sum::<u64>(), rows);
            version += 1;
            prop_assert!(version < 50, "no end");
        }
    }
}
