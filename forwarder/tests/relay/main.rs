//! The relay over real loopback sockets, with a real account.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a test that cannot go on panics, and its numbers are small"
)]

mod customers;
mod datagrams;
mod ended;
mod guards;
mod held_back;
mod intake;
mod interfaces;
mod introduced;
mod kept;
mod limits;
mod loops;
mod modes;
mod names;
mod peers;
mod preamble;
mod quotas;
mod recorder;
mod rejudge;
mod reloads;
mod silence;
mod slow_starts;
mod sources;
mod storm;
mod streams;
mod support;
mod targets;
mod tcp;
mod udp;
