//! The account against a plain model: random traffic, polls, appends that fail, a spool that fills up,
//! kills at any point of a poll, of an opening or of a recovery, power losses that take the table and
//! what the disk had not made durable, clocks that step, rules that come and go. Data threads go on
//! between any two steps of the journal thread. After every history the spool must tell exactly
//! what the model knows.

mod check;
mod data;
mod spool;
mod step;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use proptest::prelude::*;

use data::{Data, Motion};
use world::World;

thread_local! {
    /// Crash points to pass before the kill; `None`: no kill is planned.
    static FUSE: Cell<Option<u32>> = const { Cell::new(None) };
    /// What data threads do while the journal thread works, and after how many crash points.
    static MEANWHILE: RefCell<VecDeque<(u32, Motion)>> = const { RefCell::new(VecDeque::new()) };
    /// The data threads.
    static DATA: RefCell<Option<Data>> = const { RefCell::new(None) };
    /// A data thread is at work.
    static IN_DATA: Cell<bool> = const { Cell::new(false) };
}

/// Marks the unwinding that stands for a kill.
struct Kill;

/// Between any two steps whose order matters: other threads go on here, and the process may die.
pub(super) fn crash_point() {
    if IN_DATA.get() {
        return;
    }
    let due = MEANWHILE.with_borrow_mut(|motions| match motions.front_mut() {
        Some((0, _)) => motions.pop_front().map(|(_, motion)| motion),
        Some((left, _)) => {
            *left -= 1;
            None
        }
        None => None,
    });
    if let Some(motion) = due {
        IN_DATA.set(true);
        data(|data| data.meanwhile(&motion));
        IN_DATA.set(false);
    }
    match FUSE.get() {
        Some(0) => {
            FUSE.set(None);
            std::panic::resume_unwind(Box::new(Kill));
        }
        Some(left) => FUSE.set(Some(left - 1)),
        None => {}
    }
}

/// Does `work`, and dies at the given crash point of it if it comes so far. Gives whether it lived.
fn with_fuse<T>(points: u32, work: impl FnOnce() -> T) -> Option<T> {
    FUSE.set(Some(points));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    FUSE.set(None);
    match done {
        Ok(value) => Some(value),
        Err(panic) if panic.is::<Kill>() => None,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn data<T>(work: impl FnOnce(&mut Data) -> T) -> T {
    DATA.with_borrow_mut(|data| work(data.as_mut().expect("a world begins with its data threads")))
}

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400),
        ..ProptestConfig::default()
    })]
    #[test]
    fn every_history_of_kills_and_failures_leaves_an_exact_account(steps in step::steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.end();
        world.check();
    }
}
