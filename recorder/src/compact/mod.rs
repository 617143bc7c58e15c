//! Compaction: many small parts become few large ones, and no reader sees anything but the same rows.
//!
//! [`plan()`] decides which parts are merged. A step then reads its inputs, which never change,
//! beside the publisher, writes the merged parts as `….parquet.new`, and holds rows and sums of all
//! columns before and after against each other. Only then the publisher is asked for one commit,
//! which takes the inputs out of the manifest and the merged parts in.

mod input;
mod merge;
mod output;
mod plan;
mod step;
mod sums;

pub use input::InputError;
pub(crate) use input::Source;
pub use merge::MergeError;
pub use plan::{Level, MAX_INPUT_BYTES, MAX_INPUTS, MAX_PART_BYTES, MAX_STEPS, Rhythm, Step, plan};
pub use step::{Merged, StepError, discard, merge};

#[cfg(test)]
mod tests;
