//! The program as its users meet it: whole commands over data directories made by the test.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod bill;
mod coverage;
mod foresight;
mod formats;
mod insight;
mod prompt;
mod proof;
mod reference;
mod refusals;
mod reports;
mod sandbox;
mod support;
mod verify;
