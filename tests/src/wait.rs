//! Waiting for a condition, never for a time.

use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Long enough for anything on a busy machine; reached only when a test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(10);

/// Asks `condition` until it answers.
///
/// # Panics
/// It has not answered within [`DEADLINE`]; `what` says what was waited for.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, condition)
        .unwrap_or_else(|| panic!("waited {} s in vain: {what}", DEADLINE.as_secs()))
}

/// Asks `condition` until it answers or `deadline` has passed.
pub fn within<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = condition() {
            return Some(answer);
        }
        if started.elapsed() > deadline {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// What a thread came to.
///
/// # Panics
/// It has not ended within [`DEADLINE`], or it panicked; `what` says what it was to do.
pub fn joined<T>(what: &str, thread: JoinHandle<T>) -> T {
    until(what, || thread.is_finished().then_some(()));
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
