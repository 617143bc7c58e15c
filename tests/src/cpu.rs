//! The CPU time of processes, from the scheduler's own clock.
//!
//! `/proc/<pid>/task/<tid>/schedstat` counts nanoseconds, but forgets threads that ended.
//! `/proc/<pid>/stat` remembers them, in steps of 10 ms; it decides only when a thread has gone, one
//! that neither look saw included.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// `USER_HZ` is 100 on every architecture that Linux runs on today.
const NS_PER_TICK: u64 = 10_000_000;
/// By how much the difference of two looks at a process may exceed the truth: user and system time
/// are rounded down apart.
const ROUNDING_TICKS: u64 = 2;
/// How long the relay must do nothing to count as done.
const PAUSE: Duration = Duration::from_millis(20);
/// What its timers may use in that time.
const QUIET_NS: u64 = 500_000;
/// When the waiting for quiet ends at the latest.
const PATIENCE: Duration = Duration::from_secs(3);

/// What some processes have used up to an instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// By process and thread: its name and nanoseconds.
    threads: BTreeMap<(u32, u32), (String, u64)>,
    /// Of all threads that ever were, in ticks.
    ticks: u64,
}

impl Cpu {
    /// Of these processes, up to now. One that has ended counts as nothing.
    pub fn of(processes: &[u32]) -> Self {
        let mut cpu = Self::default();
        for &process in processes {
            let dir = Path::new("/proc").join(process.to_string());
            let stat = fs::read_to_string(dir.join("stat")).unwrap_or_default();
            cpu.ticks += parse_ticks(&stat).unwrap_or(0);
            let program = fs::read_to_string(dir.join("comm")).unwrap_or_default();
            let Ok(tasks) = fs::read_dir(dir.join("task")) else { continue };
            for task in tasks.flatten() {
                let id = task.file_name().to_str().and_then(|name| name.parse().ok());
                let schedstat = fs::read_to_string(task.path().join("schedstat"));
                let ns = schedstat.ok().and_then(|text| parse_schedstat(&text));
                let (Some(id), Some(ns)) = (id, ns) else { continue };
                let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                cpu.threads.insert((process, id), (full_name(&program, &name), ns));
            }
        }
        cpu
    }

    /// Nanoseconds between `earlier` and this.
    pub fn since(&self, earlier: &Self) -> u64 {
        let ticks = self.ticks.saturating_sub(earlier.ticks);
        let gone = earlier.threads.keys().any(|thread| !self.threads.contains_key(thread));
        if gone {
            return ticks * NS_PER_TICK;
        }
        let seen = self.used(earlier).map(|(_, ns)| ns).sum();
        let processes: BTreeSet<u32> = self.threads.keys().map(|(process, _)| *process).collect();
        let sure = ticks.saturating_sub(ROUNDING_TICKS * processes.len() as u64) * NS_PER_TICK;
        // Threads came and went between the looks.
        if sure > seen { ticks * NS_PER_TICK } else { seen }
    }

    /// The same by the names of threads; those that differ in a number alone are one.
    pub fn by_thread(&self, earlier: &Self) -> BTreeMap<String, u64> {
        let mut by_name = BTreeMap::new();
        for (name, ns) in self.used(earlier) {
            let kind = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            *by_name.entry(kind.to_owned()).or_insert(0) += ns;
        }
        by_name
    }

    fn used<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = (&'a str, u64)> {
        self.threads.iter().map(|(thread, (name, ns))| {
            let before = earlier.threads.get(thread).map_or(0, |(_, ns)| *ns);
            (name.as_str(), ns.saturating_sub(before))
        })
    }
}

/// Waits until the processes have nothing left to do; what they used up to then belongs to the test
/// that gave them the work.
pub fn when_quiet(processes: &[u32]) -> Cpu {
    let started = Instant::now();
    let mut last = Cpu::of(processes);
    loop {
        thread::sleep(PAUSE);
        let now = Cpu::of(processes);
        if now.since(&last) < QUIET_NS || started.elapsed() > PATIENCE {
            return now;
        }
        last = now;
    }
}

/// The processes and everything they started.
pub fn with_children(processes: &[u32]) -> Vec<u32> {
    let mut found = processes.to_vec();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut others: Vec<(u32, u32)> = entries
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = after_name(&stat)?.split_whitespace().nth(1)?.parse().ok()?;
            Some((id, parent))
        })
        .collect();
    // A child has a higher number than its parent as long as the numbers have not wrapped.
    others.sort_unstable();
    for (id, parent) in others {
        if found.contains(&parent) && !found.contains(&id) {
            found.push(id);
        }
    }
    found
}

/// `program/thread`, or the program alone for its first thread, which bears the same name.
fn full_name(program: &str, thread: &str) -> String {
    match (program.trim(), thread.trim()) {
        (program, thread) if program == thread => program.to_owned(),
        (program, thread) => format!("{program}/{thread}"),
    }
}

/// Nanoseconds on the CPU: the first of three numbers.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// User and system time of a `stat` line, in ticks.
fn parse_ticks(stat: &str) -> Option<u64> {
    let mut fields = after_name(stat)?.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// What follows the name, which may hold anything, a parenthesis too.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ").map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(threads: &[(u32, &str, u64)], ticks: u64) -> Cpu {
        let entry = |&(id, name, ns): &(u32, &str, u64)| ((7, id), (name.to_owned(), ns));
        Cpu { threads: threads.iter().map(entry).collect(), ticks }
    }

    #[test]
    fn schedstat_begins_with_the_time_on_the_cpu() {
        assert_eq!(parse_schedstat("5839201 118273 42\n"), Some(5_839_201));
        assert_eq!(parse_schedstat(""), None);
        assert_eq!(parse_schedstat("many 1 2"), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 90 0 0 0 31 11 0 0 20 0 2 0 100 0 0";
        assert_eq!(parse_ticks(stat), Some(42));
        assert_eq!(parse_ticks("42"), None);
    }

    #[test]
    fn a_thread_that_began_meanwhile_counts_in_full() {
        let before = cpu(&[(7, "forwarder/data-0", 100)], 0);
        let names = ["data-0", "data-1", "journal"].map(|name| full_name("forwarder\n", name));
        let after = cpu(&[(7, &names[0], 150), (8, &names[1], 30), (9, &names[2], 5)], 0);
        assert_eq!(after.since(&before), 85);
        let by_thread = [("forwarder/data", 80), ("forwarder/journal", 5)];
        let by_thread = by_thread.map(|(name, ns)| (name.to_owned(), ns));
        assert_eq!(after.by_thread(&before), BTreeMap::from(by_thread));
    }

    #[test]
    fn with_a_thread_gone_the_process_clock_decides() {
        let before = cpu(&[(7, "data-0", 100), (8, "lookup", 100)], 10);
        let after = cpu(&[(7, "data-0", 150)], 13);
        assert_eq!(after.since(&before), 30_000_000);
    }

    #[test]
    fn a_thread_that_came_and_went_between_two_looks_counts() {
        let before = cpu(&[(7, "data-0", 100)], 10);
        let rounding = cpu(&[(7, "data-0", 150)], 12);
        assert_eq!(rounding.since(&before), 50);
        let more = cpu(&[(7, "data-0", 150)], 14);
        assert_eq!(more.since(&before), 40_000_000);
    }

    #[test]
    fn our_own_cpu_time_grows_with_work() {
        let own = [std::process::id()];
        let before = Cpu::of(&own);
        let started = Instant::now();
        let mut turns = 0_u64;
        while Cpu::of(&own).since(&before) == 0 && started.elapsed() < Duration::from_secs(10) {
            turns = std::hint::black_box(turns + 1);
        }
        assert!(Cpu::of(&own).since(&before) > 0, "after {turns} turns");
        assert!(with_children(&own).contains(&own[0]));
    }
}
