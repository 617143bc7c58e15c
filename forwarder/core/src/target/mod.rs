//! Which target a session goes to: balance, failover, and what is known of each target.
//!
//! A [`Pool`] is a list of targets. A session walks it, beginning where the balance says, until a
//! target answers or none is left:
//!
//! 1. targets that are fit, in the order of the balance; among them those that have rested and are
//!    due for a trial, which one session at a time takes on;
//! 2. then those that rest because dials failed, the one whose rest ends soonest first: a lone
//!    target is never left alone, and neither are several that have all failed;
//! 3. never those that active checks say are down: a session that finds nothing else has no target.
//!
//! All threads share what is known of a target ([`TargetHealth`]), without locks. What checks say is
//! counted by [`Checks`]; who makes them is the caller's business.

mod checks;
mod failures;
mod health;
mod pool;
mod rendezvous;
mod source;

pub use checks::Checks;
pub use failures::{BEFORE_BACKING_OFF, FIRST_REST, LONGEST_REST};
pub use health::{Fitness, Place, TargetHealth};
pub use pool::{MAX_TARGETS, Next, Pool, Walk};
