//! The link to the recorder: one connection for each lane, made again whenever it is lost.
//!
//! [`connect`] does what both lanes have in common, up to the `Welcome`; [`Backoff`] says when to try
//! again; [`accounting`] is the accounting lane.

pub mod accounting;
mod acked;
mod backoff;
mod connection;
mod outgoing;
mod resume;
mod word;

pub use backoff::Backoff;
pub(crate) use backoff::random;
pub use connection::{Connection, LinkError, connect, last_word};
pub(crate) use connection::{message, refused};

use std::time::Duration;

/// How often a quiet connection is asked whether it lives.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// A recorder that says nothing for this long is dead.
pub const SILENCE: Duration = Duration::from_secs(15);
