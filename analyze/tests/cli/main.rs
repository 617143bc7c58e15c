//! The program as its users meet it: whole commands over data directories made by the test.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod bill;
mod course;
mod coverage;
mod ended;
mod foresight;
mod formats;
mod insight;
mod moved;
mod percentile;
mod prompt;
mod proof;
mod reference;
mod refusals;
mod reports;
mod sandbox;
mod support;
mod verify;
