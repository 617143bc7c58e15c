//! How many descriptors a test may hold.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the tests that run beside this one in the same process may hold.
const OTHERS: u64 = 512;

/// As many sessions as `wanted`, or as this process, with its soft limit of open files raised to
/// the hard one, can hold if each takes `each` descriptors of it.
///
/// # Panics
/// They are fewer than `least`; the message says what to raise.
pub fn sessions(wanted: u16, least: u16, each: u64) -> u16 {
    let limit = raised();
    let room = limit.saturating_sub(OTHERS) / each;
    let sessions = u16::try_from(room).unwrap_or(u16::MAX).min(wanted);
    assert!(
        sessions >= least,
        "at most {limit} files may be open, which is room for {sessions} sessions, and the test \
         needs {least}: please raise the limit (ulimit -Hn) to {}",
        OTHERS + u64::from(least) * each
    );
    if sessions < wanted {
        println!("{sessions} sessions in place of {wanted}: at most {limit} files may be open");
    }
    sessions
}

/// The limit of open files, after it was raised as far as it goes.
fn raised() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // macOS refuses more than it likes; then the soft limit stays.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok();
    (if raised { limit.maximum } else { limit.current }).unwrap_or(u64::MAX)
}
