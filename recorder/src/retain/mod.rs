//! Retention: whole parts that are past their age leave the tables.
//!
//! A clock that is wrong must not become rows that are gone. [`Clock`] says what time it is for
//! retention, or that nobody knows; [`due()`] says which parts of a table go at that time: those of
//! one day, and never a part with a row that is younger. What goes is told in the manifest
//! ([`schemas::manifest::Retired`]), and moved to `replaced/` like everything that leaves the tables.

mod clock;
mod due;

pub use clock::{Clock, Uptime, Verdict};
pub use due::{Due, Keep, due, newest_slot};
