//! The capture lane against a recorder of the tests'.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod copied;
mod piped;
mod slow;
mod support;
