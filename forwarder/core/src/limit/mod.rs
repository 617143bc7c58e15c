//! How much of what a rule lets through: sessions at once, sessions in a time, payload in a time,
//! payload in a calendar day or month.
//!
//! Each limiter decides alone and takes `now` as an argument; who shares one, and where it is kept,
//! is the shell's matter. [`Terms`] is what the limits of a rule come to for one kind of sharer;
//! [`Door`] and [`QuotaCell`] decide about new sessions, [`Bucket`], [`Shares`] and [`QuotaCell`]
//! about payload.

mod bucket;
mod door;
mod pace;
mod period;
mod quota;
mod rate;
mod saved;
mod share;
mod terms;
#[cfg(test)]
mod tests;

pub use bucket::{Bucket, Turn};
pub use door::Door;
pub use pace::{Pace, TICK};
pub use period::Period;
pub use quota::{CELL_WORDS, Identity, QuotaCell, left};
pub use rate::RateLog;
pub use saved::{MAX_CELLS, SavedError, read_cells, write_cells};
pub use share::{Share, Shares};
pub use terms::{Kind, QuotaTerms, Terms};
