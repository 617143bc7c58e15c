//! The account of every session.
//!
//! Data threads only store numbers into a counter table of atomics (on tmpfs, so that they outlive
//! the process); one thread makes rows of them.

mod session;

pub use session::{Denial, Ending, OpenSession, Opening, Refused, Traffic};
