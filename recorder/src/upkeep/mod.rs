//! What keeps the tables in order beside publishing: compaction, retention, and the end of what they
//! replaced.
//!
//! One thread of the lowest priority does it all, a round each [`ROUND`]. It holds the publisher for
//! as long as a plan or a commit takes, never while it reads or writes rows, so that publishing waits
//! for it no longer than for a commit, and acknowledgements not at all. What it needs to know over
//! restarts is in `<data>/upkeep.json`; without that file it is only more careful.

mod keeper;
mod replaced;
mod state;
mod thread;

pub use keeper::{Keeper, Room, Settings, Told};
pub use replaced::KEEP_REPLACED_US;
pub use thread::{ROUND, Upkeep, UpkeepHandle, UpkeepStatus, room_on_disk};

#[cfg(test)]
mod tests;
