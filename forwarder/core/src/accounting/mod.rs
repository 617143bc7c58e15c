//! The account of every session: how it is kept, how it becomes rows, how it outlives its process.
//!
//! Data threads only store numbers into a [`CounterTable`] of atomics, which the shell maps from
//! tmpfs so that it outlives the process. One thread, the journal thread, makes rows of them: the
//! [`Ledger`] takes the next row number, notes it in the table, appends a frame to the spool, and
//! frees what has ended. After a kill the next start opens the old table as a [`Ledger`] again,
//! with [`Ledger::recover`], and closes it by the same steps.
//!
//! Nothing here does I/O: the table is a slice of atomics, the spool a [`Spool`].

#[cfg(test)]
mod bounds;
mod denials;
mod edge;
mod frame;
mod free;
mod layout;
mod ledger;
#[cfg(test)]
mod model;
mod names;
mod overflow;
mod peer;
mod recovery;
mod row;
mod session;
mod slot;
mod spool;
#[cfg(test)]
mod stress;
mod table;

pub use layout::{Geometry, Header, MAX_NODE_BYTES, MAX_SPOOL_PATH_BYTES, TableError};
pub use ledger::{Ledger, Moment};
pub use peer::{Peer, Peers, is_worth_asking};
pub use recovery::{Recovered, SpoolHistory};
pub use session::{Denial, Ending, OpenSession, Opening, Refused, Traffic};
pub use slot::LiveSession;
pub use spool::{Spool, SpoolLevel};
pub use table::CounterTable;
